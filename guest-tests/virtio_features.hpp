#pragma once

// What the files of these guests share: kinds of devices, feature bits, and how the device at hand was started.

#include "guest-tests/runtime/virtio_driver.hpp"

namespace guest {

enum Type : uint32_t {
    network = 1,
    disk = 2,
    console = 3,
    entropy = 4,
    balloon = 5,
    folder = 9,
    input = 18,
    sockets = 19,
    every = 0,
};

// A kind of device, and a buffer that it takes.
struct Kind {
    uint32_t type;
    const char* name;
    uint16_t queue;
    uint32_t count;
    Piece pieces[3];
    uint32_t written;  // into the buffer
};

constexpr uint64_t bit(uint32_t number) {
    return uint64_t{1} << number;
}
template <class... Numbers>
constexpr uint64_t bits(Numbers... numbers) {
    return (bit(numbers) | ...);
}
constexpr uint32_t indirect_bit = 28, event_index_bit = 29, version_bit = 32, packed_bit = 34, in_order_bit = 35,
                   ring_reset_bit = 40;

// A feature bit of a device, and what is looked at once it is taken.
struct Bit {
    uint32_t type, number;
    uint64_t needs;  // by the specification: it is refused without each of them
    uint64_t with;   // without these it is of no use
    const char* name;
    void (*effect)(uint64_t taken);
};
// Bits with several rows are tried by each of them.
struct Bits {
    const Bit* rows;
    uint32_t count;
};
// There are two guests, as no program is large enough for all bits: one for network cards and one for what else there
// is. What each has: its tables, how many devices it is to find, and what comes after those.
struct Board {
    Bits tables[2];
    uint32_t cards, places;
    void (*last)();
};
Board board();
Bits disk_bits();

inline constexpr bool either[] = {false, true};

// The device at hand.
struct Subject {
    const Kind* kind = nullptr;
    uint64_t offered = 0;
    bool packed = false;  // the form of its queues
    bool has(uint32_t number) const { return (offered >> number & 1) != 0; }
};
inline Subject subject;

inline bool legacy() {
    return device.kind == Transport::Kind::legacy;
}
// Resets it and agrees on exactly these; starts it, with the queue of its kind.
inline bool agree(uint64_t features) {
    return negotiate(static_cast<uint32_t>(features), subject.packed, static_cast<uint32_t>(features >> 32));
}
inline bool start_with(uint64_t features) {
    return start(static_cast<uint32_t>(features), subject.packed, static_cast<uint32_t>(features >> 32));
}
// Whether it takes exactly these, in the form at hand or of version 1.0.
bool takes(uint64_t features);
// Puts into the buffers what the kind is to get.
void prepare(uint32_t type);
// Enough buffers that every ring comes round.
bool moves_data(bool indirect = false);
// Every bit that the device at hand offers, for itself.
void test_each_bit();

// Memory above the program: rings of more queues, and buffers.
constexpr uint32_t more_rings = 0x20000, ring_distance = 0x3000;
constexpr uint32_t outgoing = 0x30000, incoming = 0x34000, incoming_distance = 0x2000, command = 0x38000,
                   pieces_at = 0x3A000, large = 0x40000;
inline Piece* many_pieces(uint32_t at) {
    return reinterpret_cast<Piece*>(words(at));
}

inline void fill(uint32_t at, uint32_t bytes, uint8_t value) {
    for (uint32_t i = 0; i < bytes; ++i) byte(at + i) = value;
}

}  // namespace guest
