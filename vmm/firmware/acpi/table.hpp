#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace viv::firmware {

/// Bytes of a table that is being made: little-endian values, and a checksum that makes all of them add up to 0.
class Table {
  public:
    Table() = default;
    /// With the header that most ACPI tables have (ACPI Specification 6.4, 5.2.6).
    Table(std::string_view signature, uint8_t revision);

    Table& add(uint64_t value, unsigned size);
    Table& add_text(std::string_view text);
    Table& add_bytes(std::span<const std::byte> content);
    /// Replaces the value at `offset`.
    void set(size_t offset, uint64_t value, unsigned size);
    /// The checksum of [0, size) goes to `offset`.
    void set_checksum(size_t offset, size_t size);
    /// Fills length and checksum of the ACPI header.
    void finish();

    [[nodiscard]] size_t size() const { return bytes_.size(); }
    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  private:
    std::vector<std::byte> bytes_;
};

}  // namespace viv::firmware
