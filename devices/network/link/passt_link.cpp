// The passt link: frames over a Unix stream socket, each behind its length as 32 bits, most significant byte first. At
// the other end is passt, which we start, or another program that listens at a socket and speaks as it does.

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>

#include "devices/network/ethernet.hpp"
#include "devices/network/link/links.hpp"
#include "devices/network/link/queued_link.hpp"
#include "vmm/core/log.hpp"
#include "vmm/core/unix_address.hpp"

namespace viv {
namespace {

constexpr size_t length_size = 4;

class PasstLink final : public QueuedLink {
  public:
    using QueuedLink::QueuedLink;
    ~PasstLink() override {
        close_socket();
        if (child_ > 0) {
            // It ends with its socket; this is for one that hangs.
            kill(child_, SIGTERM);
            while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) continue;
        }
    }

    Result<void> connect_to(const std::string& path) {
        const auto address = unix_address(path);
        if (!address) return fail_usage(fmt::format("network passt: '{}' is too long for the path of a socket", path));
        socket_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (socket_ < 0) return fail_errno("network passt: cannot make a socket", errno);
        if (connect(socket_, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0)
            return fail_errno(fmt::format("network passt: nobody answers at '{}'", path), errno);
        begin("passt at " + path);
        return {};
    }

    Result<void> start(const std::string& tcp, const std::string& udp) {
        std::array<int, 2> ends{};
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
            return fail_errno("network passt: cannot make sockets", errno);
        socket_ = ends[0];
        const int error = spawn(ends[1], tcp, udp);
        close(ends[1]);
        if (error == ENOENT)
            return fail("network passt: there is no program 'passt' (package passt); socket=PATH is for one that runs");
        if (error != 0) return fail_errno("network passt: cannot start passt", error);
        begin("passt");
        return {};
    }
    [[nodiscard]] std::string description() const override { return description_; }

  private:
    /// In a process group of its own, so that Ctrl-C in our terminal is not for it. It has its socket as descriptor 3.
    int spawn(int socket, const std::string& tcp, const std::string& udp) {
        std::vector<std::string> words{"passt", "--foreground", "--quiet", "--fd", "3"};
        if (!tcp.empty()) words.insert(words.end(), {"--tcp-ports", tcp});
        if (!udp.empty()) words.insert(words.end(), {"--udp-ports", udp});
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, socket, 3);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        sigset_t signals;
        sigemptyset(&signals);
        posix_spawnattr_setsigmask(&attributes, &signals);
        sigfillset(&signals);
        posix_spawnattr_setsigdefault(&attributes, &signals);
        const int error = posix_spawnp(&child_, "passt", &actions, &attributes, arguments.data(), environ);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        if (error != 0) child_ = 0;
        return error;
    }

    void begin(std::string description) {
        fcntl(socket_, F_SETFL, O_NONBLOCK);
        // The loop takes a descriptor once.
        write_end_ = fcntl(socket_, F_DUPFD_CLOEXEC, 0);
        reading_ = loop().watch(socket_, EventLoop::Ready::read, [this] { receive(); });
        expect_at(socket_);
        description_ = std::move(description);
    }

    void close_socket() {
        expect_at(-1);
        reading_.reset();
        writing_.reset();
        outgoing_.clear();
        for (int* fd : {&socket_, &write_end_}) {
            if (*fd >= 0) close(std::exchange(*fd, -1));
        }
    }

    /// There is nobody any more, or nobody who can be understood: that is a cable without carrier.
    void lose(const char* why) {
        log_line(fmt::format("network {}: {}; its cable has no carrier now", description_, why));
        close_socket();
        set_up(false);
    }

    // ---- To the peer -----------------------------------------------------------------------------------------------

    void transmit(std::span<const uint8_t> frame, const FrameOffload& /*offload*/) override {
        if (socket_ < 0 || outgoing_.size() >= queue_limit) return;
        std::array<uint8_t, length_size> length{};
        store_big32(length, 0, static_cast<uint32_t>(frame.size()));
        size_t sent = 0;
        if (outgoing_.empty()) {
            std::array<iovec, 2> parts{iovec{length.data(), length.size()},
                                       iovec{const_cast<uint8_t*>(frame.data()), frame.size()}};
            msghdr message{};
            message.msg_iov = parts.data();
            message.msg_iovlen = parts.size();
            const ssize_t took = sendmsg(socket_, &message, MSG_NOSIGNAL);
            // Who has gone is seen by reading.
            sent = static_cast<size_t>(std::max<ssize_t>(took, 0));
            if (sent == length.size() + frame.size()) return;
        }
        // Once begun, a frame must be ended, or nothing behind it would be understood.
        std::vector<uint8_t> bytes(length.begin(), length.end());
        bytes.insert(bytes.end(), frame.begin(), frame.end());
        bytes.erase(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(sent));
        outgoing_.push_back(std::move(bytes));
        if (!writing_) writing_ = loop().watch(write_end_, EventLoop::Ready::write, [this] { flush(); });
    }

    void flush() {
        while (!outgoing_.empty()) {
            std::vector<uint8_t>& bytes = outgoing_.front();
            const ssize_t took = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (took < 0 && errno == EAGAIN) return;
            if (took < 0) return lose("it takes nothing any more");
            bytes.erase(bytes.begin(), bytes.begin() + took);
            if (bytes.empty()) outgoing_.pop_front();
        }
        writing_.reset();
    }

    // ---- From the peer ---------------------------------------------------------------------------------------------

    void receive() {
        constexpr unsigned at_once = 8;
        for (unsigned i = 0; i < at_once; ++i) {
            if (!deliver_all()) return;
            const ssize_t got = ::recv(socket_, incoming_.data() + filled_, incoming_.size() - filled_, 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
            if (got < 0) return lose(std::strerror(errno));
            if (got == 0) return lose("its program has ended");
            filled_ += static_cast<size_t>(got);
        }
        deliver_all();
    }

    /// The frames that are complete. False when no more can be read: the NIC takes none, or the peer is lost.
    bool deliver_all() {
        size_t at = 0;
        bool goes_on = true;
        while (filled_ - at >= length_size) {
            const auto rest = std::span<const uint8_t>(incoming_).subspan(at, filled_ - at);
            const size_t size = load_big32(rest, 0);
            if (size > most_frame) {
                lose("it sent what is no frame");
                return false;
            }
            if (rest.size() < length_size + size) break;
            if (full()) {
                reading_->enable(false);
                goes_on = false;
                break;
            }
            deliver(rest.subspan(length_size, size));
            at += length_size + size;
        }
        std::copy(incoming_.begin() + static_cast<ptrdiff_t>(at), incoming_.begin() + static_cast<ptrdiff_t>(filled_),
                  incoming_.begin());
        filled_ -= at;
        return goes_on;
    }
    void room_again() override {
        if (!reading_) return;
        // Not from inside of the NIC: some of what was read waits here.
        post([this] {
            if (!reading_ || !deliver_all()) return;
            reading_->enable(true);
        });
    }

    int socket_ = -1;
    int write_end_ = -1;  // the same socket
    pid_t child_ = 0;     // passt, if we have started it
    std::string description_;
    std::unique_ptr<EventLoop::Watch> reading_;
    std::unique_ptr<EventLoop::Watch> writing_;  // while some wait
    std::deque<std::vector<uint8_t>> outgoing_;  // the first one's rest
    std::vector<uint8_t> incoming_ = std::vector<uint8_t>(2 * (length_size + most_frame));
    size_t filled_ = 0;
};

}  // namespace

Result<std::unique_ptr<QueuedLink>> open_passt_link(const LinkOptions& options, const LinkSetup& setup) {
    TRY(options.only({"socket", "tcp", "udp"}));
    auto link = std::make_unique<PasstLink>(setup);
    if (const std::string path = options.value("socket"); path.empty()) {
        TRY(link->start(options.value("tcp"), options.value("udp")));
    } else if (options.values.size() > 1) {
        return fail_usage("network passt: tcp and udp are for the passt that viv starts, not for one at a socket");
    } else {
        TRY(link->connect_to(path));
    }
    return link;
}

}  // namespace viv
