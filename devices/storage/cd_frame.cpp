#include "devices/storage/cd_frame.hpp"

#include <algorithm>

namespace viv {
namespace {

constexpr size_t header_at = 12;
constexpr size_t data_at = 16;
constexpr size_t edc_at = data_at + cd_block_size;
constexpr size_t p_parity_at = edc_at + 12;
constexpr size_t q_parity_at = p_parity_at + 172;

struct Piece {
    uint8_t part;
    size_t at;
    size_t size;
};
constexpr Piece pieces[] = {
    {cd_part_sync, 0, header_at},
    {cd_part_header, header_at, data_at - header_at},
    {cd_part_data, data_at, cd_block_size},
    {cd_part_check, edc_at, cd_frame_size - edc_at},
};

/// (x^16 + x^15 + x^2 + 1)(x^16 + x^2 + x + 1), least significant bit first (ECMA-130, 14.3).
uint32_t error_detection_code(std::span<const uint8_t> bytes) {
    constexpr auto table = [] {
        std::array<uint32_t, 256> made{};
        for (uint32_t i = 0; i < made.size(); ++i) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0xD8018001 : 0);
            made[i] = value;
        }
        return made;
    }();
    uint32_t code = 0;
    for (const uint8_t byte : bytes) code = code >> 8 ^ table[(code ^ byte) & 0xFF];
    return code;
}

/// In GF(2^8) over x^8 + x^4 + x^3 + x^2 + 1, whose primitive element is 2.
constexpr uint8_t times_2(uint8_t value) {
    return static_cast<uint8_t>(value << 1 ^ ((value & 0x80) != 0 ? 0x1D : 0));
}

constexpr auto divided_by_3 = [] {
    std::array<uint8_t, 256> made{};
    for (unsigned i = 0; i < made.size(); ++i) {
        const auto value = static_cast<uint8_t>(i);
        made[value ^ times_2(value)] = value;
    }
    return made;
}();

/// The two parity symbols of a Reed-Solomon code whose words sum to zero plainly and weighted by powers of 2, from the
/// last symbol on. Symbol i of word w is frame byte `place(w, i)` behind the sync pattern.
template <class Place>
void add_parity(std::span<uint8_t, cd_frame_size> frame, size_t words, size_t symbols, size_t parity_at, Place place) {
    for (size_t word = 0; word < words; ++word) {
        uint8_t sum = 0, weighted = 0;
        for (size_t i = 0; i < symbols; ++i) {
            const uint8_t symbol = frame[header_at + place(word, i)];
            sum ^= symbol;
            weighted = times_2(weighted ^ symbol);
        }
        const uint8_t first = divided_by_3[times_2(weighted) ^ sum];
        frame[parity_at + word] = first;
        frame[parity_at + words + word] = sum ^ first;
    }
}

uint8_t to_bcd(unsigned value) {
    return static_cast<uint8_t>(value / 10 % 10 << 4 | value % 10);
}

}  // namespace

CdTime cd_time(uint32_t block) {
    const uint64_t frames = uint64_t{block} + cd_gap;
    return {static_cast<uint8_t>(std::min<uint64_t>(frames / (60 * 75), 255)), static_cast<uint8_t>(frames / 75 % 60),
            static_cast<uint8_t>(frames % 75)};
}

uint32_t cd_block(CdTime time) {
    return (time.minute * 60u + time.second) * 75u + time.frame - cd_gap;
}

std::array<uint8_t, cd_frame_size> cd_mode1_frame(uint32_t block, std::span<const uint8_t, cd_block_size> data) {
    std::array<uint8_t, cd_frame_size> frame{};
    std::fill_n(frame.begin() + 1, 10, uint8_t{0xFF});
    const CdTime time = cd_time(block);
    frame[header_at] = to_bcd(time.minute);
    frame[header_at + 1] = to_bcd(time.second);
    frame[header_at + 2] = to_bcd(time.frame);
    frame[header_at + 3] = 1;
    std::ranges::copy(data, frame.begin() + data_at);
    const uint32_t code = error_detection_code(std::span(frame).first(edc_at));
    for (unsigned i = 0; i < 4; ++i) frame[edc_at + i] = static_cast<uint8_t>(code >> (8 * i));
    // Pairs of bytes make two interleaved codes: columns of 24 rows (P), then diagonals over the P parity, too (Q).
    add_parity(frame, 86, 24, p_parity_at, [](size_t word, size_t i) { return word + 86 * i; });
    add_parity(frame, 52, 43, q_parity_at,
               [](size_t word, size_t i) { return (word / 2 * 86 + 88 * i) % (52 * 43) + word % 2; });
    return frame;
}

uint32_t cd_parts_size(uint8_t parts) {
    uint32_t size = 0;
    for (const Piece& piece : pieces) {
        if ((parts & piece.part) != 0) size += static_cast<uint32_t>(piece.size);
    }
    return size;
}

void cd_copy_parts(std::span<const uint8_t, cd_frame_size> frame, uint8_t parts, std::span<uint8_t> out) {
    for (const Piece& piece : pieces) {
        if ((parts & piece.part) == 0) continue;
        std::ranges::copy(frame.subspan(piece.at, piece.size), out.begin());
        out = out.subspan(piece.size);
    }
}

}  // namespace viv
