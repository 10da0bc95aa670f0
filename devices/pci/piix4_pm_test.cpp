#include "devices/pci/piix4_pm.hpp"

#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"

using namespace viv;

namespace {

constexpr uint16_t PMSTS = 0x600, PMEN = 0x602, PMCNTRL = 0x604, PMTMR = 0x608;
constexpr Duration half_period{ns_of_ticks(1 << 23, 3'579'545)};

constexpr uint16_t GPSTS = 0x60C, GPEN = 0x60E;
constexpr PciAddress pm_at{0, 1, 3};

struct Pm : PciBoard {
    Pm() { make_function(make_piix4_pm, 1, 3, {{DeviceRange::Space::ports, 0xB2, 2}}, {9}); }
    [[nodiscard]] Piix4Pm& pm() { return static_cast<Piix4Pm&>(*device); }
    uint32_t timer() { return static_cast<uint32_t>(ports.read(PMTMR, 4)); }
    [[nodiscard]] bool sci() const { return isa.pins[9].level(); }
};

/// Set up as a BIOS does it.
struct ReadyPm : Pm {
    ReadyPm() {
        set_config(pm_at, 0x40, 4, 0x601);
        set_config(pm_at, 0x80, 1, 1);
        set_config(pm_at, 0x90, 4, 0x701);
        set_config(pm_at, 0xD2, 1, 1);
        out16(PMCNTRL, 0x0001);
    }
};

/// For the contract tests, which reach the block and the SMBus whether they are decoded or not.
struct ContractPm : Pm {
    ContractPm() { windows.push_back({&pm(), Piix4Pm::block_size}); }
};

using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("ACPI PM keeps the device contract") {
    check_device_contract([] { return std::make_unique<ContractPm>(); });
}

TEST_CASE("PM timer counts at 3.579545 MHz in 24 bits") {
    ReadyPm board;
    CHECK(board.timer() == 0);
    board.clock.advance(std::chrono::seconds(1));
    CHECK(board.timer() == 3'579'545);
    board.ports.write(PMTMR, 4, 0);
    CHECK(board.timer() == 3'579'545);
    board.clock.advance(std::chrono::seconds(4));
    CHECK(board.timer() == 5 * 3'579'545 - (1 << 24));
    CHECK(board.ports.read(PMTMR + 1, 1) == ((5 * 3'579'545 - (1 << 24)) >> 8 & 0xFF));
}

TEST_CASE("PM timer status is set when bit 23 changes, and cleared by writing 1") {
    ReadyPm board;
    board.clock.advance(half_period - Duration(1));
    CHECK(board.in16(PMSTS) == 0);
    board.clock.advance(Duration(1));
    CHECK(board.in16(PMSTS) == 0x0001);
    board.out16(PMSTS, 0x0000);
    CHECK(board.in16(PMSTS) == 0x0001);
    board.out16(PMSTS, 0xFFFF);
    CHECK(board.in16(PMSTS) == 0);
    board.clock.advance(half_period);
    CHECK(board.in16(PMSTS) == 0x0001);
}

TEST_CASE("SCI follows an enabled timer status without anybody reading it") {
    ReadyPm board;
    board.out16(PMEN, 0x0001);
    CHECK_FALSE(board.sci());
    board.clock.advance(half_period);
    CHECK(board.sci());
    board.out16(PMSTS, 0x0001);
    CHECK_FALSE(board.sci());
    board.clock.advance(half_period);
    CHECK(board.sci());
    board.out16(PMEN, 0x0000);
    CHECK_FALSE(board.sci());
    CHECK(board.in16(PMSTS) == 0x0001);
}

TEST_CASE("SCI stays low while the board is not in ACPI mode") {
    ReadyPm board;
    CHECK(board.in16(PMCNTRL) == 0x0001);
    board.out16(PMCNTRL, 0x0000);
    board.out16(PMEN, 0x0001);
    board.clock.advance(half_period);
    CHECK_FALSE(board.sci());
    board.out16(PMCNTRL, 0x0001);
    CHECK(board.sci());
}

TEST_CASE("Enable and control keep the bits that exist") {
    ReadyPm board;
    board.out16(PMEN, 0xFFFF);
    CHECK(board.in16(PMEN) == 0x0521);
    board.out16(PMCNTRL, 0xDFFF);
    CHECK(board.in16(PMCNTRL) == 0x1C01);
    board.out(PMCNTRL + 1, 0x04);
    CHECK(board.in16(PMCNTRL) == 0x0401);
    CHECK(board.system.log.empty());
}

TEST_CASE("Sleep type 0 with SLP_EN powers off, other types do nothing") {
    ReadyPm board;
    board.out16(PMCNTRL, 0x2401);
    CHECK(board.system.log.empty());
    board.out16(PMCNTRL, 0x0001);
    CHECK(board.system.log.empty());
    board.out16(PMCNTRL, 0x2001);
    CHECK(board.system.log == Log{"off by ACPI S5"});
    CHECK(board.in16(PMCNTRL) == 0x0001);  // SLP_EN reads as 0
}

TEST_CASE("A state of the PM block with bits that do not exist is refused") {
    ReadyPm board;
    TreeNode saved = board.device->save();
    saved.set("pmen", {std::byte{0x80}, std::byte{0}});
    CHECK_FALSE(board.device->prepare_load(saved).has_value());
}

TEST_CASE("The block is where PMBASE says, once it is enabled") {
    Pm board;
    CHECK(board.config(pm_at, pci::VENDOR_ID) == 0x71138086);
    CHECK(board.config(pm_at, 0x40) == 1);
    board.set_config(pm_at, 0x40, 4, 0xFFFFFFFF);
    CHECK(board.config(pm_at, 0x40) == 0xFFC1);
    board.set_config(pm_at, 0x40, 4, 0xB000);
    CHECK(board.ports.read(0xB004, 2) == 0xFFFF);
    board.set_config(pm_at, 0x80, 1, 1);
    CHECK(board.ports.read(0xB004, 2) == 0);
    CHECK(board.ports.read(0xB034, 4) == 0x7FFFBFFF);
    board.set_config(pm_at, 0x40, 4, 0x600);
    CHECK(board.ports.read(0xB004, 2) == 0xFFFF);
    CHECK(board.ports.read(0x604, 2) == 0);
    CHECK(board.config(pm_at, pci::INTERRUPT_LINE, 1) == 9);
}

TEST_CASE("The power button is an event that the system takes notice of") {
    ReadyPm board;
    PowerButton* button = board.services.find<PowerButton>();
    REQUIRE(button);
    button->press();
    CHECK_FALSE(board.sci());
    CHECK(board.in16(PMSTS) == 0x0100);
    board.out16(PMEN, 0x0100);
    CHECK(board.sci());
    board.out16(PMSTS, 0x0100);
    CHECK_FALSE(board.sci());
    CHECK(board.system.log.empty());
    board.out16(PMCNTRL, 0);  // no ACPI: the firmware would switch off
    button->press();
    CHECK(board.system.log == Log{"off by power button"});
}

TEST_CASE("General purpose events can be enabled, and none happens") {
    ReadyPm board;
    board.out16(GPEN, 0xFFFF);
    CHECK(board.in16(GPEN) == 0x0F01);
    CHECK(board.in16(GPSTS) == 0);
    CHECK_FALSE(board.sci());
}

TEST_CASE("The SMI command port turns ACPI mode on and off, as the FADT would say") {
    ReadyPm board;
    board.out(0xB2, 0xF0);
    CHECK(board.in16(PMCNTRL) == 0);
    board.out(0xB2, 0xF1);
    CHECK(board.in16(PMCNTRL) == 1);
    CHECK(board.in(0xB2) == 0xF1);
    board.out(0xB3, 0x5A);
    CHECK(board.in(0xB3) == 0x5A);
    board.set_config(pm_at, 0x58, 4, 0);  // no SMI
    board.out(0xB2, 0xF0);
    CHECK(board.in16(PMCNTRL) == 1);
}

TEST_CASE("On the SMBus nobody answers") {
    ReadyPm board;
    board.out(0x704, 0xA1);
    board.out(0x702, 0x48);
    CHECK(board.in(0x700) == 0x04);
    CHECK(board.in(0x702) == 0x08);
    CHECK(board.in(0x704) == 0xA1);
    board.out(0x700, 0xFF);
    CHECK(board.in(0x700) == 0);
}
