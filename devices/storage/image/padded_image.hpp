#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "devices/storage/image/disk_image.hpp"

namespace viv {

/// A medium whose image ends early: what lies behind reads as zeros and takes no writes.
class PaddedImage final : public DiskImage {
  public:
    PaddedImage(std::unique_ptr<DiskImage> image, uint64_t size) : image_(std::move(image)), size_(size) {}
    [[nodiscard]] uint64_t size() const override { return size_; }
    [[nodiscard]] bool read_only() const override { return image_->read_only(); }
    [[nodiscard]] const std::string& name() const override { return image_->name(); }
    DiskStatus read(uint64_t offset, std::span<std::byte> out) override {
        if (offset > size_ || out.size() > size_ - offset) return DiskStatus::out_of_range;
        const uint64_t end = image_->sectors() * sector_size;
        const uint64_t backed = offset < end ? std::min<uint64_t>(out.size(), end - offset) : 0;
        std::ranges::fill(out.subspan(backed), std::byte{0});
        return backed == 0 ? DiskStatus::ok : image_->read(offset, out.first(backed));
    }
    DiskStatus write(uint64_t offset, std::span<const std::byte> in) override { return image_->write(offset, in); }
    DiskStatus flush() override { return image_->flush(); }

  private:
    std::unique_ptr<DiskImage> image_;
    uint64_t size_;
};

}  // namespace viv
