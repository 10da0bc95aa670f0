#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// Numbers of SCSI packets and data: the most significant byte first.
namespace viv::scsi {

template <class Bytes>
[[nodiscard]] constexpr uint32_t get16(const Bytes& bytes, size_t at) {
    return static_cast<uint32_t>(bytes[at] << 8 | bytes[at + 1]);
}
template <class Bytes>
[[nodiscard]] constexpr uint32_t get24(const Bytes& bytes, size_t at) {
    return static_cast<uint32_t>(bytes[at] << 16 | bytes[at + 1] << 8 | bytes[at + 2]);
}
template <class Bytes>
[[nodiscard]] constexpr uint32_t get32(const Bytes& bytes, size_t at) {
    return get16(bytes, at) << 16 | get16(bytes, at + 2);
}

inline void put16(std::span<uint8_t> bytes, size_t at, uint32_t value) {
    bytes[at] = static_cast<uint8_t>(value >> 8);
    bytes[at + 1] = static_cast<uint8_t>(value);
}
inline void put32(std::span<uint8_t> bytes, size_t at, uint32_t value) {
    put16(bytes, at, value >> 16);
    put16(bytes, at + 2, value);
}

}  // namespace viv::scsi
