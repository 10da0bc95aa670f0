// Virtio devices from inside: a disk and a source of random bytes, over PCI (modern and legacy) and MMIO, with split
// and packed queues, as drivers use them.

#include "guest-tests/runtime/virtio_driver.hpp"

using namespace guest;

namespace {

constexpr uint32_t disk_sectors = 16 << 11;
constexpr uint32_t B_FLUSH = 1u << 9, B_DISCARD = 1u << 13, B_WRITE_ZEROES = 1u << 14;

// A request of the disk; its status, or FFh when it does not come back.
uint8_t request(uint32_t type, uint32_t sector, uint32_t bytes, bool writes, bool indirect = false) {
    words(header)[0] = type;
    words(header)[1] = 0;
    words(header)[2] = sector;
    words(header)[3] = 0;
    byte(status_byte) = 0xEE;
    const Piece pieces[] = {{header, 16, false}, {data, bytes, writes}, {status_byte, 1, true}};
    const Piece without[] = {pieces[0], pieces[2]};
    const uint32_t written = bytes ? run(pieces, 3, indirect) : run(without, 2, indirect);
    if (written == 0xFFFFFFFF) return 0xFF;
    return byte(status_byte);
}

void test_disk(bool packed, bool indirect) {
    const bool legacy = device.kind == Transport::Kind::legacy;
    note(packed ? "packed" : "split");
    uint32_t features = B_FLUSH | B_DISCARD | B_WRITE_ZEROES | F_INDIRECT;
    check(start(features, packed), "the disk takes the features");
    check_equal(device.configuration32(0), disk_sectors, "the configuration has its size");
    bool good = true;
    for (uint32_t i = 0; i < 20; ++i) {
        good = request(0, 100 + i * 7, 1024, true, indirect) == 0 && good;
        good = good && words(data)[0] == 100 + i * 7 && words(data + 512)[0] == 101 + i * 7;
    }
    check(good, "twenty reads give the right sectors");
    const uint32_t seed = packed ? 0x01030507 : legacy ? 0x11131517 : 0x21232527;
    for (uint32_t i = 0; i < 256; ++i) words(data)[i] = i * seed;
    check_equal(request(1, 3000, 1024, false, indirect), 0, "a write");
    check_equal(request(4, 0, 0, false), 0, "a flush");
    for (uint32_t i = 0; i < 256; ++i) words(data)[i] = 0;
    check_equal(request(0, 3000, 1024, true), 0, "a read of that");
    good = true;
    for (uint32_t i = 0; i < 256; ++i) good = good && words(data)[i] == i * seed;
    check(good, "gives what was written");
    words(data)[0] = 3000;
    words(data)[1] = 0;
    words(data)[2] = 1;
    words(data)[3] = 0;
    check_equal(request(13, 0, 16, false), 0, "write zeroes");
    check_equal(request(0, 3000, 1024, true), 0, "and a read");
    check(words(data)[5] == 0 && words(data + 512)[0] == 128 * seed, "one sector is zero, the other as it was");
    words(data)[0] = 3001;
    words(data)[1] = 0;
    words(data)[2] = 1;
    words(data)[3] = 0;
    check_equal(request(11, 0, 16, false), 0, "discard");
    check_equal(request(8, 0, 20, true), 0, "its name");
    check(byte(data) == 'V' && byte(data + 1) == 'I' && byte(data + 2) == 'V', "begins as it should");
    check_equal(request(0, disk_sectors, 512, true), 1, "behind the end there is nothing");
    check_equal(request(99, 0, 0, false), 2, "an unknown request is unsupported");
}

void test_event_index(bool packed) {
    check(start(F_INDIRECT | F_EVENT_IDX, packed), "the event index is taken");
    device.take_isr();
    // From the third on.
    if (packed) {
        half(queue.driver) = static_cast<uint16_t>(6 | 0x8000);
        half(queue.driver + 2) = 2;
    } else {
        half(queue.driver + 4 + 2 * queue.size) = 2;
    }
    uint8_t reasons[3];
    for (uint8_t& reason : reasons) {
        request(0, 5, 512, true);
        reason = device.take_isr();
    }
    check(reasons[0] == 0 && reasons[1] == 0 && reasons[2] == 1, "and only the third buffer interrupts");
}

void test_interrupt(uint8_t irq) {
    static uint8_t line;
    line = irq;
    check(start(F_INDIRECT, false), "the disk starts again");
    take_irq(line);
    static uint8_t reason;
    reason = 0;
    irq_action[line] = [] { reason = static_cast<uint8_t>(reason | device.take_isr()); };
    check_equal(request(0, 77, 512, true), 0, "a request");
    check(wait_irq(line, 1, 3000), "interrupts");
    check_equal(reason, 1, "because of a queue");
    delay_milliseconds(20);
    check_equal(irq_count[line], 1, "once");
    give_irq(line);
}

void test_broken() {
    check(start(F_INDIRECT, true), "packed queues again");
    const Piece pieces[] = {{0xF0000000, 16, true}};
    queue.add(pieces, 1, false);
    device.tell();
    check_equal(wait_for_buffer(20), 0xFFFFFFFF, "a buffer where no memory is does not come back");
    check_equal(device.status(), 15 | 0x40, "and the device needs a reset");
    check(start(F_INDIRECT, false), "after which it works again");
    check_equal(request(0, 9, 512, true), 0, "and reads");
}

// Many requests at a time: each comes back once, whatever the order. Buffers are of four entries.
void test_many(bool packed) {
    check(start(B_FLUSH | F_INDIRECT, packed), "the disk takes several at a time");
    constexpr uint32_t count = 2, rounds = 30;
    uint32_t back = 0, right = 0;
    for (uint32_t round = 0; round < rounds; ++round) {
        for (uint32_t i = 0; i < count; ++i) {
            const uint32_t at = header + 0x20 * i, status = at + 16, sector = 200 + 10 * round + i;
            words(at)[0] = 0;
            words(at)[1] = 0;
            words(at)[2] = sector;
            words(at)[3] = 0;
            byte(status) = 0xEE;
            words(data + 0x400 * i)[0] = 0;
            const Piece pieces[] = {{at, 16, false}, {data + 0x400 * i, 512, true}, {status, 1, true}};
            queue.add(pieces, 3, false);
        }
        device.tell();
        for (uint32_t i = 0; i < count; ++i) back += wait_for_buffer(5000) == 513;
        for (uint32_t i = 0; i < count; ++i) {
            right += byte(header + 0x20 * i + 16) == 0 && words(data + 0x400 * i)[0] == 200 + 10 * round + i;
        }
    }
    check_equal(back, count * rounds, "all come back");
    check_equal(right, count * rounds, "with the right sectors");
    check_equal(queue.take(), 0xFFFFFFFF, "and no more");
}

// The disk may still be at it when the reset comes; after it, memory is the guest's.
void test_reset_under_way(bool packed) {
    uint32_t left_alone = 0;
    constexpr uint32_t rounds = 20;
    for (uint32_t round = 0; round < rounds; ++round) {
        if (!start(B_FLUSH | F_INDIRECT, packed)) break;
        words(header)[0] = 0;
        words(header)[1] = 0;
        words(header)[2] = 1000 + round;
        words(header)[3] = 0;
        const Piece pieces[] = {{header, 16, false}, {data, 1024, true}, {status_byte, 1, true}};
        queue.add(pieces, 3, false);
        device.tell();
        device.set_status(0);
        words(data)[0] = 0x12345678;
        byte(status_byte) = 0x77;
        const uint16_t given = half(queue.device + 2);
        delay_milliseconds(2);
        left_alone += words(data)[0] == 0x12345678 && byte(status_byte) == 0x77 && half(queue.device + 2) == given;
    }
    check_equal(left_alone, rounds, "a reset ends what is under way, and memory is left alone");
    check(start(B_FLUSH | F_INDIRECT, packed), "the disk starts after that");
    check_equal(request(0, 77, 512, true), 0, "and reads");
}

void test_entropy(bool packed) {
    check(start(F_INDIRECT, packed), "the source takes the features");
    const Piece pieces[] = {{data, 100, true}, {data + 0x200, 156, true}};
    for (uint32_t i = 0; i < 256; ++i) words(data)[i] = 0;
    check_equal(run(pieces, 2, true), 256, "it fills a buffer");
    uint32_t ones = 0, zeros = 0xFFFFFFFF;
    for (uint32_t i = 0; i < 25; ++i) {
        ones |= words(data)[i];
        zeros &= words(data)[i];
    }
    check(ones == 0xFFFFFFFF && zeros == 0, "with bytes that differ");
    const uint32_t before = words(data)[0], after = words(data)[1];
    check_equal(run(pieces, 2, false), 256, "and another");
    check(words(data)[0] != before || words(data)[1] != after, "with others");
}

// The card with this number, with its structures found.
void test_bios() {
    struct __attribute__((packed)) {
        uint8_t size = 16, reserved = 0;
        uint16_t count = 2, offset = data, segment = 0;
        uint32_t lba = 555, lba_high = 0;
    } address;
    words(data)[0] = 0;
    const Registers read = interrupt(0x13, {.eax = 0x4200, .edx = 0x80, .esi = reinterpret_cast<uint32_t>(&address)});
    check(!read.carry() && words(data)[0] == 555 && words(data + 512)[0] == 556, "the BIOS reads it as disk 80h");
}

}  // namespace

extern "C" void guest_main() {
    make_segments_flat();
    note("the disk over PCI");
    check(find(0x1001), "there is a virtio disk with every structure");
    test_disk(false, false);
    test_disk(true, false);
    test_disk(false, true);
    test_disk(true, true);
    test_event_index(false);
    test_event_index(true);
    test_many(false);
    test_many(true);
    test_reset_under_way(false);
    test_reset_under_way(true);
    test_interrupt(static_cast<uint8_t>(read_config32(device.card, 0x3C)));
    test_broken();
    test_bios();
    note("the disk as before version 1.0");
    device.kind = Transport::Kind::legacy;
    test_disk(false, false);
    test_disk(false, true);
    device.set_status(0);
    note("random bytes over PCI");
    check(find(0x1005), "there is a source of random bytes");
    test_entropy(false);
    test_entropy(true);
    device.set_status(0);
    note("the disk over MMIO");
    device = Transport();
    device.kind = Transport::Kind::mmio;
    device.base = 0xFED10000;
    check(read32(device.base) == 0x74726976 && read32(device.base + 4) == 2, "there is a device of version 2");
    check_equal(read32(device.base + 8), 2, "which is a disk");
    test_disk(false, false);
    test_disk(true, true);
    test_event_index(false);
    test_event_index(true);
    test_many(false);
    test_many(true);
    test_reset_under_way(false);
    test_reset_under_way(true);
    test_interrupt(5);
    test_broken();
    note("random bytes over MMIO");
    device.base = 0xFED11000;
    check_equal(read32(device.base + 8), 4, "there is a source of random bytes");
    test_entropy(false);
    test_entropy(true);
    finish();
}
