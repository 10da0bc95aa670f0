#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "devices/storage/drive_registry.hpp"
#include "devices/storage/floppy_format.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct FloppyDriveState {
    uint8_t cylinder = 0;               // where the heads are
    bool change_line = true;            // the medium may have changed since the last step with one in the drive
    bool changed_for_firmware = false;  // the same for INT 13h, which cannot step
    static void fields(auto& self, auto&& visit) {
        visit("cylinder", self.cylinder);
        visit("change-line", self.change_line);
        visit("changed-for-firmware", self.changed_for_firmware);
    }
    bool operator==(const FloppyDriveState&) const = default;
};

/// A floppy drive on the controller's cable: heads, change line, and a medium of one of the formats.
class FloppyDrive final : public Drive {
  public:
    /// `state` is the part of the controller's state that belongs to this drive.
    FloppyDrive(FloppyDriveState& state, uint8_t unit, FloppyType type) : state_(state), unit_(unit), type_(type) {}

    [[nodiscard]] DriveKind drive_kind() const override { return DriveKind::floppy; }
    [[nodiscard]] DiskImage* medium() override { return image_.get(); }
    [[nodiscard]] DriveGeometry geometry() const override { return image_ ? format_.geometry : DriveGeometry{}; }
    [[nodiscard]] FloppyType floppy_type() const override { return type_; }
    [[nodiscard]] bool removable() const override { return true; }
    [[nodiscard]] uint8_t unit() const override { return unit_; }
    [[nodiscard]] bool medium_changed() const override { return state_.changed_for_firmware; }
    void acknowledge_medium_change() override { state_.changed_for_firmware = false; }
    Result<void> insert(std::unique_ptr<DiskImage> image) override;
    Result<void> eject() override;

    /// Puts the first medium in, before the machine runs: that is no change. Errors as insert().
    Result<void> load(std::unique_ptr<DiskImage> image);

    /// The format of the medium; nullptr when the drive is empty.
    [[nodiscard]] const FloppyFormat* format() const { return image_ ? &format_ : nullptr; }
    [[nodiscard]] bool write_protected() const { return image_ && image_->read_only(); }
    /// DSKCHG; an empty drive keeps it asserted.
    [[nodiscard]] bool change_line() const { return !image_ || state_.change_line; }
    [[nodiscard]] bool at_track_0() const { return state_.cylinder == 0; }
    /// Moves the heads by `steps` cylinders, negative towards track 0, up to the stops.
    void step(int steps);

    /// The cylinder of the medium under the heads: on 40-track media in an 80-track drive only every other position has
    /// one.
    [[nodiscard]] std::optional<uint32_t> recorded_cylinder() const;
    /// DRATE SEL at which the medium can be read in this drive.
    [[nodiscard]] uint8_t data_rate() const { return floppy_data_rate(type_, format_.density); }

    /// One sector of the cylinder under the heads; `sector` from 1. The medium must have it.
    [[nodiscard]] DiskStatus read_sector(uint32_t head, uint32_t sector, std::span<std::byte> out);
    [[nodiscard]] DiskStatus write_sector(uint32_t head, uint32_t sector, std::span<const std::byte> in);

  private:
    [[nodiscard]] uint64_t offset_of(uint32_t head, uint32_t sector) const;

    FloppyDriveState& state_;
    uint8_t unit_;
    FloppyType type_;
    std::unique_ptr<DiskImage> image_;
    FloppyFormat format_;
};

/// The drive of a node `drive@N`: its type from viv,drive-type or from the image, its medium from viv,image. Nothing
/// when the node asks for no drive; drive 0 is always there.
Result<std::unique_ptr<FloppyDrive>> make_floppy_drive(const DeviceContext& context, const TreeNode* node,
                                                       FloppyDriveState& state, uint8_t unit);

}  // namespace viv
