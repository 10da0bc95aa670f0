#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "devices/storage/image/qcow2_check.hpp"
#include "devices/storage/image/qcow2_codec.hpp"
#include "devices/storage/image/qcow2_image.hpp"

namespace viv {

using namespace qcow2;

namespace {

// Clusters that wait for a commit to be free; a list of some size, not without end.
constexpr size_t max_unused = 32768;

}  // namespace

Result<void> Qcow2Image::prepare_for_writing() {
    if ((header_.incompatible & incompatible_corrupt) != 0) {
        return fail(
            "it is marked as corrupt; repair it with viv image check --repair all, or only read it (--read-only)");
    }
    if ((header_.incompatible & incompatible_dirty) != 0) {
        log_line(fmt::format("disk image '{}' was not closed; its counts are made right", name_));
        const CheckReport report = TRY(Qcow2Checker::check(*this, Repair::all));
        if (report.errors != 0) return fail("its counts cannot be made right; see viv image check");
    }
    if (refcounts_.load() != DiskStatus::ok) return fail("its refcount table cannot be read");
    // Tables that overlap would destroy one another.
    std::vector<uint64_t> places{0};
    const auto add = [&](uint64_t offset, uint64_t bytes) {
        for (uint64_t at = 0; at < bytes; at += cluster_size()) places.push_back(offset + at);
    };
    add(header_.l1_offset, uint64_t{header_.l1_size} * 8);
    add(header_.refcount_table_offset, uint64_t{header_.refcount_table_clusters} << header_.cluster_bits);
    for (const uint64_t block : refcounts_.table()) {
        if (block != 0) places.push_back(block);
    }
    for (const uint64_t entry : l1_) {
        const uint64_t place = entry & entry_offset_mask;
        if (place == 0) continue;
        places.push_back(place);
        metadata_.push_back(place);
    }
    std::ranges::sort(metadata_);
    std::ranges::sort(places);
    const bool off_grid = std::ranges::any_of(places, [&](uint64_t at) { return at % cluster_size() != 0; });
    const bool twice = std::ranges::adjacent_find(places) != places.end();
    if (off_grid || twice || places.back() / cluster_size() >= refcounts_.end()) {
        return fail("its tables overlap or lie outside of it; see viv image check, or only read it (--read-only)");
    }
    read_only_ = false;
    return {};
}

bool Qcow2Image::is_metadata(uint64_t offset) const {
    const auto in = [&](uint64_t start, uint64_t bytes) {
        return bytes != 0 && offset + cluster_size() > start && offset < start + bytes;
    };
    if (offset < cluster_size() || in(header_.l1_offset, uint64_t{header_.l1_size} * 8) ||
        in(header_.refcount_table_offset, uint64_t{header_.refcount_table_clusters} << header_.cluster_bits) ||
        in(header_.snapshots_offset, header_.snapshots) || refcounts_.is_block(offset)) {
        return true;
    }
    for (const Snapshot& snapshot : snapshots_) {
        if (in(snapshot.l1_offset, uint64_t{snapshot.l1_size} * 8)) return true;
    }
    return std::ranges::binary_search(metadata_, offset);
}

void Qcow2Image::note_metadata(uint64_t offset) {
    metadata_.insert(std::ranges::lower_bound(metadata_, offset), offset);
}

DiskStatus Qcow2Image::refuse_corruption(std::string_view what) {
    broken_ = true;
    log_.say(
        fmt::format("disk image '{}': {}: it is corrupt and takes no more writes; see viv image check", name_, what));
    if (header_.version >= 3 && (header_.incompatible & incompatible_corrupt) == 0) {
        header_.incompatible |= incompatible_corrupt;
        if (write_header_word(at_incompatible, header_.incompatible) == DiskStatus::ok) {
            static_cast<void>(file_->flush());
        }
    }
    return DiskStatus::io_error;
}

DiskStatus Qcow2Image::write_header_word(size_t at, uint64_t value) {
    std::array<std::byte, 8> bytes{};
    store(std::span<std::byte>(bytes), 0, value);
    return file_->write(at, bytes);
}

DiskStatus Qcow2Image::begin_writing() {
    if (broken_) return DiskStatus::io_error;
    if (unused_.size() > max_unused) {
        if (const DiskStatus status = commit(); status != DiskStatus::ok) return status;
    }
    if (begun_) return DiskStatus::ok;
    // What others keep beside the data (bitmaps) is out of date from now on.
    if (header_.autoclear != 0) {
        header_.autoclear = 0;
        DiskStatus status = write_header_word(at_autoclear, 0);
        if (status == DiskStatus::ok) status = file_->flush();
        if (status != DiskStatus::ok) return status;
    }
    begun_ = true;
    return DiskStatus::ok;
}

DiskStatus Qcow2Image::mark_dirty() {
    if (header_.version < 3 || !header_.lazy_refcounts() || (header_.incompatible & incompatible_dirty) != 0) {
        return DiskStatus::ok;
    }
    header_.incompatible |= incompatible_dirty;
    const DiskStatus status = write_header_word(at_incompatible, header_.incompatible);
    return status == DiskStatus::ok ? file_->flush() : status;
}

DiskStatus Qcow2Image::allocate(uint64_t count, uint64_t& offset) {
    if (const DiskStatus status = mark_dirty(); status != DiskStatus::ok) return status;
    const DiskStatus status = refcounts_.allocate(count, offset);
    if (status == DiskStatus::io_error) return refuse_corruption("a refcount block is in no sound place");
    if (status != DiskStatus::ok) return status;
    for (uint64_t i = 0; i < count; ++i) {
        if (is_metadata(offset + i * cluster_size())) return refuse_corruption("a cluster with a table counts as free");
    }
    return DiskStatus::ok;
}

void Qcow2Image::release_clusters(uint64_t offset, uint64_t length) {
    const uint64_t first = offset / cluster_size() * cluster_size();
    for (uint64_t at = first; at < offset + length; at += cluster_size()) unused_.push_back(at);
}

void Qcow2Image::release(const Entry& entry) {
    if (entry.compressed()) {
        const CompressedPlace place = compressed_place(header_, entry.word);
        release_clusters(place.offset, place.length);
    } else if (entry.host() != 0) {
        unused_.push_back(entry.host());
    }
}

void Qcow2Image::set_entry(Table& table, size_t index, Entry entry) {
    const size_t size = header_.l2_entry_size();
    store(std::span(table.bytes), index * size, entry.word);
    if (header_.extended_l2()) store(std::span(table.bytes), index * size + 8, entry.bits);
    table.touch(index * size, size);
}

DiskStatus Qcow2Image::l2_for_writing(uint64_t offset, Table*& table) {
    const size_t index = offset / header_.l2_span();
    if (const DiskStatus status = l2_for_reading(offset, table); status != DiskStatus::ok) return status;
    if (table && (l1_[index] & entry_copied) != 0) return DiskStatus::ok;
    // A new table, or our own copy of one that a snapshot has, too.
    const uint64_t shared = l1_[index] & entry_offset_mask;
    const std::vector<std::byte> content = table ? table->bytes : std::vector<std::byte>();
    if (l2_.victim_is_dirty()) {
        if (const DiskStatus status = commit(); status != DiskStatus::ok) return status;
    }
    uint64_t place = 0;
    if (const DiskStatus status = allocate(1, place); status != DiskStatus::ok) return status;
    if (const DiskStatus status = l2_.insert(place, table); status != DiskStatus::ok) return status;
    std::ranges::copy(content, table->bytes.begin());
    if (shared != 0) unused_.push_back(shared);
    note_metadata(place);
    l1_[index] = place | entry_copied;
    note_l1_change(index);
    return DiskStatus::ok;
}

void Qcow2Image::note_l1_change(size_t index) {
    const bool clean = l1_dirty_from_ == l1_dirty_to_;
    l1_dirty_from_ = clean ? index : std::min(l1_dirty_from_, index);
    l1_dirty_to_ = clean ? index + 1 : std::max(l1_dirty_to_, index + 1);
}

DiskStatus Qcow2Image::write(uint64_t offset, std::span<const std::byte> in) {
    if (read_only_) return DiskStatus::read_only;
    if (!within(offset, in.size(), size_)) return DiskStatus::out_of_range;
    // A sector that is there in part would come back with zeros instead of what was written.
    if (size_ % sector_size != 0 && offset + in.size() > size_ - size_ % sector_size) return DiskStatus::out_of_range;
    while (!in.empty()) {
        if (const DiskStatus status = begin_writing(); status != DiskStatus::ok) return status;
        const uint64_t piece = std::min<uint64_t>(in.size(), header_.l2_span() - offset % header_.l2_span());
        if (const DiskStatus status = write_within_table(offset, in.first(piece)); status != DiskStatus::ok)
            return status;
        offset += piece;
        in = in.subspan(piece);
    }
    return DiskStatus::ok;
}

DiskStatus Qcow2Image::write_within_table(uint64_t offset, std::span<const std::byte> in) {
    Table* table = nullptr;
    if (const DiskStatus status = l2_for_writing(offset, table); status != DiskStatus::ok) return status;
    Pending pending;
    DiskStatus status = DiskStatus::ok;
    while (!in.empty() && status == DiskStatus::ok) {
        const uint64_t piece = std::min<uint64_t>(in.size(), cluster_size() - offset % cluster_size());
        status = write_cluster(*table, offset, in.first(piece), pending);
        offset += piece;
        in = in.subspan(piece);
    }
    // What came before a failure is written, as a disk does.
    const DiskStatus last = write_pending(*table, pending);
    return status == DiskStatus::ok ? last : status;
}

DiskStatus Qcow2Image::write_cluster(Table& table, uint64_t offset, std::span<const std::byte> in, Pending& pending) {
    const size_t index = offset / cluster_size() % header_.l2_entries();
    const Entry before = entry_at(table, index);
    const uint64_t start = offset % cluster_size();
    const uint64_t end = start + in.size();
    const uint64_t guest = offset - start;
    const uint64_t unit = header_.unit_size();
    uint64_t first = start / unit;
    uint64_t last = (end - 1) / unit;
    for (uint64_t i = 0; i < header_.units(); ++i) {
        if (kind_of(before, i) == Kind::bad) return refuse_corruption("the entry of an L2 table makes no sense");
    }
    const bool own = !before.compressed() && before.host() != 0 && (before.word & entry_copied) != 0;
    if (own && is_metadata(before.host())) return refuse_corruption("data would overwrite a table");
    const auto there = [&](uint64_t i) { return own && kind_of(before, i) == Kind::data; };

    Change change{index, before, before, 0};
    uint64_t host = before.host();
    bool fresh_zeros = false;
    if (!own) {
        if (const DiskStatus status = allocate(1, host); status != DiskStatus::ok) return status;
        change.allocated = host;
        fresh_zeros = host >= file_->size();
        if (before.compressed() || before.host() != 0) {  // all of it moves
            first = 0;
            last = header_.units() - 1;
        }
    }
    // What is written: parts of units that were not there bring the rest of the unit along.
    uint64_t from = there(first) ? start : std::min(start, first * unit);
    uint64_t to = there(last) ? end : std::max(end, (last + 1) * unit);
    const auto already_zeros = [&](uint64_t at, uint64_t length) {
        while (length > 0 && guest + at < size_) {
            const DiskExtent part = extent(guest + at, length);
            if (!part.zeros) return false;
            at += part.length;
            length -= part.length;
        }
        return true;
    };
    if (fresh_zeros && already_zeros(from, start - from) && already_zeros(end, to - end)) {
        from = start;
        to = end;
    }
    std::span<const std::byte> bytes = in;
    DiskStatus status = DiskStatus::ok;
    if (from != start || to != end) {
        status = write_pending(table, pending);
        scratch_.resize(cluster_size());
        const auto old_content = [&](uint64_t at, uint64_t length) {
            const auto out = std::span(scratch_).subspan(at, length);
            const uint64_t known = guest + at < size_ ? std::min(length, size_ - guest - at) : 0;
            std::ranges::fill(out.subspan(known), std::byte{0});
            return known == 0 ? DiskStatus::ok : read(guest + at, out.first(known));
        };
        if (status == DiskStatus::ok) status = old_content(from, start - from);
        if (status == DiskStatus::ok) status = old_content(end, to - end);
        std::ranges::copy(in, scratch_.begin() + static_cast<ptrdiff_t>(start));
        bytes = std::span(scratch_).subspan(from, to - from);
    }
    if (status == DiskStatus::ok && change.allocated != 0 && file_->size() < host + cluster_size() &&
        to != cluster_size()) {
        status = file_->resize(host + cluster_size());
    }
    if (status != DiskStatus::ok) {
        if (change.allocated != 0) static_cast<void>(refcounts_.add(host / cluster_size(), -1));
        return status;
    }
    if (!own) change.after.word = host | entry_copied;
    if (header_.extended_l2()) {
        const uint64_t touched = (~uint64_t{0} >> (63 - (last - first))) << first;
        if (before.compressed()) change.after.bits = 0;
        change.after.bits = (change.after.bits | touched) & ~(touched << 32);
    } else {
        change.after.word &= ~entry_zero;
    }
    const bool follows = pending.host + pending.bytes.size() == host + from &&
                         pending.bytes.data() + pending.bytes.size() == bytes.data();
    if (!pending.bytes.empty() && !follows) status = write_pending(table, pending);
    if (status != DiskStatus::ok) {
        if (change.allocated != 0) static_cast<void>(refcounts_.add(host / cluster_size(), -1));
        return status;
    }
    if (pending.bytes.empty()) pending.host = host + from;
    pending.bytes =
        pending.bytes.empty() ? bytes : std::span(pending.bytes.data(), pending.bytes.size() + bytes.size());
    if (change.after != before) pending.changes.push_back(change);
    return DiskStatus::ok;
}

DiskStatus Qcow2Image::write_pending(Table& table, Pending& pending) {
    if (pending.bytes.empty()) return DiskStatus::ok;
    const DiskStatus status = file_->write(pending.host, pending.bytes);
    for (const Change& change : pending.changes) {
        if (status == DiskStatus::ok) {
            set_entry(table, change.index, change.after);
            if (change.allocated != 0) release(change.before);
        } else if (change.allocated != 0) {
            static_cast<void>(refcounts_.add(change.allocated / cluster_size(), -1));
        }
    }
    pending.bytes = {};
    pending.changes.clear();
    return status;
}

DiskStatus Qcow2Image::discard(uint64_t offset, uint64_t length) {
    if (read_only_) return DiskStatus::read_only;
    if (!within(offset, length, size_)) return DiskStatus::out_of_range;
    // Version 2 has no way to say that a cluster hides the one below.
    return header_.version < 3 && has_below(0) ? DiskStatus::ok : clear(offset, length, true);
}

DiskStatus Qcow2Image::write_zeros(uint64_t offset, uint64_t length) {
    if (read_only_) return DiskStatus::read_only;
    if (!within(offset, length, size_)) return DiskStatus::out_of_range;
    return header_.version < 3 && has_below(0) ? DiskImage::write_zeros(offset, length) : clear(offset, length, false);
}

DiskStatus Qcow2Image::clear(uint64_t offset, uint64_t length, bool is_discard) {
    const uint64_t unit = header_.unit_size();
    const uint64_t end = offset + length;
    uint64_t from = (offset + unit - 1) / unit * unit;
    const uint64_t to = end == size_ ? end : end / unit * unit;
    if (from >= to) return is_discard ? DiskStatus::ok : DiskImage::write_zeros(offset, length);
    if (!is_discard) {
        if (const DiskStatus status = DiskImage::write_zeros(offset, from - offset); status != DiskStatus::ok)
            return status;
        if (const DiskStatus status = DiskImage::write_zeros(to, end - to); status != DiskStatus::ok) return status;
    }
    while (from < to) {
        if (const DiskStatus status = begin_writing(); status != DiskStatus::ok) return status;
        const uint64_t piece = std::min(to - from, header_.l2_span() - from % header_.l2_span());
        const bool plain = !has_below(from);
        if ((l1_[from / header_.l2_span()] & entry_offset_mask) != 0 || !(is_discard || plain)) {
            Table* table = nullptr;
            if (const DiskStatus status = l2_for_writing(from, table); status != DiskStatus::ok) return status;
            for (uint64_t done = 0; done < piece;) {
                const uint64_t here = from + done;
                const uint64_t part = std::min(piece - done, cluster_size() - here % cluster_size());
                if (const DiskStatus status = zero_cluster(*table, here, part, is_discard); status != DiskStatus::ok) {
                    return status;
                }
                done += part;
            }
        }
        from += piece;
    }
    return DiskStatus::ok;
}

DiskStatus Qcow2Image::zero_cluster(Table& table, uint64_t offset, uint64_t length, bool is_discard) {
    const size_t index = offset / cluster_size() % header_.l2_entries();
    const Entry before = entry_at(table, index);
    const uint64_t start = offset % cluster_size();
    const uint64_t units = header_.units();
    const uint64_t first = start / header_.unit_size();
    // The disk may end within its last unit.
    const uint64_t past = (start + length + header_.unit_size() - 1) / header_.unit_size();
    const bool all = first == 0 && past == units;
    const bool plain = !has_below(offset - start);
    const bool nothing = before.word == 0 && before.bits == 0;
    if (nothing && (is_discard || plain)) return DiskStatus::ok;
    Entry after = before;
    if (all && (header_.version < 3 || (is_discard && plain))) {
        after = {};
    } else if (!header_.extended_l2()) {
        after = {entry_zero, 0};
    } else if (before.compressed() && !all) {
        if (is_discard) return DiskStatus::ok;
        const std::vector<std::byte> zeros(length);
        Pending pending;
        const DiskStatus status = write_cluster(table, offset, zeros, pending);
        return status == DiskStatus::ok ? write_pending(table, pending) : status;
    } else {
        const uint64_t touched = (~uint64_t{0} >> (64 - (past - first))) << first;
        if (before.compressed()) after.bits = 0;
        after.bits = (after.bits & ~touched) | touched << 32;
        if ((after.bits & 0xFFFF'FFFF) == 0) after.word = 0;
    }
    if (after == before) return DiskStatus::ok;
    for (uint64_t i = 0; i < units; ++i) {
        if (kind_of(before, i) == Kind::bad) return refuse_corruption("the entry of an L2 table makes no sense");
    }
    set_entry(table, index, after);
    if (after.host() == 0 || before.compressed()) release(before);
    return DiskStatus::ok;
}

DiskStatus Qcow2Image::write_compressed(uint64_t offset, std::span<const std::byte> in) {
    VIV_ASSERT(offset % cluster_size() == 0 && in.size() <= cluster_size());
    if (read_only_) return DiskStatus::read_only;
    if (!within(offset, in.size(), size_)) return DiskStatus::out_of_range;
    scratch_.assign(in.begin(), in.end());
    scratch_.resize(cluster_size());
    const std::vector<std::byte> packed = compress(header_.compression, scratch_);
    if (packed.empty() || refcounts_.max_count() < 255) return write(offset, in);
    if (const DiskStatus status = begin_writing(); status != DiskStatus::ok) return status;
    Table* table = nullptr;
    if (const DiskStatus status = l2_for_writing(offset, table); status != DiskStatus::ok) return status;
    const size_t index = offset / cluster_size() % header_.l2_entries();
    const Entry before = entry_at(*table, index);
    // Behind the cluster before, as long as that has room for it.
    uint64_t shared = 0;
    if (pack_at_ % cluster_size() != 0 && cluster_size() - pack_at_ % cluster_size() >= packed.size()) {
        if (const DiskStatus status = refcounts_.get(pack_at_ / cluster_size(), shared); status != DiskStatus::ok)
            return status;
    }
    uint64_t place = pack_at_;
    if (shared != 0 && shared < refcounts_.max_count()) {
        if (const DiskStatus status = refcounts_.add(place / cluster_size(), 1); status != DiskStatus::ok)
            return status;
    } else if (const DiskStatus status = allocate(1, place); status != DiskStatus::ok) {
        return status;
    }
    DiskStatus status = file_->write(place, packed);
    const uint64_t cluster_end = (place / cluster_size() + 1) * cluster_size();
    // Readers take whole sectors.
    if (status == DiskStatus::ok && file_->size() < cluster_end) status = file_->resize(cluster_end);
    if (status != DiskStatus::ok) {
        static_cast<void>(refcounts_.add(place / cluster_size(), -1));
        return status;
    }
    set_entry(*table, index, {compressed_entry(header_, {place, packed.size()}), 0});
    pack_at_ = place + packed.size();
    release(before);
    return DiskStatus::ok;
}

}  // namespace viv
