#include "vmm/core/state.hpp"

#include <fmt/format.h>

namespace viv::state_detail {

void append_big_endian(std::vector<std::byte>& out, uint64_t value, size_t size) {
    for (size_t i = size; i-- > 0;) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

uint64_t read_big_endian(const std::byte* at, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | std::to_integer<uint64_t>(at[i]);
    return value;
}

const std::vector<std::byte>* Reader::need(const std::string& name, size_t size) {
    const auto* bytes = node_.property(name);
    if (!bytes) {
        refuse(name, "is missing");
    } else if (bytes->size() != size) {
        refuse(name, "has the wrong size");
        return nullptr;
    }
    return bytes;
}

const TreeNode* Reader::need_child(const std::string& name) {
    const TreeNode* inner = node_.child(name);
    if (!inner) refuse(name, "is missing");
    return inner;
}

void Reader::refuse(const std::string& name, const char* reason) {
    error_ = Error{fmt::format("saved state: {}/{} {}", path_, name, reason), ErrorKind::failure};
}

}  // namespace viv::state_detail
