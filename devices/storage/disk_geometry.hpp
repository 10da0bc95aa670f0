#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "devices/storage/drive_registry.hpp"

namespace viv {

/// Cylinders of `sectors` sectors at this many heads and sectors a track, at most `limit`.
constexpr DriveGeometry cut_into_cylinders(uint64_t sectors, uint32_t heads, uint32_t per_track, uint64_t limit) {
    const uint64_t cylinders = std::clamp<uint64_t>(sectors / (uint64_t{heads} * per_track), 1, limit);
    return {static_cast<uint32_t>(cylinders), heads, per_track};
}

/// The largest number of cylinders of an ATA disk's default translation (ATA/ATAPI-6, 6.2.1).
inline constexpr uint32_t ata_max_cylinders = 16383;
/// What CH and CL of INT 13h can hold.
inline constexpr uint32_t bios_max_cylinders = 1024;

/// The default translation of an ATA disk: 16 heads of 63 sectors, fewer only for disks that have not even one such
/// cylinder. `sectors` is at least 1.
constexpr DriveGeometry ata_geometry(uint64_t sectors) {
    if (sectors >= 16 * 63) return cut_into_cylinders(sectors, 16, 63, ata_max_cylinders);
    return cut_into_cylinders(sectors, 1, static_cast<uint32_t>(std::min<uint64_t>(sectors, 63)), ata_max_cylinders);
}

/// What INT 13h shows of a disk whose own translation is `physical`: the same if its cylinders fit, else "LBA assisted"
/// (Phoenix Enhanced Disk Drive Specification 3.0, 5.2): 63 sectors, and heads doubled until the cylinders fit.
constexpr DriveGeometry bios_translation(const DriveGeometry& physical, uint64_t sectors) {
    if (physical.cylinders <= bios_max_cylinders) return physical;
    for (const uint32_t heads : {16u, 32u, 64u, 128u}) {
        if (sectors / (uint64_t{heads} * 63) <= bios_max_cylinders) {
            return cut_into_cylinders(sectors, heads, 63, bios_max_cylinders);
        }
    }
    return cut_into_cylinders(sectors, 255, 63, bios_max_cylinders);
}

/// The heads and sectors that whoever partitioned the disk used, as `cylinders` 0: from a partition whose end is the
/// same place as CHS and as LBA. Nothing when the sector is no partition table or tells nothing.
std::optional<DriveGeometry> geometry_of_partition_table(std::span<const std::byte> sector);

/// How a disk of this content is cut: its default translation (ATA words 1, 3 and 6), and what INT 13h shows. A disk
/// that was partitioned with another translation keeps it, or its boot code would read the wrong places.
struct DiskGeometry {
    DriveGeometry native;
    DriveGeometry bios;
};
DiskGeometry geometry_of_disk(DiskImage& image);

}  // namespace viv
