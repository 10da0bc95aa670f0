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
    explicit Qcow2Rig(std::shared_ptr<FileContent> file) : content(std::move(file)) {}
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

/// Makes the internal snapshot "first" of what an image holds, as another program would that has it alone.
inline void make_internal_snapshot(FileContent& content) {
    const auto shared = std::shared_ptr<FileContent>(&content, [](FileContent*) {});
    MemoryFile file(shared);
    qcow2::Header header = *read_qcow2_header(file, "test.qcow2");
    const uint64_t cluster = header.cluster_size();
    qcow2::Refcounts counts(file, header);
    std::vector<uint64_t> freed;
    REQUIRE(counts.load() == DiskStatus::ok);
    const auto use = [&](uint64_t offset, uint64_t length) {
        for (uint64_t c = offset / cluster; c <= (offset + length - 1) / cluster; ++c)
            REQUIRE(counts.add(c, 1) == DiskStatus::ok);
    };
    const auto shared_from_now_on = [&](uint64_t at) {
        const auto word = qcow2::load<uint64_t>(content.bytes, at);
        qcow2::store(std::span(content.bytes), at, word & ~qcow2::entry_copied);
        return word;
    };
    for (uint64_t i = 0; i < header.l1_size; ++i) {
        const uint64_t table = shared_from_now_on(header.l1_offset + i * 8) & qcow2::entry_offset_mask;
        if (table == 0) continue;
        use(table, cluster);
        for (uint64_t at = table; at < table + cluster; at += header.l2_entry_size()) {
            const auto entry = shared_from_now_on(at);
            const qcow2::CompressedPlace packed = qcow2::compressed_place(header, entry);
            if ((entry & qcow2::entry_compressed) != 0) {
                use(packed.offset, packed.length);
            } else if ((entry & qcow2::entry_offset_mask) != 0) {
                use(entry & qcow2::entry_offset_mask, cluster);
            }
        }
    }
    uint64_t l1 = 0;
    const uint64_t l1_bytes = header.l1_size * uint64_t{8};
    REQUIRE(counts.allocate((l1_bytes + cluster - 1) / cluster, l1) == DiskStatus::ok);
    REQUIRE(counts.allocate(1, header.snapshots_offset) == DiskStatus::ok);
    REQUIRE(file.resize(counts.end() * cluster) == DiskStatus::ok);
    std::copy_n(content.bytes.begin() + static_cast<ptrdiff_t>(header.l1_offset), l1_bytes,
                content.bytes.begin() + static_cast<ptrdiff_t>(l1));
    const auto entry = std::span(content.bytes).subspan(header.snapshots_offset, 72);
    qcow2::store(entry, 0, l1);
    qcow2::store(entry, 8, header.l1_size);
    qcow2::store(entry, 12, uint16_t{1});
    qcow2::store(entry, 14, uint16_t{5});
    qcow2::store(entry, 36, uint32_t{16});
    qcow2::store(entry, 48, header.size);
    std::memcpy(&entry[56], "1first", 6);
    header.snapshots = 1;
    REQUIRE(counts.write_blocks() == DiskStatus::ok);
    REQUIRE(counts.write_table(freed) == DiskStatus::ok);
    qcow2::store(std::span(content.bytes), qcow2::at_snapshots, header.snapshots);
    qcow2::store(std::span(content.bytes), qcow2::at_snapshots + 4, header.snapshots_offset);
}

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
