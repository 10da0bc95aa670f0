#include "devices/virtio/virtqueue.hpp"

#include <array>
#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"

using namespace viv;

// The input is features and size, then the rings' bytes, and then what the device does with them while more bytes
// change.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint64_t ram = 0x10000;
    GuestMemory memory;
    static_cast<void>(memory.add(Gpa{0}, ram, GuestMemory::Kind::ram, "RAM"));
    static_cast<void>(memory.add(Gpa{ram}, 0x1000, GuestMemory::Kind::rom, "ROM"));
    FuzzInput input(data, size);
    const uint8_t choice = input.byte();
    uint64_t features = virtio::VERSION_1;
    if (choice & 1) features |= virtio::RING_PACKED;
    if (choice & 2) features |= virtio::EVENT_IDX;
    if (choice & 4) features |= virtio::INDIRECT_DESC;
    VirtqueueState state{.size = static_cast<uint16_t>(choice & 1 ? 1 + (choice >> 4) : 1 << (choice >> 5)),
                         .enabled = true,
                         .descriptors = 0x1000,
                         .driver = 0x2000,
                         .device = choice & 8 ? uint64_t{0x3000} : ram - 32};
    const auto fill = [&](uint64_t at, size_t count) {
        for (const uint8_t byte : input.some(count)) memory.store(Gpa{at++}, byte);
    };
    fill(0x1000, size_t{16} * state.size);
    fill(0x2000, 6 + size_t{2} * state.size);
    VirtqueueChain chain;
    for (unsigned steps = 0; steps < 300 && !input.empty(); ++steps) {
        Virtqueue queue(state, features, memory);
        const uint8_t step = input.byte();
        if (step & 0x80) {
            fill(uint64_t{step & 0x30u} << 8 | input.byte(), 1 + (step & 15));
            continue;
        }
        if (queue.take(chain) != Virtqueue::Taken::buffer) continue;
        VIV_ASSERT(chain.readable.size() + chain.writable.size() <= Virtqueue::most_segments);
        std::array<std::byte, 40> bytes{};
        if (chain.readable_size >= bytes.size()) {
            VIV_ASSERT(chain.read(memory, chain.readable_size - bytes.size(), bytes));
        }
        // Everything that was promised to be writable is, even if it is the ring itself.
        if (chain.writable_size >= bytes.size()) {
            VIV_ASSERT(chain.write(memory, chain.writable_size - bytes.size(), bytes));
        }
        if (step & 1) {
            queue.put_back(chain);
        } else {
            static_cast<void>(queue.give(chain, step));
        }
        static_cast<void>(queue.wants_interrupt());
        VIV_ASSERT(!(features & virtio::RING_PACKED) || (state.taken < state.size && state.used < state.size));
    }
    return 0;
}
