// A hard disk on the first IDE channel, by its registers. The runner attaches a disk of 16 MiB whose sector n begins
// with n.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t base = 0x1F0;
constexpr uint16_t control = 0x3F6;
constexpr uint32_t disk_sectors = 16 * 2048;

enum Register : uint16_t {
    DATA = 0,
    ERROR = 1,
    FEATURES = 1,
    COUNT = 2,
    LBA_LOW = 3,
    LBA_MID = 4,
    LBA_HIGH = 5,
    DEVICE = 6,
    STATUS = 7,
    COMMAND = 7
};
constexpr uint8_t BSY = 0x80, DRDY = 0x40, DF = 0x20, DRQ = 0x08, ERR = 0x01;

uint16_t buffer[256 * 4];

uint8_t in(Register r) {
    return inb(static_cast<uint16_t>(base + r));
}
void out(Register r, uint8_t value) {
    outb(static_cast<uint16_t>(base + r), value);
}

bool wait_not_busy() {
    Deadline deadline(1000);
    while (in(STATUS)&BSY) {
        if (deadline.passed()) return false;
    }
    return true;
}

bool wait_data() {
    Deadline deadline(1000);
    while (!deadline.passed()) {
        const uint8_t status = in(STATUS);
        if (!(status & BSY) && (status & (DRQ | ERR))) return status & DRQ;
    }
    return false;
}

void address(uint32_t lba, uint8_t count) {
    out(DEVICE, static_cast<uint8_t>(0xE0 | (lba >> 24 & 0x0F)));
    out(COUNT, count);
    out(LBA_LOW, static_cast<uint8_t>(lba));
    out(LBA_MID, static_cast<uint8_t>(lba >> 8));
    out(LBA_HIGH, static_cast<uint8_t>(lba >> 16));
}

void read_words(uint16_t* to, uint32_t count) {
    asm volatile("cld; rep insw" : "+D"(to), "+c"(count) : "d"(base) : "memory");
}

void write_words(const uint16_t* from, uint32_t count) {
    asm volatile("cld; rep outsw" : "+S"(from), "+c"(count) : "d"(base) : "memory");
}

uint32_t sector_number(const uint16_t* sector) {
    return sector[0] | static_cast<uint32_t>(sector[1]) << 16;
}

void test_identify() {
    out(DEVICE, 0xE0);
    check(wait_not_busy(), "the disk is not busy");
    check(in(STATUS)&DRDY, "the disk is ready");
    out(COMMAND, 0xEC);
    check(wait_data(), "IDENTIFY DEVICE gives data");
    read_words(buffer, 256);
    check_equal(in(STATUS) & (BSY | DRQ | ERR), 0, "after 256 words it is idle");
    check(!(buffer[0] & 0x8000), "word 0: an ATA device");
    check(buffer[49] & 0x0200, "word 49: LBA");
    check_equal(buffer[60] | static_cast<uint32_t>(buffer[61]) << 16, disk_sectors, "words 60-61: the size in sectors");
    const uint32_t chs = uint32_t{buffer[1]} * buffer[3] * buffer[6];
    check(chs > 0 && chs <= disk_sectors, "words 1, 3, 6: a geometry within the size");
}

void test_read() {
    address(0, 1);
    out(COMMAND, 0x20);
    check(wait_data(), "READ SECTORS gives data");
    read_words(buffer, 256);
    check_equal(sector_number(buffer), 0, "LBA 0 is sector 0");
    address(1234, 3);
    out(COMMAND, 0x20);
    bool right = true;
    for (uint32_t i = 0; i < 3; ++i) {
        right = wait_data() && right;
        read_words(buffer, 256);
        right = right && sector_number(buffer) == 1234 + i;
    }
    check(right, "three sectors come one by one");
    check_equal(in(STATUS) & (DRQ | ERR), 0, "and then no more");
    check_equal(in(COUNT), 0, "the sector count has run down");

    // CHS of the default translation: 16 heads, 63 sectors.
    out(DEVICE, 0xA0 | 2);
    out(COUNT, 1);
    out(LBA_LOW, 5);
    out(LBA_MID, 1);
    out(LBA_HIGH, 0);
    out(COMMAND, 0x20);
    check(wait_data(), "READ SECTORS by CHS gives data");
    read_words(buffer, 256);
    check_equal(sector_number(buffer), (1 * 16 + 2) * 63 + 4, "CHS 1/2/5 is the right sector");

    // The EXT commands take each register twice, the high byte first.
    out(DEVICE, 0xE0);
    out(COUNT, 0);
    out(LBA_LOW, 0);
    out(LBA_MID, 0);
    out(LBA_HIGH, 0);
    out(COUNT, 1);
    out(LBA_LOW, 77);
    out(LBA_MID, 0);
    out(LBA_HIGH, 0);
    out(COMMAND, 0x24);
    check(wait_data(), "READ SECTORS EXT gives data");
    read_words(buffer, 256);
    check_equal(sector_number(buffer), 77, "LBA48 77 is sector 77");
}

void test_multiple() {
    out(DEVICE, 0xE0);
    out(COUNT, 4);
    out(COMMAND, 0xC6);
    check(wait_not_busy() && !(in(STATUS)&ERR), "SET MULTIPLE MODE takes 4");
    address(500, 4);
    out(COMMAND, 0xC4);
    check(wait_data(), "READ MULTIPLE gives data");
    read_words(buffer, 256 * 4);
    check_equal(in(STATUS) & (DRQ | ERR), 0, "four sectors in one block");
    check_equal(sector_number(buffer + 256 * 3), 503, "the fourth is the right one");
    out(COUNT, 3);
    out(COMMAND, 0xC6);
    wait_not_busy();
    check(in(STATUS)&ERR, "a block of 3 is refused: no power of two");
}

void test_write() {
    for (uint32_t i = 0; i < 256; ++i) buffer[i] = static_cast<uint16_t>(0xBEEF + i);
    address(2000, 1);
    out(COMMAND, 0x30);
    check(wait_data(), "WRITE SECTORS asks for data");
    write_words(buffer, 256);
    check(wait_not_busy() && !(in(STATUS) & (ERR | DF)), "and takes it");
    for (uint32_t i = 0; i < 256; ++i) buffer[i] = 0;
    address(2000, 1);
    out(COMMAND, 0x20);
    wait_data();
    read_words(buffer, 256);
    bool same = true;
    for (uint32_t i = 0; i < 256; ++i) same = same && buffer[i] == static_cast<uint16_t>(0xBEEF + i);
    check(same, "what was written is read back");
    out(COMMAND, 0xE7);
    check(wait_not_busy() && !(in(STATUS)&ERR), "FLUSH CACHE is done");
    address(10, 2);
    out(COMMAND, 0x40);
    check(wait_not_busy() && !(in(STATUS)&ERR), "READ VERIFY is done");
}

void test_errors() {
    address(disk_sectors, 1);
    out(COMMAND, 0x20);
    check(!wait_data(), "a sector behind the end is refused");
    check(in(STATUS)&ERR, "with ERR in the status");
    check_equal(in(ERROR)&0x14, 0x10, "and IDNF in the error register");
    out(COMMAND, 0xFF);
    wait_not_busy();
    check_equal(in(ERROR)&0x04, 0x04, "an unknown command is aborted");
}

void test_interrupt() {
    take_irq(14);
    irq_action[14] = [] { in(STATUS); };
    outb(control, 0x00);
    address(42, 1);
    out(COMMAND, 0x20);
    check(wait_irq(14, 1, 1000), "data ready raises IRQ14");
    read_words(buffer, 256);
    check_equal(sector_number(buffer), 42, "with the right sector");
    outb(control, 0x02);
    irq_count[14] = 0;
    address(43, 1);
    out(COMMAND, 0x20);
    wait_data();
    read_words(buffer, 256);
    delay_milliseconds(20);
    check_equal(irq_count[14], 0, "nIEN keeps IRQ14 quiet");
    outb(control, 0x00);
    give_irq(14);
}

void test_reset() {
    out(COUNT, 0x55);
    out(LBA_LOW, 0xAA);
    check_equal(in(COUNT) << 8 | in(LBA_LOW), 0x55AA, "registers hold what is written");
    outb(control, 0x04);
    delay_milliseconds(1);
    outb(control, 0x00);
    delay_milliseconds(5);
    check(wait_not_busy(), "a soft reset ends");
    out(DEVICE, 0xA0);
    check_equal(in(COUNT) << 24 | in(LBA_LOW) << 16 | in(LBA_HIGH) << 8 | in(LBA_MID), 0x01010000,
                "and leaves the signature of an ATA device");
    check_equal(in(ERROR), 0x01, "and the diagnostic code 01h");
    out(DEVICE, 0xB0);
    check(!(inb(control) & (DRDY | DRQ)), "there is no slave");
    out(DEVICE, 0xA0);
}

}  // namespace

extern "C" void guest_main() {
    test_identify();
    test_read();
    test_multiple();
    test_write();
    test_errors();
    test_interrupt();
    test_reset();
    finish();
}
