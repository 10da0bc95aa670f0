#pragma once

#include <cstdint>
#include <functional>

namespace viv {

/// The keys of a 104-key keyboard and the extra key of 102/105-key ones. Values are the usages of the USB HID usage
/// tables, page 07h, so that any display protocol can be mapped by its own published table.
enum class Key : uint8_t {
    a = 0x04,
    b,
    c,
    d,
    e,
    f,
    g,
    h,
    i,
    j,
    k,
    l,
    m,
    n,
    o,
    p,
    q,
    r,
    s,
    t,
    u,
    v,
    w,
    x,
    y,
    z,
    digit_1,
    digit_2,
    digit_3,
    digit_4,
    digit_5,
    digit_6,
    digit_7,
    digit_8,
    digit_9,
    digit_0,
    enter,
    escape,
    backspace,
    tab,
    space,
    minus,
    equal,
    left_bracket,
    right_bracket,
    backslash,
    semicolon = 0x33,
    quote,
    grave,
    comma,
    period,
    slash,
    caps_lock,
    f1,
    f2,
    f3,
    f4,
    f5,
    f6,
    f7,
    f8,
    f9,
    f10,
    f11,
    f12,
    print_screen,
    scroll_lock,
    pause,
    insert,
    home,
    page_up,
    del,
    end,
    page_down,
    right,
    left,
    down,
    up,
    num_lock,
    keypad_slash,
    keypad_asterisk,
    keypad_minus,
    keypad_plus,
    keypad_enter,
    keypad_1,
    keypad_2,
    keypad_3,
    keypad_4,
    keypad_5,
    keypad_6,
    keypad_7,
    keypad_8,
    keypad_9,
    keypad_0,
    keypad_period,
    iso_backslash,  // left of Z on 102/105-key keyboards
    menu,
    left_ctrl = 0xE0,
    left_shift,
    left_alt,
    left_gui,
    right_ctrl,
    right_shift,
    right_alt,
    right_gui,
};

/// The lamps that the guest has switched on.
struct KeyboardLeds {
    bool scroll_lock = false;
    bool num_lock = false;
    bool caps_lock = false;
    bool operator==(const KeyboardLeds&) const = default;
};

/// The fingers' side of the keyboard: what a display or the typist holds. A service of the keyboard controller.
class KeyboardPort {
  public:
    /// `none` is for fingers that let go as soon as the guest has seen the key: however slow the guest, it repeats not.
    enum class Repeat { typematic, none };

    virtual ~KeyboardPort() = default;
    /// Presses a key. False, and nothing happens, while the keyboard has no room for its codes or the guest has
    /// switched scanning off: try again later. True without effect when the key is down already.
    virtual bool press(Key key, Repeat repeat = Repeat::typematic) = 0;
    /// Releases a key; nothing when it is not down. Never lost: codes that do not fit are sent when there is room.
    virtual void release(Key key) = 0;
    /// True when the guest has taken every byte: none in the keyboard, on the wire, or in the controller.
    [[nodiscard]] virtual bool idle() const = 0;
    /// `callback` is called whenever idle() becomes true, often from inside a guest's access. One callback at a time.
    virtual void on_idle(std::move_only_function<void()> callback) = 0;
    /// How many bytes of keys were thrown away unread since power-on, because the guest or a reset cleared the
    /// keyboard. A change between press() and idle means that the key may be lost.
    [[nodiscard]] virtual uint64_t discarded() const = 0;
    [[nodiscard]] virtual KeyboardLeds leds() const = 0;
    /// False while the guest has no driver for this keyboard, which another one may take the place of.
    [[nodiscard]] virtual bool in_use() const { return true; }
};

enum class MouseButton : uint8_t { left = 0x01, right = 0x02, middle = 0x04, side = 0x08, extra = 0x10 };

/// The hand's side of the mouse. A service of the keyboard controller.
class MousePort {
  public:
    virtual ~MousePort() = default;
    /// Moves by so many counts: dx to the right, dy down the screen, wheel towards the user. Any value is taken; what
    /// does not fit into one report goes into the next ones, up to the mouse's counters.
    virtual void move(int dx, int dy, int wheel) = 0;
    virtual void press(MouseButton button) = 0;
    virtual void release(MouseButton button) = 0;
    /// True when the guest has asked for reports: a display should then send motion here.
    [[nodiscard]] virtual bool reporting() const = 0;
};

}  // namespace viv
