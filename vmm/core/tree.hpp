#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/core/result.hpp"

namespace viv {

/// A node of a device tree (Devicetree Specification 0.4), in memory. The board and the saved state of a machine are
/// both such trees, so that both can be printed, compared and edited by the same code. Property values are bytes;
/// integers are big-endian.
struct TreeNode {
    std::string name;  // with the unit address: "serial@3f8"; empty for the root
    std::vector<std::pair<std::string, std::vector<std::byte>>> properties;
    std::vector<TreeNode> children;

    bool operator==(const TreeNode&) const = default;

    [[nodiscard]] const std::vector<std::byte>* property(std::string_view key) const;
    [[nodiscard]] bool has(std::string_view key) const { return property(key) != nullptr; }
    /// The first 32-bit cell, or nothing when the property is missing or shorter.
    [[nodiscard]] std::optional<uint32_t> u32(std::string_view key) const;
    /// One 64-bit value of two cells.
    [[nodiscard]] std::optional<uint64_t> u64(std::string_view key) const;
    /// All 32-bit cells; empty when missing.
    [[nodiscard]] std::vector<uint32_t> cells(std::string_view key) const;
    /// The first string of a string list.
    [[nodiscard]] std::optional<std::string> string(std::string_view key) const;
    [[nodiscard]] std::vector<std::string> strings(std::string_view key) const;

    void set(std::string_view key, std::vector<std::byte> value);
    void set_u32(std::string_view key, uint32_t value);
    void set_u64(std::string_view key, uint64_t value);
    void set_cells(std::string_view key, std::span<const uint32_t> values);
    void set_string(std::string_view key, std::string_view value);
    void set_flag(std::string_view key);
    void erase(std::string_view key);

    /// The child with this exact name, or with this name before its unit address if only one has it.
    [[nodiscard]] const TreeNode* child(std::string_view child_name) const;
    [[nodiscard]] TreeNode* child(std::string_view child_name);
    /// The child with this exact name, made when missing.
    TreeNode& ensure_child(std::string_view child_name);
    /// A node by absolute path ("/isa/serial@3f8"), or nullptr.
    [[nodiscard]] const TreeNode* find(std::string_view path) const;
    [[nodiscard]] TreeNode* find(std::string_view path);
};

/// Flattens a tree with libfdt. Cannot fail for trees of sane names.
std::vector<std::byte> to_fdt(const TreeNode& root);
/// Reads a flattened device tree; refuses a damaged one with the reason.
Result<TreeNode> from_fdt(std::span<const std::byte> blob);
/// The tree as device tree source, which dtc compiles to an equal tree.
std::string to_dts(const TreeNode& root);

}  // namespace viv
