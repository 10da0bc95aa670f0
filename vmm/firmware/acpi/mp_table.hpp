#pragma once

#include <cstdint>
#include <optional>

#include "vmm/core/tree.hpp"
#include "vmm/firmware/acpi/table.hpp"
#include "vmm/firmware/chipset.hpp"

namespace viv::firmware {

/// The MP configuration table (MultiProcessor Specification 1.4, chapter 4). Nothing for a board without an IOAPIC.
/// `pci` is nullptr on a board without PCI.
std::optional<Table> mp_configuration(const TreeNode& board, uint32_t cpus, const PciSetup* pci);

/// The MP floating pointer structure (4.1) for a configuration table at this address.
Table mp_floating_pointer(uint64_t configuration_address);

}  // namespace viv::firmware
