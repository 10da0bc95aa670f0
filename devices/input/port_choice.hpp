#pragma once

#include <functional>

#include "devices/input/keyboard_port.hpp"
#include "devices/input/tablet_port.hpp"

namespace viv {

/// A keyboard that the guest may use instead of another: keys go to it while the guest does, else to the other one.
class KeyboardChoice final : public KeyboardPort {
  public:
    /// Takes the on_idle of both.
    KeyboardChoice(KeyboardPort& keyboard, KeyboardPort& other);
    ~KeyboardChoice() override;

    bool press(Key key, Repeat repeat) override { return active().press(key, repeat); }
    void release(Key key) override;
    [[nodiscard]] bool idle() const override { return active().idle(); }
    void on_idle(std::move_only_function<void()> callback) override { on_idle_ = std::move(callback); }
    [[nodiscard]] uint64_t discarded() const override { return keyboard_.discarded() + other_.discarded(); }
    [[nodiscard]] KeyboardLeds leds() const override { return active().leds(); }
    [[nodiscard]] bool in_use() const override { return active().in_use(); }

  private:
    [[nodiscard]] KeyboardPort& active() const { return keyboard_.in_use() ? keyboard_ : other_; }
    void tell();

    KeyboardPort& keyboard_;
    KeyboardPort& other_;
    std::move_only_function<void()> on_idle_;
};

/// A mouse that the guest may use instead of another: motion goes to it while the guest does, else to the other one.
class MouseChoice final : public MousePort {
  public:
    MouseChoice(MousePort& mouse, MousePort& other) : mouse_(mouse), other_(other) {}

    void move(int dx, int dy, int wheel) override { active().move(dx, dy, wheel); }
    void press(MouseButton button) override { active().press(button); }
    void release(MouseButton button) override;
    [[nodiscard]] bool reporting() const override { return active().reporting(); }

  private:
    [[nodiscard]] MousePort& active() const { return mouse_.reporting() ? mouse_ : other_; }

    MousePort& mouse_;
    MousePort& other_;
};

/// Likewise of two tablets. Both know the place of the pointer.
class TabletChoice final : public TabletPort {
  public:
    TabletChoice(TabletPort& tablet, TabletPort& other) : tablet_(tablet), other_(other) {}

    void move_to(int x, int y) override;
    void scroll(int steps) override { active().scroll(steps); }
    void press(MouseButton button) override { active().press(button); }
    void release(MouseButton button) override;
    [[nodiscard]] bool reporting() const override { return active().reporting(); }
    [[nodiscard]] bool idle() const override { return active().idle(); }

  private:
    [[nodiscard]] TabletPort& active() const { return tablet_.reporting() ? tablet_ : other_; }

    TabletPort& tablet_;
    TabletPort& other_;
};

}  // namespace viv
