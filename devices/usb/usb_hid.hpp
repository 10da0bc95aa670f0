// Models: a USB 1.1 device with the HID class: the control endpoint, descriptors and strings, one interrupt endpoint,
//   report and boot protocol, idle rate, endpoint halt, remote wakeup
// Not modelled: data toggles (no packet is ever lost), output endpoints, report IDs, power
// Ignored bits: the index of string requests (every language gets English)
// Reference: Universal Serial Bus Specification 1.1, chapters 8 and 9; Device Class Definition for HID 1.11, chapter 7
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "devices/usb/usb_device.hpp"
#include "vmm/core/byte_queue.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/types.hpp"

namespace viv {

/// Where a pointer is, or how far it went, and its buttons, for one report.
struct UsbPointerEvent {
    int32_t x = 0;
    int32_t y = 0;
    int32_t wheel = 0;  // towards the user
    uint8_t buttons = 0;
    bool motion = false;  // nothing was pressed or released: further motion may go in
    static void fields(auto& self, auto&& visit) {
        visit("x", self.x);
        visit("y", self.y);
        visit("wheel", self.wheel);
        visit("buttons", self.buttons);
        visit("motion", self.motion);
    }
    bool operator==(const UsbPointerEvent&) const = default;
};

/// The changeable part of a HID device: a field of the state of the controller that it is plugged into.
struct UsbHidState {
    /// Of a control transfer: what the next token on endpoint 0 is for.
    enum class Stage : uint8_t { none, data_in, data_out, status_in, stalled };

    uint8_t address = 0;
    uint8_t configuration = 0;
    bool remote_wakeup = false;
    bool halted = false;  // the interrupt endpoint
    Stage stage = Stage::none;
    std::array<uint8_t, 8> request{};
    std::vector<uint8_t> data;  // what answers it, or came with it
    uint16_t position = 0;      // in the answer
    uint8_t protocol = 1;       // 0: boot, 1: report
    uint8_t idle_rate = 0;      // in 4 ms; 0: reports only when something is new
    std::optional<VirtualTime> idle_due;
    // Keyboards
    uint8_t leds = 0;
    std::array<uint8_t, 32> down{};  // keys that are down, one bit a usage
    std::array<uint8_t, 32> told{};  // keys that are down as far as the guest knows
    ByteQueue<32> keys;              // keys that changed, oldest first
    // Pointers
    UsbPointerEvent pointer;  // where it is
    UsbPointerEvent sent;     // what the guest knows
    std::vector<UsbPointerEvent> events;

    static void fields(auto& self, auto&& visit) {
        visit("address", self.address);
        visit("configuration", self.configuration);
        visit("remote-wakeup", self.remote_wakeup);
        visit("halted", self.halted);
        visit("stage", self.stage);
        visit("request", self.request);
        visit("data", self.data);
        visit("position", self.position);
        visit("protocol", self.protocol);
        visit("idle-rate", self.idle_rate);
        visit("idle-due", self.idle_due);
        visit("leds", self.leds);
        visit("down", self.down);
        visit("told", self.told);
        visit("keys", self.keys);
        visit("pointer", self.pointer);
        visit("sent", self.sent);
        visit("events", self.events);
    }
    bool operator==(const UsbHidState&) const = default;
};

/// What all HID devices have. Derived ones say what they are and make reports.
class UsbHid : public UsbDevice {
  public:
    /// What never changes of one.
    struct Identity {
        std::string_view product;
        UsbSpeed speed = UsbSpeed::full;
        uint8_t subclass = 0;   // 1: has the boot protocol
        uint8_t protocol = 0;   // 1: keyboard, 2: mouse
        uint8_t interval = 10;  // ms between two polls
        uint8_t idle_rate = 0;  // after a reset
        std::span<const uint8_t> report_descriptor;
    };

    static constexpr size_t packet_size = 8;
    static constexpr size_t most_data = 256;
    static constexpr size_t most_events = 16;
    static constexpr int32_t most_motion = 32767;

    UsbHid(const Identity& identity, UsbHidState& state, Clock& clock);

    [[nodiscard]] UsbSpeed speed() const final { return identity_.speed; }
    [[nodiscard]] uint8_t address() const final { return state_.address; }
    void power_on();
    void bus_reset() final;
    UsbReply setup(uint8_t endpoint, std::span<const uint8_t> data) final;
    UsbReply out(uint8_t endpoint, std::span<const uint8_t> data) final;
    UsbReply in(uint8_t endpoint, std::span<uint8_t, usb_largest_packet> packet) final;

    [[nodiscard]] static Result<void> validate(const UsbHidState& staged);
    /// The guest has configured the device, and its tokens reach it.
    [[nodiscard]] bool in_use() const;
    /// For the controller, when in_use() may have changed: news that nobody will ask for any more are dropped.
    void note_use();
    /// Likewise after a load, which drops nothing.
    void after_load() { was_in_use_ = in_use(); }

  protected:
    using Report = std::span<uint8_t, packet_size>;

    /// Whether there is something that the guest does not know.
    [[nodiscard]] virtual bool has_news() const = 0;
    /// Takes the oldest news into what the guest knows.
    virtual void take_news() = 0;
    /// A report will say again what the guest knows: no motion is in it.
    virtual void stand_still() {}
    /// What the guest knows, as a report; its size.
    virtual size_t make_report(Report report) const = 0;
    /// The guest sets lamps; false when the device has none.
    virtual bool set_output(std::span<const uint8_t> report) = 0;
    virtual void forget_news() = 0;
    /// Called when the last news is taken, at the end of its transaction, and when the guest begins or stops to ask.
    virtual void on_told() {}

    [[nodiscard]] UsbHidState& state() { return state_; }
    [[nodiscard]] const UsbHidState& state() const { return state_; }
    void tell_port();

  private:
    struct Request {
        uint8_t type, number;
        uint16_t value, index, length;
    };
    [[nodiscard]] Request request() const;
    bool answer(const Request& request);
    bool perform(const Request& request);
    bool perform_class(const Request& request);
    bool change_feature(const Request& request, bool set);
    bool descriptor(const Request& request);
    void device_descriptor();
    void configuration_descriptor();
    void hid_descriptor();
    bool string_descriptor(uint8_t index);
    void put(std::initializer_list<unsigned> bytes);
    UsbReply interrupt_in(std::span<uint8_t, usb_largest_packet> packet);

    const Identity identity_;
    UsbHidState& state_;
    Clock& clock_;
    bool was_in_use_ = false;
};

}  // namespace viv
