// Models: a USB mouse with the boot protocol and a USB tablet (0 to 32767 both ways), each with five buttons and a
// wheel Not modelled: resolution, tilt, a second wheel Ignored bits: none Reference: Device Class Definition for
// HID 1.11, appendices B.2 and E.10; HID Usage Tables 1.12, chapters 4 and 12
#pragma once

#include "devices/input/keyboard_port.hpp"
#include "devices/input/tablet_port.hpp"
#include "devices/usb/usb_hid.hpp"

namespace viv {

/// What mouse and tablet share: events that wait for the guest's next question, in which clicks keep their place.
class UsbPointer : public UsbHid {
  protected:
    using UsbHid::UsbHid;

    /// Where motion is added to: an event that the guest has not been told. nullptr when the guest does not ask.
    [[nodiscard]] UsbPointerEvent* motion();
    void set_button(MouseButton button, bool down);
    [[nodiscard]] bool has_news() const override { return !state().events.empty(); }
    bool set_output(std::span<const uint8_t>) override { return false; }
    void forget_news() override { state().events.clear(); }
    void stand_still() override;
    /// A new event with the position or without motion.
    [[nodiscard]] virtual UsbPointerEvent next_event() const = 0;

  private:
    UsbPointerEvent& append(bool is_motion);
};

class UsbMouse final : public UsbPointer, public MousePort {
  public:
    UsbMouse(UsbHidState& state, Clock& clock);

    void move(int dx, int dy, int wheel) override;
    void press(MouseButton button) override { set_button(button, true); }
    void release(MouseButton button) override { set_button(button, false); }
    [[nodiscard]] bool reporting() const override { return in_use(); }

  private:
    [[nodiscard]] UsbPointerEvent next_event() const override;
    void take_news() override;
    size_t make_report(Report report) const override;
};

class UsbTablet final : public UsbPointer, public TabletPort {
  public:
    UsbTablet(UsbHidState& state, Clock& clock);

    void move_to(int x, int y) override;
    void scroll(int steps) override;
    void press(MouseButton button) override { set_button(button, true); }
    void release(MouseButton button) override { set_button(button, false); }
    [[nodiscard]] bool reporting() const override { return in_use(); }
    [[nodiscard]] bool idle() const override { return !has_news(); }

  private:
    [[nodiscard]] UsbPointerEvent next_event() const override;
    void take_news() override;
    size_t make_report(Report report) const override;
};

}  // namespace viv
