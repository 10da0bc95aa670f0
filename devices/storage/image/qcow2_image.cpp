#include "devices/storage/image/qcow2_image.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "devices/storage/image/qcow2_codec.hpp"

namespace viv {

using namespace qcow2;

Qcow2Image::Qcow2Image(std::unique_ptr<ImageFile> file, std::string name, Header header,
                       std::unique_ptr<DiskImage> backing)
    : file_(std::move(file)),
      name_(std::move(name)),
      header_(std::move(header)),
      backing_(std::move(backing)),
      size_(header_.size),
      l2_(*file_, header_.cluster_size()),
      refcounts_(*file_, header_) {}

Qcow2Image::~Qcow2Image() {
    if (!read_only_) close();
}

Result<std::unique_ptr<Qcow2Image>> Qcow2Image::open(std::unique_ptr<ImageFile> file, std::string name, Header header,
                                                     std::unique_ptr<DiskImage> backing, ImageAccess access,
                                                     const std::string& snapshot) {
    std::unique_ptr<Qcow2Image> image(
        new Qcow2Image(std::move(file), std::move(name), std::move(header), std::move(backing)));
    if (auto loaded = image->load(access, snapshot); !loaded) {
        return add_context(loaded.error(), fmt::format("cannot use disk image '{}'", image->name_));
    }
    return image;
}

Result<void> Qcow2Image::load(ImageAccess access, const std::string& snapshot) {
    TRY(load_snapshots());
    if (snapshot.empty()) {
        TRY(load_l1(header_.l1_offset, header_.l1_size));
    } else {
        const auto named = [&](auto member) { return std::ranges::find(snapshots_, snapshot, member); };
        auto at = named(&Snapshot::name);
        if (at == snapshots_.end()) at = named(&Snapshot::id);
        if (at == snapshots_.end()) {
            std::string known;
            for (const Snapshot& other : snapshots_)
                known += fmt::format("{}'{}'", known.empty() ? "" : ", ", other.name);
            return fail(fmt::format("it has no snapshot '{}'; it has {}", snapshot, known.empty() ? "none" : known));
        }
        if (access == ImageAccess::writable) {
            return fail(fmt::format("its snapshot '{}' can only be read; use --read-only or --snapshot", snapshot));
        }
        if (at->disk_size != 0) size_ = at->disk_size;
        if (uint64_t{at->l1_size} * 8 > max_l1_bytes || at->l1_size < header_.l1_entries_for(size_)) {
            return fail(fmt::format("the L1 table of its snapshot '{}' has a wrong size", snapshot));
        }
        TRY(load_l1(at->l1_offset, at->l1_size));
    }
    if (access == ImageAccess::writable) TRY(prepare_for_writing());
    return {};
}

Result<void> Qcow2Image::load_snapshots() {
    if (header_.snapshots == 0) return {};
    std::vector<std::byte> bytes;
    size_t at = 0;
    for (uint32_t i = 0; i < header_.snapshots; ++i) {
        Snapshot snapshot;
        std::optional<size_t> length;
        // Piece by piece: only the entries say how long the table is.
        while (!(length = parse_snapshot(std::span(bytes).subspan(std::min(at, bytes.size())), snapshot))) {
            constexpr size_t piece = 256 << 10;
            const size_t have = bytes.size();
            if (have - std::min(at, have) >= piece || have + piece > max_snapshot_table_bytes ||
                header_.snapshots_offset + have > file_->size()) {
                return fail("its snapshot table makes no sense");
            }
            bytes.resize(have + piece);
            if (file_->read(header_.snapshots_offset + have, std::span(bytes).subspan(have)) != DiskStatus::ok) {
                return fail("its snapshot table cannot be read");
            }
        }
        at += *length;
        snapshots_.push_back(std::move(snapshot));
    }
    return {};
}

Result<void> Qcow2Image::load_l1(uint64_t offset, uint32_t entries) {
    if (offset % cluster_size() != 0 || offset >= max_file_offset) return fail("its L1 table is in no sound place");
    std::vector<std::byte> bytes(size_t{entries} * 8);
    if (file_->read(offset, bytes) != DiskStatus::ok) return fail("its L1 table cannot be read");
    l1_.resize(entries);
    for (size_t i = 0; i < l1_.size(); ++i) l1_[i] = qcow2::load<uint64_t>(bytes, i * 8);
    return {};
}

Qcow2Image::Entry Qcow2Image::entry_at(const Table& table, size_t index) const {
    const size_t at = index * header_.l2_entry_size();
    Entry entry{qcow2::load<uint64_t>(table.bytes, at), 0};
    if (header_.extended_l2()) entry.bits = qcow2::load<uint64_t>(table.bytes, at + 8);
    return entry;
}

Qcow2Image::Kind Qcow2Image::kind_of(const Entry& entry, uint64_t unit) const {
    if (entry.compressed()) return Kind::compressed;
    if (entry.host() % cluster_size() != 0) return Kind::bad;
    if (!header_.extended_l2()) {
        if ((entry.word & entry_zero) != 0) return header_.version < 3 ? Kind::bad : Kind::zeros;
        return entry.host() != 0 ? Kind::data : Kind::backing;
    }
    const bool there = (entry.bits >> unit & 1) != 0;
    const bool zeros = (entry.bits >> (32 + unit) & 1) != 0;
    if (there) return zeros || entry.host() == 0 ? Kind::bad : Kind::data;
    return zeros ? Kind::zeros : Kind::backing;
}

DiskStatus Qcow2Image::l2_for_reading(uint64_t offset, Table*& table) {
    table = nullptr;
    const uint64_t place = l1_.at(offset / header_.l2_span()) & entry_offset_mask;
    if (place == 0) return DiskStatus::ok;
    if (place % cluster_size() != 0 || place >= refcounts_.end() * cluster_size()) {
        return bad_entry(offset, "its L2 table is in no sound place");
    }
    // A table that goes would leave the order of writes.
    if (l2_.victim_is_dirty()) {
        if (const DiskStatus status = commit(); status != DiskStatus::ok) return status;
    }
    return l2_.get(place, table);
}

/// The longest run of one kind from `offset` on, at most `length` bytes, within one L2 table.
Qcow2Image::Run Qcow2Image::find(uint64_t offset, uint64_t length) {
    const uint64_t in_table = std::min(length, header_.l2_span() - offset % header_.l2_span());
    Table* table = nullptr;
    if (l2_for_reading(offset, table) != DiskStatus::ok) return {Kind::bad, 0, 0, in_table};
    if (!table) return {Kind::backing, 0, 0, in_table};
    Run run;
    for (uint64_t done = 0; done < in_table;) {
        const uint64_t here = offset + done;
        const uint64_t in_cluster = here % cluster_size();
        const Entry entry = entry_at(*table, here / cluster_size() % header_.l2_entries());
        const Kind kind = kind_of(entry, in_cluster / header_.unit_size());
        const uint64_t unit = kind == Kind::compressed ? cluster_size() : header_.unit_size();
        const uint64_t piece = std::min(in_table - done, unit - here % unit);
        if (done == 0) {
            run = {kind, entry.host() + in_cluster, entry.word, piece};
        } else if (kind != run.kind || kind == Kind::compressed || kind == Kind::bad ||
                   (kind == Kind::data && entry.host() + in_cluster != run.host + done)) {
            break;
        }
        done += piece;
        run.length = done;
    }
    return run;
}

DiskStatus Qcow2Image::read(uint64_t offset, std::span<std::byte> out) {
    if (!within(offset, out.size(), sectors() * sector_size)) return DiskStatus::out_of_range;
    // What the last sector lacks.
    const uint64_t there = offset < size_ ? std::min<uint64_t>(out.size(), size_ - offset) : 0;
    std::ranges::fill(out.subspan(there), std::byte{0});
    for (out = out.first(there); !out.empty();) {
        const Run run = find(offset, out.size());
        const auto piece = out.first(run.length);
        DiskStatus status = DiskStatus::ok;
        switch (run.kind) {
            case Kind::backing: status = read_backing(offset, piece); break;
            case Kind::zeros: std::ranges::fill(piece, std::byte{0}); break;
            case Kind::data: status = file_->read(run.host, piece); break;
            case Kind::compressed: status = read_compressed(run.entry, offset % cluster_size(), piece); break;
            case Kind::bad: status = bad_entry(offset, "the entry of its L2 table makes no sense"); break;
        }
        if (status != DiskStatus::ok) return status;
        offset += run.length;
        out = out.subspan(run.length);
    }
    return DiskStatus::ok;
}

DiskStatus Qcow2Image::read_backing(uint64_t offset, std::span<std::byte> out) {
    // A backing file may be shorter.
    const uint64_t end = backing_ ? backing_->size() : 0;
    const uint64_t there = offset < end ? std::min<uint64_t>(out.size(), end - offset) : 0;
    std::ranges::fill(out.subspan(there), std::byte{0});
    return there == 0 ? DiskStatus::ok : backing_->read(offset, out.first(there));
}

DiskStatus Qcow2Image::read_compressed(uint64_t entry, uint64_t within_cluster, std::span<std::byte> out) {
    if (unpacked_.empty() || unpacked_entry_ != entry) {
        const CompressedPlace place = compressed_place(header_, entry);
        std::vector<std::byte> packed(place.length);
        if (place.offset >= file_->size()) return bad_entry(place.offset, "compressed data lie behind its end");
        if (const DiskStatus status = file_->read(place.offset, packed); status != DiskStatus::ok) return status;
        unpacked_.resize(cluster_size());
        if (!decompress(header_.compression, packed, unpacked_)) {
            unpacked_.clear();
            return bad_entry(place.offset, "compressed data cannot be unpacked");
        }
        unpacked_entry_ = entry;
    }
    std::ranges::copy(std::span(unpacked_).subspan(within_cluster, out.size()), out.begin());
    return DiskStatus::ok;
}

DiskExtent Qcow2Image::extent(uint64_t offset, uint64_t length) {
    const Run run = find(offset, length);
    if (run.kind == Kind::zeros) return {true, run.length};
    if (run.kind != Kind::backing) return {false, run.length};
    const uint64_t end = backing_ ? backing_->size() : 0;
    if (offset >= end) return {true, run.length};
    return backing_->extent(offset, std::min(run.length, end - offset));
}

Qcow2Image::OwnExtent Qcow2Image::own_extent(uint64_t offset, uint64_t length) {
    const Run run = find(offset, length);
    return {run.kind != Kind::backing, run.kind == Kind::zeros, run.length};
}

DiskStatus Qcow2Image::bad_entry(uint64_t offset, std::string_view what) {
    if (!read_only_) return refuse_corruption(what);
    log_.say(fmt::format("disk image '{}': {} (at {:#x}); try viv image check; its user sees a disk error", name_, what,
                         offset));
    return DiskStatus::io_error;
}

}  // namespace viv
