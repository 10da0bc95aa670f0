#pragma once

#include "vmm/cli/options.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"

namespace viv::cli {

/// The board that the options describe: the default or the named one, edited. Images named without an option are
/// recognised by content and put where they belong. Errors name the option or the image.
Result<TreeNode> make_board(const MachineOptions& options);

}  // namespace viv::cli
