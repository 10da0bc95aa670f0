#include "vmm/core/guest_memory.hpp"

#include "vmm/core/catch.hpp"

using namespace viv;

TEST_CASE("What is written is read back, little-endian, across a region's edge") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x1000, GuestMemory::Kind::ram, "low"));
    REQUIRE(memory.add(Gpa{0x1000}, 0x1000, GuestMemory::Kind::ram, "high"));
    CHECK(memory.store(Gpa{0xFFE}, uint32_t{0x44332211}));
    CHECK(memory.load<uint8_t>(Gpa{0xFFE}) == 0x11);
    CHECK(memory.load<uint32_t>(Gpa{0xFFE}) == 0x44332211);
    CHECK(memory.ram_size() == 0x2000);
}

TEST_CASE("Memory that is not there reads as ones and swallows writes") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0x1000}, 0x1000, GuestMemory::Kind::ram, "ram"));
    CHECK(memory.load<uint64_t>(Gpa{0xFFC}) == 0xFFFFFFFFull);
    CHECK_FALSE(memory.store(Gpa{0x1FFE}, uint32_t{0xAABBCCDD}));
    CHECK(memory.load<uint16_t>(Gpa{0x1FFE}) == 0xCCDD);
    CHECK(memory.load<uint32_t>(Gpa{0xFFFFFFFFFFFFFFFEull}) == 0xFFFFFFFF);
}

TEST_CASE("ROM drops the guest's writes and takes the host's") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0xF0000}, 0x10000, GuestMemory::Kind::rom, "bios"));
    const uint32_t value = 0x12345678;
    CHECK_FALSE(memory.store(Gpa{0xF0000}, value));
    CHECK(memory.load<uint32_t>(Gpa{0xF0000}) == 0);
    CHECK(memory.write_rom(Gpa{0xF0000}, std::as_bytes(std::span(&value, 1))));
    CHECK(memory.load<uint32_t>(Gpa{0xF0000}) == value);
    CHECK(memory.window(Gpa{0xF0000}, 4, GuestMemory::Intent::write).empty());
    CHECK(memory.window(Gpa{0xF0000}, 4, GuestMemory::Intent::read).size() == 4);
}

TEST_CASE("An alias shows the same bytes, generation and dirt") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x4000, GuestMemory::Kind::ram, "ram"));
    REQUIRE(memory.add_alias(Gpa{0x100000}, 0x1000, Gpa{0x2000}, GuestMemory::Kind::ram, "wrap"));
    const auto before = memory.write_generation(Gpa{0x2000});
    CHECK(memory.store(Gpa{0x100010}, uint8_t{7}));
    CHECK(memory.load<uint8_t>(Gpa{0x2010}) == 7);
    CHECK(memory.write_generation(Gpa{0x2000}) == before + 1);
    CHECK(memory.take_dirty(Gpa{0}) == std::vector<bool>{false, false, true, false});
    CHECK(memory.take_dirty(Gpa{0x100000}) == std::vector<bool>{false});
    CHECK(memory.ram_size() == 0x4000);
    CHECK(memory.remove(Gpa{0x100000}));
    CHECK_FALSE(memory.remove(Gpa{0x100000}));
    CHECK(memory.load<uint8_t>(Gpa{0x100010}) == 0xFF);
}

TEST_CASE("Overlaps, odd sizes and far alias targets are refused by name") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x2000, GuestMemory::Kind::ram, "ram"));
    const auto overlap = memory.add(Gpa{0x1000}, 0x2000, GuestMemory::Kind::rom, "rom");
    REQUIRE_FALSE(overlap);
    CHECK(overlap.error().message.find("overlaps 'ram'") != std::string::npos);
    CHECK_FALSE(memory.add(Gpa{0x8000}, 0x800, GuestMemory::Kind::ram, "half"));
    CHECK_FALSE(memory.add_alias(Gpa{0x8000}, 0x2000, Gpa{0x1000}, GuestMemory::Kind::ram, "far"));
    CHECK(memory.window(Gpa{0x1FFF}, 2, GuestMemory::Intent::read).empty());
}

TEST_CASE("Listeners hear of every change of the list") {
    GuestMemory memory;
    int heard = 0;
    memory.on_change([&] { ++heard; });
    REQUIRE(memory.add(Gpa{0}, 0x1000, GuestMemory::Kind::ram, "ram"));
    memory.remove(Gpa{0});
    CHECK(heard == 2);
}

TEST_CASE("Dirt can be marked without a new generation, and takes and notes are counted") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x2000, GuestMemory::Kind::ram, "ram"));
    const auto generation = memory.write_generation(Gpa{0x1000});
    const auto notes = memory.noted_writes();
    const auto takes = memory.dirty_takes();
    memory.mark_dirty(Gpa{0x1004}, 4);
    CHECK(memory.write_generation(Gpa{0x1000}) == generation);
    CHECK(memory.noted_writes() == notes);
    CHECK(memory.take_dirty(Gpa{0}) == std::vector<bool>{false, true});
    CHECK(memory.dirty_takes() == takes + 1);
    memory.note_write(Gpa{0x1004}, 4);
    CHECK(memory.noted_writes() == notes + 1);
}

TEST_CASE("A store keeps its bytes wherever it is shown, and when it is not") {
    GuestMemory memory;
    const auto store = memory.add_store(0x4000, "video memory");
    REQUIRE(store);
    CHECK_FALSE(memory.add_store(0x800, "half a page"));
    CHECK(memory.load<uint8_t>(Gpa{0}) == 0xFF);

    REQUIRE(memory.show(Gpa{0x10000}, 0x4000, *store, 0, GuestMemory::Kind::ram, "window"));
    CHECK(memory.store(Gpa{0x13008}, uint8_t{0x5A}));
    CHECK(memory.remove(Gpa{0x10000}));
    CHECK(memory.load<uint8_t>(Gpa{0x13008}) == 0xFF);
    CHECK(memory.bytes(*store)[0x3008] == std::byte{0x5A});

    REQUIRE(memory.show(Gpa{0x40000}, 0x1000, *store, 0x3000, GuestMemory::Kind::rom, "last page"));
    CHECK(memory.load<uint8_t>(Gpa{0x40008}) == 0x5A);
    CHECK_FALSE(memory.store(Gpa{0x40008}, uint8_t{1}));
    CHECK_FALSE(memory.show(Gpa{0x40000}, 0x1000, *store, 0, GuestMemory::Kind::ram, "over it"));
}

TEST_CASE("A store's dirt is complete: the engine is asked for what it knows of each place") {
    GuestMemory memory;
    const auto store = memory.add_store(0x3000, "video memory");
    REQUIRE(store);
    REQUIRE(memory.show(Gpa{0x10000}, 0x2000, *store, 0x1000, GuestMemory::Kind::ram, "window"));
    std::vector<uint64_t> asked;
    memory.on_sync([&](Gpa base) {
        asked.push_back(base.value);
        memory.note_write(base, 1);
    });
    CHECK(memory.take_dirty(*store) == std::vector<bool>{false, true, false});
    CHECK(asked == std::vector<uint64_t>{0x10000});
    const auto generation = memory.write_generation(Gpa{0x11000});
    memory.note_store_write(*store, 0x2000, 1);
    CHECK(memory.write_generation(Gpa{0x11000}) == generation + 1);
    CHECK(memory.take_dirty(*store) == std::vector<bool>{false, true, true});
}

TEST_CASE("A change of several steps is heard once, when all of them are done") {
    GuestMemory memory;
    const auto store = memory.add_store(0x2000, "shadow");
    REQUIRE(store);
    REQUIRE(memory.add(Gpa{0}, 0x1000, GuestMemory::Kind::ram, "ram"));
    int heard = 0;
    memory.on_change([&] {
        ++heard;
        CHECK(memory.regions().size() == 2);
    });
    {
        const GuestMemory::Change change(memory);
        memory.remove(Gpa{0});
        REQUIRE(memory.show(Gpa{0x8000}, 0x1000, *store, 0, GuestMemory::Kind::ram, "a"));
        const GuestMemory::Change inner(memory);
        REQUIRE(memory.show(Gpa{0x9000}, 0x1000, *store, 0x1000, GuestMemory::Kind::rom, "b"));
    }
    CHECK(heard == 1);
}
