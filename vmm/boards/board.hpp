#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"

namespace viv {

/// The default machine (pc.dts), flattened by dtc when Vivarium was built.
std::span<const std::byte> pc_board();

/// A board by file: a .dtb, or a .dts when dtc is installed. Recognised by content, not by name.
/// Errors: unreadable, damaged, dtc missing, or what dtc says.
Result<TreeNode> load_board(const std::string& path);

/// The default machine as a tree to edit.
TreeNode default_board();

}  // namespace viv
