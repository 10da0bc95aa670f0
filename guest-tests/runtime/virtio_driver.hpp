#pragma once

// The driver's side of a virtio device: over PCI (modern and legacy) and MMIO.

#include "guest-tests/runtime/cards.hpp"

namespace guest {

// Below the code.
constexpr uint32_t ring_page = 0x1000, table = 0x6000, data = 0x4000, header = 0x5000, status_byte = 0x5010;
constexpr uint32_t entries = 8;
constexpr uint32_t F_INDIRECT = 1u << 28, F_EVENT_IDX = 1u << 29;  // bits 0 to 31
constexpr uint32_t F_VERSION_1 = 1u << 0, F_PACKED = 1u << 2;      // bits 32 to 63
constexpr uint32_t NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1u << 7, USED = 1u << 15;

// Memory anywhere, after make_segments_flat(). Constants go through a register: instructions have 16 bits for them.
inline uint32_t in_register(uint32_t address) {
    asm("" : "+r"(address));
    return address;
}
inline uint32_t* words(uint32_t address) {
    return reinterpret_cast<uint32_t*>(in_register(address));
}
inline volatile uint16_t& half(uint32_t address) {
    return *reinterpret_cast<volatile uint16_t*>(in_register(address));
}
inline volatile uint8_t& byte(uint32_t address) {
    return *reinterpret_cast<volatile uint8_t*>(in_register(address));
}

inline uint8_t read_flat8(uint32_t address) {
    return static_cast<uint8_t>(read32(address & ~3u) >> (8 * (address & 3)));
}
inline void write_flat8(uint32_t address, uint8_t value) {
    asm volatile("movw %2, %%gs; movb %0, %%gs:(%1)" ::"q"(value), "r"(address), "r"(uint16_t{0}) : "memory");
}
inline void write_flat16(uint32_t address, uint16_t value) {
    asm volatile("movw %2, %%gs; movw %0, %%gs:(%1)" ::"r"(value), "r"(address), "r"(uint16_t{0}) : "memory");
}

// How a driver reaches a device: what the transports have in common.
struct Transport {
    enum class Kind { pci, legacy, mmio } kind = Kind::pci;
    uint32_t common = 0, isr = 0, configuration = 0, notify = 0, multiplier = 0;  // pci
    uint16_t ports = 0;                                                           // legacy
    uint32_t base = 0;                                                            // mmio
    uint16_t card = 0xFFFF;
    uint16_t queue = 0;  // that run() drives

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
    void start_queue(uint16_t number, uint32_t descriptors, uint32_t driver, uint32_t device) const {
        if (kind == Kind::legacy) {
            outw(ports + 14, number);
            outl(ports + 8, descriptors >> 12);
        } else if (kind == Kind::pci) {
            write_flat16(common + 22, number);
            write_flat16(common + 24, entries);
            const uint32_t areas[] = {descriptors, driver, device};
            for (uint32_t i = 0; i < 3; ++i) {
                write32(common + 32 + 8 * i, areas[i]);
                write32(common + 36 + 8 * i, 0);
            }
            write_flat16(common + 28, 1);
        } else {
            write32(base + 0x30, number);
            write32(base + 0x38, entries);
            write32(base + 0x80, descriptors);
            write32(base + 0x90, driver);
            write32(base + 0xA0, device);
            write32(base + 0x44, 1);
        }
    }
    void tell(uint16_t number) const {
        if (kind == Kind::pci) write_flat16(notify + multiplier * number, number);
        if (kind == Kind::legacy) outw(ports + 16, number);
        if (kind == Kind::mmio) write32(base + 0x50, number);
    }
    void tell() const { tell(queue); }
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
    uint16_t configuration16(uint32_t offset) const {
        return static_cast<uint16_t>(configuration32(offset & ~3u) >> (8 * (offset & 2)));
    }
    uint8_t configuration8(uint32_t offset) const {
        return static_cast<uint8_t>(configuration32(offset & ~3u) >> (8 * (offset & 3)));
    }
    void write_configuration8(uint32_t offset, uint8_t value) const {
        if (kind == Kind::legacy) return outb(static_cast<uint16_t>(ports + 20 + offset), value);
        write_flat8((kind == Kind::pci ? configuration : base + 0x100) + offset, value);
    }
};

struct Piece {
    uint32_t address, size;
    bool writes;
};

// The driver's side of a queue, which has room for two buffers of up to four pieces.
struct Queue {
    uint16_t number = 0;
    uint32_t size = entries;
    bool packed = false;
    uint32_t ring = 0, driver = 0, device = 0;
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
                put(ring + 16u * (first + i), address, bytes, flags, first + i + 1);
                continue;
            }
            flags |= wrap ? AVAIL : USED;
            if (i == 0) first_flags = flags;
            put(ring + 16u * available, address, bytes, 1, i == 0 ? half(ring + 16u * available + 14) : flags);
            step(available, wrap);
        }
        if (packed) {
            half(ring + 16u * first + 14) = static_cast<uint16_t>(first_flags);
        } else {
            half(driver + 4 + 2 * (available % size)) = first;
            half(driver + 2) = ++available;
        }
    }
    // Takes the next buffer that was given back; how much was written into it, or FFFFFFFFh.
    uint32_t take() {
        if (packed) {
            const uint32_t at = ring + 16u * used;
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

inline Transport device;
inline Queue queue;

// Gives the device a queue, which is empty; its rings are on the page `ring`, and as before version 1.0 on two more.
[[gnu::noinline]] inline Queue open_queue(uint16_t number, bool packed, uint32_t ring) {
    const bool legacy = device.kind == Transport::Kind::legacy;
    for (uint32_t at = ring; at < ring + (legacy ? 0x3000 : 0x600); at += 4) words(at)[0] = 0;
    Queue opened;
    opened.number = number;
    opened.packed = packed;
    opened.ring = ring;
    opened.driver = ring + 0x200;
    opened.device = ring + 0x400;
    if (legacy) {
        // The device says how long the queue is: 16 bytes each, then the available ring; the used one on the next page.
        outw(device.ports + 14, number);
        opened.size = inw(device.ports + 12);
        opened.driver = ring + 16 * opened.size;
        opened.device = (opened.driver + 6 + 2 * opened.size + 4095) & ~4095u;
    }
    device.start_queue(number, ring, opened.driver, opened.device);
    return opened;
}
[[gnu::noinline]] inline void start_queue(bool packed) {
    queue = open_queue(device.queue, packed, ring_page);
}

// Resets the device and agrees on features; `more` are bits 32 to 63 besides version and form.
[[gnu::noinline]] inline bool negotiate(uint32_t low, bool packed, uint32_t more) {
    const bool legacy = device.kind == Transport::Kind::legacy;
    device.set_status(0);
    device.set_status(1);
    device.set_status(3);
    const uint32_t high = F_VERSION_1 | (packed ? F_PACKED : 0) | more;
    if ((device.offered(0) & low) != low || (!legacy && (device.offered(1) & high) != high)) return false;
    device.accept(low, high);
    if (legacy) return true;
    device.set_status(3 | 8);
    return (device.status() & 8) != 0;
}

// The device works from now on.
inline void go() {
    device.set_status(device.kind == Transport::Kind::legacy ? 7 : 15);
}

// Resets the device and starts it with one queue and these features.
inline bool start(uint32_t low, bool packed, uint32_t more = 0) {
    if (!negotiate(low, packed, more)) return false;
    start_queue(packed);
    go();
    return true;
}

// Waits for the next buffer of a queue; as Queue::take().
inline uint32_t wait_for_buffer(Queue& of, uint32_t milliseconds) {
    // As a rule it comes at once, and the timer is slow to ask; who waits for nothing to come does not look so often.
    const uint32_t most = milliseconds < 100 ? 100 : 10000;
    uint32_t written = of.take();
    for (uint32_t tries = 0; tries < most && written == 0xFFFFFFFF; ++tries) written = of.take();
    for (; milliseconds > 0 && written == 0xFFFFFFFF; --milliseconds) {
        delay_milliseconds(1);
        written = of.take();
    }
    return written;
}
inline uint32_t wait_for_buffer(uint32_t milliseconds) {
    return wait_for_buffer(queue, milliseconds);
}

inline uint32_t run(const Piece* pieces, uint32_t count, bool indirect) {
    queue.add(pieces, count, indirect);
    device.tell();
    return wait_for_buffer(5000);
}

// Takes the card at a place of the bus; whether it has every structure.
inline bool open_card(uint16_t place) {
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
                case 2:
                    device.notify = where;
                    device.multiplier = read_config32(place, static_cast<uint8_t>(at + 16));
                    break;
                case 3: device.isr = where; break;
                case 4: device.configuration = where; break;
                default: break;
            }
        }
        at = static_cast<uint8_t>(head >> 8);
    }
    return device.common && device.notify && device.isr && device.configuration;
}

// Takes the first card with a number.
inline bool find(uint32_t number) {
    for (uint16_t place = 0; place < 0x100; place = static_cast<uint16_t>(place + 8)) {
        if (read_config32(place, 0) == (number << 16 | 0x1AF4)) return open_card(place);
    }
    return false;
}

}  // namespace guest
