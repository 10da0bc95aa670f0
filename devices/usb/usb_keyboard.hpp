// Models: a USB keyboard with the boot protocol: 101 keys, 8 modifiers, six keys at once and the rollover report, lamps
// Not modelled: n-key rollover, media keys
// Ignored bits: the upper three of the output report
// Reference: Device Class Definition for HID 1.11, appendices B.1, C and F; HID Usage Tables 1.12, chapter 10
#pragma once

#include <functional>
#include <memory>

#include "devices/input/keyboard_port.hpp"
#include "devices/usb/usb_hid.hpp"

namespace viv {

class UsbKeyboard final : public UsbHid, public KeyboardPort {
  public:
    UsbKeyboard(UsbHidState& state, Clock& clock);

    bool press(Key key, Repeat repeat) override;
    void release(Key key) override;
    [[nodiscard]] bool idle() const override { return !has_news(); }
    void on_idle(std::move_only_function<void()> callback) override { on_idle_ = std::move(callback); }
    [[nodiscard]] uint64_t discarded() const override { return discarded_; }
    [[nodiscard]] KeyboardLeds leds() const override;
    [[nodiscard]] bool in_use() const override { return UsbHid::in_use(); }

  private:
    [[nodiscard]] bool has_news() const override;
    void take_news() override;
    size_t make_report(Report report) const override;
    bool set_output(std::span<const uint8_t> report) override;
    void forget_news() override;
    void on_told() override;

    std::move_only_function<void()> on_idle_;
    uint64_t discarded_ = 0;
};

}  // namespace viv
