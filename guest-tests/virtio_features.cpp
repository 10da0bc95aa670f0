// Every feature bit that virtio devices offer, from inside: each for itself (virtio_bits.cpp has the table) and all
// together, those that are not offered are refused, and every form of a queue moves data.

#include "guest-tests/virtio_features.hpp"

namespace guest {
namespace {

constexpr uint32_t queue_features = F_INDIRECT | F_EVENT_IDX;
constexpr uint32_t F_IN_ORDER = 1u << 3, F_RING_RESET = 1u << 8;  // bits 32 to 63
constexpr uint32_t queue_reset_at = 58, queue_reset_at_mmio = 0xC0;
constexpr uint32_t answer = data + 0x400;

constexpr Kind kinds[] = {
    {network, "a network card", 1, 2, {{header, 12, false}, {data, 60, false}}, 0},
    {disk, "a disk", 0, 3, {{header, 16, false}, {answer, 512, true}, {status_byte, 1, true}}, 513},
    {console, "a console", 1, 1, {{data, 5, false}}, 0},
    {entropy, "a source of random bytes", 0, 2, {{answer, 40, true}, {answer + 40, 24, true}}, 64},
    {balloon, "a balloon", 0, 1, {{header, 4, false}}, 0},
    {folder, "a shared folder", 0, 2, {{data, 21, false}, {answer, 64, true}}, 21},
    {input, "an input device", 1, 1, {{header, 8, false}}, 0},
    {sockets, "sockets", 1, 2, {{header, 16, false}, {data, 28, false}}, 0},
};

const Kind* find_kind(uint32_t type) {
    for (const Kind& kind : kinds) {
        if (kind.type == type) return &kind;
    }
    return nullptr;
}

}  // namespace

// For each kind the beginning of `header`, and a message for a shared folder.
void prepare(uint32_t type) {
    for (uint32_t i = 0; i < 16; i += 4) words(header + i)[0] = 0;
    if (type == disk) words(header)[2] = 9;         // a sector
    if (type == balloon) words(header)[0] = 0x300;  // a page
    if (type == input) words(header)[0] = 0x11;     // a lamp goes off
    // Tversion, 9P2000.L
    static constexpr uint8_t version[21] = {21, 0, 0,   0,   100, 0xFF, 0xFF, 0,   0x20, 0,  0,
                                            8,  0, '9', 'P', '2', '0',  '0',  '0', '.',  'L'};
    for (uint32_t i = 0; i < sizeof(version); ++i) byte(data + i) = version[i];
}

bool moves_data(bool indirect) {
    const Kind& kind = *subject.kind;
    for (uint32_t i = 0; i < 12; ++i) {
        prepare(kind.type);
        byte(status_byte) = 0xEE;
        if (run(kind.pieces, kind.count, indirect) != kind.written) return false;
        if (kind.type == disk && (byte(status_byte) != 0 || words(answer)[0] != 9)) return false;
        if (kind.type == folder && byte(answer + 4) != 101) return false;
    }
    return true;
}

bool takes(uint64_t features) {
    device.set_status(0);
    device.set_status(3);
    device.accept(static_cast<uint32_t>(features), static_cast<uint32_t>(features >> 32));
    device.set_status(3 | 8);
    const bool taken = (device.status() & 8) != 0;
    device.set_status(0);
    return taken;
}

namespace {

void test_refusals() {
    const uint64_t version = bit(version_bit), must = version | bits(in_order_bit, ring_reset_bit);
    check((subject.offered & must) == must, "offers what all have");
    check(takes(subject.offered), "takes all that it offers");
    check(takes(version), "and next to nothing");
    check(!takes(subject.offered & ~version), "not as before version 1.0 by this interface");
    bool refused = true;
    for (uint32_t number = 0; number < 64; ++number) {
        if (!subject.has(number) && takes(version | bit(number))) refused = false;
    }
    check(refused, "refuses each that it does not offer");
}

void test_queues() {
    for (uint32_t form = 0; form < 16; ++form) {
        const bool indirect = form & 2;
        subject.packed = form & 1;
        if (subject.packed && !subject.has(packed_bit)) continue;
        const uint32_t own = form & 4 ? static_cast<uint32_t>(subject.offered) & ~queue_features : 0;
        const uint32_t wanted = own | (indirect ? F_INDIRECT : 0) | (form & 4 ? F_EVENT_IDX : 0);
        const bool good = start(wanted, subject.packed, form & 8 ? F_IN_ORDER : 0) && moves_data(indirect);
        check(good, subject.packed ? "a packed queue moves data" : "a split queue moves data");
    }
}

// By registers of either transport: asks for a reset of the queue; whether it is through, and whether it is enabled.
void ask_for_queue_reset() {
    if (device.kind == Transport::Kind::mmio) {
        write32(device.base + 0x30, device.queue);
        write32(device.base + queue_reset_at_mmio, 1);
    } else {
        write_flat16(device.common + 22, device.queue);
        write_flat16(device.common + queue_reset_at, 1);
    }
}
bool queue_is_being_reset() {
    if (device.kind == Transport::Kind::mmio) return read32(device.base + queue_reset_at_mmio) != 0;
    return read32(device.common + queue_reset_at - 2) >> 16 != 0;
}
bool queue_is_enabled() {
    if (device.kind == Transport::Kind::mmio) return read32(device.base + 0x44) != 0;
    return (read32(device.common + 28) & 0xFFFF) != 0;
}

void test_queue_reset() {
    check(start(F_INDIRECT, subject.packed, F_RING_RESET) && moves_data(), "with queue resets it moves data");
    ask_for_queue_reset();
    bool done = false;
    for (uint32_t tries = 0; tries < 1000 && !done; ++tries) {
        done = !queue_is_being_reset();
        if (!done) delay_milliseconds(1);
    }
    check(done, "a queue is reset");
    check(!queue_is_enabled(), "and not enabled any more");
    prepare(subject.kind->type);
    queue.add(subject.kind->pieces, subject.kind->count, false);
    device.tell();
    check_equal(wait_for_buffer(5), 0xFFFFFFFF, "takes nothing meanwhile");
    start_queue(subject.packed);
    check(moves_data(), "and works when it is enabled again");
    check(start(F_INDIRECT, subject.packed) && moves_data(), "without queue resets it moves data");
    ask_for_queue_reset();
    check(queue_is_enabled() && moves_data(), "and takes no notice of one");
}

void test_legacy() {
    device.kind = Transport::Kind::legacy;
    subject.packed = false;
    subject.offered = device.offered(0);
    check(start(F_INDIRECT, false) && moves_data(false) && moves_data(true), "moves data as before version 1.0");
    test_each_bit();
    device.set_status(0);
    device.kind = Transport::Kind::pci;
}

// By version 1.0 and later.
void test_device(const Kind& kind) {
    note(kind.name);
    subject = {&kind};
    device.queue = kind.queue;
    device.set_status(0);
    subject.offered = uint64_t{device.offered(1)} << 32 | device.offered(0);
    test_refusals();
    test_queues();
    for (const bool packed : either) {
        subject.packed = packed;
        if (packed && !subject.has(packed_bit)) continue;
        test_queue_reset();
        test_each_bit();
    }
    device.set_status(0);
}

void test_card(uint16_t place) {
    const uint32_t number = read_config32(place, 0) >> 16;
    const bool transitional = number < 0x1040;
    const Kind* kind = find_kind(transitional ? read_config32(place, 0x2C) >> 16 : number - 0x1040);
    check(kind != nullptr, "a virtio device that is known here");
    check(open_card(place), "has every structure");
    if (!kind) return;
    test_device(*kind);
    if (transitional) test_legacy();
    device.set_status(0);
}

}  // namespace
}  // namespace guest

extern "C" void guest_main() {
    using namespace guest;
    make_segments_flat();
    uint32_t cards = 0;
    for (uint16_t place = 0; place < 0x100; place = static_cast<uint16_t>(place + 8)) {
        const uint32_t id = read_config32(place, 0);
        if ((id & 0xFFFF) != 0x1AF4 || id >> 16 < 0x1000 || id >> 16 > 0x107F) continue;
        test_card(place);
        ++cards;
    }
    check_equal(cards, board().cards, "all cards were tried");
    for (uint32_t i = 0; i < board().places; ++i) {
        note("over MMIO");
        device = Transport();
        device.kind = Transport::Kind::mmio;
        device.base = 0xFED10000 + 0x1000 * i;
        const Kind* kind = find_kind(read32(device.base + 8));
        check(kind != nullptr, "there is a device that is known here");
        if (kind) test_device(*kind);
    }
    if (board().last) board().last();
    finish();
}
