// ACPI's fixed hardware from inside: the way into ACPI mode, the power button's event and interrupt.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t PMSTS = 0, PMEN = 2, PMCNTRL = 4;
constexpr uint16_t PWRBTN = 0x0100, SCI_EN = 0x0001;
constexpr uint8_t sci = 9;

uint16_t block;
volatile uint16_t seen_status;

uint32_t config32(uint8_t offset) {
    outl(0xCF8, 0x80000B00u | offset);  // function 3 of device 1
    return inl(0xCFC);
}

void on_sci() {
    seen_status = inw(block + PMSTS);
    outw(block + PMSTS, seen_status);
}

void test_acpi_mode() {
    check_equal(config32(0), 0x71138086, "the power management function is at 0:1.3");
    block = static_cast<uint16_t>(config32(0x40) & 0xFFC0);
    check(block != 0, "its ports have a place");
    check_equal(inw(block + PMCNTRL) & SCI_EN, 0, "the machine starts without ACPI");
    outb(0xB2, 0xF1);
    check_equal(inw(block + PMCNTRL) & SCI_EN, SCI_EN, "F1h in the SMI command port turns it on");
}

void test_button() {
    outw(block + PMSTS, 0xFFFF);
    outw(block + PMEN, PWRBTN);
    take_irq(sci);
    irq_action[sci] = on_sci;
    note("ready for the power button");
    check(wait_irq(sci, 1, 20'000), "the button interrupts");
    check_equal(seen_status & PWRBTN, PWRBTN, "and says that it was the button");
    check_equal(inw(block + PMSTS) & PWRBTN, 0, "a one clears its status");
    delay_milliseconds(20);
    check_equal(irq_count[sci], 1, "the interrupt is over then");
    give_irq(sci);

    outw(block + PMEN, 0);
    note("ready for it again");
    Deadline deadline(20'000);
    while (!(inw(block + PMSTS) & PWRBTN) && !deadline.passed()) {
    }
    check_equal(inw(block + PMSTS) & PWRBTN, PWRBTN, "without its enable bit the button only sets its status");
}

}  // namespace

extern "C" void guest_main() {
    test_acpi_mode();
    test_button();
    finish();
}
