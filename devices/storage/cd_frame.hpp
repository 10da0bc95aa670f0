#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace viv {

inline constexpr uint32_t cd_block_size = 2048;
inline constexpr uint32_t cd_frame_size = 2352;
/// Blocks of the lead-in's gap: block 0 is at 00:02:00.
inline constexpr uint32_t cd_gap = 150;

/// Minutes, seconds, frames (75 a second) of a block; minutes above 255 do not fit and become 255.
struct CdTime {
    uint8_t minute;
    uint8_t second;
    uint8_t frame;
    bool operator==(const CdTime&) const = default;
};
[[nodiscard]] CdTime cd_time(uint32_t block);
/// The block at a time; nothing is checked, and times before 00:02:00 wrap.
[[nodiscard]] uint32_t cd_block(CdTime time);

/// A whole CD-ROM mode 1 frame around the user data of `block`: sync, header, EDC and ECC (ECMA-130, 14 and annexes A,
/// B).
[[nodiscard]] std::array<uint8_t, cd_frame_size> cd_mode1_frame(uint32_t block,
                                                                std::span<const uint8_t, cd_block_size> data);

/// Parts of a frame as READ CD's byte 9 asks for them: 80h sync, 20h header, 10h user data, 08h EDC and ECC. What mode
/// 1 frames do not have (sub-headers, 40h) has no bytes.
inline constexpr uint8_t cd_part_sync = 0x80;
inline constexpr uint8_t cd_part_subheader = 0x40;
inline constexpr uint8_t cd_part_header = 0x20;
inline constexpr uint8_t cd_part_data = 0x10;
inline constexpr uint8_t cd_part_check = 0x08;
[[nodiscard]] uint32_t cd_parts_size(uint8_t parts);
/// Copies the parts of a frame behind one another; `out` has cd_parts_size() bytes.
void cd_copy_parts(std::span<const uint8_t, cd_frame_size> frame, uint8_t parts, std::span<uint8_t> out);

}  // namespace viv
