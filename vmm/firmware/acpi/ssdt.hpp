#pragma once

#include <cstdint>

#include "vmm/core/tree.hpp"
#include "vmm/firmware/acpi/table.hpp"
#include "vmm/firmware/chipset.hpp"

namespace viv::firmware {

/// The table of what differs between boards: processors, ISA devices and PCI (Plug and Play IDs: ACPI
/// Specification 6.4, 5.6.7; Microsoft's "Plug and Play Vendor IDs and Device IDs").
Table ssdt(const TreeNode& board, uint32_t cpus, const PciSetup& pci);

}  // namespace viv::firmware
