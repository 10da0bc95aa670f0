// The switch link: machines of one user on a network of their own. Each has a Unix datagram socket in a folder that is
// the switch; a frame goes to the socket that was seen to have its address, or to all. Who is there is who has a
// socket.

#include <dirent.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <map>

#include "devices/network/link/links.hpp"
#include "devices/network/link/queued_link.hpp"
#include "vmm/core/unix_address.hpp"

namespace viv {
namespace {

// Before each frame: who sent it, as the name of its socket, and what is undone of it.
constexpr std::array<uint8_t, 3> magic{'V', 'S', 2};
constexpr size_t longest_name = 32, most_peers = 128, most_addresses = 4096;

bool is_name(std::string_view name) {
    const auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    };
    return !name.empty() && name.size() <= longest_name && std::ranges::all_of(name, good);
}

Result<sockaddr_un> address_of(const std::string& path) {
    if (const auto address = unix_address(path)) return *address;
    return fail(fmt::format("network switch: '{}' is too long for the path of a socket", path));
}

/// Makes a folder for this user alone, or finds that it is one.
Result<void> make_folder(const std::string& path) {
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(fmt::format("network switch: cannot make the folder '{}'", path), errno);
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid() ||
        (status.st_mode & 077))
        return fail(fmt::format("network switch: '{}' is not a folder of this user alone (mode 0700)", path));
    return {};
}

class SwitchLink final : public QueuedLink {
  public:
    using QueuedLink::QueuedLink;
    ~SwitchLink() override {
        watch_.reset();
        peers_.clear();
        if (socket_ >= 0) {
            close(socket_);
            unlink(path_of(own_name_).c_str());
        }
    }

    Result<void> open(const std::string& name) {
        if (!is_name(name))
            return fail_usage(
                fmt::format("network switch: '{}' is not a name of letters and digits (try switch:lab)", name));
        const char* runtime = getenv("XDG_RUNTIME_DIR");
        std::string folder =
            runtime && *runtime ? std::string(runtime) + "/vivarium" : fmt::format("/tmp/vivarium-{}", geteuid());
        TRY(make_folder(folder));
        folder_ = folder + "/switch-" + name;
        TRY(make_folder(folder_));
        socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (socket_ < 0) return fail_errno("network switch: cannot make a socket", errno);
        constexpr int buffer = 1 << 20;
        setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
        constexpr unsigned most_tries = 1000;
        for (unsigned number = 0;; ++number) {
            own_name_ = fmt::format("{}-{}", getpid(), number);
            const sockaddr_un address = TRY(address_of(path_of(own_name_)));
            if (bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) break;
            if (errno != EADDRINUSE || number == most_tries)
                return fail_errno(fmt::format("network switch: cannot use '{}'", address.sun_path), errno);
        }
        watch_ = loop().watch(socket_, EventLoop::Ready::read, [this] { receive(); });
        expect_at(socket_);
        description_ = "switch " + name;
        return {};
    }
    [[nodiscard]] std::string description() const override { return description_; }

  private:
    /// Another machine: a socket that is connected to its own.
    struct Peer {
        explicit Peer(int descriptor) : fd(descriptor) {}
        ~Peer() {
            watch.reset();
            close(fd);
        }
        Peer(const Peer&) = delete;
        Peer& operator=(const Peer&) = delete;
        int fd;
        std::deque<std::vector<uint8_t>> waiting;
        std::unique_ptr<EventLoop::Watch> watch;  // while some wait
    };

    [[nodiscard]] std::string path_of(const std::string& name) const { return folder_ + "/" + name; }

    [[nodiscard]] Offloads can_take_undone() const override {
        return {.checksum = true, .tcp4 = true, .tcp6 = true, .marks = true};
    }
    void transmit(std::span<const uint8_t> frame, const FrameOffload& offload) override {
        const OffloadHeader header = write_offload(offload, frame);
        std::vector<uint8_t> datagram(magic.begin(), magic.end());
        datagram.push_back(static_cast<uint8_t>(own_name_.size()));
        datagram.insert(datagram.end(), own_name_.begin(), own_name_.end());
        datagram.insert(datagram.end(), header.begin(), header.end());
        datagram.insert(datagram.end(), frame.begin(), frame.end());
        MacAddress to{};
        std::copy_n(frame.begin(), to.size(), to.begin());
        if (const auto known = addresses_.find(to); known != addresses_.end()) {
            if (Peer* peer = find_peer(known->second)) return send_to(known->second, *peer, datagram);
            addresses_.erase(known);
        }
        look_for_peers();
        std::vector<std::string> names;
        for (const auto& [name, ignored] : peers_) names.push_back(name);
        for (const std::string& name : names) {
            if (Peer* peer = find_peer(name)) send_to(name, *peer, datagram);
        }
    }

    void look_for_peers() {
        DIR* directory = opendir(folder_.c_str());
        if (!directory) return;
        while (const dirent* entry = readdir(directory)) {
            const std::string name = entry->d_name;
            if (is_name(name) && name != own_name_) find_peer(name);
        }
        closedir(directory);
    }

    /// Connects where that is not done. A socket that nobody listens at was left by a machine that came to a bad end.
    Peer* find_peer(const std::string& name) {
        if (const auto known = peers_.find(name); known != peers_.end()) return known->second.get();
        if (peers_.size() >= most_peers) return nullptr;
        const auto address = unix_address(path_of(name));
        if (!address) return nullptr;
        const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) return nullptr;
        auto peer = std::make_unique<Peer>(fd);
        if (connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
            if (errno == ECONNREFUSED) unlink(address->sun_path);
            return nullptr;
        }
        return (peers_[name] = std::move(peer)).get();
    }

    void send_to(const std::string& name, Peer& peer, const std::vector<uint8_t>& datagram) {
        if (!peer.waiting.empty()) {
            if (peer.waiting.size() < queue_limit) peer.waiting.push_back(datagram);
            return;
        }
        if (::send(peer.fd, datagram.data(), datagram.size(), MSG_NOSIGNAL) >= 0) return;
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS) {
            if (errno == ECONNREFUSED || errno == ECONNRESET || errno == ENOTCONN) peers_.erase(name);
            return;
        }
        peer.waiting.push_back(datagram);
        peer.watch = loop().watch(peer.fd, EventLoop::Ready::write, [this, name] { flush(name); });
    }

    void flush(const std::string& name) {
        const auto known = peers_.find(name);
        if (known == peers_.end()) return;
        Peer& peer = *known->second;
        while (!peer.waiting.empty()) {
            const auto& datagram = peer.waiting.front();
            if (::send(peer.fd, datagram.data(), datagram.size(), MSG_NOSIGNAL) < 0) {
                if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) return;
                // The watch that calls this may not go inside of its call.
                return post([this, name] { peers_.erase(name); });
            }
            peer.waiting.pop_front();
        }
        post([this, name] {
            const auto still = peers_.find(name);
            if (still != peers_.end() && still->second->waiting.empty()) still->second->watch.reset();
        });
    }

    void receive() {
        constexpr unsigned at_once = 64;
        for (unsigned i = 0; i < at_once; ++i) {
            if (full()) return watch_->enable(false);
            const ssize_t size = recv(socket_, buffer_.data(), buffer_.size(), 0);
            if (size < 0) return;
            take(std::span<const uint8_t>(buffer_).first(static_cast<size_t>(size)));
        }
    }

    void take(std::span<const uint8_t> datagram) {
        const size_t head = magic.size() + 1;
        if (datagram.size() < head || !std::ranges::equal(datagram.first(magic.size()), magic)) return;
        const size_t length = datagram[magic.size()];
        if (datagram.size() < head + length + offload_header_size + least_frame) return;
        const std::string name(datagram.begin() + static_cast<std::ptrdiff_t>(head),
                               datagram.begin() + static_cast<std::ptrdiff_t>(head + length));
        if (!is_name(name) || name == own_name_) return;
        const auto offload = read_offload(datagram.subspan(head + length).first<offload_header_size>());
        const auto frame = datagram.subspan(head + length + offload_header_size);
        if (!offload || !can_finish(frame, *offload)) return;
        MacAddress from{};
        std::copy_n(frame.begin() + 6, from.size(), from.begin());
        if (!(from[0] & 1) && (addresses_.size() < most_addresses || addresses_.contains(from)))
            addresses_[from] = name;
        deliver(frame, *offload);
    }
    void room_again() override { watch_->enable(true); }

    std::string folder_, own_name_, description_;
    int socket_ = -1;
    std::vector<uint8_t> buffer_ =
        std::vector<uint8_t>(magic.size() + 1 + longest_name + offload_header_size + most_packet);
    std::unique_ptr<EventLoop::Watch> watch_;
    std::map<std::string, std::unique_ptr<Peer>> peers_;
    std::map<MacAddress, std::string> addresses_;
};

}  // namespace

Result<std::unique_ptr<QueuedLink>> open_switch_link(const LinkOptions& options, const LinkSetup& setup) {
    TRY(options.only({}));
    auto link = std::make_unique<SwitchLink>(setup);
    TRY(link->open(options.name));
    return link;
}

}  // namespace viv
