// Models: virtio keyboard (the keys of KeyboardPort, three lamps), mouse and tablet (0 to 32767 both ways), each with
//   five buttons and a wheel
// Not modelled: touch, serial numbers, sounds, the driver's wish for a repeat rate (its system repeats keys itself)
// Ignored bits: events of the driver that are no lamps
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.8; event numbers: Linux, include/uapi/linux/input-event-codes.h
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/input/keyboard_port.hpp"
#include "devices/input/tablet_port.hpp"
#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct VirtioInputEvent {
    uint16_t type = 0;
    uint16_t code = 0;
    int32_t value = 0;
    static void fields(auto& self, auto&& visit) {
        visit("type", self.type);
        visit("code", self.code);
        visit("value", self.value);
    }
    bool operator==(const VirtioInputEvent&) const = default;
};

struct VirtioInputState {
    uint8_t select = 0;
    uint8_t subselect = 0;
    std::vector<VirtioInputEvent> events;  // that the driver has had no buffer for
    // Keyboards
    uint8_t leds = 0;                // a bit for each code of EV_LED
    std::array<uint8_t, 32> down{};  // keys that are down, one bit a usage
    std::array<uint8_t, 32> told{};  // keys that are down once the events are taken
    // Pointers
    bool moved = false;  // motion that is in no event yet
    int32_t x = 0;       // where it is, or how far it moved
    int32_t y = 0;
    int32_t wheel = 0;  // towards the user
    uint8_t buttons = 0;
    uint8_t told_buttons = 0;
    static void fields(auto& self, auto&& visit) {
        visit("select", self.select);
        visit("subselect", self.subselect);
        visit("events", self.events);
        visit("leds", self.leds);
        visit("down", self.down);
        visit("told", self.told);
        visit("moved", self.moved);
        visit("x", self.x);
        visit("y", self.y);
        visit("wheel", self.wheel);
        visit("buttons", self.buttons);
        visit("told-buttons", self.told_buttons);
    }
    bool operator==(const VirtioInputState&) const = default;
};

/// What keyboards and pointers share. News become events as long as there is room; what does not fit, and motion that
/// the driver has no buffer for, is told at the end as how things are then.
class VirtioInput : public StatefulDevice<VirtioInputState>, public VirtioFunction {
  public:
    static constexpr unsigned event_queue = 0, status_queue = 1;
    static constexpr size_t most_events = 64;
    static constexpr int32_t most_motion = 32767;

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void write_configuration(uint64_t offset, uint8_t value) override;
    void notified(unsigned queue) override;
    void driver_reset() override;
    [[nodiscard]] Device& device() override { return *this; }
    void reset(ResetKind kind) override;

  protected:
    /// What never changes of one.
    struct Kind {
        std::string_view name;
        uint16_t product = 0;
        uint32_t class_code = 0;
    };
    explicit VirtioInput(const Kind& kind);

    Result<void> validate(const VirtioInputState& staged) const override;
    void after_load() override {}

    /// The codes of a type of event, as a bitmap.
    [[nodiscard]] virtual std::vector<uint8_t> codes(uint8_t type) const = 0;
    [[nodiscard]] virtual std::vector<uint8_t> axis(uint8_t /*code*/) const { return {}; }
    /// Appends what the driver is to know and no event says: called when there are no events.
    virtual void append_rest() = 0;
    /// The driver has taken everything, or is gone.
    virtual void told() {}

    void append(uint16_t type, uint16_t code, int32_t value) { state_.events.push_back({type, code, value}); }
    /// The end of what happened at once.
    void append_end() { append(0, 0, 0); }
    [[nodiscard]] size_t room() const { return most_events - state_.events.size(); }
    /// Whether a driver listens.
    [[nodiscard]] bool listening() const { return transport().running(); }
    /// Gives events to the driver as long as it has buffers.
    void tell();
    [[nodiscard]] bool has_news() const;

    Kind kind_;
    VirtioIdentity identity_;
    uint64_t forgotten_ = 0;  // events that no driver took
};

class VirtioKeyboard final : public VirtioInput, public KeyboardPort {
  public:
    VirtioKeyboard();

    /// What decides between it and an earlier one, if there is one.
    std::unique_ptr<KeyboardPort> choice;

    bool press(Key key, Repeat repeat) override;
    void release(Key key) override;
    [[nodiscard]] bool idle() const override { return !has_news(); }
    void on_idle(std::move_only_function<void()> callback) override { on_idle_ = std::move(callback); }
    [[nodiscard]] uint64_t discarded() const override { return forgotten_; }
    [[nodiscard]] KeyboardLeds leds() const override;
    [[nodiscard]] bool in_use() const override { return listening(); }

  private:
    [[nodiscard]] std::vector<uint8_t> codes(uint8_t type) const override;
    void append_rest() override;
    void told() override;

    std::move_only_function<void()> on_idle_;
};

class VirtioPointer : public VirtioInput {
  protected:
    using VirtioInput::VirtioInput;

    void set_button(MouseButton button, bool down);
    /// Motion has been added to the state.
    void note_motion();
    [[nodiscard]] std::vector<uint8_t> codes(uint8_t type) const override;
    void append_rest() override;
    /// The axes' part of a motion; the state is as if there had been none.
    virtual void append_axes() = 0;
    void append_wheel();
};

class VirtioMouse final : public VirtioPointer, public MousePort {
  public:
    VirtioMouse();

    /// What decides between it and an earlier one, if there is one.
    std::unique_ptr<MousePort> choice;

    void move(int dx, int dy, int wheel) override;
    void press(MouseButton button) override { set_button(button, true); }
    void release(MouseButton button) override { set_button(button, false); }
    [[nodiscard]] bool reporting() const override { return listening(); }

  private:
    [[nodiscard]] std::vector<uint8_t> codes(uint8_t type) const override;
    void append_axes() override;
};

class VirtioTablet final : public VirtioPointer, public TabletPort {
  public:
    VirtioTablet();

    /// What decides between it and an earlier one, if there is one.
    std::unique_ptr<TabletPort> choice;

    void move_to(int x, int y) override;
    void scroll(int steps) override;
    void press(MouseButton button) override { set_button(button, true); }
    void release(MouseButton button) override { set_button(button, false); }
    [[nodiscard]] bool reporting() const override { return listening(); }
    [[nodiscard]] bool idle() const override { return !has_news(); }

  private:
    [[nodiscard]] std::vector<uint8_t> codes(uint8_t type) const override;
    [[nodiscard]] std::vector<uint8_t> axis(uint8_t code) const override;
    void append_axes() override;
};

/// The code of a key in events; 0 when there is no such key.
[[nodiscard]] uint8_t event_code(Key key);

/// viv,function = "keyboard", "mouse" or "tablet". Each takes the place of an earlier KeyboardPort, MousePort or
/// TabletPort, to which it sends what it does not get itself.
Result<std::unique_ptr<VirtioFunction>> make_virtio_keyboard(DeviceContext& context);
Result<std::unique_ptr<VirtioFunction>> make_virtio_mouse(DeviceContext& context);
Result<std::unique_ptr<VirtioFunction>> make_virtio_tablet(DeviceContext& context);

}  // namespace viv
