#include "devices/pci/i440fx.hpp"

#include "devices/pci/pci_card_test.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/pci/shadow_memory.hpp"

using namespace viv;

namespace {

constexpr PciAddress bridge_at{0, 0, 0};

/// The bridge is the device under test here; a ROM lies at F0000h, another at C0000h.
struct BridgeBoard : TestBoard {
    BridgeBoard() {
        node.set_cells("reg", std::vector<uint32_t>{0, 0});
        const auto add_rom = [this](uint64_t base, uint64_t size, uint8_t fill) {
            const auto store = memory.add_store(size, "ROM");
            REQUIRE(store);
            std::ranges::fill(memory.bytes(*store), std::byte{fill});
            REQUIRE(memory.show(Gpa{base}, size, *store, 0, GuestMemory::Kind::rom, "ROM"));
        };
        add_rom(0xF0000, 0x10000, 0xF0);
        add_rom(0xC0000, 0x8000, 0xC0);
        make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    }
    void set(unsigned offset, uint8_t value) {
        ports.write(0xCF8, 4, 0x80000000u | (offset & 0xFC));
        ports.write(0xCFC + (offset & 3), 1, value);
    }
    uint8_t get(unsigned offset) {
        ports.write(0xCF8, 4, 0x80000000u | (offset & 0xFC));
        return static_cast<uint8_t>(ports.read(0xCFC + (offset & 3), 1));
    }
    /// As an engine does it: memory first, then the bus.
    uint8_t load(uint64_t address) {
        uint8_t value = 0;
        if (memory.read(Gpa{address}, std::as_writable_bytes(std::span(&value, 1)))) return value;
        return static_cast<uint8_t>(memory_bus.read(address, 1));
    }
    void store(uint64_t address, uint8_t value) {
        if (!memory.store(Gpa{address}, value)) memory_bus.write(address, 1, value);
    }
};

}  // namespace

TEST_CASE("The host bridge keeps the device contract") {
    check_device_contract([] { return std::make_unique<BridgeBoard>(); });
}

TEST_CASE("Configuration mechanism 1 takes 32-bit writes to CF8h and any width at CFCh") {
    BridgeBoard board;
    board.ports.write(0xCF8, 4, 0xFFFFFFFF);
    CHECK(board.ports.read(0xCF8, 4) == 0x80FFFFFC);
    board.ports.write(0xCF8, 4, 0x80000000);
    CHECK(board.ports.read(0xCFC, 4) == 0x12378086);
    CHECK(board.ports.read(0xCFC, 2) == 0x8086);
    CHECK(board.ports.read(0xCFE, 2) == 0x1237);
    CHECK(board.ports.read(0xCFD, 1) == 0x80);
    board.ports.write(0xCF8, 2, 0x1234);  // not for the bridge
    board.ports.write(0xCF8, 1, 0x34);
    CHECK(board.ports.read(0xCF8, 4) == 0x80000000);
    CHECK(board.ports.read(0xCF8, 1) == 0xFF);
    board.ports.write(0xCF8, 4, 0x00000000);  // disabled
    CHECK(board.ports.read(0xCFC, 4) == 0xFFFFFFFF);
    board.ports.write(0xCF8, 4, 0x80000800);  // nobody at device 1
    CHECK(board.ports.read(0xCFC, 4) == 0xFFFFFFFF);
    board.ports.write(0xCF8, 4, 0x80010000);  // nor on bus 1
    CHECK(board.ports.read(0xCFC, 2) == 0xFFFF);
    board.ports.write(0xCFC, 4, 0);
    CHECK(board.services.find<PciBus>()->counters().master_aborts == 3);
}

TEST_CASE("PAM chooses ROM or RAM for reads and for writes") {
    BridgeBoard board;
    CHECK(board.load(0xF1234) == 0xF0);
    board.store(0xF1234, 0x11);
    CHECK(board.load(0xF1234) == 0xF0);

    board.set(0x59, 0x20);  // writes to RAM, reads of ROM: firmware copies itself
    CHECK(board.load(0xF1234) == 0xF0);
    board.store(0xF1234, 0x22);
    CHECK(board.load(0xF1234) == 0xF0);

    board.set(0x59, 0x30);
    CHECK(board.load(0xF1234) == 0x22);
    board.store(0xF1234, 0x33);
    CHECK(board.load(0xF1234) == 0x33);

    board.set(0x59, 0x10);
    board.store(0xF1234, 0x44);
    CHECK(board.load(0xF1234) == 0x33);

    board.set(0x59, 0x00);
    CHECK(board.load(0xF1234) == 0xF0);
    board.device->reset(ResetKind::hard);
    board.set(0x59, 0x30);
    CHECK(board.load(0xF1234) == 0x33);  // DRAM survives a reset
}

TEST_CASE("Each PAM register is for its two segments of 16 KiB") {
    BridgeBoard board;
    for (unsigned i = 0; i < 12; ++i) {
        const uint64_t segment = 0xC0000 + 0x4000 * i;
        const uint8_t before = board.load(segment);
        board.set(0x5A + i / 2, static_cast<uint8_t>(i % 2 ? 0x30 : 0x03));
        board.store(segment, static_cast<uint8_t>(i + 1));
        board.store(segment + 0x3FFF, static_cast<uint8_t>(i + 1));
        CHECK(board.load(segment) == i + 1);
        CHECK(board.load(segment + 0x3FFF) == i + 1);
        CHECK((i == 0 || board.load(segment - 1) != i + 1));
        CHECK(board.load(segment + 0x4000) != i + 1);
        board.set(0x5A + i / 2, 0);
        CHECK(board.load(segment) == before);
    }
    CHECK(board.load(0xC7FFF) == 0xC0);
    CHECK(board.load(0xC8000) == 0xFF);
    CHECK(board.get(0x59) == 0);
    board.set(0x5F, 0xFF);
    CHECK(board.get(0x5F) == 0x77);
}

TEST_CASE("Neighbouring segments of one kind are one region for the engines") {
    BridgeBoard board;
    for (unsigned at = 0x5A; at <= 0x5F; ++at) board.set(at, 0x33);
    CHECK(board.memory.regions().size() == 2);
    board.set(0x59, 0x30);
    CHECK(board.memory.regions().size() == 1);
}

TEST_CASE("SMRAM opens RAM in place of the VGA until it is locked") {
    BridgeBoard board;
    CHECK(board.get(0x72) == 0x02);
    board.set(0x72, 0x4A);
    REQUIRE(board.memory.find(Gpa{0xA0000}));
    board.store(0xA8000, 0x5A);
    board.set(0x72, 0x2A);
    CHECK_FALSE(board.memory.find(Gpa{0xA0000}));
    board.set(0x72, 0x4A);
    CHECK(board.load(0xA8000) == 0x5A);
    board.set(0x72, 0x5A);
    CHECK(board.get(0x72) == 0x1A);
    CHECK_FALSE(board.memory.find(Gpa{0xA0000}));
    board.set(0x72, 0x4A);
    CHECK(board.get(0x72) == 0x1A);
    board.device->reset(ResetKind::hard);
    board.set(0x72, 0x4A);
    CHECK(board.get(0x72) == 0x4A);
}

TEST_CASE("What is in the ROM area must be able to move") {
    TestBoard board;
    board.node.set_cells("reg", std::vector<uint32_t>{0, 0});
    REQUIRE(board.memory.add(Gpa{0xC0000}, 0x1000, GuestMemory::Kind::ram, "somebody's RAM"));
    const auto made = board.try_make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    REQUIRE_FALSE(made);
    CHECK(made.error().message.find("somebody's RAM") != std::string::npos);
}

TEST_CASE("The ROM area as a bus device drops what no RAM takes") {
    GuestMemory memory;
    auto shadow = ShadowMemory::make(memory);
    REQUIRE(shadow);
    (*shadow)->write({0x3FFF8, 8}, ~uint64_t{0});
    CHECK((*shadow)->read({0, 4}) == ~uint64_t{0});
    CHECK(memory.regions().empty());
}
