#pragma once

#include <cstdint>

#include "vmm/core/tree.hpp"
#include "vmm/firmware/acpi/table.hpp"

namespace viv::firmware {

/// The table of what differs between boards: processors and ISA devices (Plug and Play IDs: ACPI Specification 6.4,
/// 5.6.7; Microsoft's "Plug and Play Vendor IDs and Device IDs").
Table ssdt(const TreeNode& board, uint32_t cpus);

}  // namespace viv::firmware
