#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "devices/storage/image/qcow2_image.hpp"

namespace viv {

using namespace qcow2;

DiskStatus Qcow2Image::allocate_all() {
    for (uint64_t offset = 0; offset < size_; offset += cluster_size()) {
        if (const DiskStatus status = begin_writing(); status != DiskStatus::ok) return status;
        Table* table = nullptr;
        if (const DiskStatus status = l2_for_writing(offset, table); status != DiskStatus::ok) return status;
        const size_t index = offset / cluster_size() % header_.l2_entries();
        if (entry_at(*table, index) != Entry{}) continue;
        uint64_t host = 0;
        if (const DiskStatus status = allocate(1, host); status != DiskStatus::ok) return status;
        // A place that was never written is zeros.
        VIV_ASSERT(host >= file_->size() || header_.extended_l2() || header_.version >= 3);
        const bool fresh = host >= file_->size();
        if (fresh) {
            if (const DiskStatus status = file_->resize(host + cluster_size()); status != DiskStatus::ok) return status;
        }
        Entry entry{host | entry_copied, header_.extended_l2() ? uint64_t{0xFFFF'FFFF} : 0};
        if (!fresh)
            entry =
                header_.extended_l2() ? Entry{entry.word, 0xFFFF'FFFF'0000'0000} : Entry{entry.word | entry_zero, 0};
        set_entry(*table, index, entry);
    }
    return flush();
}

DiskStatus Qcow2Image::drop_all() {
    if (read_only_) return DiskStatus::read_only;
    if (const DiskStatus status = commit(); status != DiskStatus::ok) return status;
    for (size_t index = 0; index < l1_.size(); ++index) {
        if (const DiskStatus status = begin_writing(); status != DiskStatus::ok) return status;
        Table* table = nullptr;
        if (const DiskStatus status = l2_for_reading(index * header_.l2_span(), table); status != DiskStatus::ok) {
            return status;
        }
        if (!table) continue;
        for (size_t i = 0; i < header_.l2_entries(); ++i) {
            const Entry entry = entry_at(*table, i);
            if (!entry.compressed() && entry.host() % cluster_size() != 0) {
                return refuse_corruption("the entry of an L2 table makes no sense");
            }
            release(entry);
        }
        unused_.push_back(l1_[index] & entry_offset_mask);
        l1_[index] = 0;
        note_l1_change(index);
    }
    return commit();
}

Result<void> Qcow2Image::grow(uint64_t size) {
    TRY(check_growth(*this, size));
    return resize(size);
}

Result<void> Qcow2Image::resize(uint64_t size) {
    const auto context = [&] { return fmt::format("cannot resize '{}'", name_); };
    const auto host_failed = [&] { return fail(fmt::format("{}: the host's disk is full or failed", context())); };
    // As in commit_tables(): what the host lost it will not write at the second try.
    const auto flush_failed = [&] {
        const bool failed = file_->flush() != DiskStatus::ok;
        broken_ = broken_ || failed;
        return failed;
    };
    VIV_ASSERT(!read_only_);
    if (!snapshots_.empty()) {
        return fail(fmt::format("{}: it has internal snapshots; delete them first (qemu-img snapshot -d)", context()));
    }
    const uint64_t entries = header_.l1_entries_for(size);
    if (entries * 8 > max_l1_bytes) {
        return fail(fmt::format("{}: {} bytes are too many for clusters of {} bytes", context(), size, cluster_size()));
    }
    if (begin_writing() != DiskStatus::ok) return host_failed();
    if (size < size_) {
        // What comes back when it grows again is zeros.
        const uint64_t kept = std::min((size + cluster_size() - 1) / cluster_size() * cluster_size(), size_);
        if (clear(kept, size_ - kept, false) != DiskStatus::ok || write_zeros(size, kept - size) != DiskStatus::ok) {
            return host_failed();
        }
    }
    // With a backing file below what is new, the clusters say themselves that they are zeros; nothing else may be seen.
    const uint64_t old_size = size_;
    if (entries > header_.l1_size) {
        if (commit() != DiskStatus::ok) return host_failed();
        uint64_t place = 0;
        const uint64_t clusters = (entries * 8 + cluster_size() - 1) / cluster_size();
        if (allocate(clusters, place) != DiskStatus::ok) return host_failed();
        std::vector<std::byte> bytes(clusters * cluster_size());
        for (size_t i = 0; i < l1_.size(); ++i) store(std::span(bytes), i * 8, l1_[i]);
        if (file_->write(place, bytes) != DiskStatus::ok || refcounts_.write_blocks() != DiskStatus::ok ||
            flush_failed() || refcounts_.write_table(unused_) != DiskStatus::ok || flush_failed()) {
            return host_failed();
        }
        for (uint64_t at = 0; at < uint64_t{header_.l1_size} * 8; at += cluster_size()) {
            unused_.push_back(header_.l1_offset + at);
        }
        l1_.resize(entries);
        header_.l1_size = static_cast<uint32_t>(entries);
        header_.l1_offset = place;
        std::array<std::byte, 12> words{};
        store(std::span<std::byte>(words), 0, header_.l1_size);
        store(std::span<std::byte>(words), 4, header_.l1_offset);
        if (file_->write(at_l1_size, words) != DiskStatus::ok || flush_failed()) {
            // Which of the two tables is the image's now, nobody knows.
            broken_ = true;
            return host_failed();
        }
    }
    if (commit() != DiskStatus::ok) return host_failed();
    if (backing_ && backing_->size() > old_size && size > old_size) {
        size_ = header_.size = size;
        if (write_zeros(old_size, std::min(size, backing_->size()) - old_size) != DiskStatus::ok ||
            commit() != DiskStatus::ok) {
            size_ = header_.size = old_size;
            return host_failed();
        }
    }
    if (write_header_word(at_size, size) != DiskStatus::ok || flush_failed()) {
        size_ = header_.size = old_size;
        return host_failed();
    }
    size_ = header_.size = size;
    return {};
}

Result<void> Qcow2Image::set_backing(const std::string& path, const std::string& format) {
    VIV_ASSERT(!read_only_);
    if (begin_writing() != DiskStatus::ok || close() != DiskStatus::ok) {
        return fail(fmt::format("cannot change '{}': the host's disk is full or failed", name_));
    }
    header_.backing_file = path;
    header_.backing_format = format;
    const auto bytes = encode_header(header_);
    if (!bytes) return add_context(bytes.error(), fmt::format("cannot change '{}'", name_));
    if (rewrite_header() != DiskStatus::ok)
        return fail(fmt::format("cannot change '{}': the host's disk failed", name_));
    return {};
}

}  // namespace viv
