#include "devices/network/ethernet.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace viv {
namespace {

constexpr std::array<uint32_t, 256> crc_table = [] {
    constexpr uint32_t polynomial = 0xEDB88320;  // 04C11DB7h, the lowest bit first
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < table.size(); ++i) {
        uint32_t value = i;
        for (unsigned bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? polynomial : 0);
        table[i] = value;
    }
    return table;
}();

uint32_t crc_register(std::span<const uint8_t> bytes) {
    uint32_t crc = 0xFFFFFFFF;
    for (const uint8_t byte : bytes) crc = crc >> 8 ^ crc_table[(crc ^ byte) & 0xFF];
    return crc;
}

}  // namespace

bool is_broadcast(std::span<const uint8_t> frame) {
    constexpr size_t address_size = 6;
    return std::ranges::all_of(frame.first(address_size), [](uint8_t byte) { return byte == 0xFF; });
}

uint32_t ethernet_crc(std::span<const uint8_t> bytes) {
    return ~crc_register(bytes);
}

uint32_t multicast_hash(std::span<const uint8_t, 6> address) {
    uint32_t reversed = 0;
    const uint32_t crc = crc_register(address);
    for (unsigned bit = 0; bit < 32; ++bit) reversed |= (crc >> bit & 1) << (31 - bit);
    return reversed;
}

uint16_t internet_sum(std::span<const uint8_t> bytes, uint32_t sum) {
    // Bytes are swapped at the end: the sum does not mind in which order all words have theirs.
    uint64_t total = 0;
    size_t at = 0;
    for (; at + 4 <= bytes.size(); at += 4) {
        uint32_t word = 0;
        std::memcpy(&word, &bytes[at], 4);
        total += word;
    }
    for (; at < bytes.size(); ++at) total += at & 1 ? uint64_t{bytes[at]} << 8 : bytes[at];
    while (total >> 16) total = (total & 0xFFFF) + (total >> 16);
    total = (total >> 8 | total << 8) & 0xFFFF;
    total += sum;
    while (total >> 16) total = (total & 0xFFFF) + (total >> 16);
    return static_cast<uint16_t>(total);
}

}  // namespace viv
