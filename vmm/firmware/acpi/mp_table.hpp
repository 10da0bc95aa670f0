#pragma once

#include <cstdint>
#include <optional>

#include "vmm/core/tree.hpp"
#include "vmm/firmware/acpi/table.hpp"

namespace viv::firmware {

/// The MP configuration table (MultiProcessor Specification 1.4, chapter 4). Nothing for a board without an IOAPIC.
std::optional<Table> mp_configuration(const TreeNode& board, uint32_t cpus);

/// The MP floating pointer structure (4.1) for a configuration table at this address.
Table mp_floating_pointer(uint64_t configuration_address);

}  // namespace viv::firmware
