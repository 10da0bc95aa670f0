#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "devices/storage/disk_geometry.hpp"
#include "devices/storage/drive_registry.hpp"
#include "devices/storage/image/disk_queue.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// A disk that has its controller for itself (NVMe, virtio), as the firmware and the control side know drives.
class DiskDrive final : public Drive {
  public:
    DiskDrive(std::unique_ptr<DiskImage> image, std::string serial)
        : DiskDrive(std::make_unique<DiskQueue>(std::move(image)), std::move(serial)) {}
    DiskDrive(std::unique_ptr<DiskQueue> image, std::string serial)
        : image_(std::move(image)), serial_(std::move(serial)), geometry_(geometry_of_disk(*image_)) {}

    [[nodiscard]] DriveKind drive_kind() const override { return DriveKind::disk; }
    [[nodiscard]] DiskImage* medium() override { return image_.get(); }
    [[nodiscard]] DriveGeometry geometry() const override { return geometry_.native; }
    [[nodiscard]] DriveGeometry bios_geometry() const override { return geometry_.bios; }

    [[nodiscard]] bool can_grow() const override { return on_grown_ != nullptr; }
    Result<void> grow(uint64_t bytes) override;
    /// Of a controller that can tell the guest of a longer disk.
    void on_grown(std::move_only_function<void()> tell) { on_grown_ = std::move(tell); }

    [[nodiscard]] DiskImage& image() const { return *image_; }
    /// The image, for requests beside the machine.
    [[nodiscard]] DiskQueue& queue() const { return *image_; }
    [[nodiscard]] bool read_only() const { return image_->read_only(); }
    [[nodiscard]] const std::string& serial() const { return serial_; }

  private:
    std::unique_ptr<DiskQueue> image_;
    std::string serial_;
    DiskGeometry geometry_;
    std::move_only_function<void()> on_grown_;
};

/// viv,aio of a drive's node.
Result<DiskWay> disk_way(const DeviceContext& context, const TreeNode& node);

/// The disk of a node: viv,image, viv,read-only, viv,snapshot, viv,format, viv,cache and viv,aio ("threads": no
/// io_uring).
Result<std::unique_ptr<DiskQueue>> open_disk_queue(DeviceContext& context);

}  // namespace viv
