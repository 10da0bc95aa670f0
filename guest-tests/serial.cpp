// A 16550A by its registers, in loopback: COM2, because COM1 carries the report.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t base = 0x2F8;
enum Register : uint16_t {
    RBR = 0,
    THR = 0,
    DLL = 0,
    IER = 1,
    DLM = 1,
    IIR = 2,
    FCR = 2,
    LCR = 3,
    MCR = 4,
    LSR = 5,
    MSR = 6,
    SCR = 7
};

uint8_t in(Register r) {
    return inb(static_cast<uint16_t>(base + r));
}
void out(Register r, uint8_t value) {
    outb(static_cast<uint16_t>(base + r), value);
}

bool wait_lsr(uint8_t bits) {
    Deadline deadline(500);
    while ((in(LSR)&bits) != bits) {
        if (deadline.passed()) return false;
    }
    return true;
}

void test_registers() {
    out(IER, 0);
    out(SCR, 0x5A);
    check_equal(in(SCR), 0x5A, "the scratch register keeps a byte");
    out(LCR, 0x83);
    out(DLL, 1);
    out(DLM, 0);
    check_equal(in(DLL) | in(DLM) << 8, 1, "the divisor reads back under DLAB");
    out(LCR, 0x03);
    check_equal(in(IER), 0, "without DLAB the same port is IER");
    out(FCR, 0x00);
    check_equal(in(IIR)&0xC1, 0x01, "FIFOs off, nothing pending");
    out(FCR, 0xC7);
    check_equal(in(IIR)&0xC0, 0xC0, "IIR says that the FIFOs are on: a 16550A");
    check_equal(in(LSR)&0x60, 0x60, "the transmitter is empty");
}

void test_loopback() {
    out(MCR, 0x10);
    check_equal(in(MSR)&0xF0, 0x00, "loopback: no modem lines");
    out(MCR, 0x1F);
    check_equal(in(MSR)&0xF0, 0xF0, "loopback: all four come back");
    out(MCR, 0x10);
    in(MSR);
    out(MCR, 0x12);
    check_equal(in(MSR)&0x1F, 0x11, "RTS comes back as CTS, with its delta bit");
    check_equal(in(MSR)&0x0F, 0x00, "reading clears the delta bits");
    out(THR, 'V');
    check(wait_lsr(0x01), "a byte sent comes back");
    check_equal(in(RBR), 'V', "the same byte");
    check_equal(in(LSR)&0x01, 0, "and only once");
    for (uint8_t i = 0; i < 16; ++i) out(THR, static_cast<uint8_t>(i * 3));
    wait_lsr(0x40);
    bool same = true;
    for (uint8_t i = 0; i < 16; ++i) {
        same = wait_lsr(0x01) && in(RBR) == static_cast<uint8_t>(i * 3) && same;
    }
    check(same, "the FIFO holds sixteen bytes in order");
    for (uint8_t i = 0; i < 16; ++i) {
        out(THR, i);
        wait_lsr(0x40);
    }
    check_equal(in(LSR)&0x02, 0, "sixteen do not overrun");
    out(THR, 16);
    uint8_t status = 0;  // OE clears when it is read
    Deadline deadline(500);
    while (!(status & 0x02) && !deadline.passed()) status |= in(LSR);
    check(status & 0x02, "a seventeenth overruns");
    check_equal(in(LSR)&0x02, 0, "which is said once");
    out(FCR, 0x03);
    check_equal(in(LSR)&0x03, 0, "a reset of the receive FIFO empties it");
}

// What makes the interrupts below: in loopback, where the OUT2 pin is off and with it the IRQ line.
void in_loopback(void (*action)()) {
    out(MCR, 0x18);
    action();
    irq_count[3] = 0;
    delay_milliseconds(2);
    check_equal(irq_count[3], 0, "loopback keeps the IRQ line quiet");
    out(MCR, 0x08);
}

void test_interrupts() {
    take_irq(3);
    out(MCR, 0x00);
    out(FCR, 0x07);
    out(IER, 0x02);
    delay_milliseconds(2);
    check_equal(irq_count[3], 0, "without OUT2 no interrupt comes");
    out(IER, 0x00);
    out(MCR, 0x08);
    in(IIR);
    out(IER, 0x02);
    check(wait_irq(3, 1, 500), "allowing THRE interrupts at once when the transmitter is empty");
    check_equal(in(IIR)&0x0F, 0x02, "and IIR says so");
    check_equal(in(IIR)&0x01, 0x01, "reading IIR takes it back");
    out(IER, 0x01);
    in_loopback([] {
        out(THR, 'x');
        wait_lsr(0x01);
    });
    check(wait_irq(3, 1, 500), "a received byte interrupts");
    check_equal(in(IIR)&0x0F, 0x04, "as data available");
    check_equal(in(RBR), 'x', "the byte");
    check_equal(in(IIR)&0x01, 0x01, "until it is read");
    out(FCR, 0x87);  // trigger level 8
    in_loopback([] {
        out(THR, 'y');
        wait_lsr(0x01);
    });
    check(wait_irq(3, 1, 500), "below the trigger level the time-out interrupts");
    check_equal(in(IIR)&0x0F, 0x0C, "as character time-out");
    in(RBR);
    check_equal(in(IIR)&0x01, 0x01, "until the FIFO is empty");
    in(MSR);
    out(IER, 0x08);
    in_loopback([] { out(MCR, 0x19); });
    check(wait_irq(3, 1, 500), "a modem line interrupts");
    check_equal(in(IIR)&0x0F, 0x00, "as modem status");
    in(MSR);
    check_equal(in(IIR)&0x01, 0x01, "until MSR is read");
    out(IER, 0x00);
    out(MCR, 0x0B);
    give_irq(3);
}

void test_bios() {
    Registers r;
    r.eax = 0x00E3;  // 9600 baud, 8N1
    r.edx = 1;
    r = interrupt(0x14, r);
    check(r.ah() & 0x60, "INT 14h/00 sets COM2 up");
    out(LCR, 0x83);
    check_equal(in(DLL) | in(DLM) << 8, 12, "with the divisor of 9600 baud");
    out(LCR, 0x03);
    out(MCR, 0x10);
    r = {};
    r.eax = 0x0142;
    r.edx = 1;
    check(!(interrupt(0x14, r).ah() & 0x80), "INT 14h/01 sends");
    r = {};
    r.eax = 0x0200;
    r.edx = 1;
    r = interrupt(0x14, r);
    check_equal(r.al(), 0x42, "INT 14h/02 receives it in loopback");
    r = {};
    r.eax = 0x0300;
    r.edx = 3;
    check(!(interrupt(0x14, r).ah() & 0x80), "COM4 is there too");
}

}  // namespace

extern "C" void guest_main() {
    test_registers();
    test_loopback();
    test_interrupts();
    test_bios();
    finish();
}
