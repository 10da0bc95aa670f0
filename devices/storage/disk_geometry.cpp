#include "devices/storage/disk_geometry.hpp"

#include <array>

namespace viv {
namespace {

uint32_t byte_at(std::span<const std::byte> sector, size_t offset) {
    return std::to_integer<uint32_t>(sector[offset]);
}

uint32_t dword_at(std::span<const std::byte> sector, size_t offset) {
    return byte_at(sector, offset) | byte_at(sector, offset + 1) << 8 | byte_at(sector, offset + 2) << 16 |
           byte_at(sector, offset + 3) << 24;
}

}  // namespace

std::optional<DriveGeometry> geometry_of_partition_table(std::span<const std::byte> sector) {
    if (sector.size() < 512 || byte_at(sector, 510) != 0x55 || byte_at(sector, 511) != 0xAA) return std::nullopt;
    for (size_t entry = 446; entry < 510; entry += 16) {
        const uint32_t head = byte_at(sector, entry + 5);
        const uint32_t per_track = byte_at(sector, entry + 6) & 0x3F;
        const uint32_t cylinder = byte_at(sector, entry + 7) | (byte_at(sector, entry + 6) & 0xC0) << 2;
        const uint64_t start = dword_at(sector, entry + 8);
        const uint64_t length = dword_at(sector, entry + 12);
        if (byte_at(sector, entry + 4) == 0 || length == 0 || per_track == 0 || head == 0 || head > 254) continue;
        // Partitions end with a cylinder, so the end names the last head and the last sector.
        const uint64_t end = (uint64_t{cylinder} * (head + 1) + head) * per_track + per_track - 1;
        if (start + length - 1 == end) return DriveGeometry{0, head + 1, per_track};
    }
    return std::nullopt;
}

DiskGeometry geometry_of_disk(DiskImage& image) {
    const uint64_t sectors = image.sectors();
    DiskGeometry geometry;
    geometry.native = ata_geometry(sectors);
    geometry.bios = bios_translation(geometry.native, sectors);
    std::array<std::byte, DiskImage::sector_size> first{};
    if (image.read(0, first) != DiskStatus::ok) return geometry;
    const auto used = geometry_of_partition_table(first);
    if (!used || uint64_t{used->heads} * used->sectors > sectors) return geometry;
    if (used->heads <= 16) {
        geometry.native = cut_into_cylinders(sectors, used->heads, used->sectors, ata_max_cylinders);
    }
    geometry.bios = cut_into_cylinders(sectors, used->heads, used->sectors, bios_max_cylinders);
    return geometry;
}

}  // namespace viv
