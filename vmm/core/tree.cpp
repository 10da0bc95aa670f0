#include "vmm/core/tree.hpp"

#include <fmt/format.h>
#include <libfdt.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <iterator>

namespace viv {
namespace {

std::vector<std::byte> big_endian(uint64_t value, unsigned size) {
    std::vector<std::byte> bytes;
    for (unsigned i = size; i-- > 0;) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
    return bytes;
}

uint64_t from_big_endian(std::span<const std::byte> bytes) {
    uint64_t value = 0;
    for (std::byte b : bytes) value = value << 8 | std::to_integer<uint64_t>(b);
    return value;
}

void write_node(std::vector<std::byte>& blob, const TreeNode& node, const char* name) {
    // libfdt's sequential writer reports a full buffer; grow and repeat the one call.
    const auto call = [&blob](auto step) {
        int status = 0;
        while ((status = step(blob.data())) == -FDT_ERR_NOSPACE) {
            std::vector<std::byte> larger(blob.size() * 2);
            VIV_ASSERT(fdt_resize(blob.data(), larger.data(), static_cast<int>(larger.size())) == 0);
            blob = std::move(larger);
        }
        VIV_ASSERT(status == 0);
    };
    call([&](void* fdt) { return fdt_begin_node(fdt, name); });
    for (const auto& [key, value] : node.properties) {
        call([&](void* fdt) { return fdt_property(fdt, key.c_str(), value.data(), static_cast<int>(value.size())); });
    }
    for (const TreeNode& child : node.children) write_node(blob, child, child.name.c_str());
    call([](void* fdt) { return fdt_end_node(fdt); });
}

TreeNode read_node(const void* fdt, int offset) {
    TreeNode node;
    node.name = fdt_get_name(fdt, offset, nullptr);
    int property = 0;
    fdt_for_each_property_offset(property, fdt, offset) {
        const char* key = nullptr;
        int size = 0;
        const void* value = fdt_getprop_by_offset(fdt, property, &key, &size);
        const auto* first = static_cast<const std::byte*>(value);
        if (value) node.properties.emplace_back(key, std::vector(first, first + size));
    }
    int child = 0;
    fdt_for_each_subnode(child, fdt, offset) node.children.push_back(read_node(fdt, child));
    return node;
}

bool is_string_list(std::span<const std::byte> value) {
    if (value.empty() || value.back() != std::byte{0}) return false;
    bool previous_was_end = true;
    for (std::byte b : value) {
        const int c = std::to_integer<int>(b);
        if (c == 0 && previous_was_end) return false;
        if (c != 0 && !std::isprint(c)) return false;
        previous_was_end = c == 0;
    }
    return true;
}

std::string dts_value(std::span<const std::byte> value) {
    std::string text;
    if (is_string_list(value)) {
        const char* at = reinterpret_cast<const char*>(value.data());
        const char* end = at + value.size();
        while (at < end) {
            text += text.empty() ? "\"" : ", \"";
            for (const char* c = at; *c; ++c) {
                if (*c == '"' || *c == '\\') text += '\\';
                text += *c;
            }
            text += '"';
            at += std::strlen(at) + 1;
        }
    } else if (value.size() % 4 == 0) {
        for (size_t i = 0; i < value.size(); i += 4) {
            text += fmt::format("{}{:#x}", i ? " " : "<", from_big_endian(value.subspan(i, 4)));
        }
        text += '>';
    } else {
        for (size_t i = 0; i < value.size(); ++i) {
            text += fmt::format("{}{:02x}", i ? " " : "[", std::to_integer<unsigned>(value[i]));
        }
        text += ']';
    }
    return text;
}

void print_node(std::string& out, const TreeNode& node, unsigned depth) {
    const std::string indent(depth, '\t');
    out += fmt::format("{}{} {{\n", indent, depth == 0 ? "/" : node.name);
    for (const auto& [key, value] : node.properties) {
        out += value.empty() ? fmt::format("{}\t{};\n", indent, key)
                             : fmt::format("{}\t{} = {};\n", indent, key, dts_value(value));
    }
    for (const TreeNode& child : node.children) {
        out += '\n';
        print_node(out, child, depth + 1);
    }
    out += fmt::format("{}}};\n", indent);
}

}  // namespace

const std::vector<std::byte>* TreeNode::property(std::string_view key) const {
    const auto at = std::ranges::find(properties, key, [](const auto& p) -> const std::string& { return p.first; });
    return at == properties.end() ? nullptr : &at->second;
}

std::optional<uint32_t> TreeNode::u32(std::string_view key) const {
    const auto* value = property(key);
    if (!value || value->size() < 4) return std::nullopt;
    return static_cast<uint32_t>(from_big_endian(std::span(*value).first(4)));
}

std::optional<uint64_t> TreeNode::u64(std::string_view key) const {
    const auto* value = property(key);
    if (!value || value->size() < 8) return std::nullopt;
    return from_big_endian(std::span(*value).first(8));
}

std::vector<uint32_t> TreeNode::cells(std::string_view key) const {
    std::vector<uint32_t> list;
    if (const auto* value = property(key)) {
        for (size_t i = 0; i + 4 <= value->size(); i += 4) {
            list.push_back(static_cast<uint32_t>(from_big_endian(std::span(*value).subspan(i, 4))));
        }
    }
    return list;
}

std::optional<std::string> TreeNode::string(std::string_view key) const {
    auto list = strings(key);
    if (list.empty()) return std::nullopt;
    return std::move(list.front());
}

std::vector<std::string> TreeNode::strings(std::string_view key) const {
    std::vector<std::string> list;
    if (const auto* value = property(key)) {
        std::string current;
        for (std::byte b : *value) {
            if (b == std::byte{0}) {
                list.push_back(std::exchange(current, {}));
            } else {
                current += static_cast<char>(b);
            }
        }
    }
    return list;
}

void TreeNode::set(std::string_view key, std::vector<std::byte> value) {
    const auto at = std::ranges::find(properties, key, [](const auto& p) -> const std::string& { return p.first; });
    if (at == properties.end()) {
        properties.emplace_back(key, std::move(value));
    } else {
        at->second = std::move(value);
    }
}

void TreeNode::set_u32(std::string_view key, uint32_t value) {
    set(key, big_endian(value, 4));
}
void TreeNode::set_u64(std::string_view key, uint64_t value) {
    set(key, big_endian(value, 8));
}
void TreeNode::set_flag(std::string_view key) {
    set(key, {});
}

void TreeNode::set_cells(std::string_view key, std::span<const uint32_t> values) {
    std::vector<std::byte> bytes;
    for (uint32_t value : values) std::ranges::copy(big_endian(value, 4), std::back_inserter(bytes));
    set(key, std::move(bytes));
}

void TreeNode::set_string(std::string_view key, std::string_view value) {
    const auto* first = reinterpret_cast<const std::byte*>(value.data());
    std::vector<std::byte> bytes(first, first + value.size());
    bytes.push_back(std::byte{0});
    set(key, std::move(bytes));
}

void TreeNode::erase(std::string_view key) {
    std::erase_if(properties, [key](const auto& p) { return p.first == key; });
}

const TreeNode* TreeNode::child(std::string_view child_name) const {
    const TreeNode* match = nullptr;
    for (const TreeNode& node : children) {
        if (node.name == child_name) return &node;
        if (std::string_view(node.name).substr(0, node.name.find('@')) == child_name) {
            if (match) return nullptr;
            match = &node;
        }
    }
    return match;
}

TreeNode* TreeNode::child(std::string_view child_name) {
    return const_cast<TreeNode*>(std::as_const(*this).child(child_name));
}

TreeNode& TreeNode::ensure_child(std::string_view child_name) {
    const auto at = std::ranges::find(children, child_name, &TreeNode::name);
    if (at != children.end()) return *at;
    children.push_back({std::string(child_name), {}, {}});
    return children.back();
}

const TreeNode* TreeNode::find(std::string_view path) const {
    const TreeNode* node = this;
    while (node && !path.empty()) {
        if (path.front() == '/') {
            path.remove_prefix(1);
            continue;
        }
        const auto part = path.substr(0, path.find('/'));
        node = node->child(part);
        path.remove_prefix(part.size());
    }
    return node;
}

TreeNode* TreeNode::find(std::string_view path) {
    return const_cast<TreeNode*>(std::as_const(*this).find(path));
}

std::vector<std::byte> to_fdt(const TreeNode& root) {
    std::vector<std::byte> blob(16384);
    VIV_ASSERT(fdt_create(blob.data(), static_cast<int>(blob.size())) == 0);
    VIV_ASSERT(fdt_finish_reservemap(blob.data()) == 0);
    write_node(blob, root, "");  // a root has no name (Devicetree Specification, 2.2.1)
    while (fdt_finish(blob.data()) == -FDT_ERR_NOSPACE) {
        std::vector<std::byte> larger(blob.size() * 2);
        VIV_ASSERT(fdt_resize(blob.data(), larger.data(), static_cast<int>(larger.size())) == 0);
        blob = std::move(larger);
    }
    blob.resize(fdt_totalsize(blob.data()));
    return blob;
}

Result<TreeNode> from_fdt(std::span<const std::byte> blob) {
    if (blob.size() < sizeof(fdt_header)) return fail_usage("not a flattened device tree: too short");
    if (const int status = fdt_check_full(blob.data(), blob.size()); status != 0) {
        return fail_usage(fmt::format("not a flattened device tree: {}", fdt_strerror(status)));
    }
    return read_node(blob.data(), 0);
}

std::string to_dts(const TreeNode& root) {
    std::string out = "/dts-v1/;\n\n";
    print_node(out, root, 0);
    return out;
}

}  // namespace viv
