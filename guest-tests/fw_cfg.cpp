// QEMU's fw_cfg interface at 510h: the selector and data ports, the file directory, and DMA.

#include "guest-tests/runtime/guest.hpp"

using namespace guest;

namespace {

constexpr uint16_t selector = 0x510, data_port = 0x511, dma_high = 0x514, dma_low = 0x518;
constexpr uint32_t dma_error = 1, dma_read = 2, dma_skip = 4, dma_select = 8, dma_write = 16;

struct DmaRequest {
    uint32_t control = 0, length = 0, address_high = 0, address = 0;  // big-endian
};

struct File {
    uint32_t size = 0;
    uint16_t key = 0;
};

uint8_t by_port[256];
uint8_t by_dma[256];

uint32_t swap(uint32_t value) {
    return value << 24 | (value & 0xFF00) << 8 | (value >> 8 & 0xFF00) | value >> 24;
}

void select(uint16_t key) {
    outw(selector, key);
}

// `size` bytes of the selected item, the first one lowest.
uint32_t read_number(uint32_t size) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < size; ++i) value |= uint32_t{inb(data_port)} << (8 * i);
    return value;
}

// Runs a request; its control word afterwards: 0 when done, or the error bit.
uint32_t run(uint32_t control, void* buffer, uint32_t length) {
    volatile DmaRequest request;
    request.control = swap(control);
    request.length = swap(length);
    request.address_high = 0;
    request.address = swap(reinterpret_cast<uint32_t>(buffer));
    outl(dma_high, 0);
    asm volatile("" ::: "memory");
    outl(dma_low, swap(reinterpret_cast<uint32_t>(&request)));
    asm volatile("" ::: "memory");
    return swap(request.control);
}

bool same_text(const char* a, const char* b) {
    while (*a && *a == *b) {
        ++a;
        ++b;
    }
    return *a == *b;
}

File find_file(const char* wanted) {
    select(0x19);
    const uint32_t count = swap(read_number(4));
    File found;
    for (uint32_t i = 0; i < count; ++i) {
        char name[56];
        const uint32_t size = swap(read_number(4));
        const auto key = static_cast<uint16_t>(swap(read_number(4)) >> 16);
        for (char& c : name) c = static_cast<char>(inb(data_port));
        if (same_text(name, wanted)) found = {size, key};
    }
    return found;
}

void test_items() {
    select(0x0000);
    check_equal(read_number(4), 0x554D4551, "item 0 is QEMU's signature");
    select(0x0000);
    check_equal(inb(data_port), 'Q', "selecting an item starts it anew");
    select(0x0001);
    check_equal(read_number(4) & 3, 3, "item 1 offers the traditional interface and DMA");
    select(0x0003);
    check_equal(read_number(4), 128 << 20, "item 3 is the size of RAM");
    select(0x0005);
    check_equal(read_number(2), 1, "item 5 is the number of CPUs");
    check_equal(inb(data_port), 0, "behind its end an item is zeros");
    select(0x3FFF);
    check_equal(read_number(4), 0, "an item that does not exist is zeros");
    check_equal(inl(dma_high), 0x554D4551, "the DMA address reads as QEMU");
    check_equal(inl(dma_low), 0x47464320, "and CFG");
}

void test_files() {
    check_equal(find_file("no/such/file").key, 0, "the directory does not have what does not exist");
    const File e820 = find_file("etc/e820");
    check(e820.key >= 0x20, "the directory has etc/e820");
    check(e820.size >= 20 && e820.size % 20 == 0 && e820.size <= sizeof(by_port), "which consists of entries");
    select(e820.key);
    for (uint32_t i = 0; i < e820.size; ++i) by_port[i] = inb(data_port);
    check_equal(*reinterpret_cast<uint32_t*>(by_port), 0, "the first begins at 0");
    check_equal(*reinterpret_cast<uint32_t*>(by_port + 16), 1, "and is RAM");

    check_equal(run(uint32_t{e820.key} << 16 | dma_select | dma_read, by_dma, e820.size), 0, "a DMA read ends well");
    bool same = true;
    for (uint32_t i = 0; i < e820.size; ++i) same = same && by_dma[i] == by_port[i];
    check(same, "with the same bytes");
    by_dma[0] = 0x55;
    check_equal(run(uint32_t{e820.key} << 16 | dma_select | dma_skip, by_dma, 8), 0, "a skip ends well");
    check_equal(by_dma[0], 0x55, "and writes no memory");
    check_equal(run(dma_read, by_dma, 4), 0, "a read without select goes on");
    check_equal(*reinterpret_cast<uint32_t*>(by_dma), *reinterpret_cast<uint32_t*>(by_port + 8),
                "behind what was skipped");
    check_equal(run(uint32_t{e820.key} << 16 | dma_select | dma_write, by_dma, 4), dma_error,
                "a write to a read-only file is an error");
    by_dma[4] = 0x55;
    run(0x3FFF0000u | dma_select | dma_read, by_dma, 8);
    check_equal(by_dma[4], 0, "an item that does not exist reads as zeros by DMA, too");
}

}  // namespace

extern "C" void guest_main() {
    test_items();
    test_files();
    finish();
}
