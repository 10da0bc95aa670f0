#pragma once

#include "devices/input/keyboard_port.hpp"

namespace viv {

/// The hand on a pointer that knows places instead of ways: what a display with a pointer of its own, or a script,
/// holds. A service of a USB tablet.
class TabletPort {
  public:
    static constexpr int limit = 32767;

    virtual ~TabletPort() = default;
    /// To a place of the screen: 0 is its left or upper edge, `limit` the right or lower one; others are taken to the
    /// edge. What the guest has not asked for yet is one motion, but for clicks on the way.
    virtual void move_to(int x, int y) = 0;
    /// Turns the wheel towards the user.
    virtual void scroll(int steps) = 0;
    virtual void press(MouseButton button) = 0;
    virtual void release(MouseButton button) = 0;
    /// True when the guest uses the tablet: a display should then send places here rather than motion to the mouse.
    [[nodiscard]] virtual bool reporting() const = 0;
    /// True when the guest knows where the pointer and its buttons are.
    [[nodiscard]] virtual bool idle() const = 0;
};

}  // namespace viv
