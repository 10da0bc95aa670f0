// Models: the IBM enhanced keyboard (101/102 keys, and the 104-key additions): scan code sets 1, 2 and 3, all commands,
//   typematic repeat, the 16-byte buffer with its overrun code, fake shifts, Pause and Print Screen.
// Not modelled: the time of the self-test (its result follows the ACK), wire errors, ghosting.
// Ignored bits: unknown bits of the LED and typematic arguments.
// Reference: IBM PS/2 hardware interface technical reference (1988), "Keyboard (101- and 102-key)".
#include "devices/input/ps2_keyboard.hpp"

#include <algorithm>
#include <utility>

#include "devices/input/scan_codes.hpp"

namespace viv {
namespace {

enum class Command : uint8_t {
    set_leds = 0xED,
    echo = 0xEE,
    scan_code_set = 0xF0,
    identify = 0xF2,
    typematic = 0xF3,
    enable = 0xF4,
    disable = 0xF5,
    set_defaults = 0xF6,
    all_typematic = 0xF7,
    all_make_break = 0xF8,
    all_make = 0xF9,
    all_typematic_make_break = 0xFA,
    key_typematic = 0xFB,
    key_make_break = 0xFC,
    key_make = 0xFD,
    resend = 0xFE,
    reset = 0xFF,
};
constexpr uint8_t first_command = 0xED;

constexpr uint8_t ack = 0xFA;
constexpr uint8_t please_resend = 0xFE;
constexpr uint8_t echo_reply = 0xEE;
constexpr uint8_t self_test_passed = 0xAA;
constexpr uint8_t prefix_extended = 0xE0;
constexpr uint8_t prefix_pause = 0xE1;
constexpr uint8_t prefix_break = 0xF0;
constexpr uint8_t overrun_set1 = 0xFF;
constexpr uint8_t overrun_set23 = 0x00;
constexpr uint8_t led_bits = 0x07;
constexpr uint8_t led_num_lock = 0x02;
constexpr uint8_t typematic_bits = 0x7F;
constexpr uint8_t sysrq_code = 0x84;
constexpr uint8_t break_code = 0x7E;  // Ctrl-Pause

using Bits = std::array<uint8_t, 32>;

bool bit(const Bits& bits, Key key) {
    const unsigned usage = std::to_underlying(key);
    return (bits[usage / 8] >> (usage % 8) & 1) != 0;
}

void set_bit(Bits& bits, Key key, bool value) {
    const unsigned usage = std::to_underlying(key);
    const auto mask = static_cast<uint8_t>(1U << (usage % 8));
    bits[usage / 8] = static_cast<uint8_t>(value ? bits[usage / 8] | mask : bits[usage / 8] & ~mask);
}

constexpr unsigned first_gray = std::to_underlying(Key::print_screen);

/// Insert to Up: the keys that the numeric keypad also has, and that fake shifts tell from it.
bool is_cursor_key(Key key) {
    return key >= Key::insert && key <= Key::up;
}

bool has_fake(Key key) {
    return key == Key::print_screen || is_cursor_key(key) || key == Key::keypad_slash;
}

}  // namespace

Ps2Keyboard::Ps2Keyboard(State& state, Clock& clock, std::move_only_function<void()> changed)
    : state_(state),
      clock_(clock),
      changed_(std::move(changed)),
      repeat_timer_(clock, [this](VirtualTime deadline) { repeat(deadline); }) {}

// IBM lists the defaults of set 3 key by key; keys that repeat are all others.
std::array<uint8_t, 256> Ps2Keyboard::default_key_types() {
    std::array<uint8_t, 256> types{};
    types.fill(std::to_underlying(KeyType::typematic));
    for (const Key key : {Key::left_ctrl, Key::left_shift, Key::left_alt, Key::right_shift, Key::caps_lock}) {
        types[set3_code(key)] = std::to_underlying(KeyType::make_break);
    }
    for (const Key key : {Key::right_ctrl, Key::right_alt, Key::escape, Key::print_screen, Key::scroll_lock, Key::pause,
                          Key::insert, Key::home, Key::page_up, Key::end, Key::page_down, Key::num_lock,
                          Key::keypad_slash, Key::keypad_asterisk, Key::keypad_minus, Key::keypad_enter}) {
        types[set3_code(key)] = std::to_underlying(KeyType::make);
    }
    for (auto usage = std::to_underlying(Key::f1); usage <= std::to_underlying(Key::f12); ++usage) {
        types[set3_code(Key{usage})] = std::to_underlying(KeyType::make);
    }
    return types;
}

Result<void> Ps2Keyboard::validate(const State& state) {
    if (!state.reply.valid() || !state.codes.valid()) return fail("saved state: keyboard: a queue is too long");
    if (state.set < 1 || state.set > 3) return fail("saved state: keyboard: there is no such scan code set");
    return {};
}

void Ps2Keyboard::after_load() {
    if (state_.repeat_due) {
        repeat_timer_.arm(*state_.repeat_due);
    } else {
        repeat_timer_.cancel();
    }
}

// The byte that a real keyboard sends after its power-on test is long read when a machine starts after POST.
void Ps2Keyboard::power_on() {
    discarded_ += state_.codes.size;
    state_ = State{};
    repeat_timer_.cancel();
}

uint8_t Ps2Keyboard::take_byte() {
    if (!state_.reply.empty()) {
        state_.last_sent = state_.reply.pop();
    } else {
        state_.last_sent = state_.codes.pop();
        send_owed_breaks();
    }
    return state_.last_sent;
}

void Ps2Keyboard::answer(std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) state_.reply.push(byte);
}

void Ps2Keyboard::receive(uint8_t byte) {
    state_.reply.clear();
    if (byte >= first_command) {
        state_.awaiting = 0;
        command(byte);
    } else if (state_.awaiting != 0) {
        argument(byte);
    } else {
        answer({please_resend});
    }
}

void Ps2Keyboard::command(uint8_t byte) {
    switch (Command{byte}) {
        case Command::set_leds:
        case Command::scan_code_set:
        case Command::typematic:
        case Command::key_typematic:
        case Command::key_make_break:
        case Command::key_make: state_.awaiting = byte; return answer({ack});
        case Command::echo: return answer({echo_reply});
        case Command::identify: return answer({ack, 0xAB, 0x83});
        case Command::enable:
            clear_codes();
            state_.scanning = true;
            return answer({ack});
        case Command::disable:
            clear_codes();
            set_defaults();
            drop_keys();
            state_.scanning = false;
            return answer({ack});
        case Command::set_defaults:
            clear_codes();
            set_defaults();
            return answer({ack});
        case Command::all_typematic: state_.key_type.fill(std::to_underlying(KeyType::typematic)); return answer({ack});
        case Command::all_make_break:
            state_.key_type.fill(std::to_underlying(KeyType::make_break));
            return answer({ack});
        case Command::all_make: state_.key_type.fill(std::to_underlying(KeyType::make)); return answer({ack});
        case Command::all_typematic_make_break:
            state_.key_type.fill(std::to_underlying(KeyType::typematic_make_break));
            return answer({ack});
        case Command::resend: return answer({state_.last_sent});
        case Command::reset: power_on(); return answer({ack, self_test_passed});
    }
    answer({please_resend});  // EFh, F1h
}

void Ps2Keyboard::argument(uint8_t byte) {
    const auto command = Command{state_.awaiting};
    if (command == Command::key_typematic || command == Command::key_make_break || command == Command::key_make) {
        set_key_type(byte);  // and more of them, until the next command
        return answer({ack});
    }
    state_.awaiting = 0;
    if (command == Command::set_leds) {
        state_.leds = byte & led_bits;
        return answer({ack});
    }
    if (command == Command::typematic) {
        state_.typematic = byte & typematic_bits;
        return answer({ack});
    }
    // Scan code set: 0 asks which one is in use.
    if (byte == 0) return answer({ack, state_.set});
    if (byte > 3) return answer({please_resend});
    clear_codes();
    state_.set = byte;
    answer({ack});
}

void Ps2Keyboard::set_key_type(uint8_t code) {
    const auto type = Command{state_.awaiting} == Command::key_typematic    ? KeyType::typematic
                      : Command{state_.awaiting} == Command::key_make_break ? KeyType::make_break
                                                                            : KeyType::make;
    state_.key_type[code] = std::to_underlying(type);
}

// Set Default leaves the lamps and the scan code set alone.
void Ps2Keyboard::set_defaults() {
    state_.typematic = State{}.typematic;
    state_.key_type = default_key_types();
    state_.repeat_key = 0;
    state_.repeat_due.reset();
    repeat_timer_.cancel();
}

void Ps2Keyboard::clear_codes() {
    discarded_ += state_.codes.size;
    state_.codes.clear();
}

// Keys held while scanning stops come up unseen.
void Ps2Keyboard::drop_keys() {
    state_.down = {};
    state_.reported = {};
    state_.fake = {};
}

bool Ps2Keyboard::is_down(Key key) const {
    return bit(state_.reported, key);
}

Ps2Keyboard::KeyType Ps2Keyboard::type_of(Key key) const {
    if (state_.set != 3) {
        return key == Key::pause ? KeyType::make_break : KeyType::typematic_make_break;
    }
    return KeyType{static_cast<uint8_t>(state_.key_type[set3_code(key)] & 3)};
}

void Ps2Keyboard::append(Codes& out, uint8_t set2, bool extended, bool up) const {
    if (extended) out.push(prefix_extended);
    if (state_.set == 1) {
        out.push(static_cast<uint8_t>(translate_to_set1(set2) | (up ? 0x80 : 0)));
        return;
    }
    if (up) out.push(prefix_break);
    out.push(set2);
}

Ps2Keyboard::Codes Ps2Keyboard::make_codes(Key key, uint8_t& fake) const {
    Codes out;
    fake = 0;
    if (state_.set == 3) {
        out.push(set3_code(key));
        return out;
    }
    const bool ctrl = is_down(Key::left_ctrl) || is_down(Key::right_ctrl);
    const bool alt = is_down(Key::left_alt) || is_down(Key::right_alt);
    const bool shift = is_down(Key::left_shift) || is_down(Key::right_shift);
    const auto [left_shift, left_extended] = set2_code(Key::left_shift);
    const auto [right_shift, right_extended] = set2_code(Key::right_shift);
    if (key == Key::pause) {
        if (ctrl) {
            append(out, break_code, true, false);
            append(out, break_code, true, true);
            return out;
        }
        const uint8_t ctrl_code = set2_code(Key::left_ctrl).code;
        const uint8_t num_code = set2_code(Key::num_lock).code;
        for (const bool up : {false, true}) {
            out.push(prefix_pause);
            append(out, ctrl_code, false, up);
            append(out, num_code, false, up);
        }
        return out;
    }
    if (key == Key::print_screen && alt) {
        fake = fake_sysrq;
        append(out, sysrq_code, false, false);
        return out;
    }
    const bool num_lock = (state_.leds & led_num_lock) != 0;
    if ((key == Key::print_screen && !ctrl && !shift) || (is_cursor_key(key) && num_lock && !shift)) {
        fake = fake_shift_made;
        append(out, left_shift, true, false);
    } else if ((is_cursor_key(key) && !num_lock) || key == Key::keypad_slash) {
        if (is_down(Key::left_shift)) {
            fake |= fake_left_shift_unmade;
            append(out, left_shift, true, true);
        }
        if (is_down(Key::right_shift)) {
            fake |= fake_right_shift_unmade;
            append(out, right_shift, true, true);
        }
    }
    const auto [code, extended] = set2_code(key);
    append(out, code, extended, false);
    return out;
}

Ps2Keyboard::Codes Ps2Keyboard::repeat_codes(Key key) const {
    Codes out;
    if (state_.set == 3) {
        out.push(set3_code(key));
        return out;
    }
    if (key == Key::print_screen && (state_.fake[0] & fake_sysrq) != 0) {
        append(out, sysrq_code, false, false);
        return out;
    }
    const auto [code, extended] = set2_code(key);
    append(out, code, extended, false);
    return out;
}

Ps2Keyboard::Codes Ps2Keyboard::break_codes(Key key, uint8_t fake) const {
    Codes out;
    if (state_.set == 3) {
        const auto type = type_of(key);
        if (type == KeyType::make_break || type == KeyType::typematic_make_break) {
            out.push(prefix_break);
            out.push(set3_code(key));
        }
        return out;
    }
    if (key == Key::pause) return out;
    if ((fake & fake_sysrq) != 0) {
        append(out, sysrq_code, false, true);
        return out;
    }
    const auto [code, extended] = set2_code(key);
    append(out, code, extended, true);
    if ((fake & fake_shift_made) != 0) append(out, set2_code(Key::left_shift).code, true, true);
    if ((fake & fake_left_shift_unmade) != 0 && is_down(Key::left_shift)) {
        append(out, set2_code(Key::left_shift).code, true, false);
    }
    if ((fake & fake_right_shift_unmade) != 0 && is_down(Key::right_shift)) {
        append(out, set2_code(Key::right_shift).code, true, false);
    }
    return out;
}

// The codes of a key go in whole or not at all, so that the guest never sees half a sequence.
bool Ps2Keyboard::send(const Codes& codes) {
    if (state_.codes.size + codes.size > buffer_size) return false;
    for (size_t i = 0; i < codes.size; ++i) state_.codes.push(codes.bytes[i]);
    return true;
}

bool Ps2Keyboard::press(Key key, KeyboardPort::Repeat repeat) {
    if (set3_code(key) == 0) return true;  // this keyboard has no such key
    if (bit(state_.down, key)) return true;
    // A break that is still owed must be seen before the next make.
    if (!state_.scanning || state_.down != state_.reported) return false;
    uint8_t fake = 0;
    if (!send(make_codes(key, fake))) return false;
    set_bit(state_.down, key, true);
    set_bit(state_.reported, key, true);
    if (has_fake(key)) state_.fake[std::to_underlying(key) - first_gray] = fake;
    const auto type = type_of(key);
    const bool repeats = type == KeyType::typematic || type == KeyType::typematic_make_break;
    if (repeats && repeat == KeyboardPort::Repeat::typematic) {
        state_.repeat_key = std::to_underlying(key);
        state_.repeat_due = clock_.now() + repeat_delay();
        repeat_timer_.arm(*state_.repeat_due);
    } else {
        state_.repeat_key = 0;
        state_.repeat_due.reset();
        repeat_timer_.cancel();
    }
    return true;
}

void Ps2Keyboard::release(Key key) {
    if (!bit(state_.down, key)) return;
    set_bit(state_.down, key, false);
    if (state_.repeat_key == std::to_underlying(key)) {
        state_.repeat_key = 0;
        state_.repeat_due.reset();
        repeat_timer_.cancel();
    }
    send_owed_breaks();
}

void Ps2Keyboard::send_owed_breaks() {
    for (size_t i = 0; i < state_.reported.size(); ++i) {
        const auto owed = static_cast<uint8_t>(state_.reported[i] & ~state_.down[i]);
        for (unsigned j = 0; owed >> j != 0; ++j) {
            if ((owed >> j & 1) == 0) continue;
            const auto key = Key{static_cast<uint8_t>(i * 8 + j)};
            const uint8_t fake = has_fake(key) ? state_.fake[std::to_underlying(key) - first_gray] : uint8_t{0};
            if (!send(break_codes(key, fake))) return;
            set_bit(state_.reported, key, false);
        }
    }
}

void Ps2Keyboard::repeat(VirtualTime deadline) {
    if (state_.scanning) {
        const Codes codes = repeat_codes(Key{state_.repeat_key});
        // The place behind the buffer takes the overrun code; what else comes is lost, as the guest is then told.
        if (!send(codes)) state_.codes.push(state_.set == 1 ? overrun_set1 : overrun_set23);
    }
    VirtualTime next = deadline + repeat_period();
    if (next <= clock_.now()) next = clock_.now() + repeat_period();
    state_.repeat_due = next;
    repeat_timer_.arm(next);
    changed_();
}

// Bits 6:5 count quarters of a second, from one.
Duration Ps2Keyboard::repeat_delay() const {
    return std::chrono::milliseconds(250) * ((state_.typematic >> 5 & 3) + 1);
}

// Period = (8 + A) * 2^B * 1/240 s, with A in bits 2:0 and B in bits 4:3.
Duration Ps2Keyboard::repeat_period() const {
    const int units = (8 + (state_.typematic & 7)) << (state_.typematic >> 3 & 3);
    return std::chrono::nanoseconds(1'000'000'000LL * units / 240);
}

KeyboardLeds Ps2Keyboard::leds() const {
    return {(state_.leds & 0x01) != 0, (state_.leds & 0x02) != 0, (state_.leds & 0x04) != 0};
}

}  // namespace viv
