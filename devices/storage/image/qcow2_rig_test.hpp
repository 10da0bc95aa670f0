#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "devices/storage/image/image_chain.hpp"
#include "devices/storage/image/image_file_test.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/image/qcow2_check.hpp"
#include "vmm/core/catch.hpp"

namespace viv {

/// The same numbers again on every run.
class Dice {
  public:
    explicit Dice(uint64_t seed) : state_(seed * 2 + 1) {}
    uint64_t operator()() {
        state_ = state_ * 6364136223846793005 + 1442695040888963407;
        return state_ >> 33;
    }

  private:
    uint64_t state_;
};

/// An image in memory that can be opened again and again.
struct Qcow2Rig {
    explicit Qcow2Rig(qcow2::Header header, std::vector<std::byte> below = {}) : backing(std::move(below)) {
        if (!backing.empty()) header.backing_file = "base.img", header.backing_format = "raw";
        MemoryFile file(content);
        const auto made = format_qcow2(file, header);
        if (!made) FAIL(made.error().message);
    }
    explicit Qcow2Rig(std::vector<std::byte> bytes) { content->bytes = std::move(bytes); }

    Result<std::unique_ptr<Qcow2Image>> try_open(ImageAccess access = ImageAccess::writable,
                                                 const std::string& snapshot = {}) {
        auto file = std::make_unique<MemoryFile>(content);
        const qcow2::Header header = TRY(read_qcow2_header(*file, "test.qcow2"));
        std::unique_ptr<DiskImage> below;
        if (header.has_backing() && !backing.empty())
            below = std::make_unique<MemoryImage>(backing, ImageAccess::read_only);
        return Qcow2Image::open(std::move(file), "test.qcow2", header, std::move(below), access, snapshot);
    }
    std::unique_ptr<Qcow2Image> open(ImageAccess access = ImageAccess::writable, const std::string& snapshot = {}) {
        auto image = try_open(access, snapshot);
        if (!image) FAIL(image.error().message);
        return std::move(*image);
    }
    std::string refusal(ImageAccess access = ImageAccess::writable) {
        auto image = try_open(access);
        return image ? "" : image.error().message;
    }
    CheckReport check(Repair repair = Repair::none) {
        const auto image = open(ImageAccess::read_only);
        const auto report = Qcow2Checker::check(*image, repair, {});
        if (!report) FAIL(report.error().message);
        return *report;
    }

    std::shared_ptr<FileContent> content = std::make_shared<FileContent>();
    std::vector<std::byte> backing;
};

inline std::vector<std::byte> read_all(DiskImage& image) {
    std::vector<std::byte> bytes(image.size());
    REQUIRE(image.read(0, bytes) == DiskStatus::ok);
    return bytes;
}

inline std::vector<std::byte> random_bytes(size_t size, uint32_t seed) {
    Dice dice(seed + 1);
    std::vector<std::byte> bytes(size);
    for (auto& byte : bytes) byte = static_cast<std::byte>(dice() >> 8);
    return bytes;
}

inline qcow2::Header small_header(uint64_t size, uint32_t cluster_bits = 9) {
    qcow2::Header header;
    header.size = size;
    header.cluster_bits = cluster_bits;
    return header;
}

}  // namespace viv
