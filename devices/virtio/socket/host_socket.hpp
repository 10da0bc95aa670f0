#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace viv {

/// The host's end of one connection of a guest. Nothing blocks.
class HostSocket {
  public:
    virtual ~HostSocket() = default;
    struct Moved {
        size_t size = 0;     // bytes
        bool ended = false;  // nothing more will ever go this way
    };
    /// Takes bytes for the program of the host.
    [[nodiscard]] virtual Moved write(std::span<const std::byte> bytes) = 0;
    /// Bytes of the program; what does not fit waits.
    [[nodiscard]] virtual Moved read(std::span<std::byte> bytes) = 0;
    /// The guest has no more bytes for the program.
    virtual void end_writing() = 0;
    /// Whether the program has closed its end altogether.
    [[nodiscard]] virtual bool gone() const = 0;
    /// The guest takes the connection that the program asked for, whose port on the host's side is this one.
    virtual void accepted(uint32_t port) = 0;
    /// Calls back once when there is something to read, or the end. The callback may destroy the socket.
    virtual void when_readable(std::move_only_function<void()> callback) = 0;
    /// Likewise, when write() takes bytes again after it took fewer than it was given.
    virtual void when_writable(std::move_only_function<void()> callback) = 0;
};

/// The programs of the host that a guest may talk to. Sockets go before their host does.
class SocketHost {
  public:
    virtual ~SocketHost() = default;
    /// The end of the program that waits for connections to this port; nullptr when none does.
    [[nodiscard]] virtual std::unique_ptr<HostSocket> connect(uint32_t port) = 0;
    /// `callback` is called when a program wants to reach a port of the guest.
    using Caller = std::move_only_function<void(uint32_t port, std::unique_ptr<HostSocket> socket)>;
    virtual void on_call(Caller callback) = 0;
};

}  // namespace viv
