#pragma once

#include <memory>
#include <utility>

#include "devices/storage/drive_registry.hpp"

namespace viv::cli {

/// A drive that remembers what people do to it.
struct FakeRemovableDrive final : Drive {
    explicit FakeRemovableDrive(DriveKind kind = DriveKind::cdrom) : kind_(kind) {}
    [[nodiscard]] DriveKind drive_kind() const override { return kind_; }
    [[nodiscard]] DiskImage* medium() override { return image_.get(); }
    [[nodiscard]] DriveGeometry geometry() const override { return {}; }
    [[nodiscard]] bool removable() const override { return kind_ != DriveKind::disk; }
    Result<void> insert(std::unique_ptr<DiskImage> image) override {
        image_ = std::move(image);
        ++inserted;
        return {};
    }
    Result<void> eject() override {
        if (is_locked) return fail("locked");
        image_.reset();
        return {};
    }

    int inserted = 0;
    bool is_locked = false;

  private:
    DriveKind kind_;
    std::unique_ptr<DiskImage> image_;
};

}  // namespace viv::cli
