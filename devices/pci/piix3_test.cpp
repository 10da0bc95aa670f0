#include "devices/pci/piix3.hpp"

#include "devices/pci/pci_card_test.hpp"
#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"

using namespace viv;

namespace {

constexpr PciAddress bridge_at{0, 1, 0};

struct Piix3Board : PciBoard {
    Piix3Board() {
        auto& made = static_cast<Piix3&>(make_function(make_piix3, 1));
        windows.push_back({&made, 1});
        for (IrqPin& pin : isa.pins) pins.push_back(&pin);
    }
    void route(unsigned pirq, uint8_t value) { set_config(bridge_at, 0x60 + pirq, 1, value); }
    [[nodiscard]] std::vector<unsigned> raised() const {
        std::vector<unsigned> list;
        for (unsigned i = 0; i < 16; ++i) {
            if (isa.pins[i].level()) list.push_back(i);
        }
        return list;
    }
};
using Irqs = std::vector<unsigned>;
using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("The ISA bridge keeps the device contract") {
    check_device_contract([] { return std::make_unique<Piix3Board>(); });
}

TEST_CASE("Each PIRQ reaches the ISA wire that its register names") {
    Piix3Board board;
    CHECK(board.config(bridge_at, 0x60) == 0x80808080);
    IrqLine line(board.bus().pirq(1));
    line.set(true);
    CHECK(board.raised().empty());
    board.route(1, 0x0B);
    CHECK(board.raised() == Irqs{11});
    board.route(1, 0x05);
    CHECK(board.raised() == Irqs{5});
    line.set(false);
    CHECK(board.raised().empty());
    for (const uint8_t reserved : std::array<uint8_t, 5>{0, 1, 2, 8, 13}) {
        board.route(1, reserved);
        line.set(true);
        CHECK(board.raised().empty());
        line.set(false);
    }
}

TEST_CASE("PIRQs share a wire, also with ISA devices") {
    Piix3Board board;
    board.route(0, 10);
    board.route(3, 10);
    IrqLine a(board.bus().pirq(0)), d(board.bus().pirq(3)), isa(board.isa.pins[10]);
    a.set(true);
    d.set(true);
    a.set(false);
    CHECK(board.raised() == Irqs{10});
    isa.set(true);
    d.set(false);
    CHECK(board.raised() == Irqs{10});
    isa.set(false);
    CHECK(board.raised().empty());
}

TEST_CASE("The slot decides which PIRQ a function's pin reaches") {
    Piix3Board board;
    for (unsigned i = 0; i < 4; ++i) board.route(i, static_cast<uint8_t>(9 + i));
    auto& card = static_cast<TestCard&>(board.make_function(TestCard::make, 6));
    card.write({0, 4}, 1);
    CHECK(board.raised() == Irqs{10});  // device 6, INTA#: PIRQB#
    CHECK(PciBus::pirq_of({0, 1, 3}, 1) == 0);
    CHECK(PciBus::pirq_of({0, 2, 0}, 1) == 1);
    CHECK(PciBus::pirq_of({0, 1, 2}, 4) == 3);
}

TEST_CASE("Reset control register resets the board when bit 2 rises with bit 1 set") {
    Piix3Board board;
    board.out(0xCF9, 0x02);
    CHECK(board.system.log.empty());
    CHECK(board.in(0xCF9) == 0x02);
    board.out(0xCF9, 0x06);
    CHECK(board.system.log == Log{"reset by reset control register"});
    board.device->reset(ResetKind::hard);  // as the machine then does
    CHECK(board.in(0xCF9) == 0x00);
    board.out(0xCF9, 0x0E);  // a full reset, as newer chips call it
    CHECK(board.system.log.size() == 2);
}

TEST_CASE("Reset control register resets only the processor with bit 1 clear") {
    Piix3Board board;
    board.out(0xCF9, 0x04);
    CHECK(board.system.log == Log{"init by reset control register"});
    board.out(0xCF9, 0x04);
    CHECK(board.system.log.size() == 1);
    board.out(0xCF9, 0x00);
    board.out(0xCF9, 0xFC);
    CHECK(board.system.log.size() == 2);
    CHECK(board.in(0xCF9) == 0x04);
}
