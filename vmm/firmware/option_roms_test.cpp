#include "vmm/firmware/option_roms.hpp"

#include <initializer_list>

#include "bios/layout.hpp"
#include "devices/pci/pci_card_test.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::firmware;

namespace {

using Bytes = std::vector<std::byte>;

void put(Bytes& rom, size_t at, std::initializer_list<unsigned> values) {
    for (const unsigned value : values) rom[at++] = static_cast<std::byte>(value);
}

enum class Last { no, yes };

/// An image of `units` times 512 bytes with a PCI data structure.
Bytes image(uint8_t units, uint8_t code_type, Last last) {
    Bytes rom(units * size_t{512});
    put(rom, 0, {0x55, 0xAA, units});
    put(rom, 0x18, {0x1C, 0});
    put(rom, 0x1C, {'P', 'C', 'I', 'R'});
    put(rom, 0x1C + 0x10, {units, 0});
    put(rom, 0x1C + 0x14, {code_type, last == Last::yes ? 0x80u : 0u});
    return rom;
}

Bytes operator+(Bytes first, const Bytes& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

}  // namespace

TEST_CASE("Of a ROM's images the one for a PC's BIOS is taken") {
    const Bytes rom = image(2, 3, Last::no) + image(4, 0, Last::yes);
    const auto found = find_bios_image(rom);
    CHECK(found.size() == 2048);
    CHECK(found.data() == rom.data() + 1024);
    CHECK(find_bios_image(image(2, 0, Last::no) + image(4, 0, Last::yes)).size() == 1024);
    CHECK(find_bios_image(image(2, 3, Last::yes) + image(4, 0, Last::yes)).empty());
}

TEST_CASE("A ROM without a PCI data structure is one image") {
    Bytes rom(1024);
    put(rom, 0, {0x55, 0xAA, 2});
    CHECK(find_bios_image(rom).size() == 1024);
    put(rom, 0x18, {0xFF, 0xFF});
    CHECK(find_bios_image(rom).size() == 1024);
}

TEST_CASE("What is no ROM, is cut short, or goes in circles has no image") {
    CHECK(find_bios_image({}).empty());
    CHECK(find_bios_image(Bytes(511)).empty());
    CHECK(find_bios_image(Bytes(4096)).empty());
    Bytes rom = image(4, 0, Last::yes);
    rom.resize(1024);
    CHECK(find_bios_image(rom).empty());
    rom = image(1, 0, Last::yes);
    put(rom, 2, {0});
    CHECK(find_bios_image(rom).empty());
    rom = image(1, 3, Last::no);
    put(rom, 0x1C + 0x10, {0, 0});
    CHECK(find_bios_image(rom).empty());
    put(rom, 0x1C + 0x10, {0xFF, 0xFF});
    CHECK(find_bios_image(rom).empty());
}

TEST_CASE("The ROM of a PCI function is read through its BAR, which is closed again") {
    PciBoard board;
    board.make_function(TestCard::make, 5);
    const PciAddress at{0, 5, 0};
    board.set_config(at, pci::ROM_BAR, 4, 0xF0000000);
    board.set_config(at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    const PciPlan plan{.functions = {{at}}};
    CHECK(pci_option_roms(board.memory, board.bus(), plan).empty());
    CHECK(board.config(at, pci::ROM_BAR) == 0xF0000000);

    const Bytes content = image(2, 0, Last::yes);
    board.set_config(at, pci::ROM_BAR, 4, 0xF0000000 | pci::ROM_ENABLE);
    REQUIRE(board.memory.write_rom(Gpa{0xF0000000}, content));
    board.set_config(at, pci::ROM_BAR, 4, 0xF0000000);
    const auto found = pci_option_roms(board.memory, board.bus(), plan);
    REQUIRE(found.size() == 1);
    CHECK(found[0].image == content);
    CHECK(found[0].pci_address == 5 << 3);
    CHECK(board.config(at, pci::ROM_BAR) == 0xF0000000);
}

TEST_CASE("The ROM of a file is for the function with its IDs") {
    PciBoard board;
    board.make_function(TestCard::make, 5);
    const PciPlan plan{.functions = {{{0, 0, 0}}, {{0, 5, 0}}}};
    Bytes rom = image(1, 0, Last::yes);
    CHECK(pci_owner(rom, board.bus(), plan) == rom::no_pci_address);
    put(rom, 0x1C + 4, {0x34, 0x12, 0x78, 0x56});
    CHECK(pci_owner(rom, board.bus(), plan) == 5 << 3);
    CHECK(pci_owner(Bytes(512), board.bus(), plan) == rom::no_pci_address);
}
