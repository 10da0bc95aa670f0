#include "devices/virtio/virtqueue.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "devices/virtio/virtqueue_rig_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

using Taken = Virtqueue::Taken;
constexpr uint64_t ram = 0x100000, buffer = 0x40000, rings = 0x10000;
constexpr uint64_t every_feature = INDIRECT_DESC | VERSION_1;

/// A queue of eight entries, its driver, 1 MiB of RAM and a ROM behind it.
struct Rig {
    explicit Rig(uint64_t layout, uint16_t size = 8) : features(every_feature | layout) {
        if (!memory.add(Gpa{0}, ram, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        if (!memory.add(Gpa{ram}, 0x1000, GuestMemory::Kind::rom, "ROM")) FAIL("no ROM");
        driver = RingDriver(memory, rings, size, features);
        state = {.size = size,
                 .enabled = true,
                 .descriptors = driver.descriptors(),
                 .driver = driver.driver(),
                 .device = driver.device()};
    }
    Virtqueue queue() { return {state, features, memory}; }
    Taken take() { return queue().take(chain); }

    GuestMemory memory;
    uint64_t features;
    RingDriver driver;
    VirtqueueState state;
    VirtqueueChain chain;
};

constexpr std::array layouts{uint64_t{0}, RING_PACKED};

std::string name_of(uint64_t layout) {
    return layout & RING_PACKED ? "packed" : "split";
}

}  // namespace

TEST_CASE("A buffer is taken with what is read before what is written, and given back with its length") {
    for (const uint64_t layout : layouts) {
        for (const auto place : {RingDriver::Place::ring, RingDriver::Place::table}) {
            INFO(name_of(layout));
            Rig rig(layout);
            CHECK(rig.take() == Taken::nothing);
            rig.memory.store(Gpa{buffer}, uint32_t{0x11223344});
            rig.memory.store(Gpa{buffer + 0x100}, uint32_t{0x55667788});
            const uint16_t id = rig.driver.add(
                {{buffer, 4, false}, {buffer + 0x100, 4, false}, {buffer + 0x200, 3, true}, {buffer + 0x300, 5, true}},
                place);
            REQUIRE(rig.take() == Taken::buffer);
            CHECK(rig.chain.readable_size == 8);
            CHECK(rig.chain.writable_size == 8);
            uint32_t middle = 0;
            CHECK(rig.chain.read(rig.memory, 2, std::as_writable_bytes(std::span(&middle, 1))));
            CHECK(middle == 0x77881122);
            CHECK_FALSE(rig.chain.read(rig.memory, 5, std::as_writable_bytes(std::span(&middle, 1))));
            const std::array<uint8_t, 6> answer{1, 2, 3, 4, 5, 6};
            CHECK(rig.chain.write(rig.memory, 1, std::as_bytes(std::span(answer))));
            CHECK_FALSE(rig.chain.write(rig.memory, 3, std::as_bytes(std::span(answer))));
            CHECK(rig.memory.load<uint8_t>(Gpa{buffer + 0x202}) == 2);
            CHECK(rig.memory.load<uint32_t>(Gpa{buffer + 0x300}) == 0x06050403);
            CHECK_FALSE(rig.driver.take());
            CHECK(rig.queue().give(rig.chain, 7));
            const auto used = rig.driver.take();
            REQUIRE(used);
            CHECK(used->id == id);
            CHECK(used->written == 7);
            CHECK(rig.take() == Taken::nothing);
        }
    }
}

TEST_CASE("A queue goes round and round, with buffers of any length") {
    for (const uint64_t layout : layouts) {
        INFO(name_of(layout));
        Rig rig(layout, layout ? uint16_t{7} : uint16_t{8});
        for (unsigned turn = 0; turn < 70'000; ++turn) {
            std::vector<RingDriver::Piece> pieces(turn % 5 + 1, {buffer, 4, true});
            const uint16_t id = rig.driver.add(pieces);
            REQUIRE(rig.take() == Taken::buffer);
            REQUIRE(rig.chain.writable_size == 4 * pieces.size());
            REQUIRE(rig.queue().give(rig.chain, turn));
            const auto used = rig.driver.take();
            REQUIRE(used);
            REQUIRE(used->id == id);
            REQUIRE(used->written == turn);
        }
    }
}

TEST_CASE("A buffer that was put back is the next one again") {
    for (const uint64_t layout : layouts) {
        INFO(name_of(layout));
        Rig rig(layout);
        for (unsigned turn = 0; turn < 20; ++turn) {
            rig.driver.add({{buffer, 1 + turn, true}, {buffer, 1, true}, {buffer, 1, true}});
            for (unsigned i = 0; i < 3; ++i) {
                REQUIRE(rig.take() == Taken::buffer);
                REQUIRE(rig.chain.writable_size == turn + 3);
                rig.queue().put_back(rig.chain);
            }
            REQUIRE(rig.take() == Taken::buffer);
            REQUIRE(rig.queue().give(rig.chain, 0));
            REQUIRE(rig.driver.take());
        }
    }
}

TEST_CASE("Several buffers are there at once, and come in the driver's order") {
    for (const uint64_t layout : layouts) {
        INFO(name_of(layout));
        Rig rig(layout);
        std::vector<uint16_t> ids;
        for (uint32_t i = 0; i < 4; ++i) ids.push_back(rig.driver.add({{buffer, i + 1, false}, {buffer, 1, true}}));
        for (uint32_t i = 0; i < 4; ++i) {
            REQUIRE(rig.take() == Taken::buffer);
            CHECK(rig.chain.readable_size == i + 1);
            REQUIRE(rig.queue().give(rig.chain, 0));
        }
        CHECK(rig.take() == Taken::nothing);
        for (const uint16_t id : ids) CHECK(rig.driver.take()->id == id);
    }
}

TEST_CASE("The driver is interrupted unless it does not want to be") {
    for (const uint64_t layout : layouts) {
        INFO(name_of(layout));
        Rig rig(layout);
        const auto use_one = [&rig] {
            rig.driver.add({{buffer, 1, true}});
            REQUIRE(rig.take() == Taken::buffer);
            REQUIRE(rig.queue().give(rig.chain, 1));
        };
        CHECK_FALSE(rig.queue().wants_interrupt());
        use_one();
        CHECK(rig.queue().wants_interrupt());
        CHECK_FALSE(rig.queue().wants_interrupt());
        rig.driver.want(RingDriver::Interrupts::never);
        use_one();
        CHECK_FALSE(rig.queue().wants_interrupt());
        rig.driver.want(RingDriver::Interrupts::always);
        use_one();
        CHECK(rig.queue().wants_interrupt());
    }
}

TEST_CASE("With the event index the driver says from which buffer on it wants an interrupt") {
    for (const uint64_t layout : layouts) {
        INFO(name_of(layout));
        Rig rig(layout | EVENT_IDX);
        const auto use_one = [&rig] {
            rig.driver.add({{buffer, 1, true}});
            REQUIRE(rig.take() == Taken::buffer);
            REQUIRE(rig.queue().give(rig.chain, 1));
        };
        for (unsigned turn = 0; turn < 30; ++turn) {
            rig.driver.want_after(2);
            for (unsigned i = 0; i < 4; ++i) {
                use_one();
                CHECK(rig.queue().wants_interrupt() == (i == 2));
            }
            for (unsigned i = 0; i < 4; ++i) REQUIRE(rig.driver.take());
            // Several that are told of together.
            rig.driver.want_after(1);
            for (unsigned i = 0; i < 3; ++i) use_one();
            CHECK(rig.queue().wants_interrupt());
            for (unsigned i = 0; i < 3; ++i) REQUIRE(rig.driver.take());
        }
    }
}

TEST_CASE("An idle split queue with the event index asks to be told of the next buffer") {
    Rig rig(EVENT_IDX);
    rig.driver.add({{buffer, 1, true}});
    REQUIRE(rig.take() == Taken::buffer);
    CHECK(rig.take() == Taken::nothing);
    CHECK(rig.memory.load<uint16_t>(Gpa{rig.driver.device() + 4 + 8 * 8}) == 1);
}

TEST_CASE("Buffers outside of RAM, too long, or in the wrong order break the queue") {
    for (const uint64_t layout : layouts) {
        for (const auto place : {RingDriver::Place::ring, RingDriver::Place::table}) {
            INFO(name_of(layout));
            const auto broken = [&](const std::vector<RingDriver::Piece>& pieces) {
                Rig rig(layout);
                rig.driver.add(pieces, place);
                return rig.take() == Taken::broken;
            };
            CHECK(broken({{ram + 0x800, 1, true}}));         // ROM takes no writes,
            CHECK_FALSE(broken({{ram + 0x800, 1, false}}));  // but can be read
            CHECK_FALSE(broken({{ram - 8, 16, false}}));     // across regions
            CHECK(broken({{ram + 0x0FF0, 0x11, false}}));    // over the end
            CHECK(broken({{ram - 8, 16, true}}));
            CHECK(broken({{~uint64_t{0} - 3, 8, false}}));  // around the end of the address space
            CHECK(broken({{buffer, 0xFFFFFFFF, true}}));
            CHECK(broken({{buffer, 1, true}, {buffer, 1, false}}));
            CHECK_FALSE(broken({{buffer, 0, false}, {buffer, 0, true}}));
        }
    }
}

TEST_CASE("Chains that never end break the queue") {
    SECTION("split") {
        Rig rig(0);
        rig.driver.add({{buffer, 1, false}});
        rig.driver.put(rings, {buffer, 1}, DESC_NEXT, 0);
        CHECK(rig.take() == Taken::broken);
    }
    SECTION("a split table") {
        Rig rig(0);
        rig.driver.add({{buffer, 1, false}, {buffer, 1, false}}, RingDriver::Place::table);
        rig.driver.put(rig.driver.table() + 16, {buffer, 1}, DESC_NEXT, 0);
        CHECK(rig.take() == Taken::broken);
    }
    SECTION("packed") {
        Rig rig(RING_PACKED);
        for (unsigned i = 0; i < 8; ++i) {
            rig.driver.put(rings + 16 * i, {buffer, 1}, 0, DESC_NEXT | DESC_AVAIL);
        }
        CHECK(rig.take() == Taken::broken);
    }
}

TEST_CASE("What a split ring cannot hold breaks it") {
    Rig rig(0);
    SECTION("a head that is no descriptor") {
        rig.memory.store(Gpa{rig.driver.driver() + 4}, uint16_t{8});
    }
    SECTION("a next that is none") {
        rig.driver.put(rings, {buffer, 1}, DESC_NEXT, 8);
    }
    SECTION("more than its size") {
        rig.memory.store(Gpa{rig.driver.driver() + 2}, uint16_t{9});
    }
    SECTION("rings where nothing is") {
        rig.state.driver = 0xFFFF'0000'0000;
    }
    SECTION("descriptors where nothing is") {
        rig.state.descriptors = ~uint64_t{0} - 7;
    }
    if (rig.memory.load<uint16_t>(Gpa{rig.driver.driver() + 2}) == 0) {
        rig.memory.store(Gpa{rig.driver.driver() + 2}, uint16_t{1});
    }
    CHECK(rig.take() == Taken::broken);
}

TEST_CASE("Tables that are not tables break the queue") {
    for (const uint64_t layout : layouts) {
        INFO(name_of(layout));
        const auto broken = [&](uint32_t size, uint16_t more_flags, uint16_t inner_flags = 0,
                                uint64_t features = every_feature, uint64_t at = buffer) {
            Rig rig(layout);
            rig.features = features | layout;
            rig.driver.add({{at, size, false}});
            const auto flags = static_cast<uint16_t>(DESC_INDIRECT | more_flags | (layout ? DESC_AVAIL : 0));
            rig.driver.put(rings, {at, size}, layout ? 0 : flags, layout ? flags : 0);
            for (unsigned i = 0; i < 3; ++i) {
                rig.driver.put(buffer + 16 * i, {buffer, 4}, layout ? 0 : inner_flags, layout ? inner_flags : 0);
            }
            return rig.take() == Taken::broken;
        };
        CHECK_FALSE(broken(16, 0));
        CHECK(broken(0, 0));
        CHECK(broken(24, 0));
        CHECK(broken(16, DESC_NEXT));
        CHECK(broken(16, 0, DESC_INDIRECT));
        CHECK(broken(16, 0, 0, VERSION_1));  // not negotiated
        CHECK(broken(16, 0, 0, every_feature, ram + 0x1000));
        CHECK(broken(0xFFFFFFF0, 0, layout ? uint16_t{0} : DESC_NEXT));
    }
}

TEST_CASE("A table has at most 1024 descriptors in use") {
    Rig rig(RING_PACKED);
    constexpr uint64_t table = 0x80000;
    const auto take_table = [&](uint32_t count) {
        for (uint32_t i = 0; i < count; ++i) rig.driver.put(table + 16 * i, {buffer, 1}, 0, 0);
        rig.state.taken = 0;
        rig.state.taken_wrap = true;
        rig.driver.put(rings, {table, 16 * count}, 0, DESC_INDIRECT | DESC_AVAIL);
        return rig.take();
    };
    CHECK(take_table(1024) == Taken::buffer);
    CHECK(take_table(1025) == Taken::broken);
}

TEST_CASE("A used ring where nothing takes writes breaks the queue") {
    Rig rig(0);
    rig.driver.add({{buffer, 1, true}});
    REQUIRE(rig.take() == Taken::buffer);
    rig.state.device = ram;
    CHECK_FALSE(rig.queue().give(rig.chain, 1));
}
