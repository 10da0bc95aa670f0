#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace viv {

/// Shortest frame on a wire, without its checksum: what a NIC pads to.
inline constexpr size_t ethernet_least = 60;

/// Whether a frame is for everybody.
bool is_broadcast(std::span<const uint8_t> frame);

/// The checksum at the end of a frame (IEEE 802.3, 3.2.9), as it is sent: the lowest byte first.
uint32_t ethernet_crc(std::span<const uint8_t> bytes);

/// The register of the CRC after an address, of which NICs take the upper bits as the index of their multicast filters.
uint32_t multicast_hash(std::span<const uint8_t, 6> address);

/// The sum of big-endian 16-bit words with end-around carry (RFC 1071), continued from `sum`; an odd byte at the end is
/// the upper half of a word. Its complement is the checksum.
uint16_t internet_sum(std::span<const uint8_t> bytes, uint32_t sum = 0);

inline uint16_t load_big16(std::span<const uint8_t> bytes, size_t at) {
    return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}
inline void store_big16(std::span<uint8_t> bytes, size_t at, uint32_t value) {
    bytes[at] = static_cast<uint8_t>(value >> 8);
    bytes[at + 1] = static_cast<uint8_t>(value);
}
inline uint32_t load_big32(std::span<const uint8_t> bytes, size_t at) {
    return uint32_t{load_big16(bytes, at)} << 16 | load_big16(bytes, at + 2);
}
inline void store_big32(std::span<uint8_t> bytes, size_t at, uint32_t value) {
    store_big16(bytes, at, value >> 16);
    store_big16(bytes, at + 2, value);
}

}  // namespace viv
