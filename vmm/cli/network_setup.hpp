#pragma once

#include "vmm/cli/options.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"

namespace viv::cli {

/// Adds the NICs that --net names, "LINK[,model=M][,mac=A][,KEY=VALUE of the link]" each ("none" is no NIC), and lets
/// --publish and --ssh go to the first of the user links. Without them there is an e1000 on a user link,
/// if that is wanted. Errors are of kind usage.
Result<void> add_networks(TreeNode& board, const NetworkOptions& options);

}  // namespace viv::cli
