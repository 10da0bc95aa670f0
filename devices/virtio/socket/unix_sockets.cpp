#include "devices/virtio/socket/unix_sockets.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "vmm/core/unix_address.hpp"

namespace viv {
namespace {

/// What follows the path where the guest's connections go, at most: "_4294967295".
constexpr size_t longest_port = 11;
/// "CONNECT 4294967295\r\n"
constexpr size_t longest_wish = 20;

class UnixSocket final : public HostSocket {
  public:
    UnixSocket(OwnedFd fd, UnixSockets& owner, EventLoop& loop) : fd_(std::move(fd)), owner_(owner), loop_(loop) {}
    ~UnixSocket() override {
        read_watch_.reset();
        write_watch_.reset();
        write_fd_.reset();
        fd_.reset();
        owner_.closed();
    }

    [[nodiscard]] Moved write(std::span<const std::byte> bytes) override {
        Moved moved;
        while (moved.size < bytes.size()) {
            const auto rest = bytes.subspan(moved.size);
            const ssize_t sent = ::send(fd_.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0) {
                moved.ended = errno != EAGAIN && errno != EWOULDBLOCK;
                break;
            }
            moved.size += static_cast<size_t>(sent);
        }
        return moved;
    }
    [[nodiscard]] Moved read(std::span<std::byte> bytes) override {
        for (;;) {
            const ssize_t got = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            if (got < 0 && errno == EINTR) continue;
            if (got > 0) return {static_cast<size_t>(got), false};
            return {0, got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)};
        }
    }
    void end_writing() override { ::shutdown(fd_.get(), SHUT_WR); }
    [[nodiscard]] bool gone() const override {
        pollfd look{fd_.get(), 0, 0};
        return ::poll(&look, 1, 0) == 1 && (look.revents & (POLLHUP | POLLERR));
    }
    void accepted(uint32_t port) override {
        // The first bytes of a connection find room.
        const std::string answer = fmt::format("OK {}\n", port);
        static_cast<void>(write(std::as_bytes(std::span(answer))));
    }
    void when_readable(std::move_only_function<void()> callback) override {
        readable_ = std::move(callback);
        if (read_watch_) return read_watch_->enable(true);
        read_watch_ = loop_.watch(fd_.get(), EventLoop::Ready::read, [this] { call_once(read_watch_, readable_); });
    }
    void when_writable(std::move_only_function<void()> callback) override {
        writable_ = std::move(callback);
        if (write_watch_) return write_watch_->enable(true);
        // epoll takes a descriptor once.
        write_fd_.reset(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
        if (!write_fd_) {
            // No descriptor is left. The other direction's end will tell of the rest.
            ::shutdown(fd_.get(), SHUT_RDWR);
            return;
        }
        write_watch_ =
            loop_.watch(write_fd_.get(), EventLoop::Ready::write, [this] { call_once(write_watch_, writable_); });
    }

  private:
    static void call_once(std::unique_ptr<EventLoop::Watch>& watch, std::move_only_function<void()>& callback) {
        watch->enable(false);
        // The callback may be the end of all this.
        if (auto now = std::exchange(callback, nullptr)) now();
    }

    OwnedFd fd_;
    OwnedFd write_fd_;
    UnixSockets& owner_;
    EventLoop& loop_;
    std::move_only_function<void()> readable_;
    std::move_only_function<void()> writable_;
    std::unique_ptr<EventLoop::Watch> read_watch_;
    std::unique_ptr<EventLoop::Watch> write_watch_;
};

/// The port of "CONNECT port".
std::optional<uint32_t> parse_wish(std::string_view line) {
    constexpr std::string_view word = "CONNECT ";
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with(word)) return std::nullopt;
    line.remove_prefix(word.size());
    uint32_t port = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
    if (error != std::errc{} || end != line.data() + line.size()) return std::nullopt;
    return port;
}

}  // namespace

Result<std::unique_ptr<UnixSockets>> UnixSockets::listen(const std::string& path, EventLoop& loop) {
    if (path.size() + longest_port >= sizeof(sockaddr_un::sun_path))
        return fail_usage(fmt::format("the path '{}' of a guest's sockets has more than {} characters", path,
                                      sizeof(sockaddr_un::sun_path) - longest_port - 1));
    constexpr int waiting_callers = 16;
    auto listener = TRY(UnixListener::open(path, waiting_callers));
    return std::make_unique<UnixSockets>(std::move(listener), path, loop);
}

UnixSockets::UnixSockets(UnixListener listener, std::string path, EventLoop& loop)
    : loop_(loop), path_(std::move(path)), listener_(std::move(listener)) {
    accept_watch_ = loop.watch(listener_.fd(), EventLoop::Ready::read, [this] { accept_caller(); });
}

UnixSockets::~UnixSockets() = default;

std::unique_ptr<HostSocket> UnixSockets::connect(uint32_t port) {
    const auto address = unix_address(fmt::format("{}_{}", path_, port));
    if (!address) return nullptr;
    OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    // A program that does not take its callers is as good as none.
    if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) return nullptr;
    return std::make_unique<UnixSocket>(std::move(fd), *this, loop_);
}

void UnixSockets::accept_caller() {
    OwnedFd fd(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
        refusals_.say(fmt::format("guest's sockets '{}': cannot accept: {}", path_, std::strerror(errno)));
        return accept_watch_->enable(false);
    }
    if (undecided_.size() == most_callers) undecided_.pop_front();
    undecided_.emplace_back();
    const Place caller = std::prev(undecided_.end());
    caller->fd = std::move(fd);
    caller->watch = loop_.watch(caller->fd.get(), EventLoop::Ready::read, [this, caller] { hear(caller); });
}

/// Takes no byte behind the line, which is the guest's.
void UnixSockets::hear(Place caller) {
    std::array<char, longest_wish> seen{};
    const ssize_t got = ::recv(caller->fd.get(), seen.data(), seen.size() - caller->said.size(), MSG_PEEK);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    std::string_view text(seen.data(), got > 0 ? static_cast<size_t>(got) : 0);
    const size_t end = text.find('\n');
    const bool whole = end != std::string_view::npos;
    text = text.substr(0, whole ? end + 1 : text.size());
    static_cast<void>(::recv(caller->fd.get(), seen.data(), text.size(), 0));
    caller->said += text;
    if (text.empty() || (!whole && caller->said.size() == longest_wish)) {
        undecided_.erase(caller);
        return closed();
    }
    if (!whole) return;
    caller->said.pop_back();
    const auto port = parse_wish(caller->said);
    OwnedFd fd = std::move(caller->fd);
    caller->watch.reset();
    undecided_.erase(caller);
    if (!port || !on_call_) {
        fd.reset();
        return closed();
    }
    on_call_(*port, std::make_unique<UnixSocket>(std::move(fd), *this, loop_));
}

}  // namespace viv
