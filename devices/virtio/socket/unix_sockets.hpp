#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "devices/serial/backend/unix_listener.hpp"
#include "devices/virtio/socket/host_socket.hpp"
#include "vmm/core/event_loop.hpp"
#include "vmm/core/log.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// Programs of the host behind Unix sockets. One that wants to reach the guest connects to PATH and says "CONNECT
/// port\n"; it is told "OK port\n" (of the host's side) when the guest takes the connection, and its end is closed when
/// not. Connections of the guest to a port go to the program that listens on PATH_port.
class UnixSockets final : public SocketHost {
  public:
    /// Callers that have not said what they want; the oldest gives way to one more.
    static constexpr size_t most_callers = 32;
    /// Listens on `path`, which is only its owner's to use, and removes it in the end.
    static Result<std::unique_ptr<UnixSockets>> listen(const std::string& path, EventLoop& loop);

    UnixSockets(UnixListener listener, std::string path, EventLoop& loop);
    ~UnixSockets() override;

    [[nodiscard]] std::unique_ptr<HostSocket> connect(uint32_t port) override;
    void on_call(Caller callback) override { on_call_ = std::move(callback); }

    /// A descriptor has been closed, so that callers which there was none for can have it.
    void closed() { accept_watch_->enable(true); }

  private:
    struct Undecided {
        OwnedFd fd;
        std::unique_ptr<EventLoop::Watch> watch;
        std::string said;
    };
    using Place = std::list<Undecided>::iterator;
    void accept_caller();
    void hear(Place caller);

    EventLoop& loop_;
    std::string path_;
    UnixListener listener_;
    RepeatedLog refusals_;
    Caller on_call_;
    std::list<Undecided> undecided_;
    std::unique_ptr<EventLoop::Watch> accept_watch_;
};

}  // namespace viv
