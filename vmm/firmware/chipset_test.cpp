#include "vmm/firmware/chipset.hpp"

#include <cstring>

#include "bios/layout.hpp"
#include "bios/rom_images.hpp"
#include "devices/interrupt/i8259.hpp"
#include "devices/pci/pci_card_test.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/pci/piix3.hpp"
#include "devices/pci/piix4_pm.hpp"
#include "devices/storage/piix3_ide.hpp"
#include "vmm/firmware/acpi/tables.hpp"

using namespace viv;
using namespace viv::firmware;

namespace {

constexpr uint64_t gib = uint64_t{1} << 30;
constexpr auto ports_space = DeviceRange::Space::ports;

struct PcBoard : PciBoard {
    PcBoard() {
        make(make_i8259, {{ports_space, 0x20, 2}, {ports_space, 0xA0, 2}, {ports_space, 0x4D0, 2}});
        make_function(make_piix3, 1);
        make_function(make_piix3_ide, 1, 1);
        make_function(make_piix4_pm, 1, 3, {{ports_space, 0xB2, 2}}, {9});
        make_function(TestCard::make, 5);
    }
};

}  // namespace

TEST_CASE("Apertures for PCI are what RAM and the chipset leave") {
    const PciApertures small = pci_apertures(4 * gib);
    CHECK(small.ports.base == 0xC000);
    CHECK(small.memory.base == 3 * gib);
    CHECK(small.memory.end == PciBus::chipset_base);
    CHECK(small.high_memory.base == 4 * gib);
    CHECK(pci_apertures(4 * gib + 5).high_memory.base == 5 * gib);
}

TEST_CASE("For another firmware the SMBus has its ports already") {
    PcBoard board;
    open_smbus_for_other_firmware(board.bus());
    CHECK(board.config({0, 1, 3}, 0x90) == (others_smbus_ports | 1));
    CHECK(board.config({0, 1, 3}, 0xD2, 1) == 1);
    CHECK(board.config({0, 1, 3}, pci::COMMAND, 2) == 0);
}

TEST_CASE("Power-on routes interrupts, opens power management and the bus master, and places BARs") {
    PcBoard board;
    const PciSetup setup = set_up_chipset(board.bus(), board.ports, pci_apertures(4 * gib));
    CHECK(setup.plan.functions.size() == 5);
    CHECK(setup.plan.unplaced == 0);
    CHECK(board.config({0, 1, 0}, 0x60) == 0x0B0B0A0A);
    CHECK(board.in(0x4D0) == 0x00);
    CHECK(board.in(0x4D1) == 0x0C);
    CHECK(board.ports.read(0x634, 4) == 0x7FFFBFFF);  // GPO of the block at 600h
    CHECK(board.in(0x700) == 0);
    CHECK(board.config({0, 1, 1}, 0x40) == 0x80008000);
    CHECK(board.config({0, 1, 1}, pci::COMMAND, 2) == (pci::IO_SPACE | pci::BUS_MASTER));
    CHECK(board.config({0, 1, 3}, pci::INTERRUPT_LINE, 1) == 9);
    CHECK(board.config({0, 5, 0}, pci::INTERRUPT_LINE, 1) == 10);
    CHECK(board.config({0, 5, 0}, pci::COMMAND, 2) == (pci::IO_SPACE | pci::MEMORY_SPACE));
    CHECK(board.bus().counters().conflicts == 0);
    CHECK(board.bus().windows().size() == 7);
}

TEST_CASE("Power-on shows the ROMs from RAM, write-protected, and has RAM for tables") {
    PcBoard board;
    PciPlan plan;
    plan.last_bus = 2;
    shadow_roms(board.memory, board.bus(), plan);
    std::vector<std::byte> video(rom::video_rom_size);
    CHECK(board.memory.read(Gpa{0xC0000}, video));
    CHECK(std::memcmp(video.data(), rom::video_bios().data(), video.size()) == 0);
    CHECK(board.memory.load<uint32_t>(Gpa{0xF0000 + rom::system_header_offset}) == rom::system_header_magic);
    CHECK(board.memory.load<uint8_t>(Gpa{0xF0000 + rom::system_header_offset + 14}) == 3);
    for (const uint64_t at : {0xC0000u, 0xF0000u, 0xFFFFFu}) CHECK_FALSE(board.memory.store(Gpa{at}, uint8_t{0}));
    CHECK(board.memory.store(tables_at, uint8_t{0x5A}));
    CHECK(board.memory.store(tables_at + (tables_size - 1), uint8_t{0x5A}));
    CHECK_FALSE(board.memory.find(Gpa{0xD0000}));
    CHECK_FALSE(board.memory.find(tables_at + ~uint64_t{0}));  // the byte before
}
