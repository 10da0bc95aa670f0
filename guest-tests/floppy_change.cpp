// A floppy that a person changes: the controller's change line and INT 13h's. After "ready for another floppy" the
// runner puts in one of 720 KB whose sector n begins with n, after "ready for no floppy" it takes that out.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t DOR = 0x3F2, MSR = 0x3F4, FIFO = 0x3F5, DIR = 0x3F7;
constexpr uint8_t changed = 0x80;

uint8_t buffer[512];

void send(uint8_t byte) {
    Deadline deadline(200);
    while ((inb(MSR) & 0xC0) != 0x80 && !deadline.passed()) {
    }
    outb(FIFO, byte);
}

// Steps the heads, which is what takes the change line back.
void seek(uint8_t cylinder) {
    irq_count[6] = 0;
    send(0x0F);
    send(0);
    send(cylinder);
    wait_irq(6, 1, 1000);
    send(0x08);
    for (int i = 0; i < 2; ++i) {
        Deadline deadline(200);
        while ((inb(MSR) & 0xC0) != 0xC0 && !deadline.passed()) {
        }
        inb(FIFO);
    }
}

bool wait_change() {
    Deadline deadline(10000);
    while (!(inb(DIR) & changed)) {
        if (deadline.passed()) return false;
    }
    return true;
}

uint8_t status(uint16_t ax, uint16_t cx = 1) {
    Registers r;
    r.eax = ax;
    r.ebx = reinterpret_cast<uint32_t>(buffer);
    r.ecx = cx;
    return interrupt(0x13, r).ah();
}

}  // namespace

extern "C" void guest_main() {
    take_irq(6);
    outb(DOR, 0x1C);  // motor A on, DMA and interrupts on, drive A
    seek(3);
    seek(0);
    check_equal(inb(DIR) & changed, 0, "a step takes the change line back");
    check_equal(status(0x1600), 0x00, "INT 13h knows of no change");
    note("ready for another floppy");
    check(wait_change(), "a change sets the line");
    check_equal(status(0x1600), 0x06, "INT 13h reports it");
    check_equal(status(0x1600), 0x00, "once");
    check_equal(status(0x0201, 5), 0x00, "the new floppy is read");
    check_equal(buffer[0], 4, "it is the right sector");
    check_equal(status(0x0201, 10), 0x04, "a tenth sector is not found: the format is the new one's");
    check_equal(inb(DIR) & changed, changed, "INT 13h leaves the controller's line alone");
    seek(3);
    check_equal(inb(DIR) & changed, 0, "a step takes it back again");
    note("ready for no floppy");
    check(wait_change(), "taking the floppy out sets the line");
    seek(0);
    check_equal(inb(DIR) & changed, changed, "which stays while there is none");
    check_equal(status(0x0201), 0x80, "INT 13h times out");
    give_irq(6);
    finish();
}
