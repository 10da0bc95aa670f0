// INT 09h and INT 16h beyond plain keys. Most scan codes come through the controller's command D2h, as if from the
// keyboard; a few keys are typed by the runner.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

asm(R"(
    .text
    .code16
    .globl break_hook, system_hook, tick_hook
break_hook:
    pushw %ds
    pushw $0
    popw %ds
    incl break_calls
    popw %ds
    iretw

system_hook:                    # INT 15h: counts SysReq, turns Z into Y and swallows Q
    cmpb $0x85, %ah
    je 1f
    cmpw $0x4F2C, %ax
    je 2f
    cmpw $0x4F10, %ax
    je 3f
    ljmpw *%cs:old_system
1:  pushw %ds
    pushw %bx
    pushw $0
    popw %ds
    movb %al, %bl
    xorb %bh, %bh
    andb $1, %bl
    incb request_calls(%bx)
    popw %bx
    popw %ds
    iretw
2:  movb $0x15, %al
    pushw %bp
    movw %sp, %bp
    orb $1, 6(%bp)
    popw %bp
    iretw
3:  pushw %bp
    movw %sp, %bp
    andb $0xFE, 6(%bp)
    popw %bp
    iretw

tick_hook:                      # INT 1Ch: after some ticks a space, as if from the keyboard
    pushw %ds
    pushw %ax
    pushw $0
    popw %ds
    movw %ss, tick_stack
    incl tick_calls
    cmpl $6, tick_calls
    jne 9f
    movb $0xD2, %al
    outb %al, $0x64
1:  inb $0x64, %al
    testb $2, %al
    jnz 1b
    movb $0x39, %al
    outb %al, $0x60
9:  popw %ax
    popw %ds
    iretw
    .code16gcc                  # what the compiler writes
)");

extern "C" {
extern char break_hook[], system_hook[], tick_hook[];
volatile uint32_t break_calls, tick_calls;
volatile uint16_t tick_stack;
volatile uint8_t request_calls[2];
uint32_t old_system;
}

namespace {

constexpr uint16_t none = 0xFFFF;

uint32_t hook(uint8_t vector, uint32_t handler) {
    const auto at = static_cast<uint16_t>(vector * 4);
    cli();
    const uint32_t old = peek16(0, at) | uint32_t{peek16(0, static_cast<uint16_t>(at + 2))} << 16;
    poke16(0, at, static_cast<uint16_t>(handler));
    poke16(0, static_cast<uint16_t>(at + 2), static_cast<uint16_t>(handler >> 16));
    sti();
    return old;
}

void wait_while(uint8_t status) {
    Deadline deadline(1000);
    while ((inb(0x64) & status) && !deadline.passed()) {
    }
}

// Nothing comes between the two bytes: the BIOS writes to the keyboard in the interrupts of its acknowledgements, and
// the controller would take that for the second one.
void send(uint8_t code) {
    Deadline deadline(1000);
    while (true) {
        wait_while(0x03);
        cli();
        if ((inb(0x64) & 0x03) == 0 || deadline.passed()) break;
        sti();
    }
    outb(0x64, 0xD2);
    wait_while(0x02);
    outb(0x60, code);
    sti();
    delay_milliseconds(3);
    wait_while(0x01);
}

void press(uint8_t code) {
    send(code);
    send(static_cast<uint8_t>(code | 0x80));
}

void press_grey(uint8_t code) {
    send(0xE0);
    send(code);
    send(0xE0);
    send(static_cast<uint8_t>(code | 0x80));
}

Registers call(uint16_t ax, uint16_t bx = 0, uint16_t cx = 0) {
    Registers r;
    r.eax = ax;
    r.ebx = bx;
    r.ecx = cx;
    return interrupt(0x16, r);
}

// The next key by the 101-key functions, or `none`.
uint16_t key() {
    return call(0x1100).zero() ? none : call(0x1000).ax();
}
// By the 84-key functions.
uint16_t old_key() {
    return call(0x0100).zero() ? none : call(0x0000).ax();
}

uint8_t flags() {
    return call(0x0200).al();
}

void test_extended_keys() {
    press_grey(0x48);
    check_equal(key(), 0x48E0, "INT 16h/10 gives the grey Up with E0h");
    press_grey(0x48);
    check_equal(old_key(), 0x4800, "INT 16h/00 without it");
    press_grey(0x1C);
    check_equal(key(), 0xE00D, "the keypad's Enter is E00Dh");
    press_grey(0x1C);
    check_equal(old_key(), 0x1C0D, "and Enter to INT 16h/00");
    press_grey(0x35);
    check_equal(key(), 0xE02F, "the keypad's slash is E02Fh");
    press_grey(0x35);
    check_equal(old_key(), 0x352F, "and a slash to INT 16h/00");
    press(0x57);
    check_equal(key(), 0x8500, "F11 is for INT 16h/10");
    press(0x57);
    press(0x1E);
    check_equal(old_key(), 0x1E61, "and INT 16h/00 passes over it");
    send(0xE0);
    send(0x2A);
    check_equal(flags() & 0x03, 0, "the shift that a keyboard wraps around grey keys is none");
    press_grey(0x53);
    send(0xE0);
    send(0xAA);
    check_equal(key(), 0x53E0, "Delete within it is Delete");
    check_equal(key(), none, "and that is all");
}

void test_modifiers() {
    send(0x1D);
    check_equal(flags() & 0x0F, 0x04, "left Ctrl is down");
    check_equal(call(0x1200).ah() & 0x0F, 0x01, "INT 16h/12 says which");
    press(0x2E);
    check_equal(key(), 0x2E03, "Ctrl-C is 03h");
    press_grey(0x47);
    check_equal(key(), 0x77E0, "Ctrl-Home has a word of its own");
    send(0xE0);
    send(0x1D);
    check_equal(call(0x1200).ah() & 0x0F, 0x05, "right Ctrl too");
    send(0x9D);
    check_equal(flags() & 0x0F, 0x04, "Ctrl is down as long as one of them is");
    send(0xE0);
    send(0x9D);
    check_equal(flags() & 0x0F, 0x00, "and up after both");
    send(0xE0);
    send(0x38);
    check_equal(call(0x1200).ah() & 0x0F, 0x08, "right Alt is down");
    press(0x10 + 1);
    check_equal(key(), 0x1100, "Alt-W is a word without a character");
    press_grey(0x48);
    check_equal(key(), 0x9800, "and so is Alt-Up");
    send(0xE0);
    send(0xB8);
    send(0x36);
    press(0x1E);
    send(0xB6);
    check_equal(key(), 0x1E41, "right Shift makes a capital");
    send(0x38);
    press(0x4D);
    press(0x4C);
    send(0xB8);
    check_equal(key(), 0x0041, "Alt with 6 and 5 on the keypad is character 65");
    send(0x38);
    press(0x50);
    press(0x4C);
    press(0x4C);
    send(0xB8);
    check_equal(key(), 0x00FF, "Alt-255 is FFh");
    check_equal(key(), none, "the digits themselves are no keys");
}

void test_locks() {
    press(0x3A);
    check_equal(flags() & 0x70, 0x40, "Caps Lock is on");
    delay_milliseconds(50);
    check_equal(peek8(0x40, 0x97) & 0x47, 0x04, "its lamp is lit and the keyboard has acknowledged");
    press(0x1E);
    press(0x02);
    check_equal(key(), 0x1E41, "letters are capitals");
    check_equal(key(), 0x0231, "digits stay");
    send(0x2A);
    press(0x1E);
    send(0xAA);
    check_equal(key(), 0x1E61, "Shift turns it round");
    send(0x3A);
    send(0x3A);
    send(0xBA);
    check_equal(flags() & 0x70, 0x00, "auto-repeat of Caps Lock toggles once");
    delay_milliseconds(50);
    check_equal(peek8(0x40, 0x97) & 0x47, 0x00, "and the lamp goes out");
    press(0x47);
    check_equal(key(), 0x4700, "keypad 7 is Home");
    press(0x45);
    check_equal(flags() & 0x70, 0x20, "Num Lock is on");
    press(0x47);
    check_equal(key(), 0x4737, "and it is 7");
    delay_milliseconds(50);
    press(0x45);
    delay_milliseconds(50);
    press(0x46);
    check_equal(flags() & 0x70, 0x10, "Scroll Lock is on");
    delay_milliseconds(50);
    check_equal(peek8(0x40, 0x97) & 0x47, 0x01, "with its lamp");
    press(0x46);
    delay_milliseconds(50);
    press_grey(0x52);
    check_equal(flags() & 0x80, 0x80, "Insert has a state");
    check_equal(key(), 0x52E0, "and a word");
    press_grey(0x52);
    check_equal(flags() & 0x80, 0x00, "that toggles");
    key();
}

void test_special_keys() {
    const uint32_t old_break = hook(0x1B, reinterpret_cast<uint32_t>(break_hook));
    press(0x1E);
    send(0x1D);
    press_grey(0x46);
    send(0x9D);
    check_equal(break_calls, 1, "Ctrl-Break calls INT 1Bh");
    check_equal(peek8(0x40, 0x71), 0x80, "and sets 40:71");
    check_equal(key(), 0x0000, "the buffer is emptied and holds a zero");
    check_equal(key(), none, "only that");
    poke8(0x40, 0x71, 0);
    hook(0x1B, old_break);

    old_system = hook(0x15, reinterpret_cast<uint32_t>(system_hook));
    send(0x54);
    check_equal(request_calls[0], 1, "SysReq calls INT 15h/8500 when it goes down");
    send(0x54);
    check_equal(request_calls[0], 1, "not again when it repeats");
    send(0xD4);
    check_equal(request_calls[1], 1, "and INT 15h/8501 when it goes up");
    press(0x2C);
    check_equal(key(), 0x1579, "a hook of INT 15h/4F may change a key");
    press(0x10);
    check_equal(key(), none, "or swallow it");
    hook(0x15, old_system);

    const uint32_t old_tick = hook(0x1C, reinterpret_cast<uint32_t>(tick_hook));
    send(0xE1);
    send(0x1D);
    send(0x45);
    check(tick_calls >= 6, "Pause holds the machine until a key is pressed, and ticks go on");
    hook(0x1C, old_tick);
    send(0xB9);
    send(0xE1);
    send(0x9D);
    send(0xC5);
    check_equal(call(0x1200).ah() & 0x01, 0, "the pause is over and no Ctrl is down");
    check_equal(peek8(0x40, 0x18) & 0x08, 0, "nor the pause's bit set");

    while (key() != none) continue;
    uint16_t own_stack;
    asm("movw %%ss, %0" : "=r"(own_stack));
    tick_calls = 0;
    hook(0x1C, reinterpret_cast<uint32_t>(tick_hook));
    check_equal(call(0x1000).ax(), 0x3920, "INT 16h/10 waits for a key");
    hook(0x1C, old_tick);
    check(tick_calls >= 6, "while ticks go on");
    check_equal(tick_stack, own_stack, "which find the caller's stack");
    send(0xB9);
    check_equal(key(), none, "and its key is swallowed");
    press(0x39);
    check_equal(key(), 0x3920, "the next one is not");
}

void test_buffer() {
    for (uint8_t i = 0; i < 17; ++i) press(0x1E);
    check_equal(call(0x0500, 0, 0x1234).al(), 1, "INT 16h/05 says that the buffer is full");
    uint32_t count = 0;
    while (key() == 0x1E61) ++count;
    check_equal(count, 15, "of seventeen keys it holds fifteen");
    check_equal(call(0x0500, 0, 0x1234).al(), 0, "INT 16h/05 stores");
    check_equal(key(), 0x1234, "any word");
    call(0x0305, 0x0000);
    press(0x30);
    check_equal(key(), 0x3062, "after INT 16h/0305 keys still come");
    check_equal(call(0x0900).al() & 0x30, 0x30, "INT 16h/09 announces 0Ah and 10h");
    check_equal(call(0x0A00).bx(), 0x41AB, "INT 16h/0A identifies the keyboard");
}

// Typed by the runner: <up><kpenter><alt-f4><ctrl-home><caps>a<caps><f12>
void test_typed() {
    note("ready for keys");
    check_equal(call(0x1000).ax(), 0x48E0, "a typed Up");
    check_equal(call(0x1000).ax(), 0xE00D, "the keypad's Enter");
    check_equal(call(0x1000).ax(), 0x6B00, "Alt-F4");
    check_equal(call(0x1000).ax(), 0x77E0, "Ctrl-Home");
    check_equal(call(0x1000).ax(), 0x1E41, "a letter with Caps Lock");
    check_equal(call(0x1000).ax(), 0x8600, "F12");
    delay_milliseconds(100);
    check_equal(peek8(0x40, 0x97) & 0x47, 0, "no lamp is left lit");
}

}  // namespace

extern "C" void guest_main() {
    test_extended_keys();
    test_modifiers();
    test_locks();
    test_special_keys();
    test_buffer();
    test_typed();
    finish();
}
