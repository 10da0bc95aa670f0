#include "devices/virtio/virtio_mmio.hpp"

#include "devices/test_board.hpp"
#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_entropy.hpp"
#include "devices/virtio/virtqueue_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

/// An entropy device at a fixed address on IRQ 5.
struct Board : TestBoard {
    static constexpr uint64_t base = 0xFED10000, buffer = 0x40000;
    Board() {
        services.provide<EntropySource>(source);
        if (!memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        node.set_string("viv,function", "entropy");
        make(make_virtio_mmio, {{DeviceRange::Space::memory, base, VirtioMmio::window}}, {5});
        isa.pins[5].connect(wire, 0);
    }
    uint32_t get(uint64_t offset) { return static_cast<uint32_t>(memory_bus.read(base + offset, 4)); }
    void set(uint64_t offset, uint32_t value) { memory_bus.write(base + offset, 4, value); }
    void start(uint64_t features, uint16_t entries = 8) {
        set(0x70, 0);
        set(0x70, ACKNOWLEDGE | DRIVER);
        for (uint32_t half = 0; half < 2; ++half) {
            set(0x24, half);
            set(0x20, static_cast<uint32_t>((features | VERSION_1) >> (32 * half)));
        }
        set(0x70, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        REQUIRE((get(0x70) & FEATURES_OK));
        start_queue(features, entries);
        set(0x70, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }
    void start_queue(uint64_t features, uint16_t entries) {
        ring = RingDriver(memory, 0x10000, entries, features);
        set(0x30, 0);
        set(0x38, entries);
        set(0x80, static_cast<uint32_t>(ring.descriptors()));
        set(0x90, static_cast<uint32_t>(ring.driver()));
        set(0xA0, static_cast<uint32_t>(ring.device()));
        set(0x44, 1);
    }
    std::optional<RingDriver::Used> run(uint32_t size) {
        ring.add({{buffer, size, true}});
        set(0x50, 0);
        return ring.take();
    }
    SeededEntropy source{5};
    RingDriver ring;
    Wire& wire = new_wire();
};

}  // namespace

TEST_CASE("Virtio over MMIO keeps the device contract") {
    check_device_contract([] { return std::make_unique<Board>(); });
}

TEST_CASE("The registers say what the device is") {
    Board board;
    CHECK(board.get(0) == 0x74726976);
    CHECK(board.get(4) == 2);
    CHECK(board.get(8) == 4);
    CHECK(board.get(0xC) == 0x1AF4);
    board.set(0x14, 0);
    CHECK(board.get(0x10) == (queue_features & 0xFFFFFFFF));
    board.set(0x14, 1);
    CHECK(board.get(0x10) == queue_features >> 32);
    board.set(0x14, 2);
    CHECK(board.get(0x10) == 0);
    CHECK(board.get(0x34) == 64);
    board.set(0x30, 1);
    CHECK(board.get(0x34) == 0);
    CHECK(board.get(0xB0) == 0xFFFFFFFF);
    CHECK(board.memory_bus.read(Board::base + 1, 1) == 0);
    CHECK(board.memory_bus.read(Board::base, 8) == 0);
}

TEST_CASE("Buffers are served, and the interrupt stands until it is acknowledged") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        Board board;
        board.start(layout);
        for (unsigned i = 0; i < 20; ++i) {
            REQUIRE(board.run(16)->written == 16);
            CHECK(board.wire.level);
            CHECK(board.get(0x60) == ISR_QUEUE);
            board.set(0x64, ISR_QUEUE);
            CHECK_FALSE(board.wire.level);
        }
    }
}

TEST_CASE("A queue that was stopped begins anew") {
    Board board;
    board.start(RING_PACKED);
    for (unsigned i = 0; i < 5; ++i) REQUIRE(board.run(16));
    board.set(0x44, 0);
    CHECK(board.get(0x44) == 0);
    CHECK_FALSE(board.run(16));
    board.start_queue(RING_PACKED, 5);
    CHECK(board.get(0x44) == 1);
    CHECK(board.run(16));
}

TEST_CASE("A queue over MMIO can be reset alone") {
    Board board;
    board.start(RING_RESET);
    REQUIRE(board.run(16));
    board.set(0xC0, 1);
    CHECK(board.get(0xC0) == 0);
    CHECK(board.get(0x44) == 0);
    board.start_queue(0, 8);
    CHECK(board.run(16));
}

TEST_CASE("An MMIO node has one range of registers and an interrupt") {
    Board board;
    CHECK_FALSE(board.try_make(make_virtio_mmio, {{DeviceRange::Space::memory, 0xFED20000, 0x100}}, {5}));
    CHECK_FALSE(board.try_make(make_virtio_mmio, {{DeviceRange::Space::memory, 0xFED20000, 0x200}}, {}));
    CHECK_FALSE(board.try_make(make_virtio_mmio, {{DeviceRange::Space::memory, Board::base, 0x200}}, {5}));
}
