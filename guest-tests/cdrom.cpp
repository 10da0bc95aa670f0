// A CD-ROM drive as master of the second IDE channel, by its registers: the packet protocol, the commands that drivers
// use to find out about it, reading (also by DMA), sense data, the tray, and a medium that a person changes. The runner
// puts in a disc of 300 blocks whose block n begins with n; after "ready for another disc" one of 120, after "ready for
// no disc" none.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t base = 0x170;
constexpr uint16_t control = 0x376;
constexpr uint32_t disc_blocks = 300, second_disc_blocks = 120;

enum Register : uint16_t {
    DATA = 0,
    ERROR = 1,
    FEATURES = 1,
    REASON = 2,
    LOW = 4,
    HIGH = 5,
    DEVICE = 6,
    STATUS = 7,
    COMMAND = 7
};
constexpr uint8_t BSY = 0x80, DRQ = 0x08, CHK = 0x01;
constexpr uint8_t to_host = 0x02, is_command = 0x01;

uint8_t data[3 * 2352];
uint32_t data_bytes;
uint32_t data_blocks;  // DRQ blocks of the last command
uint8_t parameters[32];

uint8_t in(Register r) {
    return inb(static_cast<uint16_t>(base + r));
}
void out(Register r, uint8_t value) {
    outb(static_cast<uint16_t>(base + r), value);
}

// Waits for the end of BSY; the status, or FFh after a second.
uint8_t wait() {
    Deadline deadline(1000);
    uint8_t status;
    while ((status = inb(control)) & BSY) {
        if (deadline.passed()) return 0xFF;
    }
    return in(STATUS);
}

void write_words(const void* from, uint32_t count) {
    asm volatile("cld; rep outsw" : "+S"(from), "+c"(count) : "d"(base) : "memory");
}
void read_words(void* to, uint32_t count) {
    asm volatile("cld; rep insw" : "+D"(to), "+c"(count) : "d"(base) : "memory");
}

struct Packet {
    uint8_t bytes[12];
};

Packet command(uint8_t opcode, uint32_t lba = 0, uint16_t count = 0) {
    return {{opcode, 0, static_cast<uint8_t>(lba >> 24), static_cast<uint8_t>(lba >> 16),
             static_cast<uint8_t>(lba >> 8), static_cast<uint8_t>(lba), 0, static_cast<uint8_t>(count >> 8),
             static_cast<uint8_t>(count), 0, 0, 0}};
}
Packet with(Packet packet, uint8_t at, uint8_t value) {
    packet.bytes[at] = value;
    return packet;
}

// A whole packet command; its last status.
uint8_t run(const Packet& packet, uint16_t limit = 0xFFFE) {
    data_bytes = data_blocks = 0;
    out(DEVICE, 0xA0);
    out(FEATURES, 0);
    out(LOW, static_cast<uint8_t>(limit));
    out(HIGH, static_cast<uint8_t>(limit >> 8));
    out(COMMAND, 0xA0);
    if (!(wait() & DRQ)) return 0xFF;
    write_words(packet.bytes, 6);
    for (;;) {
        const uint8_t status = wait();
        if (status == 0xFF || !(status & DRQ)) return status;
        const uint32_t bytes = in(LOW) | static_cast<uint32_t>(in(HIGH)) << 8;
        ++data_blocks;
        if (in(REASON)&to_host) {
            if (data_bytes + bytes > sizeof(data)) return 0xFF;
            read_words(data + data_bytes, (bytes + 1) / 2);
        } else {
            if (data_bytes + bytes > sizeof(parameters)) return 0xFF;
            write_words(parameters + data_bytes, (bytes + 1) / 2);
        }
        data_bytes += bytes;
    }
}

bool succeeds(const Packet& packet, uint16_t limit = 0xFFFE) {
    return !(run(packet, limit) & (CHK | DRQ));
}

uint32_t big(uint32_t at, uint32_t size) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < size; ++i) value = value << 8 | data[at + i];
    return value;
}
uint32_t block_number(uint32_t at) {
    return data[at] | static_cast<uint32_t>(data[at + 1]) << 8;
}

// Key, code and qualifier.
uint32_t sense() {
    if (!succeeds(with(command(0x03), 4, 18))) return 0xFFFFFF;
    return static_cast<uint32_t>(data[2]) << 16 | static_cast<uint32_t>(data[12]) << 8 | data[13];
}
// What a command that must fail leaves.
uint32_t failure(const Packet& packet) {
    return run(packet) & CHK ? sense() : 0;
}

void test_signature() {
    out(DEVICE, 0xA0);
    out(COMMAND, 0x08);
    check(wait() != 0xFF, "DEVICE RESET ends");
    check_equal(in(LOW) | in(HIGH) << 8, 0xEB14, "and leaves the signature of a packet device");
    check_equal(in(REASON), 0x01, "with a count of 1");
    check_equal(in(STATUS)&0x40, 0, "and DRDY low");
    out(COMMAND, 0xEC);
    check_equal(wait() & CHK, CHK, "IDENTIFY DEVICE is aborted");
    check_equal(in(LOW) | in(HIGH) << 8, 0xEB14, "with the signature");
    out(DEVICE, 0xB0);
    check_equal(inb(control), 0, "there is no slave");
    check_equal(in(LOW) | in(HIGH) << 8, 0, "and no signature of one");
    out(DEVICE, 0xA0);
}

void test_identify() {
    out(COMMAND, 0xA1);
    check(wait() & DRQ, "IDENTIFY PACKET DEVICE gives data");
    read_words(data, 256);
    check_equal(in(STATUS)&DRQ, 0, "512 bytes of it");
    check_equal(data[1] & 0xDF, 0x85, "an ATAPI CD-ROM drive");
    check_equal(data[0] & 0x83, 0x80, "removable, with packets of 12 bytes");
}

void test_attention() {
    check_equal(failure(command(0x00)), 0x062900, "the reset is reported once");
    check(succeeds(command(0x00)), "then the unit is ready");
    check_equal(sense(), 0, "and there is nothing more to say");
}

void test_inquiry() {
    check(succeeds(with(command(0x12), 4, 36)), "INQUIRY");
    check_equal(data[0], 0x05, "a CD-ROM drive");
    check_equal(data[1], 0x80, "with removable media");
    check_equal(data_bytes, 36, "36 bytes");
    check(succeeds(with(command(0x12), 4, 7)) && data_bytes == 7, "an odd number of bytes is given, too");
}

void test_disc() {
    check(succeeds(command(0x25)), "READ CAPACITY");
    check_equal(big(0, 4), disc_blocks - 1, "the last block");
    check_equal(big(4, 4), 2048, "of 2048 bytes");
    check(succeeds(command(0x43, 0, 64)), "READ TOC");
    check_equal(big(0, 4), 0x00120101, "one track");
    check_equal(data[5], 0x14, "of data");
    check_equal(big(16, 4), disc_blocks, "and the lead-out behind it");
    check(succeeds(with(command(0x43, 0, 64), 1, 2)) && big(8, 4) == 0x00000200, "the track begins at 00:02:00");
    check(succeeds(command(0x46, 0, 64)) && big(6, 2) == 0x0008, "GET CONFIGURATION: a CD-ROM");
    check(succeeds(command(0x51, 0, 34)) && data[2] == 0x0E, "READ DISC INFORMATION: complete");
    check(succeeds(with(command(0x52, 1, 36), 1, 1)) && big(24, 4) == disc_blocks,
          "READ TRACK INFORMATION: its length");
}

void test_read() {
    check(succeeds(command(0x28, 17, 3)), "READ(10)");
    check_equal(data_bytes, 3 * 2048, "three blocks");
    check(block_number(0) == 17 && block_number(2048) == 18 && block_number(4096) == 19, "the right ones");
    check_equal(data_blocks, 1, "at once");
    check(succeeds(command(0x28, 100, 3), 2048) && data_blocks == 3, "with a byte count limit they come one by one");
    check_equal(block_number(4096), 102, "the same blocks");
    check(succeeds(command(0x28, 7, 1), 500) && data_blocks == 5, "and in pieces under a small one");
    check_equal(block_number(0), 7, "of the same block");
    check(succeeds(with(with(command(0xA8, 299), 9, 1), 8, 0)) && block_number(0) == 299,
          "READ(12) reads the last block");
    check(succeeds(with(with(command(0xBE, 42), 8, 1), 9, 0xF8)), "READ CD");
    check_equal(data_bytes, 2352, "gives a whole frame");
    check(data[1] == 0xFF && big(12, 4) == 0x00024201 && block_number(16) == 42, "with sync, header and data");
    check_equal(failure(command(0x28, 299, 2)), 0x052100, "a block behind the end is out of range");
    check_equal(failure(command(0xFF)), 0x052000, "an unknown command is told so");
}

void test_interrupts() {
    take_irq(15);
    irq_action[15] = [] { in(STATUS); };
    outb(control, 0x00);
    out(FEATURES, 0);
    out(LOW, 0x00);
    out(HIGH, 0x08);
    out(COMMAND, 0xA0);
    while (!(inb(control) & DRQ)) {
    }
    check_equal(irq_count[15], 0, "the packet is asked for without an interrupt");
    const Packet packet = command(0x28, 5, 2);
    write_words(packet.bytes, 6);
    check(wait_irq(15, 1, 1000), "data raises IRQ15");
    check_equal(in(REASON) & (to_host | is_command), to_host, "for the host");
    read_words(data, 1024);
    check(wait_irq(15, 2, 1000), "so does the next block");
    read_words(data, 1024);
    check(wait_irq(15, 3, 1000), "and the end");
    check_equal(in(REASON) & (to_host | is_command), to_host | is_command, "which is status");
    check_equal(block_number(0), 6, "after the right data");
    give_irq(15);
}

// ---- Bus master DMA ------------------------------------------------------------------------------------------------

uint32_t pci_read(uint8_t device, uint8_t function, uint8_t at) {
    outl(0xCF8, 0x80000000u | static_cast<uint32_t>(device << 11 | function << 8 | at));
    return inl(0xCFC);
}

struct {
    uint32_t address;
    uint32_t bytes_and_end;
} descriptors[2] __attribute__((aligned(8)));

void test_dma() {
    constexpr uint8_t function_class = 0x08, base_address = 0x20, command_register = 0x04;
    if (pci_read(1, 1, function_class) >> 16 != 0x0101) return note("no PCI IDE function, no DMA");
    const auto master = static_cast<uint16_t>((pci_read(1, 1, base_address) & 0xFFF0) + 8);
    const uint32_t before = pci_read(1, 1, command_register);
    outl(0xCFC, before | 0x05);
    // The data of three blocks in two pieces that do not end with a block.
    descriptors[0] = {reinterpret_cast<uint32_t>(data), 1000};
    descriptors[1] = {reinterpret_cast<uint32_t>(data) + 1000, 0x80000000u | (3 * 2048 - 1000)};
    for (uint32_t i = 0; i < 3 * 2048; ++i) data[i] = 0xCC;
    outl(static_cast<uint16_t>(master + 4), reinterpret_cast<uint32_t>(descriptors));
    outb(master, 0x08);
    outb(static_cast<uint16_t>(master + 2), 0x06);
    out(FEATURES, 0x01);
    out(COMMAND, 0xA0);
    check(wait() & DRQ, "a packet with DMA is asked for");
    take_irq(15);
    const Packet packet = command(0x28, 200, 3);
    write_words(packet.bytes, 6);
    outb(master, 0x09);
    check(wait_irq(15, 1, 1000), "its end raises IRQ15");
    check_equal(inb(static_cast<uint16_t>(master + 2)) & 0x07, 0x04,
                "the bus master has moved all and seen the interrupt");
    outb(master, 0x00);
    outb(static_cast<uint16_t>(master + 2), 0x06);
    check_equal(in(STATUS) & (DRQ | CHK), 0, "the command is done");
    give_irq(15);
    check(block_number(0) == 200 && block_number(2048) == 201 && block_number(4096) == 202, "the data are in memory");
    pci_read(1, 1, command_register);
    outl(0xCFC, before);
}

void test_modes() {
    check(succeeds(with(command(0x5A, 0, 64), 2, 0x2A)), "MODE SENSE of the capabilities");
    check_equal(data[8] & 0x3F, 0x2A, "gives that page");
    check_equal(data[14] & 0x09, 0x09, "the tray locks and ejects");
    for (uint8_t& byte : parameters) byte = 0;
    parameters[8] = 0x01;
    parameters[9] = 6;
    parameters[11] = 3;
    check(succeeds(with(command(0x55, 0, 16), 1, 0x10), 6), "MODE SELECT takes a page, in pieces");
    check(succeeds(with(command(0x5A, 0, 64), 2, 0x01)) && data[11] == 3, "which then reads back");
    parameters[8] = 0x2A;
    check_equal(failure(with(command(0x55, 0, 16), 1, 0x10)), 0x052600, "and refuses a page that does not change");
}

void test_tray() {
    check(succeeds(with(command(0x1E), 4, 1)), "the medium is locked in");
    check_equal(failure(with(command(0x1B), 4, 2)), 0x055302, "then it is not ejected");
    check(succeeds(command(0x1E)), "it is unlocked");
    check(succeeds(with(command(0x1B), 4, 2)), "and ejected");
    check_equal(failure(command(0x00)), 0x023A02, "an open tray has no medium");
    check(succeeds(with(command(0xBD), 9, 8)) && (data[1] & 0x10), "MECHANISM STATUS: the door is open");
    check(succeeds(with(command(0x1B), 4, 3)), "the tray is closed");
    check_equal(failure(command(0x28, 0, 1)), 0x062800, "which is reported");
    check(succeeds(command(0x28, 0, 1)), "and the disc can be read again");
}

// The media event of GET EVENT STATUS NOTIFICATION.
uint8_t event() {
    Packet packet = with(with(command(0x4A, 0, 8), 1, 1), 4, 0x10);
    return succeeds(packet) ? data[4] : 0xFF;
}

bool wait_event(uint8_t wanted) {
    Deadline deadline(10000);
    while (!deadline.passed()) {
        if (event() == wanted) return true;
        delay_milliseconds(5);
    }
    return false;
}

void test_change() {
    constexpr uint8_t new_medium = 2, removed = 3;
    event();
    note("ready for another disc");
    check(wait_event(new_medium), "a new disc is an event");
    check_equal(failure(command(0x25)), 0x062800, "and a unit attention");
    check(succeeds(command(0x25)) && big(0, 4) == second_disc_blocks - 1, "and the new disc's size is right");
    check(succeeds(command(0x28, 119, 1)) && block_number(0) == 119, "and so are its blocks");
    note("ready for no disc");
    check(wait_event(removed), "a disc that is taken out is an event");
    check_equal(failure(command(0x00)), 0x023A01, "and the drive is empty");
}

}  // namespace

extern "C" void guest_main() {
    test_signature();
    test_identify();
    test_attention();
    test_inquiry();
    test_disc();
    test_read();
    test_interrupts();
    test_dma();
    test_modes();
    test_tray();
    test_change();
    finish();
}
