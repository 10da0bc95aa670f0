// INT 16h: keyboard services.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 16H".

#include "bios/system/keymap.hpp"
#include "bios/system/services.hpp"

namespace viv::rom {

bool controller_command(uint8_t command) {
    for (uint16_t polls = 0xFFFF; polls != 0; --polls) {
        if (!(in_byte(0x64) & 0x02)) {
            out_byte(0x64, command);
            return true;
        }
    }
    return false;
}

bool controller_data(uint8_t value) {
    for (uint16_t polls = 0xFFFF; polls != 0; --polls) {
        if (!(in_byte(0x64) & 0x02)) {
            out_byte(0x60, value);
            return true;
        }
    }
    return false;
}

bool controller_read(uint8_t& value) {
    for (uint16_t polls = 0xFFFF; polls != 0; --polls) {
        if (in_byte(0x64) & 0x01) {
            value = in_byte(0x60);
            return true;
        }
    }
    return false;
}

namespace {

enum class KeyboardKind : uint8_t { keys_84, keys_101 };

void remove_key(uint16_t head) {
    head = static_cast<uint16_t>(head + 2);
    if (head >= get(bda::keyboard_buffer_end)) head = get(bda::keyboard_buffer_start);
    put(bda::keyboard_head, head);
}

// The next word the functions of this kind may return, left in the buffer; words they must not return are dropped.
// False if there is none. Called and left with interrupts closed.
bool find_key(KeyboardKind kind, uint16_t& word) {
    for (;;) {
        const uint16_t head = get(bda::keyboard_head);
        if (head == get(bda::keyboard_tail)) return false;
        const uint16_t stored = get(Field<uint16_t>{head});
        word = kind == KeyboardKind::keys_101 ? word_for_101_keys(stored) : word_for_84_keys(stored);
        if (word != 0 || stored == 0) return true;
        remove_key(head);
    }
}

// The door (entry.S) calls with interrupts closed, and waits and calls again as long as ZF is set.
void read_key(Registers& r, KeyboardKind kind) {
    uint16_t word;
    if (!find_key(kind, word)) return r.set_zero();
    remove_key(get(bda::keyboard_head));
    r.ax() = word;
    r.clear_zero();
}

void peek_key(Registers& r, KeyboardKind kind) {
    uint16_t word;
    disable_interrupts();
    if (find_key(kind, word)) {
        r.ax() = word;
        r.clear_zero();
    } else {
        r.set_zero();
    }
    // As on an AT, which comes back with interrupts open: programs poll this in loops that closed them.
    r.flags |= flag_interrupt;
}

void int16_00_read_key(Registers& r) {
    read_key(r, KeyboardKind::keys_84);
}
void int16_01_peek_key(Registers& r) {
    peek_key(r, KeyboardKind::keys_84);
}
void int16_02_shift_flags(Registers& r) {
    r.al() = get(bda::shift_flags);
}

// The keyboard answers a command and its value with FAh each. They are read here; the interrupt that they raise finds
// nothing new.
void int16_03_set_typematic(Registers& r) {
    if (r.al() != 5 && r.al() != 0) return;
    const uint8_t value = r.al() == 0 ? 0x2B : static_cast<uint8_t>((r.bh() & 3) << 5 | (r.bl() & 0x1F));
    disable_interrupts();
    uint8_t answer;
    if (controller_data(0xF3) && controller_read(answer)) {
        if (controller_data(value)) controller_read(answer);
    }
}

void int16_05_store_key(Registers& r) {
    disable_interrupts();
    const uint16_t tail = get(bda::keyboard_tail);
    uint16_t next = static_cast<uint16_t>(tail + 2);
    if (next >= get(bda::keyboard_buffer_end)) next = get(bda::keyboard_buffer_start);
    if (next == get(bda::keyboard_head)) {
        r.al() = 1;
        return;
    }
    put(Field<uint16_t>{tail}, r.cx());
    put(bda::keyboard_tail, next);
    r.al() = 0;
}

void int16_09_functions(Registers& r) {
    r.al() = 0x34;
}  // AX=0305h, AH=0Ah, AH=10h-12h
void int16_0a_keyboard_id(Registers& r) {
    r.bx() = 0x41AB;
}
void int16_10_read_key(Registers& r) {
    read_key(r, KeyboardKind::keys_101);
}
void int16_11_peek_key(Registers& r) {
    peek_key(r, KeyboardKind::keys_101);
}

void int16_12_extended_shift_flags(Registers& r) {
    const uint8_t flags = get(bda::shift_flags_2);
    r.al() = get(bda::shift_flags);
    r.ah() = static_cast<uint8_t>((flags & 0x73) | (flags & 0x04) << 5 | (get(bda::keyboard_mode) & 0x0C));
}

}  // namespace

extern "C" void keyboard_service(Registers& r) {
    switch (r.ah()) {
        case 0x00: return int16_00_read_key(r);
        case 0x01: return int16_01_peek_key(r);
        case 0x02: return int16_02_shift_flags(r);
        case 0x03: return int16_03_set_typematic(r);
        case 0x05: return int16_05_store_key(r);
        case 0x09: return int16_09_functions(r);
        case 0x0A: return int16_0a_keyboard_id(r);
        case 0x10: return int16_10_read_key(r);
        case 0x11: return int16_11_peek_key(r);
        case 0x12: return int16_12_extended_shift_flags(r);
    }
}

}  // namespace viv::rom
