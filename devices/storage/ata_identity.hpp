#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace viv {

/// The 256 words of IDENTIFY DEVICE and IDENTIFY PACKET DEVICE.
struct AtaIdentity {
    std::array<uint16_t, 256> words{};

    /// Text in `count` words, padded with blanks; the first character is the high byte of its word.
    void put_text(size_t first, size_t count, std::string_view text) {
        for (size_t i = 0; i < count * 2; ++i) {
            const auto character = static_cast<uint8_t>(i < text.size() ? text[i] : ' ');
            words[first + i / 2] = static_cast<uint16_t>(words[first + i / 2] | character << (i % 2 == 0 ? 8 : 0));
        }
    }
    /// A number in `count` words, the lowest one first.
    void put_number(size_t first, size_t count, uint64_t value) {
        for (size_t i = 0; i < count; ++i) words[first + i] = static_cast<uint16_t>(value >> (16 * i));
    }
    /// The 512 bytes that the host reads, with the checksum in word 255 (ATA/ATAPI-6, 8.15.61).
    void write_to(std::vector<uint8_t>& bytes) const {
        bytes.resize(512);
        uint8_t sum = 0xA5;
        for (size_t i = 0; i < 510; ++i) {
            bytes[i] = static_cast<uint8_t>(words[i / 2] >> (i % 2 == 0 ? 0 : 8));
            sum = static_cast<uint8_t>(sum + bytes[i]);
        }
        bytes[510] = 0xA5;
        bytes[511] = static_cast<uint8_t>(-sum);
    }
};

}  // namespace viv
