#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/core/event_loop.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// The host's end of a character device's wire. Nothing blocks, and both directions are bounded.
class CharBackend {
  public:
    virtual ~CharBackend() = default;
    /// Takes one byte for the host. False when a reader is there but slow and the queue is full: keep the byte and try
    /// again after on_writable. Bytes without any reader are dropped, and taken.
    [[nodiscard]] virtual bool write(uint8_t byte) = 0;
    /// `callback` is called when write() takes bytes again after it has refused one.
    virtual void on_writable(std::move_only_function<void()> callback) = 0;
    /// True when read() has a byte.
    [[nodiscard]] virtual bool readable() const = 0;
    /// The next byte from the host. While nobody reads, the backend stops taking bytes from its peer.
    [[nodiscard]] virtual std::optional<uint8_t> read() = 0;
    /// `callback` is called when readable() becomes true.
    virtual void on_readable(std::move_only_function<void()> callback) = 0;
    /// What a person must know to reach the other end: "pty /dev/pts/5", "tcp:127.0.0.1:4000,server"; empty for null.
    [[nodiscard]] virtual std::string description() const = 0;
};

/// Opens what `spec` names:
///     null | stdio | file:PATH | pty | unix:PATH[,server] | tcp:HOST:PORT[,server]
/// A server listens on 127.0.0.1 unless HOST is given (":PORT" or "PORT" alone means that too). Errors name the spec,
/// the reason and what to do. docs/devices/serial.md says what happens when the peer is slow, absent or goes away.
Result<std::unique_ptr<CharBackend>> open_char_backend(std::string_view spec, EventLoop& loop);

/// A view of one serial port for the machine, named "serial0" to "serial3" (3F8h, 2F8h, 3E8h, 2E8h) among the services;
/// ports at other addresses are "serial@<hex>".
class SerialTap {
  public:
    virtual ~SerialTap() = default;
    /// `listener` sees every byte that the guest transmits from now on, in order, whatever the backend does with it.
    /// Listeners stay for the life of the port.
    virtual void on_output(std::move_only_function<void(uint8_t)> listener) = 0;
    /// Queues bytes for the guest's receiver, before those of the backend; returns how many were taken (the queue is
    /// bounded at 64 KiB). They arrive at line speed, and only as the guest reads them.
    virtual size_t inject(std::span<const uint8_t> bytes) = 0;
    /// How many injected bytes the guest's receiver has not yet taken.
    [[nodiscard]] virtual size_t injected_pending() const = 0;
    /// The backend's description, for the list of ports that a person sees.
    [[nodiscard]] virtual std::string description() const = 0;
};

}  // namespace viv
