#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "vmm/core/tree.hpp"

namespace viv::firmware {

/// The enabled devices of a board, at its root and on its buses, that have this `compatible`; in tree order.
std::vector<const TreeNode*> board_devices(const TreeNode& board, std::string_view compatible);
/// Those that have one of several.
std::vector<const TreeNode*> board_devices(const TreeNode& board, std::initializer_list<std::string_view> compatibles);

}  // namespace viv::firmware
