// The user link: libslirp's router, DHCP, DNS and TFTP servers at the end of the cable. All of it runs in handlers of
// the event loop; its time is the machine's.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>

#include "devices/network/link/link_options.hpp"
#include "devices/network/link/links.hpp"
#include "devices/network/link/queued_link.hpp"
#include "devices/network/tcp_merge.hpp"
#include "vmm/core/log.hpp"

namespace viv {
namespace {

constexpr uint16_t ssh_port = 22;

struct Published {
    in_addr host{};
    uint16_t host_port = 0;  // 0: the first that is free
    uint16_t guest_port = 0;
    bool udp = false;
};

Result<uint16_t> parse_port(std::string_view text, std::string_view whole) {
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port == 0) {
        return fail_usage(
            fmt::format("--publish {}: '{}' is not a port from 1 to 65535 (try 127.0.0.1:2222:22)", whole, text));
    }
    return port;
}

/// "[ADDR:]HOST:GUEST[/udp]"; HOST is a port or "free".
Result<Published> parse_published(std::string_view whole) {
    Published published;
    std::string_view text = whole;
    if (text.ends_with("/udp") || text.ends_with("/tcp")) {
        published.udp = text.ends_with("/udp");
        text.remove_suffix(4);
    }
    const size_t last = text.rfind(':');
    if (last == std::string_view::npos) {
        return fail_usage(fmt::format("--publish {}: it is [ADDR:]HOST:GUEST[/udp] (try 2222:22)", whole));
    }
    published.guest_port = TRY(parse_port(text.substr(last + 1), whole));
    text = text.substr(0, last);
    std::string address = "127.0.0.1";
    if (const size_t first = text.rfind(':'); first != std::string_view::npos) {
        address = std::string(text.substr(0, first));
        text = text.substr(first + 1);
    }
    if (text != "free") published.host_port = TRY(parse_port(text, whole));
    if (inet_pton(AF_INET, address.c_str(), &published.host) != 1) {
        return fail_usage(fmt::format("--publish {}: '{}' is not an IPv4 address of this host", whole, address));
    }
    return published;
}

in_addr address_of(uint8_t last) {
    in_addr address{};
    address.s_addr = htonl(0x0A000200u | last);
    return address;
}

/// libslirp reports a guest's nonsense through GLib's log, which writes all of it to stderr. It is no dependency of
/// ours, so the function is looked up in the process.
void silence_slirp() {
    using Handler = void (*)(const char*, int, const char*, void*);
    using SetHandler = unsigned (*)(const char*, int, Handler, void*);
    constexpr int all_levels = -4;  // G_LOG_LEVEL_MASK
    static const bool done = [] {
        if (const auto set = reinterpret_cast<SetHandler>(dlsym(RTLD_DEFAULT, "g_log_set_handler"))) {
            set(
                "Slirp", all_levels, [](const char*, int, const char*, void*) {}, nullptr);
        }
        return true;
    }();
    static_cast<void>(done);
}

class UserLink final : public QueuedLink {
  public:
    explicit UserLink(const LinkSetup& setup)
        : QueuedLink(setup), clock_(setup.clock), timer_(setup.clock, [this](VirtualTime) { service_soon(); }) {}
    ~UserLink() override {
        watch_.reset();
        if (slirp_) slirp_cleanup(slirp_);
        if (epoll_ >= 0) close(epoll_);
    }

    Result<void> open(const LinkOptions& options, const std::vector<std::string>& published) {
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        if (epoll_ < 0) return fail_errno("network user: cannot make an epoll descriptor", errno);
        const bool restricted = TRY(options.flag("restrict"));
        const std::string tftp = options.value("tftp"), boot_file = options.value("bootfile");
        const std::string host_name = options.value("hostname");
        struct stat status {};
        if (!tftp.empty() && (stat(tftp.c_str(), &status) != 0 || !S_ISDIR(status.st_mode))) {
            return fail_usage(fmt::format("network user: tftp={} is not a folder", tftp));
        }
        SlirpConfig config{};
        config.version = 4;
        config.restricted = restricted;
        config.in_enabled = true;
        config.vnetwork = address_of(0);
        config.vnetmask.s_addr = htonl(0xFFFFFF00);
        config.vhost = address_of(2);
        config.vnameserver = address_of(3);
        config.vdhcp_start = address_of(15);
        config.vhostname = host_name.empty() ? nullptr : host_name.c_str();
        config.tftp_path = tftp.empty() ? nullptr : tftp.c_str();
        config.bootfile = boot_file.empty() ? nullptr : boot_file.c_str();
        silence_slirp();
        slirp_ = slirp_new(&config, &callbacks, this);
        if (!slirp_) return fail("network user: libslirp does not start");
        description_ = "user";
        for (const std::string& text : published) TRY(publish(text));
        watch_ = loop().watch(epoll_, EventLoop::Ready::read, [this] { service(); });
        service_soon();
        return {};
    }

    [[nodiscard]] std::string description() const override { return description_; }

  private:
    struct Interest {
        int fd;
        short events;  // of poll()
        short ready;
    };

    Result<void> publish(const std::string& text) {
        Published what = TRY(parse_published(text));
        char address[INET_ADDRSTRLEN] = {};
        inet_ntop(AF_INET, &what.host, address, sizeof(address));
        const auto listen = [&] {
            return slirp_add_hostfwd(slirp_, what.udp, what.host, what.host_port, address_of(15), what.guest_port) == 0;
        };
        if (what.host_port != 0) {
            if (!listen())
                return fail_errno(fmt::format("--publish {}: cannot listen on port {}", text, what.host_port), errno);
        } else {
            constexpr uint16_t first = 2222, last = 2999;
            for (what.host_port = first; !listen(); ++what.host_port) {
                if (what.host_port == last)
                    return fail_errno(fmt::format("--publish {}: no port from {} to {} is free", text, first, last),
                                      errno);
            }
            log_line(what.guest_port == ssh_port && !what.udp
                         ? fmt::format("to log in: ssh -p {} -o NoHostAuthenticationForLocalhost=yes USER@{}",
                                       what.host_port, address)
                         : fmt::format("port {} of the guest is {}:{} here", what.guest_port, address, what.host_port));
        }
        description_ +=
            fmt::format(", {}:{} to port {}{}", address, what.host_port, what.guest_port, what.udp ? " (UDP)" : "");
        return {};
    }

    // A single frame of the NIC's goes on at once, which spares it the way to the loop's thread; those that follow wait
    // for the handler, and the CPU goes on.
    void transmit(std::span<const uint8_t> frame, const FrameOffload& offload) override {
        if (outgoing_.empty() && !posted_ && !inside_) {
            inside_ = true;
            if (offload.finished()) {
                slirp_input(slirp_, frame.data(), static_cast<int>(frame.size()));
            } else {
                std::vector<uint8_t> finished(frame.begin(), frame.end());
                finish(finished, offload);
                slirp_input(slirp_, finished.data(), static_cast<int>(finished.size()));
            }
            inside_ = false;
            look_for_sockets();
            if (!incoming_.empty()) service_soon();
            return;
        }
        if (outgoing_.size() >= queue_limit) return;
        finish(outgoing_.emplace_back(frame.begin(), frame.end()), offload);
        service_soon();
    }
    /// libslirp takes packets of any length, with their checksums.
    [[nodiscard]] Offloads can_take_undone() const override {
        return {.checksum = true, .tcp4 = true, .tcp6 = false, .marks = true};
    }
    static void finish(std::vector<uint8_t>& frame, FrameOffload offload) {
        if (offload.finished()) return;
        offload.packet = FrameOffload::Packet::whole;
        std::vector<uint8_t> scratch;
        static_cast<void>(finish_frame(frame, offload, scratch, [](std::span<const uint8_t>) {}));
    }
    void room_again() override { service_soon(); }

    void service_soon() {
        if (std::exchange(posted_, true)) return;
        post([this] {
            posted_ = false;
            service();
        });
    }

    void service() {
        const bool outer = std::exchange(inside_, true);
        for (const auto& frame : std::exchange(incoming_, {})) merge(frame);
        in_handler_ = true;
        // While the NIC takes nothing, sockets are not read, and so their peers wait.
        if (!full()) exchange_with_sockets();
        for (const auto& frame : std::exchange(outgoing_, {})) {
            slirp_input(slirp_, frame.data(), static_cast<int>(frame.size()));
        }
        flush();
        look_for_sockets();
        in_handler_ = false;
        inside_ = outer;
    }

    /// Frames of one connection become one packet, where the NIC takes such.
    void merge(std::span<const uint8_t> frame) {
        if (!taken().tcp4) return deliver(frame, {.checked = true});
        if (merger_.add(frame)) return;
        flush();
        merger_.begin(frame);
    }
    void flush() {
        if (merger_.empty()) return;
        FrameOffload offload;
        const auto packet = merger_.finish(offload);
        deliver(packet, offload);
        merger_.clear();
    }

    uint32_t collect() {
        interests_.clear();
        uint32_t timeout = UINT32_MAX;
        slirp_pollfds_fill(
            slirp_, &timeout,
            [](int fd, int events, void* self) { return static_cast<UserLink*>(self)->add(fd, events); }, this);
        return timeout;
    }

    int add(int fd, int events) {
        const auto bits = (events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                          (events & SLIRP_POLL_PRI ? POLLPRI : 0);
        interests_.push_back({fd, static_cast<short>(bits), 0});
        return static_cast<int>(interests_.size() - 1);
    }

    void exchange_with_sockets() {
        static_cast<void>(collect());
        std::vector<pollfd> list;
        for (const Interest& interest : interests_) list.push_back({interest.fd, interest.events, 0});
        const bool failed = poll(list.data(), list.size(), 0) < 0;
        for (size_t i = 0; i < list.size(); ++i) interests_[i].ready = list[i].revents;
        slirp_pollfds_poll(
            slirp_, failed,
            [](int index, void* self) {
                const short ready = static_cast<UserLink*>(self)->interests_[static_cast<size_t>(index)].ready;
                return (ready & POLLIN ? SLIRP_POLL_IN : 0) | (ready & POLLOUT ? SLIRP_POLL_OUT : 0) |
                       (ready & POLLPRI ? SLIRP_POLL_PRI : 0) | (ready & POLLERR ? SLIRP_POLL_ERR : 0) |
                       (ready & POLLHUP ? SLIRP_POLL_HUP : 0);
            },
            this);
    }

    /// What the epoll descriptor, and with it the loop, waits for from now on; and when libslirp wants to be called.
    void look_for_sockets() {
        const uint32_t timeout = collect();
        std::map<int, uint32_t> wanted;
        if (!full()) {
            for (const Interest& interest : interests_) wanted[interest.fd] |= static_cast<uint32_t>(interest.events);
        }
        for (const auto& [fd, ignored] : watched_) {
            if (!wanted.contains(fd)) epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
        }
        for (const auto& [fd, events] : wanted) {
            const auto before = watched_.find(fd);
            if (before != watched_.end() && before->second == events) continue;
            epoll_event event{.events = events, .data = {.fd = fd}};  // EPOLLIN is POLLIN, and so on
            if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) != 0) epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
        }
        watched_ = std::move(wanted);
        expect_at(watched_.empty() ? -1 : epoll_);
        // It says a second when it waits for nothing.
        constexpr uint32_t nothing = 1000;
        if (timeout >= nothing) return timer_.cancel();
        const VirtualTime due = clock_.now() + std::chrono::milliseconds(std::max(timeout, 1u));
        // One that is early is no harm, and an alarm set anew with each frame is.
        if (!timer_.armed() || due < *timer_.deadline()) timer_.arm(due);
    }

    /// The descriptor is a new socket's, or about to be closed: what epoll knows of it is void.
    void forget(int fd) {
        if (watched_.erase(fd)) epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    }

    // libslirp's side. It has no timer of its own as long as IPv6 is off.
    static ssize_t send_packet(const void* bytes, size_t size, void* self) {
        auto& link = *static_cast<UserLink*>(self);
        const std::span frame(static_cast<const uint8_t*>(bytes), size);
        if (link.in_handler_) {
            link.merge(frame);
        } else {
            link.incoming_.emplace_back(frame.begin(), frame.end());
        }
        return static_cast<ssize_t>(size);
    }
    static int64_t clock_get_ns(void* self) { return static_cast<UserLink*>(self)->clock_.now().ns; }
    static void forget_fd(int fd, void* self) { static_cast<UserLink*>(self)->forget(fd); }
    static void notify(void* self) { static_cast<UserLink*>(self)->service_soon(); }
    static constexpr SlirpCb callbacks{
        .send_packet = send_packet,
        .guest_error = [](const char*, void*) {},
        .clock_get_ns = clock_get_ns,
        .timer_new = [](SlirpTimerCb, void*, void*) -> void* { return nullptr; },
        .timer_free = [](void*, void*) {},
        .timer_mod = [](void*, int64_t, void*) {},
        .register_poll_fd = forget_fd,
        .unregister_poll_fd = forget_fd,
        .notify = notify,
        .init_completed = nullptr,
        .timer_new_opaque = nullptr,
    };

    Clock& clock_;
    Timer timer_;
    Slirp* slirp_ = nullptr;
    int epoll_ = -1;
    std::unique_ptr<EventLoop::Watch> watch_;
    std::vector<std::vector<uint8_t>> outgoing_;
    std::vector<std::vector<uint8_t>> incoming_;  // libslirp's answers to a frame that went on at once
    TcpMerger merger_;
    bool inside_ = false;      // libslirp is at work
    bool in_handler_ = false;  // and a NIC may be told of frames
    std::vector<Interest> interests_;
    std::map<int, uint32_t> watched_;
    std::string description_;
    bool posted_ = false;
};

}  // namespace

Result<std::unique_ptr<QueuedLink>> open_user_link(const LinkOptions& options, const LinkSetup& setup) {
    TRY(options.only({"restrict", "tftp", "bootfile", "hostname"}));
    if (!options.name.empty()) return fail_usage(fmt::format("network user: it has no name '{}'", options.name));
    auto link = std::make_unique<UserLink>(setup);
    TRY(link->open(options, setup.published));
    return link;
}

}  // namespace viv
