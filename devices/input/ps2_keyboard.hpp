#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "devices/input/keyboard_port.hpp"
#include "vmm/core/byte_queue.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/types.hpp"

namespace viv {

/// The keyboard at the end of the controller's wire: it receives commands and has bytes to send. It knows no ports.
class Ps2Keyboard {
  public:
    /// Set 3 only: what a key sends. The bits are those of the commands that set them.
    enum class KeyType : uint8_t { make = 0, make_break = 1, typematic = 2, typematic_make_break = 3 };

    /// What went around a gray key's code when it was pressed, to be undone when it comes up.
    static constexpr uint8_t fake_shift_made = 0x01;
    static constexpr uint8_t fake_left_shift_unmade = 0x02;
    static constexpr uint8_t fake_right_shift_unmade = 0x04;
    static constexpr uint8_t fake_sysrq = 0x08;  // Print Screen went down with Alt held

    static constexpr size_t buffer_size = 16;
    static constexpr size_t gray_keys = 15;  // HID usages 46h (Print Screen) to 54h (keypad /)

    struct State {
        uint8_t set = 2;
        bool scanning = true;
        uint8_t leds = 0;
        uint8_t typematic = 0x2B;  // 10.9 a second after 500 ms
        uint8_t awaiting = 0;      // the command whose argument comes next
        uint8_t last_sent = 0;     // for Resend
        ByteQueue<4> reply;
        ByteQueue<buffer_size + 1> codes;    // the last place is for the overrun code
        std::array<uint8_t, 32> down{};      // keys that are down, one bit a usage
        std::array<uint8_t, 32> reported{};  // keys that are down as far as the guest was told
        std::array<uint8_t, gray_keys> fake{};
        std::array<uint8_t, 256> key_type = default_key_types();
        uint8_t repeat_key = 0;
        std::optional<VirtualTime> repeat_due;

        static void fields(auto& self, auto&& visit) {
            visit("set", self.set);
            visit("scanning", self.scanning);
            visit("leds", self.leds);
            visit("typematic", self.typematic);
            visit("awaiting", self.awaiting);
            visit("last-sent", self.last_sent);
            visit("reply", self.reply);
            visit("codes", self.codes);
            visit("down", self.down);
            visit("reported", self.reported);
            visit("fake", self.fake);
            visit("key-type", self.key_type);
            visit("repeat-key", self.repeat_key);
            visit("repeat-due", self.repeat_due);
        }
        bool operator==(const State&) const = default;
    };

    /// `state` lives in the controller's state; `changed` is called when a repeated key adds a byte.
    Ps2Keyboard(State& state, Clock& clock, std::move_only_function<void()> changed);

    [[nodiscard]] static Result<void> validate(const State& state);
    void after_load();
    void power_on();

    /// A byte from the controller: a command or its argument.
    void receive(uint8_t byte);
    [[nodiscard]] bool has_byte() const { return !state_.reply.empty() || !state_.codes.empty(); }
    /// True when the next byte answers a command.
    [[nodiscard]] bool replying() const { return !state_.reply.empty(); }
    /// The next byte to the controller; only when has_byte().
    uint8_t take_byte();

    bool press(Key key, KeyboardPort::Repeat repeat);
    void release(Key key);
    [[nodiscard]] KeyboardLeds leds() const;
    [[nodiscard]] uint64_t discarded() const { return discarded_; }

  private:
    static std::array<uint8_t, 256> default_key_types();

    void command(uint8_t byte);
    void argument(uint8_t byte);
    void set_key_type(uint8_t code);
    void answer(std::initializer_list<uint8_t> bytes);
    void set_defaults();
    void clear_codes();
    void drop_keys();

    /// The bytes of a key going down, of its repetition, and of it coming up, in the current set.
    using Codes = ByteQueue<16>;
    void append(Codes& out, uint8_t set2, bool extended, bool up) const;
    Codes make_codes(Key key, uint8_t& fake) const;
    Codes repeat_codes(Key key) const;
    Codes break_codes(Key key, uint8_t fake) const;
    [[nodiscard]] bool is_down(Key key) const;
    [[nodiscard]] bool send(const Codes& codes);
    void send_owed_breaks();
    void repeat(VirtualTime deadline);
    [[nodiscard]] Duration repeat_delay() const;
    [[nodiscard]] Duration repeat_period() const;
    [[nodiscard]] KeyType type_of(Key key) const;

    State& state_;
    Clock& clock_;
    std::move_only_function<void()> changed_;
    Timer repeat_timer_;
    uint64_t discarded_ = 0;
};

}  // namespace viv
