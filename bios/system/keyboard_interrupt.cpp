// INT 09h: keyboard interrupt. Translates scan-code set 1 into the keyboard buffer of the BIOS data area.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 09H"; IBM 101-key keyboard scan codes.

#include "bios/system/keymap.hpp"
#include "bios/system/services.hpp"

namespace viv::rom {
namespace {

// 40:17
constexpr uint8_t right_shift = 0x01, left_shift = 0x02, any_shift = 0x03, control = 0x04, alt = 0x08;
constexpr uint8_t scroll_lock = 0x10, num_lock = 0x20, caps_lock = 0x40, insert = 0x80;
// 40:18
constexpr uint8_t left_control = 0x01, left_alt = 0x02, system_request = 0x04, paused = 0x08;
// 40:96
constexpr uint8_t after_e1 = 0x01, after_e0 = 0x02, right_control = 0x04, right_alt = 0x08;
// 40:97
constexpr uint8_t led_acknowledged = 0x10, led_update = 0x40;

constexpr uint8_t break_bit = 0x80;

template <uint16_t N>
struct KeyColumn {
    const KeyWords* words;
    uint16_t KeyWords::*column;
    constexpr uint16_t operator[](uint16_t index) const { return words[index].*column; }
};

VIV_IN_ROM constexpr RomTable<uint16_t, last_key + 1> plain_words{KeyColumn<0>{key_words, &KeyWords::plain}};
VIV_IN_ROM constexpr RomTable<uint16_t, last_key + 1> shift_words{KeyColumn<0>{key_words, &KeyWords::shift}};
VIV_IN_ROM constexpr RomTable<uint16_t, last_key + 1> control_words{KeyColumn<0>{key_words, &KeyWords::control}};
VIV_IN_ROM constexpr RomTable<uint16_t, last_key + 1> alt_words{KeyColumn<0>{key_words, &KeyWords::alt}};
constexpr uint16_t grey_count = last_grey - first_grey + 1;
VIV_IN_ROM constexpr RomTable<uint16_t, grey_count> grey_plain{KeyColumn<0>{grey_words, &KeyWords::plain}};
VIV_IN_ROM constexpr RomTable<uint16_t, grey_count> grey_control{KeyColumn<0>{grey_words, &KeyWords::control}};
VIV_IN_ROM constexpr RomTable<uint16_t, grey_count> grey_alt{KeyColumn<0>{grey_words, &KeyWords::alt}};

[[gnu::always_inline]] inline void set_bits(Field<uint8_t> field, uint8_t bits) {
    put(field, get(field) | bits);
}
[[gnu::always_inline]] inline void clear_bits(Field<uint8_t> field, uint8_t bits) {
    put(field, get(field) & ~bits);
}

void end_of_interrupt() {
    out_byte(0x20, 0x20);
}

// Ctrl and Alt in 40:17 are down while either of the two keys is.
void update_control_and_alt() {
    const uint8_t left = get(bda::shift_flags_2);
    const uint8_t right = get(bda::keyboard_mode);
    uint8_t flags = static_cast<uint8_t>(get(bda::shift_flags) & ~(control | alt));
    if ((left & left_control) || (right & right_control)) flags |= control;
    if ((left & left_alt) || (right & right_alt)) flags |= alt;
    put(bda::shift_flags, flags);
}

// The keyboard acknowledges the command and then the value; both acknowledgements come through this interrupt.
void start_led_update() {
    clear_bits(bda::keyboard_leds, led_acknowledged);
    set_bits(bda::keyboard_leds, led_update);
    controller_data(0xED);
}

void continue_led_update() {
    const uint8_t state = get(bda::keyboard_leds);
    if (!(state & led_update)) {
        set_bits(bda::keyboard_leds, led_acknowledged);
    } else if (state & led_acknowledged) {
        clear_bits(bda::keyboard_leds, led_update | led_acknowledged);
    } else {
        const uint8_t leds = (get(bda::shift_flags) >> 4) & 7;
        put(bda::keyboard_leds, (state & 0xF8) | leds | led_acknowledged);
        controller_data(leds);
    }
}

void press_lock(uint8_t lock) {
    if (get(bda::shift_flags_2) & lock) return;  // auto-repeat
    set_bits(bda::shift_flags_2, lock);
    put(bda::shift_flags, get(bda::shift_flags) ^ lock);
    start_led_update();
}

bool store(uint16_t word) {
    const uint16_t tail = get(bda::keyboard_tail);
    uint16_t next = static_cast<uint16_t>(tail + 2);
    if (next >= get(bda::keyboard_buffer_end)) next = get(bda::keyboard_buffer_start);
    if (next == get(bda::keyboard_head)) {
        out_byte(firmware_keyboard_port, static_cast<uint8_t>(KeyReport::dropped));
        return false;
    }
    put(Field<uint16_t>{tail}, word);
    put(bda::keyboard_tail, next);
    out_byte(firmware_keyboard_port, static_cast<uint8_t>(KeyReport::stored));
    return true;
}

// Any key but a modifier ends a pause and is swallowed by it.
void store_or_resume(uint16_t word) {
    if (get(bda::shift_flags_2) & paused) {
        clear_bits(bda::shift_flags_2, paused);
        return;
    }
    if (word != 0 && store(word)) tell_device_ready(2);
}

void break_key() {
    const uint16_t start = get(bda::keyboard_buffer_start);
    put(bda::keyboard_head, start);
    put(bda::keyboard_tail, start);
    put(bda::break_flag, 0x80);
    end_of_interrupt();
    call_int1b();
    disable_interrupts();
    store(0);
}

// Holds the machine until a key is pressed; interrupts go on.
void pause_key() {
    if (get(bda::shift_flags_2) & paused) return;
    set_bits(bda::shift_flags_2, paused);
    end_of_interrupt();
    while (get(bda::shift_flags_2) & paused) wait_for_interrupt();
}

void system_request_key(bool pressed) {
    if (pressed && (get(bda::shift_flags_2) & system_request)) return;
    if (pressed) {
        set_bits(bda::shift_flags_2, system_request);
    } else {
        clear_bits(bda::shift_flags_2, system_request);
    }
    end_of_interrupt();
    call_int15(pressed ? 0x8500 : 0x8501);
}

uint16_t grey_word(uint8_t scan_code, uint8_t flags) {
    const bool with_alt = flags & alt, with_control = flags & control;
    if (scan_code == 0x1C) {
        return with_alt ? grey_enter.alt : with_control ? grey_enter.control : grey_enter.plain;
    }
    if (scan_code == 0x35) {
        return with_alt              ? grey_slash.alt
               : with_control        ? grey_slash.control
               : (flags & any_shift) ? grey_slash.shift
                                     : grey_slash.plain;
    }
    if (scan_code < first_grey || scan_code > last_grey) return 0;
    const uint16_t index = static_cast<uint16_t>(scan_code - first_grey);
    return with_alt ? grey_alt[index] : with_control ? grey_control[index] : grey_plain[index];
}

uint16_t plain_word(uint8_t scan_code, uint8_t flags) {
    if (scan_code > last_key) return 0;
    if (flags & alt) return alt_words[scan_code];
    if (flags & control) return control_words[scan_code];
    bool shifted = flags & any_shift;
    if (is_letter_key(scan_code) && (flags & caps_lock)) shifted = !shifted;
    if (is_keypad_key(scan_code) && (flags & num_lock)) shifted = !shifted;
    return shifted ? shift_words[scan_code] : plain_words[scan_code];
}

void release_key(uint8_t scan_code, bool grey) {
    switch (scan_code) {
        case 0x1D:
            grey ? clear_bits(bda::keyboard_mode, right_control) : clear_bits(bda::shift_flags_2, left_control);
            update_control_and_alt();
            break;
        case 0x38:
            grey ? clear_bits(bda::keyboard_mode, right_alt) : clear_bits(bda::shift_flags_2, left_alt);
            update_control_and_alt();
            if (const uint8_t character = get(bda::alt_keypad); character != 0) {
                put(bda::alt_keypad, 0);
                store_or_resume(character);
            }
            break;
        case 0x2A:
            if (!grey) clear_bits(bda::shift_flags, left_shift);
            break;
        case 0x36:
            if (!grey) clear_bits(bda::shift_flags, right_shift);
            break;
        case 0x3A: clear_bits(bda::shift_flags_2, caps_lock); break;
        case 0x45: clear_bits(bda::shift_flags_2, num_lock); break;
        case 0x46: clear_bits(bda::shift_flags_2, scroll_lock); break;
        case 0x52: clear_bits(bda::shift_flags_2, insert); break;
        case 0x54: system_request_key(false); break;
    }
}

// Keys that do something instead of giving a word. True if this was one.
bool press_special_key(uint8_t scan_code, bool grey, uint8_t flags) {
    switch (scan_code) {
        case 0x1D:
            grey ? set_bits(bda::keyboard_mode, right_control) : set_bits(bda::shift_flags_2, left_control);
            update_control_and_alt();
            return true;
        case 0x38:
            grey ? set_bits(bda::keyboard_mode, right_alt) : set_bits(bda::shift_flags_2, left_alt);
            update_control_and_alt();
            return true;
        case 0x2A:  // after E0h: the keyboard's own shift around a grey key
            if (!grey) set_bits(bda::shift_flags, left_shift);
            return true;
        case 0x36:
            if (!grey) set_bits(bda::shift_flags, right_shift);
            return true;
        case 0x3A: press_lock(caps_lock); return true;
        case 0x45:
            if (flags & control) {
                pause_key();
            } else {
                press_lock(num_lock);
            }
            return true;
        case 0x46:
            if (flags & control) {
                break_key();
            } else if (!grey) {
                press_lock(scroll_lock);
            }
            return true;
        case 0x37:
            if (!grey || (flags & alt)) return false;
            if (flags & control) {
                store_or_resume(0x7200);
            } else {
                end_of_interrupt();
                call_int05();
            }
            return true;
        case 0x54: system_request_key(true); return true;
        case 0x53:
            if ((flags & (control | alt)) == (control | alt)) {
                put(bda::reset_flag, 0x1234);
                restart();
            }
            return false;
        case 0x52:
            // Insert toggles its state where it means Insert: grey, or the keypad's when it gives no digit.
            if (!(get(bda::shift_flags_2) & insert) && !(flags & (control | alt)) &&
                (grey || !(flags & num_lock) == !(flags & any_shift))) {
                set_bits(bda::shift_flags_2, insert);
                put(bda::shift_flags, flags ^ insert);
            }
            return false;
    }
    return false;
}

void press_key(uint8_t scan_code, bool grey) {
    const uint8_t flags = get(bda::shift_flags);
    if (press_special_key(scan_code, grey, flags)) return;
    if (!grey && (flags & alt) && keypad_digit(scan_code) != 0xFF) {
        put(bda::alt_keypad, get(bda::alt_keypad) * 10 + keypad_digit(scan_code));
        return;
    }
    store_or_resume(grey ? grey_word(scan_code, flags) : plain_word(scan_code, flags));
}

void translate(uint8_t code) {
    const uint8_t mode = get(bda::keyboard_mode);
    if (code == 0xE0) {
        set_bits(bda::keyboard_mode, after_e0);
        return;
    }
    if (code == 0xE1) {
        set_bits(bda::keyboard_mode, after_e1);
        return;
    }
    if (code == 0xFA) {
        continue_led_update();
        return;
    }
    if (code == 0xFE) {
        set_bits(bda::keyboard_leds, 0x20);
        return;
    }
    if (code == 0x00 || code == 0xFF) return;  // the keyboard's own buffer overflowed
    if (mode & after_e1) {
        // Pause: E1 1D 45, and E1 9D C5 when it is released (which happens at once).
        if ((code & 0x7F) == 0x1D) return;
        clear_bits(bda::keyboard_mode, after_e1);
        if (code == 0x45) pause_key();
        return;
    }
    clear_bits(bda::keyboard_mode, after_e0);
    const bool grey = mode & after_e0;
    if (code & break_bit) {
        release_key(code & 0x7F, grey);
    } else {
        press_key(code, grey);
    }
}

}  // namespace

extern "C" void keyboard_interrupt(Registers&) {
    disable_interrupts();
    const uint8_t code = in_byte(0x60);
    const uint32_t intercepted = call_int15(0x4F00u | code);
    disable_interrupts();
    if (intercepted & 0x10000) translate(static_cast<uint8_t>(intercepted));
    end_of_interrupt();
}

}  // namespace viv::rom
