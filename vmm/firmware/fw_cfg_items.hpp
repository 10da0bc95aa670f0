#pragma once

#include "vmm/core/result.hpp"
#include "vmm/core/services.hpp"
#include "vmm/core/tree.hpp"

namespace viv::firmware {

/// Puts into fw_cfg what firmware and guest drivers expect of a PC there: memory and CPU counts, the E820 table,
/// SMBIOS tables (QEMU docs/specs/fw_cfg.rst). Nothing happens on a board without fw_cfg. Errors (usage): what the
/// board chooses of SMBIOS is wrong.
Result<void> fill_fw_cfg(const Services& services, const TreeNode& board);

}  // namespace viv::firmware
