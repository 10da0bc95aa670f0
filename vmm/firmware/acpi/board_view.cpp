#include "vmm/firmware/acpi/board_view.hpp"

#include <algorithm>

namespace viv::firmware {

std::vector<const TreeNode*> board_devices(const TreeNode& board, std::string_view compatible) {
    return board_devices(board, {compatible});
}

std::vector<const TreeNode*> board_devices(const TreeNode& board, std::initializer_list<std::string_view> compatibles) {
    std::vector<const TreeNode*> found;
    const auto add_from = [&](const TreeNode& parent) {
        for (const TreeNode& node : parent.children) {
            const auto status = node.string("status");
            const bool enabled = !status || *status == "okay" || *status == "ok";
            const auto names = node.strings("compatible");
            const auto wanted = [&names](std::string_view name) { return std::ranges::count(names, name) > 0; };
            if (enabled && std::ranges::any_of(compatibles, wanted)) found.push_back(&node);
        }
    };
    add_from(board);
    for (const char* bus : {"isa", "pci"}) {
        if (const TreeNode* node = board.child(bus)) add_from(*node);
    }
    return found;
}

}  // namespace viv::firmware
