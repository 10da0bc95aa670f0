#include "devices/pci/pci_function.hpp"

#include "devices/pci/pci_card_test.hpp"
#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"

using namespace viv;
using namespace viv::pci;

namespace {

constexpr PciAddress card_at{0, 3, 0};

struct Messages final : MsiSink {
    void send(uint64_t address, uint32_t data) override { log.emplace_back(address, data); }
    std::vector<std::pair<uint64_t, uint32_t>> log;
};
using Log = std::vector<std::pair<uint64_t, uint32_t>>;

struct CardBoard : PciBoard {
    CardBoard() : card(static_cast<TestCard&>(make_function(TestCard::make, 3))) { bus().connect(messages); }

    void set(unsigned offset, uint8_t size, uint32_t value) { set_config(card_at, offset, size, value); }
    uint32_t get(unsigned offset, uint8_t size = 4) { return config(card_at, offset, size); }
    void enable(uint16_t bits) { set(COMMAND, 2, bits); }
    uint8_t capability(uint8_t id) {
        for (auto at = static_cast<uint8_t>(get(CAPABILITIES, 1)); at; at = static_cast<uint8_t>(get(at + 1u, 1))) {
            if (get(at, 1) == id) return at;
        }
        FAIL("no such capability");
        return 0;
    }
    void card_write(uint32_t value) { card.write({0, 4}, value); }

    TestCard& card;
    Messages messages;
};

}  // namespace

TEST_CASE("A PCI function keeps the device contract") {
    check_device_contract([] { return std::make_unique<CardBoard>(); });
}

TEST_CASE("A driver finds identity, class and capabilities") {
    CardBoard board;
    CHECK(board.get(VENDOR_ID) == 0x56781234);
    CHECK(board.get(REVISION_ID) == 0x0880009A);
    CHECK(board.get(SUBSYSTEM_VENDOR_ID) == 0x11001AF4);
    CHECK(board.get(HEADER_TYPE, 1) == 0x00);
    CHECK(board.get(INTERRUPT_PIN, 1) == 1);
    CHECK((board.get(STATUS, 2) & CAPABILITIES_LIST) != 0);
    CHECK(board.capability(CAPABILITY_MSI) >= FIRST_DEVICE_REGISTER);
    CHECK(board.capability(CAPABILITY_MSI_X) >= FIRST_DEVICE_REGISTER);
    board.set(VENDOR_ID, 4, 0);
    board.set(CAPABILITIES, 1, 0xFF);
    CHECK(board.get(VENDOR_ID) == 0x56781234);
    board.set(INTERRUPT_LINE, 1, 11);
    CHECK(board.get(INTERRUPT_LINE, 1) == 11);
}

TEST_CASE("BARs are measured by writing ones") {
    CardBoard board;
    const auto measure = [&](unsigned offset) {
        board.set(offset, 4, 0xFFFFFFFF);
        return board.get(offset);
    };
    CHECK(measure(BAR0) == 0xFFFFFFF1);
    CHECK(measure(BAR0 + 4) == 0xFFFFF000);
    CHECK(measure(BAR0 + 8) == 0xFFFF000C);
    CHECK(measure(BAR0 + 12) == 0xFFFFFFFF);
    CHECK(measure(BAR0 + 16) == 0xFFFFF000);
    CHECK(measure(BAR0 + 20) == 0);
    CHECK(measure(ROM_BAR) == 0xFFFFE001);
    // Also while it decodes: nothing of it is in the way of the board meanwhile.
    board.enable(IO_SPACE | MEMORY_SPACE);
    CHECK(board.bus().windows().empty());
    CHECK(board.bus().counters().conflicts == 0);
}

TEST_CASE("Registers are where the BARs say, while they are enabled") {
    CardBoard board;
    board.set(BAR0, 4, 0xC000);
    board.set(BAR0 + 4, 4, 0xE0000000);
    CHECK(board.ports.read(0xC000, 4) == 0xFFFFFFFF);
    board.enable(IO_SPACE | MEMORY_SPACE);
    board.ports.write(0xC000, 4, 0x1200);
    CHECK(board.memory_bus.read(0xE0000000, 4) == 0x1200);
    board.set(BAR0 + 4, 4, 0xE8000000);
    CHECK(board.memory_bus.read(0xE0000000, 4) == 0xFFFFFFFF);
    CHECK(board.memory_bus.read(0xE8000000, 4) == 0x1200);
    board.enable(MEMORY_SPACE);
    CHECK(board.ports.read(0xC000, 4) == 0xFFFFFFFF);
    CHECK(board.memory_bus.read(0xE8000000, 4) == 0x1200);
}

TEST_CASE("Memory of a BAR moves with it and keeps its bytes") {
    CardBoard board;
    board.set(BAR0 + 8, 4, 0xE0000000);
    board.enable(MEMORY_SPACE);
    CHECK(board.memory.store(Gpa{0xE0001234}, uint32_t{0xCAFE}));
    board.set(BAR0 + 12, 4, 0x1);
    CHECK(board.memory.load<uint32_t>(Gpa{0xE0001234}) == 0xFFFFFFFF);
    CHECK(board.memory.load<uint32_t>(Gpa{0x1E0001234}) == 0xCAFE);
    CHECK(board.card.pci().bar(2) == 0x1E0000000);
    CHECK(board.memory.bytes(board.card.memory())[0x1234] == std::byte{0xFE});
    board.enable(0);
    CHECK(board.memory.load<uint32_t>(Gpa{0x1E0001234}) == 0xFFFFFFFF);
}

TEST_CASE("The expansion ROM is seen with both enables, and cannot be written") {
    CardBoard board;
    board.set(ROM_BAR, 4, 0xF0000000);
    board.enable(MEMORY_SPACE);
    CHECK_FALSE(board.memory.find(Gpa{0xF0000000}));
    board.set(ROM_BAR, 4, 0xF0000001);
    REQUIRE(board.memory.find(Gpa{0xF0000000}));
    CHECK(board.memory.find(Gpa{0xF0000000})->kind == GuestMemory::Kind::rom);
    board.enable(0);
    CHECK_FALSE(board.memory.find(Gpa{0xF0000000}));
}

TEST_CASE("Of windows that overlap one is decoded, whatever came first") {
    CardBoard board;
    REQUIRE(board.memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM"));
    board.enable(IO_SPACE | MEMORY_SPACE);
    SECTION("two BARs of one function: the lower") {
        board.set(BAR0 + 8, 4, 0xE0000000);
        board.set(BAR0 + 4, 4, 0xE0008000);
        CHECK(board.memory_bus.read(0xE0008000, 4) == 0);
        CHECK_FALSE(board.memory.find(Gpa{0xE0000000}));
        CHECK(board.bus().counters().conflicts > 0);
        board.set(BAR0 + 4, 4, 0xE1000000);
        CHECK(board.memory.find(Gpa{0xE0000000}));
    }
    SECTION("RAM: it stays") {
        board.memory.store(Gpa{0x20000}, uint8_t{0x77});
        board.set(BAR0 + 8, 4, 0x20000);
        CHECK(board.memory.load<uint8_t>(Gpa{0x20000}) == 0x77);
    }
    SECTION("ports of the board: they stay") {
        board.enable(IO_SPACE);
        board.set(BAR0, 4, 0xCF0);
        CHECK(board.get(BAR0) == 0xCF1);
        CHECK(board.bus().windows().empty());
    }
    SECTION("the chipset's addresses and those that no CPU has: nothing is decoded") {
        for (const uint32_t base : {0xFEE00000u, 0xFEC00000u, 0xFFFF0000u, 0xFEBF8000u}) {
            board.set(BAR0 + 8, 4, base);
            if (base != 0xFEBF8000) CHECK_FALSE(board.memory.find(Gpa{base}));
        }
        board.set(BAR0 + 12, 4, 0xFFFFFFFF);
        CHECK(board.memory.regions().size() == 1);
    }
    SECTION("an equal card: that with the lower number") {
        board.make_function(TestCard::make, 2);
        board.set(BAR0 + 8, 4, 0xE0000000);
        board.memory.store(Gpa{0xE0000000}, uint8_t{1});
        board.set_config({0, 2, 0}, BAR0 + 8, 4, 0xE0000000);
        board.set_config({0, 2, 0}, COMMAND, 2, MEMORY_SPACE);
        CHECK(board.memory.load<uint8_t>(Gpa{0xE0000000}) == 0);
    }
}

TEST_CASE("INTx is a level that the guest can switch off") {
    CardBoard board;
    // Device 3, INTA#: PIRQC#.
    IrqPin& wire = board.bus().pirq(2);
    board.card_write(1);
    CHECK(wire.level());
    CHECK((board.get(STATUS, 2) & INTERRUPT_STATUS) != 0);
    board.enable(INTERRUPT_DISABLE);
    CHECK_FALSE(wire.level());
    CHECK((board.get(STATUS, 2) & INTERRUPT_STATUS) != 0);
    board.enable(0);
    CHECK(wire.level());
    board.card_write(0);
    CHECK_FALSE(wire.level());
    CHECK((board.get(STATUS, 2) & INTERRUPT_STATUS) == 0);
}

TEST_CASE("With MSI, a rise of the interrupt is a message, and so are the others of its vectors") {
    CardBoard board;
    const uint8_t msi = board.capability(CAPABILITY_MSI);
    CHECK((board.get(msi + 2u, 2) & 0x018E) == 0x0184);  // four vectors, 64-bit, masks
    board.set(msi + 4u, 4, 0xFEE01000);
    board.set(msi + 12u, 2, 0x4043);
    board.set(msi + 2u, 2, 0x0001);
    board.card_write(1);
    CHECK(board.messages.log.empty());  // not a bus master
    board.card_write(0);
    board.enable(BUS_MASTER);
    board.card_write(1);
    board.card_write(1);
    CHECK(board.messages.log == Log{{0xFEE01000, 0x4043}});
    CHECK_FALSE(board.bus().pirq(2).level());
    board.set(msi + 2u, 2, 0x0021);
    board.card_write(0x0202);
    CHECK(board.messages.log.back() == Log::value_type{0xFEE01000, 0x4042});
    board.set(msi + 16u, 4, 0x4);  // mask vector 2
    board.card_write(0x0202);
    CHECK(board.messages.log.size() == 2);
    CHECK(board.get(msi + 20u) == 0x4);
    board.set(msi + 16u, 4, 0);
    CHECK(board.messages.log.size() == 3);
    CHECK(board.get(msi + 20u) == 0);
}

TEST_CASE("With MSI-X, masked vectors are pending until they are unmasked") {
    CardBoard board;
    const uint8_t msix = board.capability(CAPABILITY_MSI_X);
    CHECK(board.get(msix + 2u, 2) == 4);
    CHECK(board.get(msix + 4u) == 4);
    CHECK(board.get(msix + 8u) == (0x800 | 4));
    board.set(BAR0 + 16, 4, 0xE0000000);
    board.enable(MEMORY_SPACE | BUS_MASTER);
    Bus& bus = board.memory_bus;
    CHECK(bus.read(0xE000004C, 4) == 1);
    bus.write(0xE0000040, 8, 0xFEE0'3000);
    bus.write(0xE0000048, 4, 0x51);
    board.set(msix + 2u, 2, 0x8000);
    board.card_write(0x0402);
    CHECK(board.messages.log.empty());
    CHECK(bus.read(0xE0000800, 8) == 0x10);
    bus.write(0xE000004C, 4, 0);
    CHECK(board.messages.log == Log{{0xFEE03000, 0x51}});
    CHECK(bus.read(0xE0000800, 8) == 0);
    board.set(msix + 2u, 2, 0xC000);
    board.card_write(0x0402);
    CHECK(board.messages.log.size() == 1);
    board.set(msix + 2u, 2, 0x8000);
    CHECK(board.messages.log.size() == 2);
    board.card_write(0x0902);  // a vector that is not there
    CHECK(board.messages.log.size() == 2);
    CHECK(board.card.pci().vectors() == 5);
}

TEST_CASE("Memory is there for a bus master only") {
    CardBoard board;
    CHECK(board.card.pci().dma() == nullptr);
    board.enable(BUS_MASTER);
    CHECK(board.card.pci().dma() == &board.memory);
}

TEST_CASE("A load sends no message and puts BARs and wire back") {
    CardBoard board;
    board.set(BAR0, 4, 0xC000);
    board.enable(IO_SPACE | BUS_MASTER);
    board.card_write(1);
    const TreeNode saved = board.card.save();
    board.card.reset(ResetKind::hard);
    CHECK(board.ports.read(0xC000, 4) == 0xFFFFFFFF);
    CHECK_FALSE(board.bus().pirq(2).level());
    auto commit = board.card.prepare_load(saved);
    REQUIRE(commit);
    (*commit)();
    CHECK(board.ports.read(0xC000, 4) == 1);
    CHECK(board.bus().pirq(2).level());
    CHECK(board.messages.log.empty());
}

TEST_CASE("A state of another device is refused") {
    CardBoard board;
    TreeNode saved = board.card.save();
    auto* pci = saved.child("pci");
    REQUIRE(pci);
    auto config = *pci->property("config");
    config[0] = std::byte{0x99};
    pci->set("config", config);
    CHECK_FALSE(board.card.prepare_load(saved));
}

TEST_CASE("Two functions of one device say so in both headers") {
    CardBoard board;
    board.make_function(TestCard::make, 3, 5);
    CHECK(board.get(HEADER_TYPE, 1) == MULTI_FUNCTION);
    CHECK(board.config({0, 3, 5}, HEADER_TYPE, 1) == MULTI_FUNCTION);
    board.card.reset(ResetKind::hard);
    CHECK(board.get(HEADER_TYPE, 1) == MULTI_FUNCTION);
    board.node.set_cells("reg", std::vector<uint32_t>{3, 5});
    CHECK_FALSE(board.try_make(TestCard::make, {}));
    board.node.set_cells("reg", std::vector<uint32_t>{32, 0});
    CHECK_FALSE(board.try_make(TestCard::make, {}));
}
