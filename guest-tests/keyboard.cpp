// The keyboard controller, keyboard and mouse by their registers, the BIOS's keyboard services, and the keys that the
// runner types: "viv<f1>A" and Enter.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

bool wait_input_empty() {
    Deadline deadline(200);
    while (inb(0x64) & 0x02) {
        if (deadline.passed()) return false;
    }
    return true;
}

// The next byte of port 60h, or FFFFh.
uint16_t receive(uint32_t milliseconds = 500) {
    Deadline deadline(milliseconds);
    while (!(inb(0x64) & 0x01)) {
        if (deadline.passed()) return 0xFFFF;
    }
    return inb(0x60);
}

void command(uint8_t value) {
    wait_input_empty();
    outb(0x64, value);
}

void data(uint8_t value) {
    wait_input_empty();
    outb(0x60, value);
}

void drain() {
    while (receive(20) != 0xFFFF) {
    }
}

void mouse(uint8_t value) {
    command(0xD4);
    data(value);
}

void test_controller() {
    drain();
    check(inb(0x64) & 0x04, "the system flag is set after POST");
    command(0xAA);
    check_equal(receive(), 0x55, "the controller passes its self-test");
    command(0xAB);
    check_equal(receive(), 0x00, "the keyboard's wire is good");
    command(0xA9);
    check_equal(receive(), 0x00, "the mouse's wire is good");
    command(0x60);
    data(0x45);
    command(0x20);
    check_equal(receive(), 0x45, "the command byte reads back");
    command(0xD2);
    data(0x5A);
    check_equal(receive(), 0x5A, "D2h puts a byte into the output buffer as if from the keyboard");
    command(0xD3);
    data(0xA5);
    Deadline deadline(200);
    while (!(inb(0x64) & 0x01) && !deadline.passed()) {
    }
    check(inb(0x64) & 0x20, "D3h puts one there as if from the mouse");
    check_equal(receive(), 0xA5, "the same byte");
    command(0xD0);
    check(receive() & 0x02, "the output port has A20 open");
}

void test_keyboard() {
    command(0x60);
    data(0x44);  // no interrupts, translation
    drain();
    data(0xEE);
    check_equal(receive(), 0xEE, "the keyboard echoes");
    data(0xF2);
    check_equal(receive(), 0xFA, "F2h is acknowledged");
    check_equal(receive(), 0xAB, "and identifies an MF2 keyboard,");
    check_equal(receive(), 0x41, "translated");
    data(0xED);
    check_equal(receive(), 0xFA, "EDh is acknowledged");
    data(0x02);
    check_equal(receive(), 0xFA, "and so are the lamps");
    data(0xF3);
    receive();
    data(0x20);
    check_equal(receive(), 0xFA, "the typematic rate is acknowledged");
    data(0xFF);
    check_equal(receive(1000), 0xFA, "a reset is acknowledged");
    check_equal(receive(2000), 0xAA, "and the self-test passes");
    data(0xF0);
    receive();
    data(0x00);
    receive();
    check_equal(receive(), 0x41, "scan code set 2, seen through the translation");
}

void test_mouse() {
    command(0xA8);
    drain();
    mouse(0xFF);
    check_equal(receive(1000), 0xFA, "the mouse acknowledges a reset");
    check_equal(receive(2000), 0xAA, "passes its self-test");
    check_equal(receive(), 0x00, "and is a standard mouse");
    mouse(0xE9);
    receive();
    check_equal(receive() & 0x67, 0x00, "its status: stream mode, no reports, 1:1");
    check_equal(receive(), 0x02, "4 counts a millimetre");
    check_equal(receive(), 0x64, "100 reports a second");
    const uint8_t rates[3] = {200, 100, 80};
    for (uint8_t rate : rates) {
        mouse(0xF3);
        receive();
        mouse(rate);
        receive();
    }
    mouse(0xF2);
    receive();
    check_equal(receive(), 0x03, "the magic rates turn it into an IntelliMouse");
    mouse(0xFF);
    receive(1000);
    receive(2000);
    receive();
    take_irq(12);
    irq_action[12] = [] { inb(0x60); };
    command(0x60);
    data(0x47);
    mouse(0xF4);
    check(wait_irq(12, 1, 500), "with its interrupt on, an acknowledge comes by IRQ12");
    mouse(0xF5);
    wait_irq(12, 2, 500);
    give_irq(12);
}

void restore() {
    command(0x60);
    data(0x47);
    data(0xF4);
    delay_milliseconds(20);
    drain();
}

uint16_t read_key() {
    return interrupt(0x16, {}).ax();
}

// The runner types only once the guest says that it listens: its script waits for this line.
void test_typing() {
    note("ready for keys");
    check_equal(read_key(), 0x2F76, "INT 16h gives 'v' with its scan code");
    check_equal(read_key(), 0x1769, "then 'i'");
    check_equal(read_key(), 0x2F76, "then 'v'");
    check_equal(read_key(), 0x3B00, "F1 has no character");
    check_equal(read_key(), 0x1E41, "a capital is typed with Shift");
    check_equal(read_key(), 0x1C0D, "Enter is carriage return");
    // Twenty-four keys while nobody reads: the buffer holds fifteen, and the rest must wait, not vanish.
    delay_milliseconds(1500);
    bool right = true;
    for (char expected = 'a'; expected <= 'x'; ++expected) {
        if ((read_key() & 0xFF) != expected) right = false;
    }
    check(right, "keys typed faster than they are read are all there, in order");
    Registers r;
    r.eax = 0x0200;
    check_equal(interrupt(0x16, r).eax & 0x0F, 0, "and no shift key is left down");
}

}  // namespace

extern "C" void guest_main() {
    cli();
    test_controller();
    test_keyboard();
    test_mouse();
    restore();
    sti();
    test_typing();
    finish();
}
