#pragma once

#include <cstdint>

#include "devices/storage/image/qcow2_check.hpp"

namespace viv {

/// Bytes that went from one image to another.
struct MoveReport {
    uint64_t copied = 0;
    uint64_t zeroed = 0;
};

/// Writes all that `top` says itself, not its backing file, to `below`, which is as large or larger and has it durably
/// afterwards. `top` stays as it is: Qcow2Image::drop_all() empties it. Errors are whole sentences.
Result<MoveReport> copy_down(Qcow2Image& top, DiskImage& below, const Progress& progress);

/// Writes to `top` what it shows of its backing file and `below` (nullptr: nothing, zeros) would show otherwise, so
/// that `top` may have `below` for its backing file. All is durable afterwards. Errors are whole sentences.
Result<MoveReport> copy_up(Qcow2Image& top, DiskImage* below, const Progress& progress);

/// Reads; zeros behind the image's end.
[[nodiscard]] DiskStatus read_padded(DiskImage& image, uint64_t offset, std::span<std::byte> out);

[[nodiscard]] bool all_zeros(std::span<const std::byte> bytes);

}  // namespace viv
