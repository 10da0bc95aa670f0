// Each feature bit of a virtio device for itself, and what only queues have to do with.

#include "guest-tests/virtio_features.hpp"

namespace guest {
namespace {

constexpr uint32_t needs_reset = 0x40, not_back = 0xFFFFFFFF;

void submit() {
    prepare(subject.kind->type);
    queue.add(subject.kind->pieces, subject.kind->count, false);
    device.tell();
}

void see_indirect(uint64_t taken) {
    check(moves_data(true), "a table stands for a chain");
    if (!start_with(taken & ~bit(indirect_bit))) return;
    prepare(subject.kind->type);
    queue.add(subject.kind->pieces, subject.kind->count, true);
    device.tell();
    check_equal(wait_for_buffer(5), not_back, "without it a table does not come back");
    check((device.status() & needs_reset) != 0, "and the device needs a reset");
}

// Which of four buffers interrupt, four bits each.
uint32_t interrupts_of_four() {
    uint32_t seen = 0;
    device.take_isr();
    for (uint32_t i = 0; i < 4; ++i) {
        submit();
        wait_for_buffer(5000);
        seen |= uint32_t{device.take_isr()} << (4 * i);
    }
    return seen;
}
// The driver wants to hear of the third buffer.
void ask_for_third() {
    if (subject.packed) {
        half(queue.driver) = static_cast<uint16_t>(2 * subject.kind->count | 0x8000);
        half(queue.driver + 2) = 2;
    } else {
        half(queue.driver + 4 + 2 * queue.size) = 2;
    }
}

void see_event_index(uint64_t taken) {
    if (!start_with(taken)) return;
    const uint32_t asked_at = queue.device + 4 + 8 * queue.size;
    ask_for_third();
    check_equal(interrupts_of_four(), 0x0100, "one of four buffers interrupts, which is the one asked for");
    if (!subject.packed) {
        check_equal(half(asked_at), queue.available, "the device wants to hear of the next");
        half(queue.driver) = 1;
        half(queue.driver + 4 + 2 * queue.size) = queue.available;
        submit();
        wait_for_buffer(5000);
        check_equal(device.take_isr(), 1, "and what is silence without it has no meaning");
    }
    if (!start_with(taken & ~bit(event_index_bit))) return;
    half(asked_at) = 0xAAAA;
    if (!subject.packed) ask_for_third();
    check_equal(interrupts_of_four(), 0x1111, "without it each buffer interrupts");
    check_equal(half(asked_at), 0xAAAA, "and the device asks for nothing");
    half(subject.packed ? queue.driver + 2 : queue.driver) = 1;
    check_equal(interrupts_of_four(), 0, "and none when the driver wants silence");
}

void see_order(uint64_t) {
    if (subject.packed) return;  // all buffers have the same number there
    prepare(subject.kind->type);
    uint32_t wrong = 0;
    for (uint32_t round = 0; round < 8; ++round) {
        const uint32_t first = queue.used;
        queue.add(subject.kind->pieces, subject.kind->count, false);
        queue.add(subject.kind->pieces, subject.kind->count, false);
        device.tell();
        for (uint32_t i = 0; i < 2; ++i) {
            if (wait_for_buffer(5000) == not_back) ++wrong;
            const uint32_t id = words(queue.device + 4 + 8 * ((first + i) % queue.size))[0];
            if (id != (first + i) * 4 % queue.size) ++wrong;
        }
    }
    check_equal(wrong, 0, "two at a time come back in their order");
}

constexpr Bit rows[] = {
    {every, 27, 0, 0, "ANY_LAYOUT: taken, moves data", nullptr},  // legacy only; virtio_bits_disk.cpp tries a layout
    {every, indirect_bit, 0, 0, "INDIRECT_DESC: tables with it only", see_indirect},
    {every, event_index_bit, 0, 0, "EVENT_IDX: interrupts that are counted", see_event_index},
    {every, version_bit, 0, 0, "VERSION_1: taken, moves data", nullptr},
    {every, packed_bit, 0, 0, "RING_PACKED: taken, moves data", nullptr},
    {every, in_order_bit, 0, 0, "IN_ORDER: two at a time", see_order},
    {every, ring_reset_bit, 0, 0, "RING_RESET: see test_queue_reset()", nullptr},
};

// Bits that say how the device is spoken to are taken anyway.
bool is_form(uint32_t number) {
    return number == version_bit || number == packed_bit;
}

void test_row(const Bit& row) {
    const uint64_t wanted = row.needs | row.with | (is_form(row.number) ? 0 : bit(row.number));
    const bool good = start_with(wanted) && moves_data();
    check(good, row.name);
    if (good && row.effect) row.effect(wanted);
    if (legacy() || (!row.needs && !row.with)) return;
    bool refused = true, taken = true;
    for (uint32_t number = 0; number < 64; ++number) {
        const uint64_t without = (wanted & ~bit(number)) | bit(version_bit);
        if (row.needs >> number & 1) refused = refused && !takes(without);
        if (row.with >> number & 1) taken = taken && takes(without);
    }
    if (row.needs) check(refused, "is refused without what it needs");
    if (row.with) check(taken, "is taken without what it is of no use without");
}

}  // namespace

void test_each_bit() {
    const Board own = board();
    const Bits tables[] = {{rows, sizeof(rows) / sizeof(rows[0])}, own.tables[0], own.tables[1]};
    for (uint32_t number = 0; number < 64; ++number) {
        if (!subject.has(number)) continue;
        uint32_t found = 0;
        for (const Bits& table : tables) {
            for (uint32_t i = 0; i < table.count; ++i) {
                const Bit& row = table.rows[i];
                if (row.number != number || (row.type != every && row.type != subject.kind->type)) continue;
                test_row(row);
                ++found;
            }
        }
        if (found == 0) check_equal(number, 64, "each bit that it offers has a row, but not this one");
    }
}

}  // namespace guest
