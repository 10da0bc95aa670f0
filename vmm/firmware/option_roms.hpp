#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "devices/pci/pci_bus.hpp"
#include "devices/system/firmware_disk.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"
#include "vmm/firmware/pci_resources.hpp"

/// Expansion ROMs with code for a PC's BIOS (PCI Firmware Specification 3.0, chapter 5).
namespace viv::firmware {

/// The image for a PC's BIOS in a ROM, which may hold several, one behind the other; without a PCI header the first one
/// is taken. Empty when there is none.
std::span<const std::byte> find_bios_image(std::span<const std::byte> rom);

/// A file of `--option-rom`. Errors: it cannot be read, or has no image for a PC's BIOS.
Result<std::vector<std::byte>> read_option_rom(const std::string& path);

/// What the ROM BARs of the functions hold, display adapters excepted, whose ROM is there already. The BARs have their
/// places.
std::vector<OptionRom> pci_option_roms(const GuestMemory& memory, PciBus& bus, const PciPlan& plan);

/// The function that the ROM of a file is for, by the IDs in its PCI data structure: the first one on the bus, as a
/// BIOS finds it for the ROMs of what is built in. no_pci_address if there is none.
uint16_t pci_owner(std::span<const std::byte> image, PciBus& bus, const PciPlan& plan);

/// Opens the memory for option ROMs, which is empty then.
void open_option_rom_memory(GuestMemory& memory, PciBus& bus);

}  // namespace viv::firmware
