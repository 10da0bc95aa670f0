#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace viv {

/// The most bytes in a packet of a control or interrupt endpoint (USB 1.1, 5.5.3).
inline constexpr size_t usb_largest_packet = 64;

enum class UsbSpeed : uint8_t { low, full };

/// What comes back for a token. `none` is silence: there is no such endpoint, or the device ignores the packet.
enum class UsbAnswer : uint8_t { ack, nak, stall, none };

struct UsbReply {
    UsbAnswer answer = UsbAnswer::none;
    size_t size = 0;  // bytes of data that answer an IN
};

/// What a device reaches of the port that it is plugged into.
class UsbUpstream {
  public:
    virtual ~UsbUpstream() = default;
    /// The device has something to say. `remote_wakeup`: it may wake a suspended bus for that.
    virtual void news(bool remote_wakeup) = 0;
    /// Whether tokens reach the device, or would once the bus is awake.
    [[nodiscard]] virtual bool connected() const = 0;
};

/// A device at the end of a cable, seen transaction by transaction (USB 1.1, chapter 8). It answers at once.
class UsbDevice {
  public:
    UsbDevice() = default;
    UsbDevice(const UsbDevice&) = delete;
    UsbDevice& operator=(const UsbDevice&) = delete;
    virtual ~UsbDevice() = default;

    [[nodiscard]] virtual UsbSpeed speed() const = 0;
    /// The address that it answers to: 0 after a reset.
    [[nodiscard]] virtual uint8_t address() const = 0;
    virtual void bus_reset() = 0;
    virtual UsbReply setup(uint8_t endpoint, std::span<const uint8_t> data) = 0;
    virtual UsbReply out(uint8_t endpoint, std::span<const uint8_t> data) = 0;
    /// Puts the answer's bytes at the start of `packet`.
    virtual UsbReply in(uint8_t endpoint, std::span<uint8_t, usb_largest_packet> packet) = 0;

    void plug(UsbUpstream& port) { port_ = &port; }

  protected:
    /// nullptr while it hangs in the air.
    [[nodiscard]] UsbUpstream* port() const { return port_; }

  private:
    UsbUpstream* port_ = nullptr;
};

}  // namespace viv
