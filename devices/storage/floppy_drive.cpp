#include "devices/storage/floppy_drive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "devices/storage/image/padded_image.hpp"

namespace viv {
namespace {

Result<FloppyFormat> format_of(DiskImage& image) {
    std::array<std::byte, DiskImage::sector_size> boot_sector{};
    if (image.read(0, boot_sector) != DiskStatus::ok) {
        return fail(fmt::format("cannot use '{}' as a floppy: its first sector cannot be read", image.name()));
    }
    if (auto format = floppy_format_of_image(image.size(), boot_sector)) return *format;
    return fail(
        fmt::format("cannot use '{}' as a floppy: no floppy holds its {} bytes (at most 2949120); attach it as a "
                    "hard disk",
                    image.name(), image.size()));
}

}  // namespace

Result<void> FloppyDrive::load(std::unique_ptr<DiskImage> image) {
    const FloppyFormat format = TRY(format_of(*image));
    if (!floppy_drive_reads(type_, format)) {
        return fail(fmt::format(
            "cannot insert '{}': its format ({}) does not fit a {} floppy drive; set viv,drive-type to "
            "\"{}\"",
            image->name(), format.name, floppy_type_name(type_), floppy_type_name(floppy_type_for(format))));
    }
    if (image->size() < format.bytes()) image = std::make_unique<PaddedImage>(std::move(image), format.bytes());
    image_ = std::move(image);
    format_ = format;
    return {};
}

Result<void> FloppyDrive::insert(std::unique_ptr<DiskImage> image) {
    TRY(load(std::move(image)));
    state_.change_line = true;
    state_.changed_for_firmware = true;
    return {};
}

Result<void> FloppyDrive::eject() {
    if (!image_) return {};
    image_.reset();
    state_.change_line = true;
    state_.changed_for_firmware = true;
    return {};
}

void FloppyDrive::step(int steps) {
    const int reached = std::clamp(state_.cylinder + steps, 0, floppy_drive_cylinders(type_) - 1);
    state_.cylinder = static_cast<uint8_t>(reached);
    // Any step pulse resets the line if a medium is in (82077AA data sheet, 2.1.7 and the drives' manuals).
    if (image_ && steps != 0) state_.change_line = false;
}

std::optional<uint32_t> FloppyDrive::recorded_cylinder() const {
    if (!image_) return std::nullopt;
    uint32_t cylinder = state_.cylinder;
    if (format_.geometry.cylinders <= 42 && floppy_drive_cylinders(type_) > 42) {
        if (cylinder % 2 != 0) return std::nullopt;
        cylinder /= 2;
    }
    if (cylinder >= format_.geometry.cylinders) return std::nullopt;
    return cylinder;
}

uint64_t FloppyDrive::offset_of(uint32_t head, uint32_t sector) const {
    const auto cylinder = recorded_cylinder();
    VIV_ASSERT(cylinder && head < format_.geometry.heads && sector >= 1 && sector <= format_.geometry.sectors);
    return ((uint64_t{*cylinder} * format_.geometry.heads + head) * format_.geometry.sectors + sector - 1) * 512;
}

DiskStatus FloppyDrive::read_sector(uint32_t head, uint32_t sector, std::span<std::byte> out) {
    return image_->read(offset_of(head, sector), out);
}

DiskStatus FloppyDrive::write_sector(uint32_t head, uint32_t sector, std::span<const std::byte> in) {
    return image_->write(offset_of(head, sector), in);
}

Result<std::unique_ptr<FloppyDrive>> make_floppy_drive(const DeviceContext& context, const TreeNode* node,
                                                       FloppyDriveState& state, uint8_t unit) {
    const auto path = node ? node->string("viv,image") : std::nullopt;
    const auto wanted = node ? node->string("viv,drive-type") : std::nullopt;
    if (unit != 0 && !path && !wanted) return nullptr;
    std::optional<FloppyType> type;
    if (wanted) {
        type = floppy_type_of_name(*wanted);
        if (!type) {
            return context.refuse(
                fmt::format("viv,drive-type of drive {} is \"{}\"; it can be 360K, 1.2M, 720K, 1.44M or "
                            "2.88M",
                            unit, *wanted));
        }
    }
    if (!path) return std::make_unique<FloppyDrive>(state, unit, type.value_or(FloppyType::d1440k));
    auto image = TRY(open_disk_image(*path, image_access(*node)));
    if (!type) type = floppy_type_for(TRY(format_of(*image)));
    auto drive = std::make_unique<FloppyDrive>(state, unit, *type);
    TRY(drive->load(std::move(image)));
    return drive;
}

}  // namespace viv
