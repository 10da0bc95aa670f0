#include "devices/system/acpi_pm.hpp"

#include "devices/test_board.hpp"

using namespace viv;

namespace {

constexpr uint16_t PMSTS = 0x600, PMEN = 0x602, PMCNTRL = 0x604, PMTMR = 0x608;
constexpr Duration half_period{ns_of_ticks(1 << 23, 3'579'545)};

struct Pm : TestBoard {
    Pm() { make(make_acpi_pm, {{DeviceRange::Space::ports, 0x600, 12}}, {9}); }
    uint32_t timer() { return static_cast<uint32_t>(ports.read(PMTMR, 4)); }
    [[nodiscard]] bool sci() const { return isa.pins[9].level(); }
};

using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("ACPI PM keeps the device contract") {
    check_device_contract([] { return std::make_unique<Pm>(); });
}

TEST_CASE("PM timer counts at 3.579545 MHz in 24 bits") {
    Pm board;
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
    Pm board;
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
    Pm board;
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
    Pm board;
    CHECK(board.in16(PMCNTRL) == 0x0001);
    board.out16(PMCNTRL, 0x0000);
    board.out16(PMEN, 0x0001);
    board.clock.advance(half_period);
    CHECK_FALSE(board.sci());
    board.out16(PMCNTRL, 0x0001);
    CHECK(board.sci());
}

TEST_CASE("Enable and control keep the bits that exist") {
    Pm board;
    board.out16(PMEN, 0xFFFF);
    CHECK(board.in16(PMEN) == 0x0521);
    board.out16(PMCNTRL, 0xDFFF);
    CHECK(board.in16(PMCNTRL) == 0x1C01);
    board.out(PMCNTRL + 1, 0x04);
    CHECK(board.in16(PMCNTRL) == 0x0401);
    CHECK(board.system.log.empty());
}

TEST_CASE("Sleep type 0 with SLP_EN powers off, other types do nothing") {
    Pm board;
    board.out16(PMCNTRL, 0x2401);
    CHECK(board.system.log.empty());
    board.out16(PMCNTRL, 0x0001);
    CHECK(board.system.log.empty());
    board.out16(PMCNTRL, 0x2001);
    CHECK(board.system.log == Log{"off by ACPI S5"});
    CHECK(board.in16(PMCNTRL) == 0x0001);  // SLP_EN reads as 0
}

TEST_CASE("A state of the PM block with bits that do not exist is refused") {
    Pm board;
    TreeNode saved = board.device->save();
    saved.set("pmen", {std::byte{0x80}, std::byte{0}});
    CHECK_FALSE(board.device->prepare_load(saved).has_value());
}
