// The floppy controller with the 8237A, by their registers: the boot floppy is the medium.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t DOR = 0x3F2, MSR = 0x3F4, FIFO = 0x3F5, DIR = 0x3F7, CCR = 0x3F7;

// DMA cannot cross 64 KiB; the whole test lies in the first one.
uint8_t buffer[512 * 4];
uint8_t result[7];

bool send(uint8_t byte) {
    Deadline deadline(200);
    while ((inb(MSR) & 0xC0) != 0x80) {
        if (deadline.passed()) return false;
    }
    outb(FIFO, byte);
    return true;
}

// Reads result bytes while there are any; how many.
uint32_t receive() {
    uint32_t count = 0;
    Deadline deadline(200);
    while (count < sizeof(result) && !deadline.passed()) {
        const uint8_t status = inb(MSR);
        if ((status & 0xC0) == 0xC0) {
            result[count++] = inb(FIFO);
        } else if (!(status & 0x10) && (status & 0x80)) {
            break;
        }
    }
    return count;
}

void sense_interrupt() {
    send(0x08);
    receive();
}

void start_dma(uint8_t mode, uint32_t bytes) {
    const uint32_t address = reinterpret_cast<uint32_t>(buffer);
    outb(0x0A, 0x06);
    outb(0x0C, 0);
    outb(0x0B, static_cast<uint8_t>(mode | 2));
    outb(0x04, static_cast<uint8_t>(address));
    outb(0x04, static_cast<uint8_t>(address >> 8));
    outb(0x81, 0);
    outb(0x05, static_cast<uint8_t>(bytes - 1));
    outb(0x05, static_cast<uint8_t>((bytes - 1) >> 8));
    outb(0x0A, 0x02);
}

void transfer(uint8_t command, uint8_t cylinder, uint8_t head, uint8_t sector) {
    irq_count[6] = 0;
    send(command);
    send(static_cast<uint8_t>(head << 2));
    send(cylinder);
    send(head);
    send(sector);
    send(2);
    send(18);
    send(0x1B);
    send(0xFF);
}

void test_dma_registers() {
    outb(0x0C, 0);
    outb(0x02, 0x34);
    outb(0x02, 0x12);
    outb(0x0C, 0);
    check_equal(inb(0x02) | inb(0x02) << 8, 0x1234, "a DMA address reads back low byte first");
    outb(0x0C, 0);
    outb(0x03, 0xCD);
    outb(0x03, 0xAB);
    outb(0x0C, 0);
    check_equal(inb(0x03) | inb(0x03) << 8, 0xABCD, "and so does a count");
    outb(0x83, 0x5A);
    check_equal(inb(0x83), 0x5A, "a page register reads back");
    outb(0xC6, 0x78);
    outb(0xC6, 0x56);
    outb(0xD8, 0);
    check_equal(inb(0xC6) | inb(0xC6) << 8, 0x5678, "the second controller has its own");
}

void test_reset() {
    outb(DOR, 0x00);
    delay_milliseconds(1);
    irq_count[6] = 0;
    outb(DOR, 0x1C);
    check(wait_irq(6, 1, 500), "leaving reset interrupts");
    bool polled = true;
    for (uint8_t drive = 0; drive < 4; ++drive) {
        sense_interrupt();
        polled = polled && result[0] == (0xC0 | drive);
    }
    check(polled, "and SENSE INTERRUPT reports all four drives");
    send(0x08);
    receive();
    check_equal(result[0], 0x80, "a further one is an invalid command");
    send(0x10);
    receive();
    check_equal(result[0], 0x90, "VERSION says 82077AA");
    outb(CCR, 0x00);
    send(0x03);
    send(0xDF);
    send(0x02);
    check_equal(inb(MSR) & 0xC0, 0x80, "SPECIFY has no result");
}

void test_seek() {
    irq_count[6] = 0;
    send(0x07);
    send(0x00);
    check(wait_irq(6, 1, 2000), "RECALIBRATE interrupts");
    sense_interrupt();
    check_equal(result[0], 0x20, "with seek end");
    check_equal(result[1], 0, "at track 0");
    irq_count[6] = 0;
    send(0x0F);
    send(0x00);
    send(10);
    check(wait_irq(6, 1, 2000), "SEEK interrupts");
    sense_interrupt();
    check_equal(result[1], 10, "at the track that was asked for");
    send(0x04);
    send(0x00);
    receive();
    check_equal(result[0] & 0x38, 0x28, "SENSE DRIVE STATUS: ready, two sided, not at track 0");
}

void test_read() {
    for (uint32_t i = 0; i < sizeof(buffer); ++i) buffer[i] = 0;
    irq_count[6] = 0;
    send(0x0F);
    send(0x00);
    send(0);
    wait_irq(6, 1, 2000);
    sense_interrupt();
    start_dma(0x44, 512);
    transfer(0xE6, 0, 0, 1);
    check(wait_irq(6, 1, 2000), "READ DATA interrupts when it is done");
    check_equal(receive(), 7, "with seven result bytes");
    check_equal(result[0] & 0xC0, 0, "ended well");
    check_equal(buffer[510] | buffer[511] << 8, 0xAA55, "and the boot sector is in memory");
    check(inb(0x08) & 0x04, "channel 2 has reached terminal count");
    start_dma(0x44, 512 * 4);
    transfer(0xE6, 0, 0, 17);
    check(wait_irq(6, 1, 2000), "a multi-track read interrupts");
    receive();
    check_equal(result[0] & 0xC0, 0, "and goes on on the other side");
    check_equal(result[4], 1, "of the disk");
    check_equal(result[5], 3, "up to the sector behind the last one");
}

void test_write() {
    for (uint32_t i = 0; i < 512; ++i) buffer[i] = static_cast<uint8_t>(i ^ 0x5A);
    irq_count[6] = 0;
    send(0x0F);
    send(0x00);
    send(79);
    wait_irq(6, 1, 2000);
    sense_interrupt();
    start_dma(0x48, 512);
    transfer(0xC5, 79, 1, 18);
    // The head of the seek does not matter: both are on the same arm.
    check(wait_irq(6, 1, 2000), "WRITE DATA interrupts when it is done");
    receive();
    check_equal(result[0] & 0xC0, 0, "ended well");
    for (uint32_t i = 0; i < 512; ++i) buffer[i] = 0;
    start_dma(0x44, 512);
    transfer(0xE6, 79, 1, 18);
    wait_irq(6, 1, 2000);
    receive();
    bool same = true;
    for (uint32_t i = 0; i < 512; ++i) same = same && buffer[i] == static_cast<uint8_t>(i ^ 0x5A);
    check(same, "what was written is read back");
}

void test_errors() {
    start_dma(0x44, 512);
    transfer(0xE6, 79, 0, 30);
    check(wait_irq(6, 1, 2000), "a sector that is not there interrupts too");
    receive();
    check_equal(result[0] & 0xC0, 0x40, "with an abnormal end");
    check(result[1] & 0x04, "and no data in ST1");
    send(0x4A);
    send(0x00);
    wait_irq(6, 1, 500);
    check_equal(receive(), 7, "READ ID has seven result bytes");
    check_equal(result[3], 79, "and gives the cylinder under the head");
    send(0x1E);
    receive();
    check_equal(result[0], 0x80, "an invalid command says so");
    check(!(inb(DIR) & 0x80), "the disk has not been changed");
}

}  // namespace

extern "C" void guest_main() {
    test_dma_registers();
    take_irq(6);
    test_reset();
    test_seek();
    test_read();
    test_write();
    test_errors();
    give_irq(6);
    outb(DOR, 0x0C);
    finish();
}
