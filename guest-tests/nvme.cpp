// An NVMe controller from inside: admin queue, an I/O queue, PRPs, interrupts, as a driver uses them.

#include "guest-tests/runtime/cards.hpp"

using namespace guest;

namespace {

constexpr uint32_t disk_blocks = 16 << 11;
constexpr uint32_t CAP = 0x00, VS = 0x08, INTMS = 0x0C, INTMC = 0x10, CC = 0x14, CSTS = 0x1C, AQA = 0x24, ASQ = 0x28,
                   ACQ = 0x30;
// Below the code: one page each. The second page of data is far from the first.
constexpr uint32_t admin = 0x1000, admin_done = 0x2000, io = 0x3000, io_done = 0x4000, data = 0x5000, list = 0x6000;
constexpr uint32_t entries = 8;

uint32_t base = 0;
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

struct Queue {
    uint32_t commands, done;
    uint32_t number;
    uint32_t tail = 0, head = 0, phase = 1;
};
Queue admin_queue{admin, admin_done, 0}, io_queue{io, io_done, 1};

struct Command {
    uint32_t opcode = 0, name_space = 0, prp1 = 0, prp2 = 0, w10 = 0, w11 = 0, w12 = 0;
};

void put(Queue& queue, const Command& command, uint32_t identifier) {
    uint32_t* at = words(queue.commands + queue.tail * 64);
    for (uint32_t i = 0; i < 16; ++i) at[i] = 0;
    at[0] = command.opcode | identifier << 16;
    at[1] = command.name_space;
    at[6] = command.prp1;
    at[8] = command.prp2;
    at[10] = command.w10;
    at[11] = command.w11;
    at[12] = command.w12;
    queue.tail = (queue.tail + 1) % entries;
}
void tell(const Queue& queue) {
    write32(base + 0x1000 + queue.number * 8, queue.tail);
}
bool has_completion(const Queue& queue) {
    const volatile uint32_t* at = words(queue.done + queue.head * 16);
    return (at[3] >> 16 & 1) == queue.phase;
}
// The status of the next completion, which is taken; FFFFh when none comes. `result` is its word 0.
uint32_t take(Queue& queue, uint32_t& result) {
    if (!wait_for([&queue] { return has_completion(queue); })) return 0xFFFF;
    const volatile uint32_t* at = words(queue.done + queue.head * 16);
    result = at[0];
    const uint32_t status = at[3] >> 17;
    queue.head = (queue.head + 1) % entries;
    if (queue.head == 0) queue.phase ^= 1;
    write32(base + 0x1004 + queue.number * 8, queue.head);
    return status;
}
uint32_t run(Queue& queue, const Command& command) {
    static uint32_t identifier = 0;
    uint32_t result = 0;
    put(queue, command, ++identifier & 0xFF);
    tell(queue);
    return take(queue, result);
}

void test_controller() {
    const uint16_t card = find_card(0x010802);
    check(card != 0xFFFF, "there is an NVMe controller");
    base = read_config32(card, 0x10) & ~uint32_t{0xF};
    check(base >= 0xC0000000 && read_config32(card, 0x14) == 0, "the BIOS has given it a place below 4 GiB");
    write_config32(card, 4, 6);
    make_segments_flat();
    check_between(read32(base + CAP) & 0xFFFF, 63, 0xFFFF, "its queues are long enough");
    check_equal(read32(base + VS), 0x00010400, "it is of version 1.4");
    write32(base + CC, 0);
    check(wait_for([] { return !(read32(base + CSTS) & 1); }), "it can be disabled");
    for (uint32_t at = admin; at < 0x5000; at += 4) words(at)[0] = 0;
    write32(base + AQA, (entries - 1) << 16 | (entries - 1));
    write32(base + ASQ, admin);
    write32(base + ASQ + 4, 0);
    write32(base + ACQ, admin_done);
    write32(base + ACQ + 4, 0);
    write32(base + CC, 4u << 20 | 6u << 16 | 1);
    check(wait_for([] { return (read32(base + CSTS) & 1) != 0; }), "and enabled");
}

void test_admin() {
    check_equal(run(admin_queue, {.opcode = 6, .prp1 = data, .w10 = 1}), 0, "Identify Controller");
    check_equal(words(data + 516)[0], 1, "tells of one namespace");
    check_equal(run(admin_queue, {.opcode = 6, .name_space = 1, .prp1 = data, .w10 = 0}), 0, "Identify Namespace");
    check_equal(words(data)[0], disk_blocks, "tells its size");
    check_equal(words(data + 128)[0] >> 16 & 0xFF, 9, "in blocks of 512 bytes");
    check_equal(run(admin_queue, {.opcode = 6, .name_space = 2, .prp1 = data, .w10 = 0}), 0x400B,
                "there is no second one");
    uint32_t result = 0;
    put(admin_queue, {.opcode = 9, .w10 = 7, .w11 = 0x00030003}, 1);
    tell(admin_queue);
    check_equal(take(admin_queue, result), 0, "Set Features: number of queues");
    check((result & 0xFFFF) >= 3 && result >> 16 >= 3, "gives enough");
    check_equal(run(admin_queue, {.opcode = 5, .prp1 = io_done, .w10 = (entries - 1) << 16 | 1, .w11 = 3}), 0,
                "Create I/O Completion Queue");
    check_equal(run(admin_queue, {.opcode = 1, .prp1 = io, .w10 = (entries - 1) << 16 | 1, .w11 = 1u << 16 | 1}), 0,
                "Create I/O Submission Queue");
    check_equal(run(admin_queue, {.opcode = 4, .w10 = 1}), 0x410C, "completions that are in use cannot be deleted");
}

void test_blocks() {
    check_equal(run(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data, .w10 = 1234, .w12 = 7}), 0,
                "Read of a page");
    bool right = true;
    for (uint32_t i = 0; i < 8; ++i) right = right && words(data + i * 512)[0] == 1234 + i;
    check(right, "gives the right blocks");
    for (uint32_t i = 0; i < 256; ++i) words(data)[i] = i * 0x01010101u + 7;
    check_equal(run(io_queue, {.opcode = 1, .name_space = 1, .prp1 = data, .w10 = 3000, .w12 = 1}), 0, "Write");
    check_equal(run(io_queue, {.opcode = 5, .name_space = 1, .prp1 = data, .w10 = 3000, .w12 = 1}), 0, "Compare");
    words(data)[100] ^= 1;
    check_equal(run(io_queue, {.opcode = 5, .name_space = 1, .prp1 = data, .w10 = 3000, .w12 = 1}), 0x4285,
                "which sees a bit that is different");
    check_equal(run(io_queue, {.opcode = 0, .name_space = 1}), 0, "Flush");
    check_equal(run(io_queue, {.opcode = 8, .name_space = 1, .w10 = 3000, .w12 = 0}), 0, "Write Zeroes");
    check_equal(run(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data, .w10 = 3000, .w12 = 1}), 0, "Read again");
    check(words(data)[5] == 0 && words(data + 512)[0] == 128 * 0x01010101u + 7,
          "one block is zero, the other as it was");
    check_equal(run(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data, .w10 = disk_blocks - 1, .w12 = 1}), 0x4080,
                "behind the end there is nothing");
}

// Through a list: three pages of which the first begins in its middle. Pages 1 and 2 are where the queues of the admin
// commands are not.
void test_list() {
    constexpr uint32_t high_pages = 0x50000;  // by segment only
    words(list)[0] = high_pages;
    words(list)[1] = 0;
    words(list)[2] = high_pages + 0x1000;
    words(list)[3] = 0;
    check_equal(
        run(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data + 0x800, .prp2 = list, .w10 = 500, .w12 = 15}), 0,
        "Read of 16 blocks through a list");
    check(words(data + 0x800)[0] == 500 && words(data + 0xE00)[0] == 503, "the first page has four of them");
    check(peek16(high_pages >> 4, 0) == 504 && peek16(high_pages >> 4, 0xE00) == 511, "the second the next eight");
    check(peek16(high_pages >> 4, 0x1600) == 515, "the third the rest");
    check_equal(run(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data, .prp2 = list + 4, .w10 = 0, .w12 = 23}),
                0x4013, "a list between its places is refused");
}

void test_queue() {
    for (uint32_t i = 0; i < 6; ++i) {
        put(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data + i * 512, .w10 = 40 + i * 9, .w12 = 0}, i);
    }
    tell(io_queue);
    bool good = true;
    uint32_t result = 0;
    for (uint32_t i = 0; i < 6; ++i) good = take(io_queue, result) == 0 && good;
    check(good, "six commands at once end");
    for (uint32_t i = 0; i < 6; ++i) good = good && words(data + i * 512)[0] == 40 + i * 9;
    check(good, "each with its block");
}

void test_interrupt() {
    const uint16_t card = find_card(0x010802);
    static uint8_t line;
    line = static_cast<uint8_t>(read_config32(card, 0x3C));
    check(line >= 3 && line < 16, "the BIOS has given it an interrupt");
    take_irq(line);
    irq_action[line] = [] { write32(base + INTMS, 1); };
    put(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data, .w10 = 77, .w12 = 0}, 1);
    tell(io_queue);
    check(wait_irq(line, 1, 3000), "a command interrupts");
    check_equal(words(data)[0], 77, "when its data are there");
    uint32_t result = 0;
    check_equal(take(io_queue, result), 0, "and its completion");
    write32(base + INTMC, 1);
    delay_milliseconds(20);
    check_equal(irq_count[line], 1, "once it is taken nothing interrupts");
    give_irq(line);
}

void test_bios() {
    struct __attribute__((packed)) {
        uint8_t size = 16, reserved = 0;
        uint16_t count = 2, offset = data, segment = 0;
        uint32_t lba = 555, lba_high = 0;
    } address;
    words(data)[0] = 0;
    const Registers read = interrupt(0x13, {.eax = 0x4200, .edx = 0x80, .esi = reinterpret_cast<uint32_t>(&address)});
    check(!read.carry() && words(data)[0] == 555 && words(data + 512)[0] == 556, "the BIOS reads it as disk 80h");
    check_equal(run(io_queue, {.opcode = 2, .name_space = 1, .prp1 = data, .w10 = 99, .w12 = 0}), 0,
                "which leaves the controller as it was");
}

void test_end() {
    check_equal(run(admin_queue, {.opcode = 0, .w10 = 1}), 0, "Delete I/O Submission Queue");
    check_equal(run(admin_queue, {.opcode = 4, .w10 = 1}), 0, "Delete I/O Completion Queue");
    write32(base + CC, read32(base + CC) | 1u << 14);
    check(wait_for([] { return (read32(base + CSTS) & 0xC) == 8; }), "a shutdown is completed");
    write32(base + CC, 0);
    check_equal(read32(base + CSTS), 0, "and a reset ends it");
}

}  // namespace

extern "C" void guest_main() {
    test_controller();
    test_admin();
    test_blocks();
    test_list();
    test_queue();
    test_interrupt();
    test_bios();
    test_end();
    finish();
}
