#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "devices/storage/image/disk_image.hpp"

namespace viv {

/// A medium in memory, for tests and fuzz targets; it can fail on demand.
class MemoryImage final : public DiskImage {
  public:
    explicit MemoryImage(std::vector<std::byte> content, ImageAccess access = ImageAccess::writable)
        : bytes(std::move(content)), access_(access) {}
    explicit MemoryImage(size_t size, ImageAccess access = ImageAccess::writable)
        : MemoryImage(std::vector<std::byte>(size), access) {}

    [[nodiscard]] uint64_t size() const override { return bytes.size(); }
    [[nodiscard]] bool read_only() const override { return access_ == ImageAccess::read_only; }
    [[nodiscard]] const std::string& name() const override { return name_; }
    DiskStatus read(uint64_t offset, std::span<std::byte> out) override {
        if (offset > size() || out.size() > size() - offset) return DiskStatus::out_of_range;
        if (fails(offset, out.size())) return fault;
        std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
        return DiskStatus::ok;
    }
    DiskStatus write(uint64_t offset, std::span<const std::byte> in) override {
        if (read_only()) return DiskStatus::read_only;
        if (offset > size() || in.size() > size() - offset) return DiskStatus::out_of_range;
        if (fails(offset, in.size())) return fault;
        std::ranges::copy(in, bytes.begin() + static_cast<ptrdiff_t>(offset));
        return DiskStatus::ok;
    }
    DiskStatus discard(uint64_t offset, uint64_t length) override {
        if (read_only()) return DiskStatus::read_only;
        if (offset > size() || length > size() - offset) return DiskStatus::out_of_range;
        std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(offset), length, std::byte{0});
        return DiskStatus::ok;
    }
    Result<void> grow(uint64_t size) override {
        TRY(check_growth(*this, size));
        bytes.resize(size);
        return {};
    }
    DiskStatus flush() override {
        ++flushes;
        if (before_flush) before_flush();
        return flush_fault;
    }

    std::vector<std::byte> bytes;
    /// The sector whose transfers end in `fault`.
    uint64_t bad_sector = ~uint64_t{0};
    DiskStatus fault = DiskStatus::io_error;
    DiskStatus flush_fault = DiskStatus::ok;
    unsigned flushes = 0;
    std::function<void()> before_flush;

  private:
    [[nodiscard]] bool fails(uint64_t offset, uint64_t length) const {
        return offset / sector_size <= bad_sector && bad_sector <= (offset + length - 1) / sector_size;
    }

    std::string name_ = "memory";
    ImageAccess access_;
};

/// Every sector starts with its number, so that a test sees which one it got.
inline std::vector<std::byte> numbered_sectors(size_t count) {
    std::vector<std::byte> bytes(count * DiskImage::sector_size);
    for (size_t sector = 0; sector < count; ++sector) {
        for (size_t i = 0; i < DiskImage::sector_size; ++i) {
            bytes[sector * DiskImage::sector_size + i] = static_cast<std::byte>(i < 4 ? sector >> (8 * i) : sector + i);
        }
    }
    return bytes;
}

}  // namespace viv
