#include "vmm/core/state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace viv::state_detail {

void append_big_endian(std::vector<std::byte>& out, uint64_t value, size_t size) {
    for (size_t i = size; i-- > 0;) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

uint64_t read_big_endian(const std::byte* at, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | std::to_integer<uint64_t>(at[i]);
    return value;
}

namespace {

/// From the host's order to the other, or back.
void swap_each(std::byte* at, size_t count, size_t each) {
    static_assert(std::endian::native == std::endian::little);
    if (each == 1) return;
    for (size_t i = 0; i < count; ++i) std::reverse(at + i * each, at + (i + 1) * each);
}

}  // namespace

void append_big_endian(std::vector<std::byte>& out, const void* elements, size_t count, size_t each) {
    if (count == 0) return;
    const size_t before = out.size();
    out.resize(before + count * each);
    std::memcpy(out.data() + before, elements, count * each);
    swap_each(out.data() + before, count, each);
}

void read_big_endian(const std::byte* from, void* elements, size_t count, size_t each) {
    if (count == 0) return;
    std::memcpy(elements, from, count * each);
    swap_each(static_cast<std::byte*>(elements), count, each);
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
