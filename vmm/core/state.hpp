#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"
#include "vmm/core/types.hpp"

/// Saving and loading of plain state structs. A struct names its fields once,
///
///     struct State {
///         uint8_t imr = 0xFF;
///         static void fields(auto& self, auto&& visit) { visit("imr", self.imr); }
///         bool operator==(const State&) const = default;
///     };
///
/// and write_state/read_state turn it into a tree node (a property per field, a child per nested struct) and back.
/// Fields: bool, integers, enums, VirtualTime, std::string, std::array and std::vector of these, nested structs, arrays
/// and vectors of nested structs, std::optional of any.
namespace viv {

namespace state_detail {

struct Probe {
    void operator()(const char*, auto&&) const {}
};
template <class T>
concept Struct = requires(T& value, Probe probe) {
    T::fields(value, probe);
};
template <class T>
concept Scalar = std::integral<T> || std::is_enum_v<T> || std::same_as<T, VirtualTime>;

template <class T>
struct ArrayTraits : std::false_type {};
template <class T, size_t N>
struct ArrayTraits<std::array<T, N>> : std::true_type {
    using Element = T;
    static constexpr bool fixed = true;
};
template <class T>
struct ArrayTraits<std::vector<T>> : std::true_type {
    using Element = T;
    static constexpr bool fixed = false;
};
template <class T>
concept Array = ArrayTraits<T>::value;

/// One whose elements are in memory what they are in the host's order. Not so of bool: only 0 and 1 may become one.
template <class T>
concept PlainArray = Array<T> && !std::same_as<typename ArrayTraits<T>::Element, bool>;

template <class T>
struct OptionalTraits : std::false_type {};
template <class T>
struct OptionalTraits<std::optional<T>> : std::true_type {};

template <Scalar T>
constexpr size_t encoded_size = std::same_as<T, VirtualTime> ? 8 : sizeof(T);

void append_big_endian(std::vector<std::byte>& out, uint64_t value, size_t size);
uint64_t read_big_endian(const std::byte* at, size_t size);
/// The same for `count` elements of `each` bytes that lie one behind the other in this host's order, at once.
void append_big_endian(std::vector<std::byte>& out, const void* elements, size_t count, size_t each);
void read_big_endian(const std::byte* from, void* elements, size_t count, size_t each);

template <Scalar T>
uint64_t to_bits(const T& value) {
    if constexpr (std::same_as<T, VirtualTime>) {
        return static_cast<uint64_t>(value.ns);
    } else {
        return static_cast<uint64_t>(value);
    }
}

template <Scalar T>
T from_bits(uint64_t bits) {
    if constexpr (std::same_as<T, VirtualTime>) {
        return {static_cast<int64_t>(bits)};
    } else {
        return static_cast<T>(bits);
    }
}

class Writer {
  public:
    explicit Writer(TreeNode& node) : node_(node) {}
    template <class T>
    void operator()(const std::string& name, const T& value) {
        if constexpr (Scalar<T>) {
            std::vector<std::byte> bytes;
            append_big_endian(bytes, to_bits(value), encoded_size<T>);
            node_.set(name, std::move(bytes));
        } else if constexpr (std::same_as<T, std::string>) {
            node_.set_string(name, value);
        } else if constexpr (OptionalTraits<T>::value) {
            if (value) (*this)(name, *value);
        } else if constexpr (Struct<T>) {
            Writer inner(node_.children.emplace_back(TreeNode{name, {}, {}}));
            T::fields(value, inner);
        } else if constexpr (Array<T> && Scalar<typename ArrayTraits<T>::Element>) {
            constexpr size_t each = encoded_size<typename ArrayTraits<T>::Element>;
            std::vector<std::byte> bytes;
            if constexpr (PlainArray<T>) {
                append_big_endian(bytes, value.data(), value.size(), each);
            } else {
                for (auto element : value) append_big_endian(bytes, to_bits(element), each);
            }
            node_.set(name, std::move(bytes));
        } else {
            static_assert(Array<T>, "a state field of this type cannot be saved");
            TreeNode list{name, {}, {}};
            Writer inner(list);
            for (size_t i = 0; i < value.size(); ++i) inner(std::to_string(i), value[i]);
            node_.children.push_back(std::move(list));
        }
    }

  private:
    TreeNode& node_;
};

class Reader {
  public:
    explicit Reader(const TreeNode& node, std::string path) : node_(node), path_(std::move(path)) {}
    [[nodiscard]] const std::optional<Error>& error() const { return error_; }
    [[nodiscard]] const TreeNode& node() const { return node_; }

    template <class T>
    void operator()(const std::string& name, T& value) {
        if (error_) return;
        if constexpr (Scalar<T>) {
            const auto* bytes = need(name, encoded_size<T>);
            if (!bytes) return;
            const uint64_t bits = read_big_endian(bytes->data(), bytes->size());
            if (std::same_as<T, bool> && bits > 1) return refuse(name, "is not 0 or 1");
            value = from_bits<T>(bits);
        } else if constexpr (std::same_as<T, std::string>) {
            const auto text = node_.string(name);
            if (!text) return refuse(name, "is missing");
            value = *text;
        } else if constexpr (OptionalTraits<T>::value) {
            if (!node_.has(name) && !node_.child(name)) return value.reset();
            (*this)(name, value.emplace());
        } else if constexpr (Struct<T>) {
            if (const TreeNode* inner = need_child(name)) read_struct(*inner, name, value);
        } else if constexpr (Array<T> && Scalar<typename ArrayTraits<T>::Element>) {
            read_scalars(name, value);
        } else {
            static_assert(Array<T>, "a state field of this type cannot be loaded");
            const TreeNode* list = need_child(name);
            if (!list) return;
            if constexpr (ArrayTraits<T>::fixed) {
                if (list->children.size() != value.size()) return refuse(name, "has the wrong number of elements");
            } else {
                value.resize(list->children.size());
            }
            Reader inner(*list, path_ + "/" + name);
            for (size_t i = 0; i < value.size(); ++i) inner(std::to_string(i), value[i]);
            if (inner.error_) error_ = inner.error_;
        }
    }

    template <Struct T>
    void read_struct(const TreeNode& node, const std::string& name, T& value) {
        Reader inner(node, path_ + "/" + name);
        T::fields(value, inner);
        if (inner.error_) error_ = inner.error_;
    }

  private:
    const std::vector<std::byte>* need(const std::string& name, size_t size);
    const TreeNode* need_child(const std::string& name);
    void refuse(const std::string& name, const char* reason);

    template <class T>
    void read_scalars(const std::string& name, T& value) {
        using Element = typename ArrayTraits<T>::Element;
        constexpr size_t each = encoded_size<Element>;
        const auto* bytes = node_.property(name);
        if (!bytes) return refuse(name, "is missing");
        if constexpr (ArrayTraits<T>::fixed) {
            if (bytes->size() != value.size() * each) return refuse(name, "has the wrong size");
        } else {
            if (bytes->size() % each != 0) return refuse(name, "has the wrong size");
            value.resize(bytes->size() / each);
        }
        if constexpr (PlainArray<T>) {
            read_big_endian(bytes->data(), value.data(), value.size(), each);
        } else {
            for (size_t i = 0; i < value.size(); ++i) {
                value[i] = from_bits<Element>(read_big_endian(bytes->data() + i * each, each));
            }
        }
    }

    const TreeNode& node_;
    std::string path_;
    std::optional<Error> error_;
};

}  // namespace state_detail

/// The tree node `name` with a property per field of `state`.
template <state_detail::Struct S>
TreeNode write_state(const std::string& name, const S& state) {
    TreeNode node{name, {}, {}};
    state_detail::Writer writer(node);
    S::fields(state, writer);
    return node;
}

/// The state that write_state made a node of. A missing field, or one of the wrong size, is an error that names it.
template <state_detail::Struct S>
Result<S> read_state(const TreeNode& node) {
    S state{};
    state_detail::Reader reader(node, node.name);
    S::fields(state, reader);
    if (reader.error()) return std::unexpected(*reader.error());
    return state;
}

}  // namespace viv
