// The pointing device through INT 15h/C2. Movements are put into the keyboard controller as if from the mouse.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

extern "C" char mouse_handler[];
extern "C" {
volatile uint16_t mouse_calls = 0;
volatile uint16_t mouse_words[4];  // Z, Y, X, status
}

// Far called with status, X, Y and Z on the stack.
asm(R"(
    .text
    .globl mouse_handler
mouse_handler:
    pushw %bp
    movw %sp, %bp
    pushw %ds
    pushw %ax
    xorw %ax, %ax
    movw %ax, %ds
    incw mouse_calls
    movw 6(%bp), %ax
    movw %ax, mouse_words
    movw 8(%bp), %ax
    movw %ax, mouse_words+2
    movw 10(%bp), %ax
    movw %ax, mouse_words+4
    movw 12(%bp), %ax
    movw %ax, mouse_words+6
    popw %ax
    popw %ds
    popw %bp
    lretw
)");

namespace {

Registers mouse(uint8_t function, uint8_t bh = 0) {
    Registers r;
    r.eax = 0xC200u | function;
    r.ebx = uint32_t{bh} << 8;
    return interrupt(0x15, r);
}

// A byte from the controller's output buffer as if the mouse had sent it; the BIOS must take it.
bool send(uint8_t byte) {
    Deadline deadline(500);
    outb(0x64, 0xD3);
    while (inb(0x64) & 0x02) {
        if (deadline.passed()) return false;
    }
    outb(0x60, byte);
    while (inb(0x64) & 0x01) {
        if (deadline.passed()) return false;
    }
    return true;
}

void test_services() {
    Registers r = mouse(0x05, 3);
    check(!r.carry() && r.ah() == 0, "C205 initialises packets of three bytes");
    r = mouse(0x00, 1);
    check(r.carry() && r.ah() == 5, "C200 refuses to switch on without a handler");
    r = mouse(0x01);
    check(!r.carry(), "C201 resets");
    check_equal(r.bx(), 0x00AA, "with a passed self-test and identity 0");
    r = mouse(0x04);
    check_equal(r.bx() >> 8, 0, "C204: a standard mouse");
    r = mouse(0x02, 5);
    check(!r.carry(), "C202 sets the rate");
    r = mouse(0x03, 2);
    check(!r.carry(), "C203 sets the resolution");
    r = mouse(0x06, 0);
    check(!r.carry(), "C206 gives the status:");
    check_equal(r.ebx & 0x30, 0, "off, 1:1,");
    check_equal(r.ecx & 0xFF, 2, "4 counts a millimetre,");
    check_equal(r.edx & 0xFF, 100, "100 reports a second");
    mouse(0x06, 2);
    r = mouse(0x06, 0);
    check_equal(r.ebx & 0x10, 0x10, "scaling 2:1 shows");
    mouse(0x06, 1);
    r = mouse(0x02, 7);
    check(r.carry() && r.ah() == 2, "a rate that does not exist is refused");
    r = mouse(0x05, 9);
    check(r.carry() && r.ah() == 2, "and so is a packet of nine bytes");
    r = mouse(0x09);
    check(r.carry() && r.ah() == 1, "and an unknown function");
}

void test_packets() {
    Registers r;
    r.eax = 0xC207;
    r.ebx = reinterpret_cast<uint32_t>(mouse_handler);
    r = interrupt(0x15, r);
    check(!r.carry(), "C207 installs a handler");
    r = mouse(0x00, 1);
    check(!r.carry(), "now C200 switches on");
    check_equal(inb(0xA1) & 0x10, 0, "and IRQ12 is open");
    check(send(0x09) && send(0x05), "the BIOS takes two bytes of a packet");
    check_equal(mouse_calls, 0, "and waits for the third");
    check(send(0x07), "which comes");
    Deadline deadline(500);
    while (mouse_calls == 0 && !deadline.passed()) {
    }
    check_equal(mouse_calls, 1, "and calls the handler");
    check_equal(mouse_words[3], 0x09, "with status,");
    check_equal(mouse_words[2], 0x05, "X,");
    check_equal(mouse_words[1], 0x07, "Y,");
    check_equal(mouse_words[0], 0x00, "and a zero");
    send(0x18);
    send(0xFF);
    send(0x00);
    Deadline again(500);
    while (mouse_calls == 1 && !again.passed()) {
    }
    check_equal(mouse_calls, 2, "once a packet");
    check_equal(mouse_words[2], 0xFF, "with the next one's X");
    r = mouse(0x00, 0);
    check(!r.carry(), "C200 switches off");
    r = {};
    r.eax = 0xC207;
    check(!interrupt(0x15, r).carry(), "C207 with a null pointer takes the handler away");
    r = mouse(0x00, 1);
    check(r.carry() && r.ah() == 5, "so that C200 refuses again");
}

}  // namespace

extern "C" void guest_main() {
    sti();
    test_services();
    test_packets();
    finish();
}
