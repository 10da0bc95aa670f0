#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "devices/storage/drive_registry.hpp"

namespace viv {

/// How densely a medium is recorded; the data rate follows from it and from the drive's speed.
enum class FloppyDensity : uint8_t { double_density, high_density, extra_density };
/// Which drives a medium fits into.
enum class FloppySize : uint8_t { inch_5, inch_3 };

/// A recording format of 512-byte sectors, numbered from 1 on each track.
struct FloppyFormat {
    std::string_view name;
    DriveGeometry geometry;
    FloppyDensity density = FloppyDensity::high_density;
    FloppySize size = FloppySize::inch_3;

    [[nodiscard]] constexpr uint64_t sectors() const {
        return uint64_t{geometry.cylinders} * geometry.heads * geometry.sectors;
    }
    [[nodiscard]] constexpr uint64_t bytes() const { return sectors() * 512; }
    bool operator==(const FloppyFormat&) const = default;
};

/// The usual formats, each of another size. The 1.2M and smaller ones up to 360K are 5.25-inch.
inline constexpr auto floppy_formats = std::to_array<FloppyFormat>({
    {"160K", {40, 1, 8}, FloppyDensity::double_density, FloppySize::inch_5},
    {"180K", {40, 1, 9}, FloppyDensity::double_density, FloppySize::inch_5},
    {"320K", {40, 2, 8}, FloppyDensity::double_density, FloppySize::inch_5},
    {"360K", {40, 2, 9}, FloppyDensity::double_density, FloppySize::inch_5},
    {"640K", {80, 2, 8}, FloppyDensity::double_density, FloppySize::inch_3},
    {"720K", {80, 2, 9}, FloppyDensity::double_density, FloppySize::inch_3},
    {"800K", {80, 2, 10}, FloppyDensity::double_density, FloppySize::inch_3},
    {"820K", {82, 2, 10}, FloppyDensity::double_density, FloppySize::inch_3},
    {"1.2M", {80, 2, 15}, FloppyDensity::high_density, FloppySize::inch_5},
    {"1.44M", {80, 2, 18}, FloppyDensity::high_density, FloppySize::inch_3},
    {"1.48M", {82, 2, 18}, FloppyDensity::high_density, FloppySize::inch_3},
    {"1.6M", {80, 2, 20}, FloppyDensity::high_density, FloppySize::inch_3},
    {"1.68M", {80, 2, 21}, FloppyDensity::high_density, FloppySize::inch_3},
    {"1.72M", {82, 2, 21}, FloppyDensity::high_density, FloppySize::inch_3},
    {"1.74M", {83, 2, 21}, FloppyDensity::high_density, FloppySize::inch_3},
    {"2.88M", {80, 2, 36}, FloppyDensity::extra_density, FloppySize::inch_3},
});

/// The usual format of exactly this many bytes.
constexpr const FloppyFormat* floppy_format_of_size(uint64_t bytes) {
    for (const FloppyFormat& format : floppy_formats) {
        if (format.bytes() == bytes) return &format;
    }
    return nullptr;
}

/// The format that the BIOS parameter block of a boot sector describes (Microsoft FAT specification, "BPB"): 1 or 2
/// heads, up to 84 cylinders and 36 sectors. Nothing when there is no sound one.
std::optional<FloppyFormat> floppy_format_of_boot_sector(std::span<const std::byte> sector);

/// The format of an image of `bytes` bytes that begins with `boot_sector`: the usual one of that size; else what the
/// boot sector says if the image is no larger; else 1.44M or 2.88M, whichever holds it, with empty sectors behind the
/// image's end. Nothing for images larger than 2.88M that no boot sector explains.
std::optional<FloppyFormat> floppy_format_of_image(uint64_t bytes, std::span<const std::byte> boot_sector);

/// The drive that a medium of this format is at home in.
constexpr FloppyType floppy_type_for(const FloppyFormat& format) {
    switch (format.density) {
        case FloppyDensity::double_density:
            return format.size == FloppySize::inch_5 ? FloppyType::d360k : FloppyType::d1440k;
        case FloppyDensity::high_density:
            return format.size == FloppySize::inch_5 ? FloppyType::d1200k : FloppyType::d1440k;
        case FloppyDensity::extra_density: return FloppyType::d2880k;
    }
    return FloppyType::d1440k;
}

/// Whether a drive of this type takes and reads the format.
constexpr bool floppy_drive_reads(FloppyType type, const FloppyFormat& format) {
    const bool fits_5 = format.size == FloppySize::inch_5;
    switch (type) {
        case FloppyType::none: return false;
        case FloppyType::d360k: return fits_5 && format.density == FloppyDensity::double_density;
        case FloppyType::d1200k: return fits_5;
        case FloppyType::d720k: return !fits_5 && format.density == FloppyDensity::double_density;
        case FloppyType::d1440k: return !fits_5 && format.density != FloppyDensity::extra_density;
        case FloppyType::d2880k: return !fits_5;
    }
    return false;
}

/// Cylinders that the drive's heads can reach; it has two more than the formats use, or four.
constexpr uint8_t floppy_drive_cylinders(FloppyType type) {
    return type == FloppyType::d360k ? 42 : 84;
}

/// DRATE SEL (82077AA data sheet, table 2-2: 0 = 500, 1 = 300, 2 = 250, 3 = 1000 kbit/s) at which the drive reads the
/// format. 1.2M drives turn at 360 rpm, so that double density comes at 300 kbit/s.
constexpr uint8_t floppy_data_rate(FloppyType type, FloppyDensity density) {
    switch (density) {
        case FloppyDensity::double_density: return type == FloppyType::d1200k ? 1 : 2;
        case FloppyDensity::high_density: return 0;
        case FloppyDensity::extra_density: return 3;
    }
    return 0;
}

/// A drive type's name as viv,drive-type has it, and back.
std::string_view floppy_type_name(FloppyType type);
std::optional<FloppyType> floppy_type_of_name(std::string_view name);

}  // namespace viv
