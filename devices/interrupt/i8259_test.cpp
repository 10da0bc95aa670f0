#include "devices/interrupt/i8259.hpp"

#include <tuple>

#include "devices/interrupt/interrupt_controller.hpp"
#include "devices/test_board.hpp"

using namespace viv;

namespace {

constexpr uint16_t master = 0x20;
constexpr uint16_t slave = 0xA0;
constexpr uint8_t eoi = 0x20;

std::vector<DeviceRange> pic_ranges() {
    using enum DeviceRange::Space;
    return {{ports, 0x20, 2}, {ports, 0xA0, 2}, {ports, 0x4D0, 2}};
}

/// The pair with one line on each ISA wire.
struct Pic : TestBoard {
    Pic() {
        make(make_i8259, pic_ranges());
        pic = services.find<InterruptController>();
        pic->connect_intr(intr, 0);
        for (unsigned i = 0; i < 16; ++i) irq[i] = IrqLine(isa.pins[i]);
    }
    ~Pic() override {
        for (auto& line : irq) line.set(false);
    }

    /// What every PC BIOS does: vectors 08h and 70h, cascade on IR2, 8086 mode.
    void init(uint8_t icw4 = 0x01, uint8_t slave_icw4 = 0x01) {
        out(master, 0x11);
        out(slave, 0x11);
        out(master + 1, 0x08);
        out(slave + 1, 0x70);
        out(master + 1, 0x04);
        out(slave + 1, 0x02);
        out(master + 1, icw4);
        out(slave + 1, slave_icw4);
        out(master + 1, 0x00);
        out(slave + 1, 0x00);
    }
    void pulse(unsigned n) {
        irq[n].set(false);
        irq[n].set(true);
    }
    uint8_t read_irr(uint16_t chip) {
        out(chip, 0x0A);
        return in(chip);
    }
    uint8_t read_isr(uint16_t chip) {
        out(chip, 0x0B);
        return in(chip);
    }

    Wire& intr = new_wire();
    InterruptController* pic = nullptr;
    std::array<IrqLine, 16> irq;
};

}  // namespace

TEST_CASE("8259A keeps the device contract") {
    check_device_contract([] {
        auto rig = std::make_unique<Pic>();
        rig->init();
        rig->device->reset(ResetKind::power_on);
        return rig;
    });
}

TEST_CASE("8259A requests nothing before it is initialized") {
    Pic board;
    board.irq[1].set(true);
    CHECK_FALSE(board.intr.level);
    board.out(master, 0x11);
    CHECK_FALSE(board.intr.level);
    board.out(master + 1, 0x08);
    board.out(master + 1, 0x04);
    board.pulse(1);
    CHECK_FALSE(board.intr.level);
    board.out(master + 1, 0x01);
    CHECK(board.intr.level);
}

TEST_CASE("8259A delivers an edge with the vector of ICW2") {
    Pic board;
    board.init();
    board.irq[1].set(true);
    CHECK(board.intr.level);
    CHECK(board.pic->intr());
    CHECK(board.pic->acknowledge() == 0x09);
    CHECK_FALSE(board.intr.level);
    CHECK(board.read_isr(master) == 0x02);
    CHECK(board.read_irr(master) == 0x00);
    board.out(master, eoi);
    CHECK(board.read_isr(master) == 0x00);
    CHECK_FALSE(board.intr.level);  // the line is still high, but there was no new edge
    board.pulse(1);
    CHECK(board.intr.level);
}

TEST_CASE("8259A serves the slave through IR2") {
    Pic board;
    board.init();
    board.irq[14].set(true);
    CHECK(board.read_irr(master) == 0x04);
    CHECK(board.read_irr(slave) == 0x40);
    CHECK(board.pic->acknowledge() == 0x76);
    CHECK(board.read_isr(master) == 0x04);
    CHECK(board.read_isr(slave) == 0x40);
    board.out(slave, eoi);
    board.out(master, eoi);
    CHECK(board.read_isr(master) == 0x00);
    CHECK(board.read_isr(slave) == 0x00);
}

TEST_CASE("8259A takes the highest priority first and the rest after each EOI") {
    Pic board;
    board.init();
    board.irq[7].set(true);
    board.irq[3].set(true);
    board.irq[15].set(true);
    board.irq[8].set(true);
    board.irq[0].set(true);
    for (const unsigned expected : {0x08u, 0x70u, 0x77u, 0x0Bu, 0x0Fu}) {
        REQUIRE(board.intr.level);
        const unsigned vector = board.pic->acknowledge();
        CHECK(vector == expected);
        CHECK_FALSE(board.intr.level);
        if (vector >= 0x70) board.out(slave, eoi);
        board.out(master, eoi);
    }
    CHECK_FALSE(board.intr.level);
}

TEST_CASE("8259A nests: only a higher priority interrupts a handler") {
    Pic board;
    board.init();
    board.irq[3].set(true);
    CHECK(board.pic->acknowledge() == 0x0B);
    board.irq[4].set(true);
    CHECK_FALSE(board.intr.level);
    board.irq[1].set(true);
    CHECK(board.intr.level);
    CHECK(board.pic->acknowledge() == 0x09);
    CHECK(board.read_isr(master) == 0x0A);
    board.out(master, eoi);  // ends level 1, the highest
    CHECK(board.read_isr(master) == 0x08);
    CHECK_FALSE(board.intr.level);
    board.out(master, eoi);
    CHECK(board.pic->acknowledge() == 0x0C);
}

TEST_CASE("8259A loses an edge only when the earlier one is still pending") {
    Pic board;
    board.init();
    board.pulse(0);
    board.pulse(0);
    board.pulse(0);
    CHECK(board.pic->acknowledge() == 0x08);
    board.pulse(0);  // while in service: waits
    CHECK_FALSE(board.intr.level);
    board.out(master, eoi);
    CHECK(board.intr.level);
    CHECK(board.pic->acknowledge() == 0x08);
    board.out(master, eoi);
    CHECK_FALSE(board.intr.level);
}

TEST_CASE("8259A withdraws a request whose line falls, and answers a late INTA with level 7") {
    Pic board;
    board.init();
    board.irq[4].set(true);
    CHECK(board.intr.level);
    board.irq[4].set(false);
    CHECK_FALSE(board.intr.level);
    CHECK(board.read_irr(master) == 0x00);
    CHECK(board.pic->acknowledge() == 0x0F);
    CHECK(board.read_isr(master) == 0x00);  // how a handler tells a spurious IRQ 7 from a real one
}

TEST_CASE("8259A slave with nothing to say answers level 7 while the master has IR2 in service") {
    Pic board;
    board.init();
    board.irq[14].set(true);
    board.out(slave, 0x0C);  // poll: somebody takes the slave's request between INTR and INTA
    CHECK(board.in(slave) == 0x86);
    CHECK(board.pic->acknowledge() == 0x0F);  // IR2 fell with it: the master is the spurious one
    CHECK(board.read_isr(master) == 0x00);
    CHECK(board.read_isr(slave) == 0x40);
}

TEST_CASE("8259A masks with OCW1 and remembers the edge") {
    Pic board;
    board.init();
    board.out(master + 1, 0xFB);
    board.out(slave + 1, 0xFF);
    CHECK(board.in(master + 1) == 0xFB);
    board.irq[12].set(true);
    board.irq[5].set(true);
    CHECK_FALSE(board.intr.level);
    CHECK(board.read_irr(master) == 0x20);
    CHECK(board.read_irr(slave) == 0x10);
    board.out(slave + 1, 0xEF);
    CHECK(board.pic->acknowledge() == 0x74);
    board.out(slave, eoi);
    board.out(master, eoi);
    board.out(master + 1, 0xDB);
    CHECK(board.pic->acknowledge() == 0x0D);
}

TEST_CASE("8259A level-triggered inputs request as long as they are high") {
    Pic board;
    board.init();
    board.out(0x4D1, 0x08);
    CHECK(board.in(0x4D1) == 0x08);
    board.irq[11].set(true);
    CHECK(board.pic->acknowledge() == 0x73);
    CHECK(board.read_irr(slave) == 0x08);
    board.out(slave, eoi);
    board.out(master, eoi);
    CHECK(board.pic->acknowledge() == 0x73);  // not served: again
    board.irq[11].set(false);
    board.out(slave, eoi);
    board.out(master, eoi);
    CHECK_FALSE(board.intr.level);
}

TEST_CASE("8259A ELCR keeps the system's own interrupts edge-triggered and falls with a reset") {
    Pic board;
    board.out16(0x4D0, 0xFFFF);
    CHECK(board.in(0x4D0) == 0xF8);
    CHECK(board.in(0x4D1) == 0xDE);
    board.init();
    CHECK(board.in(0x4D0) == 0xF8);
    board.device->reset(ResetKind::hard);
    CHECK(board.in16(0x4D0) == 0x0000);
}

TEST_CASE("8259A specific EOI ends the level it names") {
    Pic board;
    board.init();
    board.irq[5].set(true);
    board.pic->acknowledge();
    board.irq[1].set(true);
    board.pic->acknowledge();
    board.out(master, 0x65);
    CHECK(board.read_isr(master) == 0x02);
    board.out(master, 0x61);
    CHECK(board.read_isr(master) == 0x00);
}

TEST_CASE("8259A rotates on a non-specific EOI") {
    Pic board;
    board.init();
    board.irq[3].set(true);
    board.pic->acknowledge();
    board.out(master, 0xA0);  // level 3 is now the lowest, 4 the highest
    board.pulse(3);
    board.irq[4].set(true);
    board.irq[0].set(true);
    CHECK(board.pic->acknowledge() == 0x0C);
    board.out(master, eoi);
    CHECK(board.pic->acknowledge() == 0x08);
    board.out(master, eoi);
    CHECK(board.pic->acknowledge() == 0x0B);
}

TEST_CASE("8259A rotates on a specific EOI and sets priority by command") {
    Pic board;
    board.init();
    board.irq[5].set(true);
    board.pic->acknowledge();
    board.out(master, 0xE5);
    CHECK(board.read_isr(master) == 0x00);
    board.pulse(5);
    board.irq[7].set(true);
    CHECK(board.pic->acknowledge() == 0x0F);  // 6 and 7 are now above 5
    board.out(master, eoi);
    CHECK(board.pic->acknowledge() == 0x0D);
    board.out(master, eoi);
    board.out(master, 0xC6);  // set priority: 6 the lowest, 7 the highest
    board.pulse(0);
    board.pulse(7);
    CHECK(board.pic->acknowledge() == 0x0F);
    board.out(master, 0x40);  // OCW2 no operation
    CHECK(board.read_isr(master) == 0x80);
}

TEST_CASE("8259A ends interrupts by itself in AEOI mode") {
    Pic board;
    board.init(0x03);
    board.irq[1].set(true);
    board.irq[3].set(true);
    CHECK(board.pic->acknowledge() == 0x09);
    CHECK(board.read_isr(master) == 0x00);
    CHECK(board.intr.level);
    CHECK(board.pic->acknowledge() == 0x0B);
    CHECK_FALSE(board.intr.level);
}

TEST_CASE("8259A rotates in AEOI mode between set and clear") {
    Pic board;
    board.init(0x03);
    board.out(master, 0x80);
    board.irq[1].set(true);
    CHECK(board.pic->acknowledge() == 0x09);
    board.pulse(1);
    board.irq[6].set(true);
    CHECK(board.pic->acknowledge() == 0x0E);  // 1 is the lowest now
    board.out(master, 0x00);
    CHECK(board.pic->acknowledge() == 0x09);
    board.pulse(6);
    board.pulse(7);
    CHECK(board.pic->acknowledge() == 0x0F);  // still rotated to 6
}

TEST_CASE("8259A slave in AEOI mode reports its next request to the master as a new edge") {
    Pic board;
    board.init(0x01, 0x03);
    board.irq[9].set(true);
    board.irq[10].set(true);
    CHECK(board.pic->acknowledge() == 0x71);
    CHECK_FALSE(board.intr.level);  // IR2 is in service
    board.out(master, eoi);
    CHECK(board.pic->acknowledge() == 0x72);
}

TEST_CASE("8259A special mask mode lets lower levels through a masked handler") {
    Pic board;
    board.init();
    board.irq[3].set(true);
    board.pic->acknowledge();
    board.irq[6].set(true);
    CHECK_FALSE(board.intr.level);
    board.out(master + 1, 0x08);
    board.out(master, 0x68);
    CHECK(board.intr.level);
    CHECK(board.pic->acknowledge() == 0x0E);
    board.out(master, eoi);  // passes over level 3, which is masked
    CHECK(board.read_isr(master) == 0x08);
    board.out(master, 0x48);
    board.out(master, eoi);
    CHECK(board.read_isr(master) == 0x00);
}

TEST_CASE("8259A special fully nested mode lets a slave interrupt itself") {
    Pic board;
    board.init(0x11);
    board.irq[12].set(true);
    CHECK(board.pic->acknowledge() == 0x74);
    board.irq[8].set(true);
    CHECK(board.intr.level);
    CHECK(board.pic->acknowledge() == 0x70);
    board.irq[3].set(true);
    CHECK_FALSE(board.intr.level);  // IR3 is below IR2

    Pic plain;
    plain.init();
    plain.irq[12].set(true);
    plain.pic->acknowledge();
    plain.irq[8].set(true);
    CHECK_FALSE(plain.intr.level);
}

TEST_CASE("8259A poll acknowledges on the next read of either port") {
    Pic board;
    board.init();
    board.irq[4].set(true);
    board.out(master, 0x0C);
    CHECK(board.in(master) == 0x84);
    CHECK(board.read_isr(master) == 0x10);
    CHECK_FALSE(board.intr.level);
    board.out(master, 0x0C);
    CHECK(board.in(master) == 0x00);
    board.out(master, eoi);
    board.irq[1].set(true);
    board.out(master, 0x0C);
    CHECK(board.in(master + 1) == 0x81);
    CHECK(board.in(master + 1) == 0x00);  // the mask again
    board.pulse(0);
    board.out(master, 0x0C);
    board.out(master, 0x0A);  // a new OCW3 replaces the poll
    CHECK(board.in(master) == 0x01);
}

TEST_CASE("8259A ICW1 clears masks, edges, service and modes") {
    Pic board;
    board.init();
    board.irq[1].set(true);
    board.pic->acknowledge();
    board.irq[6].set(true);
    board.out(master + 1, 0x02);
    board.out(master, 0x0B);
    board.out(master, 0x68);
    board.out(master, 0xC3);
    board.out(master, 0x11);
    CHECK(board.in(master + 1) == 0x00);
    CHECK(board.in(master) == 0x00);  // IRR is selected; IR6 needs a new edge
    board.out(master + 1, 0x20);
    board.out(master + 1, 0x04);
    board.out(master + 1, 0x01);
    CHECK(board.read_isr(master) == 0x00);
    CHECK_FALSE(board.intr.level);
    board.pulse(6);
    CHECK(board.pic->acknowledge() == 0x26);
    board.irq[4].set(true);
    CHECK(board.intr.level);  // priority is back to 0 first
}

TEST_CASE("8259A alone (SNGL) takes no ICW3, and without IC4 no ICW4") {
    Pic board;
    board.out(master, 0x13);
    board.out(master + 1, 0x40);
    board.out(master + 1, 0x01);
    board.out(master + 1, 0xFE);
    CHECK(board.in(master + 1) == 0xFE);
    board.irq[0].set(true);
    CHECK(board.pic->acknowledge() == 0x40);

    board.out(master, 0x16);  // MCS-80/85, interval 4: the low byte of a CALL
    board.out(master + 1, 0x12);
    board.out(master + 1, 0x00);
    board.pulse(5);
    CHECK(board.pic->acknowledge() == 0x14);
    board.out(master, 0xD2);  // interval 8
    board.out(master + 1, 0x12);
    board.out(master + 1, 0x00);
    board.pulse(5);
    CHECK(board.pic->acknowledge() == 0xE8);
}

TEST_CASE("8259A slave with a wrong identity leaves the bus floating") {
    Pic board;
    board.init();
    board.out(slave, 0x11);
    board.out(slave + 1, 0x70);
    board.out(slave + 1, 0x05);
    board.out(slave + 1, 0x01);
    board.irq[8].set(true);
    CHECK(board.intr.level);
    CHECK(board.pic->acknowledge() == 0xFF);
    CHECK(board.read_isr(slave) == 0x00);
}

TEST_CASE("A kernel finds the pair, initializes it and tells spurious interrupts from real ones") {
    Pic board;
    board.init();
    // Probe: the slave masked, the master's mask reads back.
    board.out(slave + 1, 0xFF);
    board.out(master + 1, 0xFB);
    REQUIRE(board.in(master + 1) == 0xFB);
    board.out(master + 1, 0xFF);
    for (const auto& [chip, vector, icw3] : {std::tuple{master, 0x30, 0x04}, {slave, 0x38, 0x02}}) {
        board.out(chip, 0x11);
        board.out(chip + 1, static_cast<uint8_t>(vector));
        board.out(chip + 1, static_cast<uint8_t>(icw3));
        board.out(chip + 1, 0x01);
    }
    board.out(master + 1, 0xFB);
    board.out(slave + 1, 0xFF);
    // Mask-and-acknowledge with specific EOIs, slave first.
    board.out(slave + 1, 0xBF);
    board.irq[14].set(true);
    CHECK(board.pic->acknowledge() == 0x3E);
    board.out(slave + 1, 0xFF);
    board.out(slave, 0x66);
    board.out(master, 0x62);
    CHECK(board.read_isr(master) == 0);
    CHECK(board.read_isr(slave) == 0);
    // A line that goes before the processor comes: vector of IRQ 7, and ISR says that it was not.
    board.out(master + 1, 0x7B);
    board.irq[7].set(true);
    board.irq[7].set(false);
    CHECK(board.pic->acknowledge() == 0x37);
    CHECK((board.read_isr(master) & 0x80) == 0);
    board.irq[7].set(true);
    CHECK(board.pic->acknowledge() == 0x37);
    CHECK((board.read_isr(master) & 0x80) == 0x80);
}

TEST_CASE("8259A two accesses in one reach both ports in order") {
    Pic board;
    board.out16(master, 0x0811);  // ICW1 and ICW2 by one OUT AX
    board.out(master + 1, 0x04);
    board.out(master + 1, 0x01);
    board.irq[2].set(true);  // nothing is wired to the ISA pin of the cascade
    CHECK_FALSE(board.intr.level);
    board.irq[0].set(true);
    CHECK(board.pic->acknowledge() == 0x08);
}

TEST_CASE("8259A a load brings requests and wires back without a new edge") {
    Pic board;
    board.init();
    board.irq[1].set(true);
    board.pic->acknowledge();
    board.out(master, eoi);
    board.irq[4].set(true);
    const TreeNode saved = board.device->save();

    Pic other;
    auto commit = other.device->prepare_load(saved);
    REQUIRE(commit.has_value());
    (*commit)();
    CHECK(other.intr.level);
    CHECK(other.intr.rises == 1);
    other.irq[1].set(true);  // devices bring their wires to the saved levels
    other.irq[4].set(true);
    CHECK(other.read_irr(master) == 0x10);
    CHECK(other.pic->acknowledge() == 0x0C);
}

TEST_CASE("8259A refuses a state that the chip cannot be in") {
    Pic board;
    for (const char* key : {"lowest_priority", "expect", "elcr", "edges"}) {
        TreeNode saved = board.device->save();
        TreeNode* chip = saved.child("chips")->child("0");
        REQUIRE(chip);
        REQUIRE(chip->has(key));
        chip->set(key, {std::byte{0xFF}});
        CHECK_FALSE(board.device->prepare_load(saved).has_value());
    }
}
