#include "vmm/firmware/acpi/table.hpp"

#include "vmm/core/result.hpp"

namespace viv::firmware {

Table::Table(std::string_view signature, uint8_t revision) {
    add_text(signature).add(0, 4).add(revision, 1).add(0, 1);  // length and checksum come last
    add_text("VIV   ").add_text("VIVPC   ").add(1, 4).add_text("VIV ").add(1, 4);
    VIV_ASSERT(size() == 36);
}

Table& Table::add(uint64_t value, unsigned size) {
    // Reserved fields are wider than any value: what lies above its eight bytes is zero.
    for (unsigned i = 0; i < size; ++i) bytes_.push_back(static_cast<std::byte>(i < 8 ? value >> (8 * i) : 0));
    return *this;
}

Table& Table::add_text(std::string_view text) {
    for (const char c : text) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
}

Table& Table::add_bytes(std::span<const std::byte> content) {
    bytes_.insert(bytes_.end(), content.begin(), content.end());
    return *this;
}

void Table::set(size_t offset, uint64_t value, unsigned size) {
    VIV_ASSERT(offset + size <= bytes_.size());
    for (unsigned i = 0; i < size; ++i) bytes_[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

void Table::set_checksum(size_t offset, size_t size) {
    VIV_ASSERT(size <= bytes_.size());
    set(offset, 0, 1);
    unsigned sum = 0;
    for (size_t i = 0; i < size; ++i) sum += std::to_integer<unsigned>(bytes_[i]);
    set(offset, 0 - sum, 1);
}

void Table::finish() {
    set(4, size(), 4);
    set_checksum(9, size());
}

}  // namespace viv::firmware
