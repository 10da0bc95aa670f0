// Every feature bit that virtio devices offer, from inside: all that are offered are known here, those that are not are
// refused, and every form of a queue moves data.

#include "guest-tests/runtime/virtio_driver.hpp"

using namespace guest;

namespace {

constexpr uint32_t queue_features = F_INDIRECT | F_EVENT_IDX;
constexpr uint32_t F_IN_ORDER = 1u << 3, F_RING_RESET = 1u << 8;  // bits 32 to 63
constexpr uint32_t high_features = F_VERSION_1 | F_PACKED | F_IN_ORDER | F_RING_RESET;
constexpr uint32_t speed_duplex = 1u << 31;  // likewise, of network cards
constexpr uint32_t queue_reset_at = 58;
constexpr uint32_t answer = data + 0x400;

template <class... Numbers>
constexpr uint32_t bits(Numbers... numbers) {
    return ((1u << numbers) | ...);
}

// A kind of device: what it may offer besides what all do, and a buffer that it takes.
struct Kind {
    uint32_t type;
    const char* name;
    uint32_t known;
    uint16_t queue;
    uint32_t count;
    Piece pieces[3];
    uint32_t written;  // into the buffer
};
constexpr Kind kinds[] = {
    {1,
     "a network card",
     bits(0, 1, 2, 3, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23),
     1,
     2,
     {{header, 12, false}, {data, 60, false}},
     0},
    {2,
     "a disk",
     bits(1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14),
     0,
     3,
     {{header, 16, false}, {answer, 512, true}, {status_byte, 1, true}},
     513},
    {3, "a console", bits(0, 1, 2), 1, 1, {{data, 5, false}}, 0},
    {4, "a source of random bytes", 0, 0, 2, {{answer, 40, true}, {answer + 40, 24, true}}, 64},
    {5, "a balloon", bits(1, 2, 4, 5), 0, 1, {{header, 4, false}}, 0},
    {9, "a shared folder", bits(0), 0, 2, {{data, 21, false}, {answer, 64, true}}, 21},
    {18, "an input device", 0, 1, 1, {{header, 8, false}}, 0},
    {19, "sockets", bits(0), 1, 2, {{header, 16, false}, {data, 28, false}}, 0},
};

// What is in the buffers: for each kind the beginning of `header`, and a message for a shared folder.
void prepare(uint32_t type) {
    for (uint32_t i = 0; i < 16; i += 4) words(header + i)[0] = 0;
    if (type == 2) words(header)[2] = 9;      // a sector
    if (type == 5) words(header)[0] = 0x300;  // a page
    if (type == 18) words(header)[0] = 0x11;  // a lamp goes off
    // Tversion, 9P2000.L
    static constexpr uint8_t version[21] = {21, 0, 0,   0,   100, 0xFF, 0xFF, 0,   0x20, 0,  0,
                                            8,  0, '9', 'P', '2', '0',  '0',  '0', '.',  'L'};
    for (uint32_t i = 0; i < sizeof(version); ++i) byte(data + i) = version[i];
}

const Kind* find_kind(uint32_t type) {
    for (const Kind& kind : kinds) {
        if (kind.type == type) return &kind;
    }
    return nullptr;
}

// Enough buffers that every ring comes round.
bool moves_data(const Kind& kind, bool indirect) {
    for (uint32_t i = 0; i < 12; ++i) {
        prepare(kind.type);
        byte(status_byte) = 0xEE;
        if (run(kind.pieces, kind.count, indirect) != kind.written) return false;
        if (kind.type == 2 && (byte(status_byte) != 0 || words(answer)[0] != 9)) return false;
        if (kind.type == 9 && byte(answer + 4) != 101) return false;
    }
    return true;
}

// Whether the device takes exactly these.
bool takes(uint32_t low, uint32_t high) {
    device.set_status(0);
    device.set_status(3);
    device.accept(low, high);
    device.set_status(3 | 8);
    const bool taken = (device.status() & 8) != 0;
    device.set_status(0);
    return taken;
}

void test_bits(const Kind& kind, uint32_t low, uint32_t high) {
    check_equal(low & ~(kind.known | queue_features), 0, "offers no bit that is not known here");
    check_equal(high & ~(high_features | (kind.type == 1 ? speed_duplex : 0)), 0, "nor of the upper ones");
    check_equal(high & (F_VERSION_1 | F_IN_ORDER | F_RING_RESET), F_VERSION_1 | F_IN_ORDER | F_RING_RESET,
                "and what all have");
    check(takes(low, high), "takes all that it offers");
    check(takes(0, F_VERSION_1), "and next to nothing");
    check(!takes(low, high & ~F_VERSION_1), "not as before version 1.0 by this interface");
    bool refused = true;
    for (uint32_t bit = 0; bit < 32; ++bit) {
        if (!(low >> bit & 1) && takes(1u << bit, F_VERSION_1)) refused = false;
        if (!(high >> bit & 1) && takes(0, F_VERSION_1 | 1u << bit)) refused = false;
    }
    check(refused, "refuses each that it does not offer");
}

void test_queues(const Kind& kind, uint32_t low, uint32_t high) {
    for (uint32_t form = 0; form < 16; ++form) {
        const bool packed = form & 1, indirect = form & 2;
        if (packed && !(high & F_PACKED)) continue;
        const uint32_t own = form & 4 ? low & kind.known : 0;
        const uint32_t wanted = own | (indirect ? F_INDIRECT : 0) | (form & 4 ? F_EVENT_IDX : 0);
        const bool good = start(wanted, packed, form & 8 ? F_IN_ORDER : 0) && moves_data(kind, indirect);
        if (!good) note(kind.name);
        check(good, packed ? "a packed queue moves data" : "a split queue moves data");
    }
}

void test_queue_reset(const Kind& kind, bool packed) {
    check(start(F_INDIRECT, packed, F_RING_RESET) && moves_data(kind, false), "with queue resets it moves data");
    write_flat16(device.common + 22, kind.queue);
    write_flat16(device.common + queue_reset_at, 1);
    bool done = false;
    for (uint32_t tries = 0; tries < 1000 && !done; ++tries) {
        done = (read32(device.common + queue_reset_at - 2) >> 16) == 0;
        if (!done) delay_milliseconds(1);
    }
    check(done, "a queue is reset");
    check_equal(read32(device.common + 28) & 0xFFFF, 0, "and not enabled any more");
    prepare(kind.type);
    queue.add(kind.pieces, kind.count, false);
    device.tell();
    check_equal(wait_for_buffer(5), 0xFFFFFFFF, "takes nothing meanwhile");
    start_queue(packed);
    check(moves_data(kind, false), "and works when it is enabled again");
}

void test_legacy(const Kind& kind) {
    device.kind = Transport::Kind::legacy;
    check_equal(device.offered(0) & ~(kind.known | queue_features | 1u << 27), 0,
                "offers nothing else as before version 1.0");
    check(start(F_INDIRECT, false) && moves_data(kind, false) && moves_data(kind, true), "and moves data so");
    device.set_status(0);
    device.kind = Transport::Kind::pci;
}

void test_card(uint16_t place) {
    const uint32_t number = read_config32(place, 0) >> 16;
    const bool transitional = number < 0x1040;
    const uint32_t type = transitional ? read_config32(place, 0x2C) >> 16 : number - 0x1040;
    const Kind* kind = find_kind(type);
    check(kind != nullptr, "a virtio device that is known here");
    if (!kind) return;
    note(kind->name);
    check(open_card(place), "has every structure");
    device.queue = kind->queue;
    device.set_status(0);
    const uint32_t low = device.offered(0), high = device.offered(1);
    test_bits(*kind, low, high);
    test_queues(*kind, low, high);
    test_queue_reset(*kind, false);
    if (high & F_PACKED) test_queue_reset(*kind, true);
    if (transitional) test_legacy(*kind);
    device.set_status(0);
}

}  // namespace

extern "C" void guest_main() {
    make_gs_flat();
    uint32_t cards = 0;
    for (uint16_t place = 0; place < 0x100; place = static_cast<uint16_t>(place + 8)) {
        const uint32_t id = read_config32(place, 0);
        if ((id & 0xFFFF) != 0x1AF4 || id >> 16 < 0x1000 || id >> 16 > 0x107F) continue;
        test_card(place);
        ++cards;
    }
    check_equal(cards, 12, "all cards were tried");
    note("random bytes over MMIO");
    device = Transport();
    device.kind = Transport::Kind::mmio;
    device.base = 0xFED10000;
    check_equal(read32(device.base + 8), 4, "there is a source of random bytes");
    const uint32_t low = device.offered(0), high = device.offered(1);
    test_bits(*find_kind(4), low, high);
    test_queues(*find_kind(4), low, high);
    device.set_status(0);
    finish();
}
