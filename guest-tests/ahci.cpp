// An AHCI controller from inside: a disk on port 0 and a CD-ROM drive on port 1, as a driver uses them.

#include "guest-tests/runtime/cards.hpp"

using namespace guest;

namespace {

constexpr uint32_t disk_sectors = 16 << 11;
constexpr uint32_t lists = 0x1000, received = 0x1800, tables = 0x2000, data = 0x4000;
constexpr uint32_t GHC = 0x04, IS = 0x08;
constexpr uint32_t CLB = 0x00, CLBU = 0x04, FB = 0x08, FBU = 0x0C, PIS = 0x10, PIE = 0x14, CMD = 0x18, TFD = 0x20,
                   SIG = 0x24, SSTS = 0x28, SERR = 0x30, SACT = 0x34, CI = 0x38;
constexpr uint32_t ST = 1, SUD = 2, FRE = 0x10, TFES = 1u << 30;

uint32_t base = 0;

uint32_t get(unsigned port, uint32_t offset) {
    return read32(base + 0x100 + port * 0x80 + offset);
}
void set(unsigned port, uint32_t offset, uint32_t value) {
    write32(base + 0x100 + port * 0x80 + offset, value);
}
uint8_t* bytes(uint32_t address) {
    return reinterpret_cast<uint8_t*>(address);
}
uint32_t* words(uint32_t address) {
    return reinterpret_cast<uint32_t*>(address);
}

template <class Condition>
bool wait_for(Condition condition) {
    Deadline deadline(3000);
    while (!condition()) {
        if (deadline.passed()) return condition();
    }
    return true;
}

void start(unsigned port) {
    set(port, CMD, SUD | FRE);
    wait_for([port] { return (get(port, SSTS) & 0xF) == 3 && !(get(port, TFD) & 0x88); });
    set(port, SERR, 0xFFFFFFFF);
    set(port, PIS, 0xFFFFFFFF);
    set(port, CMD, SUD | FRE | ST);
}

struct Command {
    uint8_t opcode = 0;
    uint32_t lba = 0;
    uint16_t count = 0;
    uint16_t features = 0;
};

// Into a slot, with one stretch of memory for its data.
void prepare(unsigned port, unsigned slot, const Command& command, uint32_t where, uint32_t size, uint32_t flags = 0) {
    const uint32_t table = tables + slot * 0x100;
    for (uint32_t i = 0; i < 64; ++i) words(table)[i] = 0;
    uint8_t* fis = bytes(table);
    fis[0] = 0x27;
    fis[1] = 0x80;
    fis[2] = command.opcode;
    fis[3] = static_cast<uint8_t>(command.features);
    fis[4] = static_cast<uint8_t>(command.lba);
    fis[5] = static_cast<uint8_t>(command.lba >> 8);
    fis[6] = static_cast<uint8_t>(command.lba >> 16);
    fis[7] = 0x40;
    fis[8] = static_cast<uint8_t>(command.lba >> 24);
    fis[11] = static_cast<uint8_t>(command.features >> 8);
    fis[12] = static_cast<uint8_t>(command.count);
    fis[13] = static_cast<uint8_t>(command.count >> 8);
    words(table + 0x80)[0] = where;
    words(table + 0x80)[3] = size - 1;
    uint32_t* header = words(lists + port * 0x400 + slot * 32);
    header[0] = 5 | flags | (size ? 0x10000u : 0);
    header[1] = 0;
    header[2] = table;
    header[3] = 0;
}

// Issues slot 0 and waits for its end; whether it was a good one.
bool run(unsigned port, const Command& command, uint32_t where = 0, uint32_t size = 0, uint32_t flags = 0) {
    prepare(port, 0, command, where, size, flags);
    set(port, CI, 1);
    return wait_for([port] { return !(get(port, CI) & 1) || (get(port, PIS) & TFES); }) && !(get(port, PIS) & TFES);
}

void restart(unsigned port) {
    set(port, CMD, SUD | FRE);
    wait_for([port] { return !(get(port, CMD) & 0x8000); });
    start(port);
}

void test_controller() {
    const uint16_t card = find_card(0x010601);
    check(card != 0xFFFF, "there is an AHCI controller");
    check_equal(read_config32(card, 0), 0x29228086, "an ICH9's");
    base = read_config32(card, 0x24) & ~uint32_t{0xF};
    check(base >= 0xC0000000, "the BIOS has given it a place");
    write_config32(card, 4, 6);
    make_segments_flat();
    write32(base + GHC, 0x80000001);
    check(wait_for([] { return !(read32(base + GHC) & 1); }), "its reset ends");
    write32(base + GHC, 0x80000000);
    check_equal(read32(base + 0x10), 0x00010301, "it is of version 1.3.1");
    const uint32_t abilities = read32(base);
    check(abilities & 1u << 30, "it queues commands");
    check_equal(abilities >> 8 & 31, 31, "and has 32 slots");
    check_equal(read32(base + 0x0C), 0x3F, "and 6 ports");
    for (unsigned port = 0; port < 2; ++port) {
        set(port, CLB, lists + port * 0x400);
        set(port, CLBU, 0);
        set(port, FB, received + port * 0x100);
        set(port, FBU, 0);
    }
}

void test_spin_up() {
    check_equal(get(0, SSTS), 0, "before it may spin up, a drive is not there");
    start(0);
    check_equal(get(0, SSTS) & 0xF0F, 0x103, "then it is");
    check_equal(get(0, SIG), 0x00000101, "with a disk's signature");
    check_equal(get(0, TFD) & 0xFF, 0x50, "and ready");
    start(1);
    check_equal(get(1, SIG), 0xEB140101, "on port 1 is a packet device");
    set(2, CMD, SUD | FRE);
    check_equal(get(2, SSTS), 0, "on port 2 nothing");
}

void test_disk() {
    check(run(0, {.opcode = 0xEC}, data, 512), "IDENTIFY DEVICE");
    const auto* identity = reinterpret_cast<const uint16_t*>(data);
    check_equal(identity[60] | static_cast<uint32_t>(identity[61]) << 16, disk_sectors, "tells the size");
    check_equal(identity[75] & 31, 31, "and the depth of the queue");
    check(run(0, {.opcode = 0x25, .lba = 1234, .count = 8}, data, 4096), "READ DMA EXT");
    bool right = true;
    for (uint32_t i = 0; i < 8; ++i) right = right && words(data + i * 512)[0] == 1234 + i;
    check(right, "gives the right sectors");
    check_equal(words(lists)[1], 4096, "and says how much it was");
    for (uint32_t i = 0; i < 256; ++i) words(data)[i] = i * 0x01010101u + 7;
    check(run(0, {.opcode = 0x35, .lba = 3000, .count = 2}, data, 1024), "WRITE DMA EXT");
    check(run(0, {.opcode = 0xEA}), "FLUSH CACHE EXT");
    for (uint32_t i = 0; i < 256; ++i) words(data)[i] = 0;
    check(run(0, {.opcode = 0x24, .lba = 3000, .count = 2}, data, 1024), "READ SECTORS EXT, by PIO");
    right = true;
    for (uint32_t i = 0; i < 256; ++i) right = right && words(data)[i] == i * 0x01010101u + 7;
    check(right, "gives back what was written");
}

void test_queue() {
    constexpr unsigned depth = 16;
    for (unsigned tag = 0; tag < depth; ++tag) {
        prepare(0, tag, {.opcode = 0x60, .lba = 100 + tag * 7, .count = static_cast<uint16_t>(tag << 3), .features = 1},
                data + tag * 512, 512);
    }
    set(0, SACT, 0xFFFF);
    set(0, CI, 0xFFFF);
    check(wait_for([] { return get(0, SACT) == 0; }), "16 queued reads end");
    check_equal(get(0, CI), 0, "and are not issued any more");
    bool right = true;
    for (unsigned tag = 0; tag < depth; ++tag) right = right && words(data + tag * 512)[0] == 100 + tag * 7;
    check(right, "each with its sector");
    prepare(0, 5, {.opcode = 0x60, .lba = disk_sectors, .count = 5 << 3, .features = 1}, data, 512);
    set(0, SACT, 1 << 5);
    set(0, CI, 1 << 5);
    check(wait_for([] { return (get(0, PIS) & TFES) != 0; }), "one behind the end fails");
    check_equal(get(0, SACT), 1 << 5, "and stays active");
    restart(0);
    check(run(0, {.opcode = 0x2F, .lba = 0x10, .count = 1}, data, 512), "its log can be read");
    check_equal(bytes(data)[0], 5, "and has the tag");
    check_equal(bytes(data)[3] & 0x10, 0x10, "and the reason");
}

void test_interrupt() {
    const uint16_t card = find_card(0x010601);
    const auto irq = static_cast<uint8_t>(read_config32(card, 0x3C));
    check(irq >= 3 && irq < 16, "the BIOS has given it an interrupt");
    static uint8_t line;
    line = irq;
    take_irq(irq);
    irq_action[irq] = [] {
        set(0, PIS, get(0, PIS));
        write32(base + IS, 1);
    };
    set(0, PIS, 0xFFFFFFFF);
    write32(base + IS, 0xFFFFFFFF);
    set(0, PIE, 0xFFFFFFFF);
    write32(base + GHC, 0x80000002);
    prepare(0, 0, {.opcode = 0x25, .lba = 77, .count = 1}, data, 512);
    set(0, CI, 1);
    check(wait_irq(line, 1, 3000), "a command interrupts");
    check_equal(words(data)[0], 77, "when its data are there");
    irq_count[line] = 0;
    set(0, PIE, 0);
    run(0, {.opcode = 0xE7});
    delay_milliseconds(20);
    check_equal(irq_count[line], 0, "nothing that is not enabled does");
    write32(base + GHC, 0x80000000);
    give_irq(line);
}

bool packet(uint8_t opcode, uint32_t block, uint8_t count, uint32_t size) {
    prepare(1, 0, {.opcode = 0xA0, .lba = 0xFFFE00, .features = 1}, data, size, 0x20);
    uint8_t* command = bytes(tables + 0x40);
    command[0] = opcode;
    command[4] = opcode == 0x03 ? 18 : 0;
    command[5] = static_cast<uint8_t>(block);
    command[8] = count;
    set(1, CI, 1);
    const bool ended = wait_for([] { return !(get(1, CI) & 1) || (get(1, PIS) & TFES); });
    if (ended && !(get(1, PIS) & TFES)) return true;
    restart(1);
    return false;
}

void test_packets() {
    check(run(1, {.opcode = 0xA1}, data, 512), "IDENTIFY PACKET DEVICE");
    check(!packet(0x00, 0, 0, 0), "after the reset, TEST UNIT READY fails");
    check(packet(0x03, 0, 0, 18) && bytes(data)[12] == 0x29, "for that reason");
    for (int i = 0; i < 3 && !packet(0x00, 0, 0, 0);) ++i;
    check(packet(0x28, 17, 3, 6144), "READ(10)");
    check(words(data)[0] == 17 && words(data + 4096)[0] == 19, "gives the right blocks");
    check(!packet(0x28, 200, 200, 2048), "blocks behind the end fail");
    restart(1);
}

void test_bios() {
    const Registers r = interrupt(0x13, {.eax = 0x4100, .ebx = 0x55AA, .edx = 0x80});
    check(!r.carry() && r.bx() == 0xAA55, "the BIOS has the disk as 80h");
    struct __attribute__((packed)) {
        uint8_t size = 16, reserved = 0;
        uint16_t count = 2, offset = data, segment = 0;
        uint32_t lba = 555, lba_high = 0;
    } address;
    words(data)[0] = 0;
    const Registers read = interrupt(0x13, {.eax = 0x4200, .edx = 0x80, .esi = reinterpret_cast<uint32_t>(&address)});
    check(!read.carry() && words(data)[0] == 555 && words(data + 512)[0] == 556, "and reads it");
    check(run(0, {.opcode = 0x25, .lba = 99, .count = 1}, data, 512) && words(data)[0] == 99,
          "which leaves the controller as it was");
}

}  // namespace

extern "C" void guest_main() {
    test_controller();
    test_spin_up();
    test_disk();
    test_queue();
    test_interrupt();
    test_packets();
    test_bios();
    finish();
}
