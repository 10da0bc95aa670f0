#include "devices/interrupt/ioapic.hpp"

#include "devices/interrupt/i8259.hpp"
#include "devices/interrupt/interrupt_controller.hpp"
#include "devices/test_board.hpp"

using namespace viv;

namespace {

constexpr uint64_t base = 0xFEC0'0000;

struct Ioapic : TestBoard {
    struct Sink final : MsiSink {
        void send(uint64_t address, uint32_t data) override { sent.push_back({address, data}); }
        std::vector<std::pair<uint64_t, uint32_t>> sent;
    };

    Ioapic() {
        make(make_ioapic, {{DeviceRange::Space::memory, base, 0x1000}});
        control = services.find<IoApicControl>();
        control->connect(sink);
        for (unsigned i = 0; i < 16; ++i) irq[i] = IrqLine(isa.pins[i]);
    }
    ~Ioapic() override {
        for (auto& line : irq) line.set(false);
    }
    uint32_t get(uint8_t index) {
        memory_bus.write(base, 4, index);
        return static_cast<uint32_t>(memory_bus.read(base + 0x10, 4));
    }
    void set(uint8_t index, uint32_t value) {
        memory_bus.write(base, 4, index);
        memory_bus.write(base + 0x10, 4, value);
    }
    void route(unsigned pin, uint32_t low, uint32_t high = 0) {
        set(static_cast<uint8_t>(0x11 + pin * 2), high);
        set(static_cast<uint8_t>(0x10 + pin * 2), low);
    }
    uint32_t entry(unsigned pin) { return get(static_cast<uint8_t>(0x10 + pin * 2)); }
    void eoi(uint8_t vector) { memory_bus.write(base + 0x40, 4, vector); }
    size_t sent() const { return sink.sent.size(); }

    Sink sink;
    IoApicControl* control = nullptr;
    std::array<IrqLine, 16> irq;
};

constexpr uint32_t masked = 1u << 16;
constexpr uint32_t level = 1u << 15;
constexpr uint32_t remote_irr = 1u << 14;

}  // namespace

TEST_CASE("IOAPIC keeps the device contract") {
    check_device_contract([] { return std::make_unique<Ioapic>(); });
}

TEST_CASE("IOAPIC identifies itself and starts with all pins masked") {
    Ioapic board;
    CHECK(board.get(0) == 0);
    CHECK(board.get(1) == 0x00170020);
    for (unsigned pin = 0; pin < 24; ++pin) CHECK(board.entry(pin) == masked);
    board.set(0, 0xFFFFFFFF);
    CHECK(board.get(0) == 0x0F000000);
    CHECK(board.get(2) == 0x0F000000);
    board.set(1, 0);
    CHECK(board.get(1) == 0x00170020);
    CHECK(board.get(3) == 0xFFFFFFFF);
    CHECK(board.get(0x40) == 0xFFFFFFFF);
}

TEST_CASE("IOAPIC sends the message of an edge once") {
    Ioapic board;
    board.route(4, 0x00000034, 0x03000000);
    board.irq[4].set(true);
    REQUIRE(board.sent() == 1);
    CHECK(board.sink.sent[0] == std::pair{uint64_t{0xFEE03000}, 0x34u});
    CHECK(board.entry(4) == 0x34);
    board.eoi(0x34);
    CHECK(board.sent() == 1);
    board.irq[4].set(false);
    board.irq[4].set(true);
    CHECK(board.sent() == 2);
}

TEST_CASE("IOAPIC ignores an edge while masked") {
    Ioapic board;
    board.route(4, masked | 0x34);
    board.irq[4].set(true);
    board.route(4, 0x34);
    CHECK(board.sent() == 0);
}

TEST_CASE("IOAPIC has ISA IRQ 0 on pin 2 and the cascade nowhere") {
    Ioapic board;
    for (unsigned pin = 0; pin < 24; ++pin) board.route(pin, 0x20 + pin);
    for (unsigned i = 0; i < 16; ++i) {
        if (i != 2) board.irq[i].set(true);
    }
    REQUIRE(board.sent() == 15);
    CHECK(board.sink.sent[0].second == 0x22);
    for (unsigned i = 1; i < 15; ++i) CHECK(board.sink.sent[i].second == 0x20 + (i == 1 ? 1 : i + 1));
    board.irq[2].set(true);
    CHECK(board.sent() == 15);
}

TEST_CASE("IOAPIC level-triggered pin fires again only after the EOI of its vector") {
    Ioapic board;
    board.route(11, level | 0x800 | 0x51, 0xFF000000);
    board.irq[11].set(true);
    REQUIRE(board.sent() == 1);
    CHECK(board.sink.sent[0] == std::pair{uint64_t{0xFEEFF004}, 0xC051u});
    CHECK((board.entry(11) & remote_irr));
    board.irq[11].set(false);
    board.irq[11].set(true);
    CHECK(board.sent() == 1);
    board.control->end_of_interrupt(0x50);
    CHECK(board.sent() == 1);
    board.control->end_of_interrupt(0x51);  // the local APIC's broadcast
    CHECK(board.sent() == 2);
    board.irq[11].set(false);
    board.eoi(0x51);  // the directed one
    CHECK(board.sent() == 2);
    CHECK_FALSE((board.entry(11) & remote_irr));
}

TEST_CASE("IOAPIC level-triggered pin that is asserted fires when unmasked") {
    Ioapic board;
    board.route(10, masked | level | 0x61);
    board.irq[10].set(true);
    CHECK(board.sent() == 0);
    board.route(10, level | 0x61);
    CHECK(board.sent() == 1);
    board.route(10, masked | level | 0x61);
    board.control->end_of_interrupt(0x61);
    CHECK(board.sent() == 1);
    board.route(10, level | 0x61);
    CHECK(board.sent() == 2);
}

TEST_CASE("IOAPIC drops remote IRR when a pin becomes edge-triggered") {
    Ioapic board;
    board.route(10, level | 0x61);
    board.irq[10].set(true);
    CHECK((board.entry(10) & remote_irr));
    board.route(10, masked | 0x61);
    CHECK_FALSE((board.entry(10) & remote_irr));
    board.route(10, level | 0x61);
    CHECK(board.sent() == 2);
}

TEST_CASE("IOAPIC read-only and reserved bits of an entry stay") {
    Ioapic board;
    board.route(20, 0xFFFFFFFF, 0xFFFFFFFF);
    CHECK(board.entry(20) == 0x1AFFF);
    CHECK(board.get(0x11 + 40) == 0xFF000000);
}

TEST_CASE("IOAPIC passes delivery modes on, and treats NMI, INIT, SMI and ExtINT as edges") {
    Ioapic board;
    const auto fire = [&](uint32_t low) {
        board.route(5, low);
        board.irq[5].set(true);
        board.irq[5].set(false);
        return board.sink.sent.back();
    };
    CHECK(fire(0x0134) == std::pair{uint64_t{0xFEE00008}, 0x0134u});  // lowest priority: with the redirection hint
    CHECK(fire(0x0200) == std::pair{uint64_t{0xFEE00000}, 0x0200u});
    CHECK(fire(0x8400) == std::pair{uint64_t{0xFEE00000}, 0x0400u});
    CHECK((board.entry(5) & remote_irr) == 0);
    CHECK(fire(0x8500) == std::pair{uint64_t{0xFEE00000}, 0x0500u});
    CHECK(fire(0x0700) == std::pair{uint64_t{0xFEE00000}, 0x0700u});
    CHECK(board.sent() == 5);
}

TEST_CASE("IOAPIC pin 0 carries INTR of the 8259A pair as ExtINT") {
    Ioapic board;
    constexpr auto io = DeviceRange::Space::ports;
    board.make(make_i8259, {{io, 0x20, 2}, {io, 0xA0, 2}, {io, 0x4D0, 2}});
    for (const auto& [port, value] : {std::pair{0x20, 0x11}, {0x21, 8}, {0x21, 4}, {0x21, 1}, {0x21, 0}}) {
        board.out(static_cast<uint16_t>(port), static_cast<uint8_t>(value));
    }
    board.route(0, 0x0700);
    board.irq[3].set(true);
    REQUIRE(board.sent() == 1);
    CHECK(board.sink.sent[0] == std::pair{uint64_t{0xFEE00000}, 0x0700u});
    CHECK(board.services.find<InterruptController>()->acknowledge() == 0x0B);
}

TEST_CASE("IOAPIC takes wires that are not of the ISA bus") {
    Ioapic board;
    IrqPin pci;
    pci.connect(board.control->inputs(), 16);
    IrqLine line(pci);
    board.route(16, level | 0x71);
    line.set(true);
    CHECK(board.sent() == 1);
    line.set(false);
}

TEST_CASE("IOAPIC reports routes and each change of them") {
    Ioapic board;
    unsigned changes = 0;
    board.control->on_route_change([&] { ++changes; });
    board.route(9, level | 0x0900 | 0x41, 0x02000000);
    CHECK(changes == 2);
    CHECK(board.control->routes()[9] == IoApicControl::Route{0xFEE0200C, 0xC141, true, false});
    CHECK(board.control->routes()[8] == IoApicControl::Route{0xFEE00000, 0, false, true});
    board.route(9, level | 0x0900 | 0x41, 0x02000000);
    CHECK(changes == 2);
    board.device->reset(ResetKind::hard);
    CHECK(changes == 3);
}

TEST_CASE("IOAPIC reads any width of its registers and writes whole ones only") {
    Ioapic board;
    board.memory_bus.write(base, 1, 0x01);
    CHECK(board.memory_bus.read(base + 0x12, 1) == 0x17);
    CHECK(board.memory_bus.read(base + 0x10, 2) == 0x0020);
    CHECK(board.memory_bus.read(base + 0x10, 8) == 0xFFFFFFFF'00170020);
    CHECK(board.memory_bus.read(base, 4) == 0x01);
    CHECK(board.memory_bus.read(base + 0x800, 4) == 0xFFFFFFFF);
    board.memory_bus.write(base, 4, 0x10);
    board.memory_bus.write(base + 0x10, 1, 0x55);
    board.memory_bus.write(base + 0x11, 4, 0x55);
    CHECK(board.entry(0) == masked);
}

TEST_CASE("IOAPIC a load sends no message and keeps remote IRR") {
    Ioapic board;
    board.route(11, level | 0x51);
    board.irq[11].set(true);
    const TreeNode saved = board.device->save();
    Ioapic other;
    auto commit = other.device->prepare_load(saved);
    REQUIRE(commit.has_value());
    (*commit)();
    other.irq[11].set(true);  // the device brings its wire to the saved level
    CHECK(other.sent() == 0);
    other.eoi(0x51);
    CHECK(other.sent() == 1);
}

TEST_CASE("IOAPIC refuses a state that the chip cannot be in") {
    Ioapic board;
    TreeNode saved = board.device->save();
    saved.set_u32("lines", 1u << 24);
    CHECK_FALSE(board.device->prepare_load(saved).has_value());
    saved = board.device->save();
    saved.child("entries")->child("3")->set_u32("low", remote_irr);
    CHECK_FALSE(board.device->prepare_load(saved).has_value());
}
