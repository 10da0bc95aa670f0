#include "vmm/firmware/acpi/board_view.hpp"

#include <algorithm>

namespace viv::firmware {

std::vector<const TreeNode*> board_devices(const TreeNode& board, std::string_view compatible) {
    std::vector<const TreeNode*> found;
    const auto add_from = [&](const TreeNode& parent) {
        for (const TreeNode& node : parent.children) {
            const auto status = node.string("status");
            const bool enabled = !status || *status == "okay" || *status == "ok";
            if (enabled && std::ranges::count(node.strings("compatible"), compatible)) found.push_back(&node);
        }
    };
    add_from(board);
    for (const char* bus : {"isa", "pci"}) {
        if (const TreeNode* node = board.child(bus)) add_from(*node);
    }
    return found;
}

}  // namespace viv::firmware
