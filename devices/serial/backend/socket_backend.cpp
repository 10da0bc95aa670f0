#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "devices/serial/backend/backends.hpp"
#include "devices/serial/backend/stream_backend.hpp"
#include "devices/serial/backend/unix_listener.hpp"

namespace viv {
namespace {

constexpr int connect_patience_ms = 5000;

enum class Role { client, server };

/// One connection at a time: a client's only one, or whichever caller a server has accepted last. Further callers wait
/// in the kernel until that one hangs up.
class SocketBackend final : public StreamBackend {
  public:
    SocketBackend(EventLoop& event_loop, std::string description)
        : StreamBackend(event_loop), description_(std::move(description)) {}
    ~SocketBackend() override {
        close_quietly();
        accept_watch_.reset();
    }

    void serve(OwnedFd listener) {
        listener_ = std::move(listener);
        serve(listener_.get());
    }
    void serve(UnixListener listener) {
        unix_listener_ = std::move(listener);
        serve(unix_listener_.fd());
    }
    void use(OwnedFd connection) {
        connection_ = std::move(connection);
        attach(connection_.get(), Kind::waits, connection_.get(), Kind::waits);
    }

    [[nodiscard]] std::string description() const override { return description_; }

  private:
    void serve(int listener) {
        accept_watch_ = loop().watch(listener, EventLoop::Ready::read, [this, listener] { accept_caller(listener); });
    }
    void accept_caller(int listener) {
        OwnedFd caller(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (!caller) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                refusals_.say(fmt::format("serial port {}: cannot accept: {}", description_, std::strerror(errno)));
            }
            return;
        }
        const int on = 1;
        ::setsockopt(caller.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        accept_watch_->enable(false);
        use(std::move(caller));
    }

    void peer_gone(Side /*side*/, int /*error*/) override {
        detach();
        connection_.reset();
        if (accept_watch_) {
            accept_watch_->enable(true);
        } else {
            log_line(fmt::format("serial port {}: the other end has closed the connection", description_));
        }
    }

    std::string description_;
    OwnedFd listener_;
    UnixListener unix_listener_;
    OwnedFd connection_;
    std::unique_ptr<EventLoop::Watch> accept_watch_;
    RepeatedLog refusals_;
};

/// Cuts ",server" off the end of a spec.
Role take_role(std::string_view& spec) {
    constexpr std::string_view suffix = ",server";
    if (!spec.ends_with(suffix)) return Role::client;
    spec.remove_suffix(suffix.size());
    return Role::server;
}

/// Connects within a few seconds; 0 or an errno.
int connect_patiently(int fd, const sockaddr* address, socklen_t size) {
    if (::connect(fd, address, size) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    pollfd wait{fd, POLLOUT, 0};
    int ready = 0;
    do {
        ready = ::poll(&wait, 1, connect_patience_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) return ETIMEDOUT;
    if (ready < 0) return errno;
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
    return error;
}

OwnedFd stream_socket(int family) {
    return OwnedFd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

struct HostPort {
    std::string host;
    std::string port;
};

/// "HOST:PORT", "[V6]:PORT", ":PORT" or "PORT".
Result<HostPort> split_address(std::string_view spec) {
    HostPort result;
    const size_t colon = spec.rfind(':');
    if (colon == std::string_view::npos) {
        result.port = spec;
    } else {
        std::string_view host = spec.substr(0, colon);
        if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
        result.host = host;
        result.port = spec.substr(colon + 1);
    }
    const bool digits = !result.port.empty() && result.port.size() <= 5 &&
                        result.port.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stoi(result.port) > 65535) {
        return fail_usage(fmt::format("serial backend 'tcp:{}': '{}' is no port number", spec, result.port));
    }
    return result;
}

struct AddressList {
    addrinfo* first = nullptr;
    AddressList() = default;
    AddressList(const AddressList&) = delete;
    AddressList& operator=(const AddressList&) = delete;
    ~AddressList() {
        if (first) ::freeaddrinfo(first);
    }
};

uint16_t port_of(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
    if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

}  // namespace

Result<std::unique_ptr<CharBackend>> open_unix_backend(std::string_view spec, EventLoop& loop) {
    const Role role = take_role(spec);
    const std::string path(spec);
    std::signal(SIGPIPE, SIG_IGN);
    if (role == Role::server) {
        auto listener = TRY(UnixListener::open(path, 1));
        auto backend = std::make_unique<SocketBackend>(loop, fmt::format("unix:{},server", path));
        backend->serve(std::move(listener));
        return backend;
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        return fail_usage(
            fmt::format("unix socket path '{}' must have 1 to {} characters", path, sizeof address.sun_path - 1));
    }
    path.copy(address.sun_path, path.size());
    OwnedFd fd = stream_socket(AF_UNIX);
    if (!fd) return fail_errno("cannot make a unix socket", errno);
    if (const int error = connect_patiently(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address)) {
        return fail_errno(
            fmt::format("cannot connect to unix socket '{}' (start its server first, or add ',server')", path), error);
    }
    auto backend = std::make_unique<SocketBackend>(loop, "unix:" + path);
    backend->use(std::move(fd));
    return backend;
}

Result<std::unique_ptr<CharBackend>> open_tcp_backend(std::string_view spec, EventLoop& loop) {
    const Role role = take_role(spec);
    auto [host, port] = TRY(split_address(spec));
    if (host.empty()) host = "127.0.0.1";
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    AddressList list;
    if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list.first)) {
        return fail(
            fmt::format("serial backend 'tcp:{}': cannot find host '{}': {}", spec, host, ::gai_strerror(error)));
    }
    std::signal(SIGPIPE, SIG_IGN);
    const std::string shown_host = host.find(':') == std::string::npos ? host : '[' + host + ']';
    int error = EADDRNOTAVAIL;
    for (const addrinfo* at = list.first; at; at = at->ai_next) {
        OwnedFd fd = stream_socket(at->ai_family);
        if (!fd) {
            error = errno;
            continue;
        }
        const int on = 1;
        if (role == Role::client) {
            error = connect_patiently(fd.get(), at->ai_addr, at->ai_addrlen);
            if (error != 0) continue;
            ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            auto backend = std::make_unique<SocketBackend>(loop, fmt::format("tcp:{}:{}", shown_host, port));
            backend->use(std::move(fd));
            return backend;
        }
        ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (::bind(fd.get(), at->ai_addr, at->ai_addrlen) != 0 || ::listen(fd.get(), 1) != 0) {
            error = errno;
            continue;
        }
        auto backend =
            std::make_unique<SocketBackend>(loop, fmt::format("tcp:{}:{},server", shown_host, port_of(fd.get())));
        backend->serve(std::move(fd));
        return backend;
    }
    return fail_errno(
        fmt::format("cannot {} tcp:{}:{}", role == Role::client ? "connect to" : "listen on", shown_host, port), error);
}

}  // namespace viv
