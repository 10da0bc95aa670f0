// Virtio devices from inside: a disk and a source of random bytes, over PCI (modern and legacy) and MMIO, with split
// and packed queues, as drivers use them.

#include "guest-tests/runtime/cards.hpp"

using namespace guest;

namespace {

constexpr uint32_t disk_sectors = 16 << 11;
// Below the code.
constexpr uint32_t ring_page = 0x1000, table = 0x6000, data = 0x4000, header = 0x5000, status_byte = 0x5010;
constexpr uint32_t entries = 8;
constexpr uint32_t F_INDIRECT = 1u << 28, F_EVENT_IDX = 1u << 29;  // bits 0 to 31
constexpr uint32_t F_VERSION_1 = 1u << 0, F_PACKED = 1u << 2;      // bits 32 to 63
constexpr uint32_t B_FLUSH = 1u << 9, B_DISCARD = 1u << 13, B_WRITE_ZEROES = 1u << 14;
constexpr uint32_t NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1u << 7, USED = 1u << 15;

uint32_t* words(uint32_t address) {
    return reinterpret_cast<uint32_t*>(address);
}
volatile uint16_t& half(uint32_t address) {
    return *reinterpret_cast<volatile uint16_t*>(address);
}
volatile uint8_t& byte(uint32_t address) {
    return *reinterpret_cast<volatile uint8_t*>(address);
}

uint8_t read_flat8(uint32_t address) {
    return static_cast<uint8_t>(read32(address & ~3u) >> (8 * (address & 3)));
}
void write_flat8(uint32_t address, uint8_t value) {
    asm volatile("movw %2, %%gs; movb %0, %%gs:(%1)" ::"q"(value), "r"(address), "r"(uint16_t{0}) : "memory");
}
void write_flat16(uint32_t address, uint16_t value) {
    asm volatile("movw %2, %%gs; movw %0, %%gs:(%1)" ::"r"(value), "r"(address), "r"(uint16_t{0}) : "memory");
}

// How a driver reaches a device: what the transports have in common.
struct Transport {
    enum class Kind { pci, legacy, mmio } kind = Kind::pci;
    uint32_t common = 0, isr = 0, configuration = 0, notify = 0, multiplier = 0;  // pci
    uint16_t ports = 0;                                                           // legacy
    uint32_t base = 0;                                                            // mmio
    uint16_t card = 0xFFFF;

    void set_status(uint8_t status) const {
        if (kind == Kind::pci) write_flat8(common + 20, status);
        if (kind == Kind::legacy) outb(ports + 18, status);
        if (kind == Kind::mmio) write32(base + 0x70, status);
    }
    uint8_t status() const {
        if (kind == Kind::pci) return read_flat8(common + 20);
        if (kind == Kind::legacy) return inb(ports + 18);
        return static_cast<uint8_t>(read32(base + 0x70));
    }
    uint32_t offered(uint32_t part) const {
        if (kind == Kind::legacy) return part == 0 ? inl(ports) : 0;
        write32(kind == Kind::pci ? common : base + 0x14, part);
        return read32(kind == Kind::pci ? common + 4 : base + 0x10);
    }
    void accept(uint32_t low, uint32_t high) const {
        if (kind == Kind::legacy) return outl(ports + 4, low);
        const uint32_t select = kind == Kind::pci ? common + 8 : base + 0x24;
        const uint32_t bits = kind == Kind::pci ? common + 12 : base + 0x20;
        write32(select, 0);
        write32(bits, low);
        write32(select, 1);
        write32(bits, high);
    }
    void start_queue(uint32_t descriptors, uint32_t driver, uint32_t device) const {
        if (kind == Kind::legacy) {
            outw(ports + 14, 0);
            outl(ports + 8, descriptors >> 12);
        } else if (kind == Kind::pci) {
            write_flat16(common + 22, 0);
            write_flat16(common + 24, entries);
            const uint32_t areas[] = {descriptors, driver, device};
            for (uint32_t i = 0; i < 3; ++i) {
                write32(common + 32 + 8 * i, areas[i]);
                write32(common + 36 + 8 * i, 0);
            }
            write_flat16(common + 28, 1);
        } else {
            write32(base + 0x30, 0);
            write32(base + 0x38, entries);
            write32(base + 0x80, descriptors);
            write32(base + 0x90, driver);
            write32(base + 0xA0, device);
            write32(base + 0x44, 1);
        }
    }
    void tell() const {
        if (kind == Kind::pci) write_flat16(notify, 0);
        if (kind == Kind::legacy) outw(ports + 16, 0);
        if (kind == Kind::mmio) write32(base + 0x50, 0);
    }
    // Why it interrupts; it does no longer.
    uint8_t take_isr() const {
        if (kind == Kind::pci) return read_flat8(isr);
        if (kind == Kind::legacy) return inb(ports + 19);
        const uint32_t reasons = read32(base + 0x60);
        write32(base + 0x64, reasons);
        return static_cast<uint8_t>(reasons);
    }
    uint32_t configuration32(uint32_t offset) const {
        if (kind == Kind::legacy) return inl(static_cast<uint16_t>(ports + 20 + offset));
        return read32((kind == Kind::pci ? configuration : base + 0x100) + offset);
    }
};

struct Piece {
    uint32_t address, size;
    bool writes;
};

// The driver's side of queue 0.
struct Queue {
    uint32_t size = entries;
    bool packed = false;
    uint32_t driver = 0, device = 0;
    uint16_t available = 0, used = 0;
    bool wrap = true, used_wrap = true;
    uint32_t length = 0;  // entries of the last buffer

    void put(uint32_t at, uint32_t address, uint32_t bytes, uint32_t first, uint32_t second) const {
        words(at)[0] = address;
        words(at)[1] = 0;
        words(at)[2] = bytes;
        half(at + 12) = static_cast<uint16_t>(first);
        half(at + 14) = static_cast<uint16_t>(second);
    }
    void step(uint16_t& place, bool& turn) const {
        if (++place == size) {
            place = 0;
            turn = !turn;
        }
    }
    void add(const Piece* pieces, uint32_t count, bool indirect) {
        if (indirect) {
            for (uint32_t i = 0; i < count; ++i) {
                const uint32_t flags = (pieces[i].writes ? WRITE : 0) | (!packed && i + 1 < count ? NEXT : 0);
                put(table + 16 * i, pieces[i].address, pieces[i].size, packed ? 0 : flags, packed ? flags : i + 1);
            }
        }
        const uint32_t places = indirect ? 1 : count;
        length = places;
        const uint16_t first = packed ? available : static_cast<uint16_t>(available * 4 % size);
        uint32_t first_flags = 0;
        for (uint32_t i = 0; i < places; ++i) {
            const uint32_t address = indirect ? table : pieces[i].address;
            const uint32_t bytes = indirect ? 16 * count : pieces[i].size;
            uint32_t flags = indirect ? INDIRECT : (i + 1 < count ? NEXT : 0) | (pieces[i].writes ? WRITE : 0);
            if (!packed) {
                put(ring_page + 16u * (first + i), address, bytes, flags, first + i + 1);
                continue;
            }
            flags |= wrap ? AVAIL : USED;
            if (i == 0) first_flags = flags;
            put(ring_page + 16u * available, address, bytes, 1,
                i == 0 ? half(ring_page + 16u * available + 14) : flags);
            step(available, wrap);
        }
        if (packed) {
            half(ring_page + 16u * first + 14) = static_cast<uint16_t>(first_flags);
        } else {
            half(driver + 4 + 2 * (available % size)) = first;
            half(driver + 2) = ++available;
        }
    }
    // Takes the next buffer that was given back; how much was written into it, or FFFFFFFFh.
    uint32_t take() {
        if (packed) {
            const uint32_t at = ring_page + 16u * used;
            const bool is_available = (half(at + 14) & AVAIL) != 0, is_used = (half(at + 14) & USED) != 0;
            if (is_available != used_wrap || is_used != used_wrap) return 0xFFFFFFFF;
            const uint32_t written = words(at)[2];
            for (uint32_t i = 0; i < length; ++i) step(used, used_wrap);
            return written;
        }
        if (half(device + 2) == used) return 0xFFFFFFFF;
        return words(device + 4 + 8 * (used++ % size))[1];
    }
};

Transport device;
Queue queue;

// Resets the device and starts it with one queue.
bool start(uint32_t low, bool packed) {
    const bool legacy = device.kind == Transport::Kind::legacy;
    device.set_status(0);
    device.set_status(1);
    device.set_status(3);
    const uint32_t high = F_VERSION_1 | (packed ? F_PACKED : 0);
    if ((device.offered(0) & low) != low || (!legacy && (device.offered(1) & high) != high)) return false;
    device.accept(low, high);
    if (!legacy) {
        device.set_status(3 | 8);
        if (!(device.status() & 8)) return false;
    }
    for (uint32_t at = ring_page; at < ring_page + 0x3000; at += 4) words(at)[0] = 0;
    queue = Queue();
    queue.packed = packed;
    queue.driver = ring_page + 0x200;
    queue.device = ring_page + 0x400;
    if (legacy) {
        // The device says how long the queue is: 16 bytes each, then the available ring; the used one on the next page.
        outw(device.ports + 14, 0);
        queue.size = inw(device.ports + 12);
        queue.driver = ring_page + 16 * queue.size;
        queue.device = (queue.driver + 6 + 2 * queue.size + 4095) & ~4095u;
    }
    device.start_queue(ring_page, queue.driver, queue.device);
    device.set_status(legacy ? 7 : 15);
    return true;
}

// Waits for the next buffer; as Queue::take().
uint32_t wait_for_buffer(uint32_t milliseconds) {
    uint32_t written = queue.take();
    for (uint32_t tries = 0; tries < 10000 && written == 0xFFFFFFFF; ++tries) written = queue.take();
    for (; milliseconds > 0 && written == 0xFFFFFFFF; --milliseconds) {
        delay_milliseconds(1);
        written = queue.take();
    }
    return written;
}

uint32_t run(const Piece* pieces, uint32_t count, bool indirect) {
    queue.add(pieces, count, indirect);
    device.tell();
    return wait_for_buffer(5000);
}

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
bool find(uint32_t number) {
    for (uint16_t place = 0; place < 0x100; place = static_cast<uint16_t>(place + 8)) {
        if (read_config32(place, 0) != (number << 16 | 0x1AF4)) continue;
        device = Transport();
        device.card = place;
        device.ports = static_cast<uint16_t>(read_config32(place, 0x10) & ~3u);
        write_config32(place, 4, 7);
        for (auto at = static_cast<uint8_t>(read_config32(place, 0x34)); at != 0;) {
            const uint32_t head = read_config32(place, at);
            if ((head & 0xFF) == 9) {
                const uint32_t bar = read_config32(place, static_cast<uint8_t>(at + 4)) & 0xFF;
                const uint32_t base = read_config32(place, static_cast<uint8_t>(0x10 + 4 * bar)) & ~uint32_t{0xF};
                const uint32_t where = base + read_config32(place, static_cast<uint8_t>(at + 8));
                switch (head >> 24) {
                    case 1: device.common = where; break;
                    case 2: device.notify = where; break;
                    case 3: device.isr = where; break;
                    case 4: device.configuration = where; break;
                    default: break;
                }
            }
            at = static_cast<uint8_t>(head >> 8);
        }
        return device.common && device.notify && device.isr && device.configuration;
    }
    return false;
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
}

}  // namespace

extern "C" void guest_main() {
    make_gs_flat();
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
