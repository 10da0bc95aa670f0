#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "devices/storage/image/qcow2_image.hpp"

namespace viv {

using namespace qcow2;

DiskStatus Qcow2Image::flush() {
    return read_only_ ? DiskStatus::ok : commit();
}

DiskStatus Qcow2Image::commit() {
    if (broken_) return DiskStatus::io_error;
    if (const DiskStatus status = commit_tables(); status != DiskStatus::ok) return status;
    free_unused();
    return DiskStatus::ok;
}

DiskStatus Qcow2Image::commit_tables() {
    const auto barrier = [&] {
        const DiskStatus status = file_->flush();
        // What the host lost it will not write at the second try, and nothing is sure about the order any more.
        if (status != DiskStatus::ok) broken_ = true;
        return status;
    };
    if (l2_.any_dirty() || l1_dirty_from_ != l1_dirty_to_) {
        // Counts that are marked as wrong can wait for the end.
        if ((header_.incompatible & incompatible_dirty) == 0) {
            if (const DiskStatus status = refcounts_.write_blocks(); status != DiskStatus::ok) return status;
            if (refcounts_.table_dirty()) {
                if (const DiskStatus status = barrier(); status != DiskStatus::ok) return status;
                if (const DiskStatus status = refcounts_.write_table(unused_); status != DiskStatus::ok) return status;
            }
        }
        if (const DiskStatus status = l2_.write(TableCache::Which::fresh); status != DiskStatus::ok) return status;
        if (const DiskStatus status = barrier(); status != DiskStatus::ok) return status;
        if (const DiskStatus status = l2_.write(TableCache::Which::all); status != DiskStatus::ok) return status;
        if (const DiskStatus status = write_l1(); status != DiskStatus::ok) return status;
    }
    return barrier();
}

DiskStatus Qcow2Image::write_l1() {
    if (l1_dirty_from_ == l1_dirty_to_) return DiskStatus::ok;
    std::vector<std::byte> bytes((l1_dirty_to_ - l1_dirty_from_) * 8);
    for (size_t i = l1_dirty_from_; i < l1_dirty_to_; ++i) {
        store(std::span(bytes), (i - l1_dirty_from_) * 8, l1_[i]);
    }
    const DiskStatus status = file_->write(header_.l1_offset + l1_dirty_from_ * 8, bytes);
    if (status == DiskStatus::ok) l1_dirty_from_ = l1_dirty_to_ = 0;
    return status;
}

/// Nothing in the file points to these any more.
void Qcow2Image::free_unused() {
    if (unused_.empty()) return;
    std::ranges::sort(unused_);
    uint64_t hole = 0;
    uint64_t hole_end = 0;
    for (const uint64_t offset : unused_) {
        if (refcounts_.add(offset / cluster_size(), -1) != DiskStatus::ok) {
            static_cast<void>(refuse_corruption("a cluster in use counts as free"));
            break;
        }
        uint64_t count = 0;
        if (refcounts_.get(offset / cluster_size(), count) != DiskStatus::ok || count != 0) continue;
        l2_.drop(offset);
        const auto at = std::ranges::lower_bound(metadata_, offset);
        if (at != metadata_.end() && *at == offset) metadata_.erase(at);
        if (offset != hole_end) {
            if (hole_end != hole) file_->punch(hole, hole_end - hole);
            hole = offset;
        }
        hole_end = offset + cluster_size();
    }
    if (hole_end != hole) file_->punch(hole, hole_end - hole);
    unused_.clear();
    unpacked_.clear();
    pack_at_ = 0;
}

DiskStatus Qcow2Image::close() {
    if (!begun_ || broken_) return DiskStatus::ok;
    if (const DiskStatus status = commit(); status != DiskStatus::ok) return status;
    // A table that moves leaves its old place to be counted down.
    while (refcounts_.blocks_dirty() || refcounts_.table_dirty()) {
        if (const DiskStatus status = refcounts_.write_blocks(); status != DiskStatus::ok) return status;
        if (const DiskStatus status = file_->flush(); status != DiskStatus::ok) return status;
        if (const DiskStatus status = refcounts_.write_table(unused_); status != DiskStatus::ok) return status;
        if (const DiskStatus status = file_->flush(); status != DiskStatus::ok) return status;
        free_unused();
    }
    if ((header_.incompatible & incompatible_dirty) == 0) return DiskStatus::ok;
    header_.incompatible &= ~incompatible_dirty;
    const DiskStatus status = write_header_word(at_incompatible, header_.incompatible);
    return status == DiskStatus::ok ? file_->flush() : status;
}

DiskStatus Qcow2Image::rewrite_header() {
    constexpr size_t at_once = 512;  // A sector is there or it is not, whenever the host stops.
    auto bytes = encode_header(header_);
    if (bytes && bytes->size() > at_once) bytes = encode_header(header_, FeatureNames::without);
    if (!bytes) return DiskStatus::io_error;
    // What is behind it in the first cluster is of no meaning.
    bytes->resize((bytes->size() + at_once - 1) / at_once * at_once);
    const DiskStatus status = file_->write(0, *bytes);
    return status == DiskStatus::ok ? file_->flush() : status;
}

}  // namespace viv
