#pragma once

#include <cstdint>

#include "vmm/core/tree.hpp"
#include "vmm/firmware/acpi/table.hpp"
#include "vmm/firmware/chipset.hpp"

namespace viv::firmware {

/// What all boards have (common_dsdt()), and the ISA devices of this one (Plug and Play IDs: ACPI Specification 6.4,
/// 5.6.7; Microsoft's "Plug and Play Vendor IDs and Device IDs"). They are not in the SSDT because SeaBIOS looks for
/// the keyboard here only.
Table dsdt(const TreeNode& board);
/// What else differs between boards: processors, PCI, the HPET.
Table ssdt(const TreeNode& board, uint32_t cpus, const PciSetup& pci);

}  // namespace viv::firmware
