// The 8259A pair from inside: masks, priorities, in-service bits, spurious interrupts, and IRQs of devices that can be
// made to interrupt at will.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

uint8_t read_irr(uint16_t base) {
    outb(base, 0x0A);
    return inb(base);
}

uint8_t read_isr(uint16_t base) {
    outb(base, 0x0B);
    return inb(base);
}

// Counter 0 in mode 0 interrupts once, soon.
void one_shot_timer() {
    outb(0x43, 0x30);
    outb(0x40, 100);
    outb(0x40, 0);
}

void restore_timer() {
    outb(0x43, 0x36);
    outb(0x40, 0);
    outb(0x40, 0);
}

volatile uint8_t isr_inside = 0;
volatile uint8_t irr_inside = 0;
volatile uint32_t order = 0;

void test_masks() {
    check_equal(inb(0x21) & 0x07, 0x00, "timer, keyboard and cascade are open after power-on");
    outb(0x21, 0xA5);
    check_equal(inb(0x21), 0xA5, "the master's mask reads back");
    outb(0xA1, 0x5A);
    check_equal(inb(0xA1), 0x5A, "the slave's mask reads back");
    outb(0x21, 0xB8);
    outb(0xA1, 0x0F);
}

void test_request_and_service() {
    take_irq(0);
    cli();
    one_shot_timer();
    while (!(read_irr(0x20) & 0x01)) {
    }
    check(read_irr(0x20) & 0x01, "an edge on IRQ0 sets its request bit");
    check_equal(read_isr(0x20) & 0x01, 0, "nothing is in service before the CPU acknowledges");
    check_equal(irq_count[0], 0, "no interrupt comes while IF is clear");
    irq_action[0] = [] {
        isr_inside = read_isr(0x20);
        irr_inside = read_irr(0x20);
    };
    sti();
    while (irq_count[0] == 0) {
    }
    cli();
    check(isr_inside & 0x01, "in the handler IRQ0 is in service");
    check_equal(irr_inside & 0x01, 0, "the acknowledge clears the edge's request");
    check_equal(read_isr(0x20) & 0x01, 0, "EOI clears the in-service bit");

    outb(0x21, inb(0x21) | 0x01);
    irq_count[0] = 0;
    irq_action[0] = nullptr;
    one_shot_timer();
    while (!(read_irr(0x20) & 0x01)) {
    }
    sti();
    for (uint32_t i = 0; i < 1000; ++i) inb(0x61);
    check_equal(irq_count[0], 0, "a masked request stays out");
    check(read_irr(0x20) & 0x01, "a masked request is kept");
    outb(0x21, inb(0x21) & ~0x01);
    for (uint32_t i = 0; i < 1000; ++i) inb(0x61);
    check_equal(irq_count[0], 1, "unmasking lets a kept request through");
    give_irq(0);
    restore_timer();
}

void test_serial_priority() {
    take_irq(4);
    take_irq(3);
    cli();
    order = 0;
    const auto by_com1 = [] {
        order = order * 10 + 4;
        inb(0x3FA);
    };
    const auto by_com2 = [] {
        order = order * 10 + 3;
        inb(0x2FA);
    };
    irq_action[4] = by_com1;
    irq_action[3] = by_com2;
    // An empty transmitter interrupts as soon as it is allowed to.
    for (uint16_t base = 0x2F8; base <= 0x3F8; base += 0x100) {
        outb(static_cast<uint16_t>(base + 4), 0x0B);
        outb(static_cast<uint16_t>(base + 1), 0x02);
    }
    check_equal(read_irr(0x20) & 0x18, 0x18, "both serial ports request");
    sti();
    for (uint32_t i = 0; i < 1000 && (irq_count[3] == 0 || irq_count[4] == 0); ++i) inb(0x61);
    cli();
    check_equal(order, 34, "of two requests the lower IRQ number is served first");
    for (uint16_t base = 0x2F8; base <= 0x3F8; base += 0x100) outb(static_cast<uint16_t>(base + 1), 0x00);
    give_irq(3);
    give_irq(4);
}

void test_poll_and_rotation() {
    cli();
    const uint8_t mask = inb(0x21);
    outb(0x21, 0xFF);  // the timer would request, too
    outb(0x20, 0x0C);  // poll
    check_equal(inb(0x20) & 0x80, 0, "a poll with nothing requested says so");
    outb(0x20, 0x0A);
    outb(0x3FC, 0x0B);
    outb(0x21, 0xEF);
    outb(0x3F9, 0x02);
    outb(0x20, 0x0C);
    check_equal(inb(0x20) & 0x87, 0x84, "a poll acknowledges IRQ4 and gives its number");
    check(read_isr(0x20) & 0x10, "the polled interrupt is in service");
    inb(0x3FA);
    outb(0x20, 0x64);  // specific EOI of IR4
    check_equal(read_isr(0x20) & 0x10, 0, "a specific EOI ends it");
    outb(0x3F9, 0x00);
    outb(0x21, mask);
    outb(0x20, 0xC7);  // IR7 lowest: the usual order
    sti();
}

void test_slave() {
    take_irq(8);
    irq_action[8] = [] {
        isr_inside = static_cast<uint8_t>((read_isr(0xA0) & 0x01) | (read_isr(0x20) & 0x04));
        outb(0x70, 0x0C);
        inb(0x71);
    };
    outb(0x70, 0x0C);
    inb(0x71);
    outb(0x70, 0x0B);
    const uint8_t b = inb(0x71);
    outb(0x70, 0x0B);
    outb(0x71, b | 0x40);
    check(wait_irq(8, 1, 500), "an IRQ of the slave arrives");
    check_equal(isr_inside, 0x05, "it is in service on the slave and on the master's cascade");
    outb(0x70, 0x0B);
    outb(0x71, b);
    give_irq(8);
    check_equal(read_isr(0xA0) | read_isr(0x20), 0, "two EOIs clear both");
}

void test_elcr() {
    outb(0x4D0, 0xFF);
    check_equal(inb(0x4D0) & 0x07, 0, "ELCR keeps timer, keyboard and cascade edge triggered");
    outb(0x4D0, 0x20);
    check_equal(inb(0x4D0), 0x20, "ELCR of the master reads back");
    outb(0x4D0, 0x00);
    outb(0x4D1, 0x0C);
    check_equal(inb(0x4D1), 0x0C, "ELCR of the slave reads back");
    outb(0x4D1, 0x00);
}

}  // namespace

extern "C" void guest_main() {
    test_masks();
    test_request_and_service();
    test_serial_priority();
    test_poll_and_rotation();
    test_slave();
    test_elcr();
    finish();
}
