#include "devices/storage/image/qcow2_refcounts.hpp"

#include <algorithm>

#include "vmm/core/result.hpp"

namespace viv::qcow2 {
namespace {

// Clusters that one search for a hole looks at; then the end of the file is taken.
constexpr uint64_t max_search = 1 << 20;

}  // namespace

Refcounts::Refcounts(ImageFile& file, Header& header)
    : file_(file), header_(header), blocks_(file, header.cluster_size()) {
    find_end();
}

void Refcounts::find_end() {
    end_ = std::max<uint64_t>(1, (file_.size() + cluster_size() - 1) / cluster_size());
}

DiskStatus Refcounts::load() {
    // A repair may have made the file longer.
    find_end();
    sorted_blocks_.clear();
    std::vector<std::byte> bytes(uint64_t{header_.refcount_table_clusters} << header_.cluster_bits);
    if (const DiskStatus status = file_.read(header_.refcount_table_offset, bytes); status != DiskStatus::ok)
        return status;
    table_.resize(bytes.size() / 8);
    for (size_t i = 0; i < table_.size(); ++i) {
        table_[i] = qcow2::load<uint64_t>(bytes, i * 8) & ~uint64_t{511};
        if (table_[i] != 0) sorted_blocks_.push_back(table_[i]);
    }
    std::ranges::sort(sorted_blocks_);
    return DiskStatus::ok;
}

void Refcounts::start_anew(uint64_t end) {
    blocks_.clear();
    table_.clear();
    sorted_blocks_.clear();
    end_ = end;
    hint_ = end;
    dirty_from_ = dirty_to_ = 0;
}

bool Refcounts::is_block(uint64_t offset) const {
    return std::ranges::binary_search(sorted_blocks_, offset);
}

uint64_t Refcounts::max_count() const {
    return ~uint64_t{0} >> (64 - (1U << header_.refcount_order));
}

uint64_t Refcounts::read_count(const Table& block, uint64_t index) const {
    const std::span<const std::byte> bytes(block.bytes);
    switch (header_.refcount_order) {
        case 3: return qcow2::load<uint8_t>(bytes, index);
        case 4: return qcow2::load<uint16_t>(bytes, index * 2);
        case 5: return qcow2::load<uint32_t>(bytes, index * 4);
        case 6: return qcow2::load<uint64_t>(bytes, index * 8);
        default: break;
    }
    // Counts below a byte start at its low bits.
    const unsigned bits = 1U << header_.refcount_order;
    const uint64_t at = index * bits;
    return std::to_integer<uint64_t>(bytes[at / 8]) >> (at % 8) & max_count();
}

void Refcounts::write_count(Table& block, uint64_t index, uint64_t count) const {
    const std::span bytes(block.bytes);
    const unsigned bits = 1U << header_.refcount_order;
    switch (header_.refcount_order) {
        case 3: store(bytes, index, static_cast<uint8_t>(count)); break;
        case 4: store(bytes, index * 2, static_cast<uint16_t>(count)); break;
        case 5: store(bytes, index * 4, static_cast<uint32_t>(count)); break;
        case 6: store(bytes, index * 8, count); break;
        default: {
            const uint64_t at = index * bits;
            const auto mask = static_cast<uint8_t>(max_count() << (at % 8));
            bytes[at / 8] = (bytes[at / 8] & ~std::byte{mask}) | std::byte(static_cast<uint8_t>(count << (at % 8)));
        }
    }
    block.touch(index * bits / 8, std::max<size_t>(1, bits / 8));
}

DiskStatus Refcounts::block_of(uint64_t cluster, Table*& block) {
    const uint64_t index = cluster / header_.refcounts_per_block();
    block = nullptr;
    if (index >= table_.size() || table_[index] == 0) return DiskStatus::ok;
    // A block outside the file or its grid is a corrupt image's.
    if (table_[index] % cluster_size() != 0 || table_[index] / cluster_size() >= end_) return DiskStatus::io_error;
    return blocks_.get(table_[index], block);
}

DiskStatus Refcounts::get(uint64_t cluster, uint64_t& count) {
    Table* block = nullptr;
    count = 0;
    if (const DiskStatus status = block_of(cluster, block); status != DiskStatus::ok) return status;
    if (block) count = read_count(*block, cluster % header_.refcounts_per_block());
    return DiskStatus::ok;
}

DiskStatus Refcounts::set(uint64_t cluster, uint64_t count) {
    if (count > max_count()) return DiskStatus::io_error;
    Table* block = nullptr;
    if (const DiskStatus status = block_of(cluster, block); status != DiskStatus::ok) return status;
    if (!block) {
        if (count == 0) return DiskStatus::ok;
        // Behind everything, where the block may have to be counted in yet another new one.
        uint64_t first = 0;
        if (const DiskStatus status = allocate_at_end(1, first); status != DiskStatus::ok) return status;
        if (const DiskStatus status = block_of(cluster, block); status != DiskStatus::ok) return status;
        if (block) return set(first, 0) == DiskStatus::ok ? set(cluster, count) : DiskStatus::io_error;
        if (const DiskStatus status = add_block(cluster / header_.refcounts_per_block(), first);
            status != DiskStatus::ok) {
            return status;
        }
        if (const DiskStatus status = block_of(cluster, block); status != DiskStatus::ok) return status;
    }
    write_count(*block, cluster % header_.refcounts_per_block(), count);
    if (count == 0) hint_ = std::min(hint_, cluster);
    end_ = std::max(end_, count == 0 ? 0 : cluster + 1);
    return DiskStatus::ok;
}

DiskStatus Refcounts::add(uint64_t cluster, int64_t change) {
    uint64_t count = 0;
    if (const DiskStatus status = get(cluster, count); status != DiskStatus::ok) return status;
    const bool fits =
        change < 0 ? count >= static_cast<uint64_t>(-change) : static_cast<uint64_t>(change) <= max_count() - count;
    return fits ? set(cluster, count + static_cast<uint64_t>(change)) : DiskStatus::io_error;
}

DiskStatus Refcounts::find_hole(uint64_t count, uint64_t& first) {
    first = 0;
    const uint64_t per_block = header_.refcounts_per_block();
    uint64_t run = 0;
    bool seen_free = false;
    uint64_t cluster = hint_;
    for (uint64_t looked = 0; cluster < end_ && looked < max_search; ++cluster, ++looked) {
        Table* block = nullptr;
        if (const DiskStatus status = block_of(cluster, block); status != DiskStatus::ok) return status;
        if (!block) {
            // Counted nowhere yet; such places are taken from the end only.
            cluster = (cluster / per_block + 1) * per_block - 1;
            run = 0;
            continue;
        }
        if (read_count(*block, cluster % per_block) != 0) {
            run = 0;
            if (!seen_free) hint_ = cluster + 1;
            continue;
        }
        seen_free = true;
        if (++run == count) {
            first = cluster + 1 - count;
            return DiskStatus::ok;
        }
    }
    if (!seen_free) hint_ = cluster;
    return DiskStatus::ok;
}

DiskStatus Refcounts::add_block(uint64_t index, uint64_t cluster) {
    VIV_ASSERT(index < table_.size() && table_[index] == 0);
    const uint64_t offset = cluster * cluster_size();
    Table* block = nullptr;
    if (const DiskStatus status = blocks_.insert(offset, block); status != DiskStatus::ok) return status;
    table_[index] = offset;
    sorted_blocks_.insert(std::ranges::lower_bound(sorted_blocks_, offset), offset);
    const bool clean = dirty_from_ == dirty_to_;
    dirty_from_ = clean ? index : std::min<size_t>(dirty_from_, index);
    dirty_to_ = clean ? index + 1 : std::max<size_t>(dirty_to_, index + 1);
    return DiskStatus::ok;
}

DiskStatus Refcounts::allocate_at_end(uint64_t count, uint64_t& first) {
    const uint64_t per_block = header_.refcounts_per_block();
    const uint64_t start = end_;
    const uint64_t entries_per_cluster = cluster_size() / 8;
    const auto missing = [&](uint64_t index) { return index >= table_.size() || table_[index] == 0; };
    // What is taken: the clusters asked for, then blocks that count all of this, then a larger table if there is need.
    uint64_t blocks = 0;
    uint64_t table_clusters = 0;
    for (;;) {
        const uint64_t last = start + count + blocks + table_clusters - 1;
        uint64_t needed = 0;
        for (uint64_t index = start / per_block; index <= last / per_block; ++index) needed += missing(index);
        // A table that grows leaves room for half as much again.
        uint64_t table_needed = table_clusters;
        if (last / per_block >= table_.size() && table_clusters * entries_per_cluster <= last / per_block) {
            table_needed = (last / per_block * 3 / 2 + entries_per_cluster) / entries_per_cluster;
        }
        if (needed == blocks && table_needed == table_clusters) break;
        blocks = std::max(blocks, needed);
        table_clusters = table_needed;
    }
    const uint64_t total = count + blocks + table_clusters;
    if (table_clusters * cluster_size() > max_refcount_table_bytes) return DiskStatus::no_space;
    if ((start + total) * cluster_size() >= max_file_offset) return DiskStatus::no_space;
    uint64_t unused = 0;  // a new table that the file never got
    uint64_t unused_end = 0;
    if (table_clusters != 0) {
        table_.resize(table_clusters * entries_per_cluster);
        if (moved_) {
            unused = header_.refcount_table_offset / cluster_size();
            unused_end = unused + header_.refcount_table_clusters;
        }
        if (!moved_) {
            old_offset_ = header_.refcount_table_offset;
            old_clusters_ = header_.refcount_table_clusters;
        }
        moved_ = true;
        header_.refcount_table_offset = (start + count + blocks) * cluster_size();
        header_.refcount_table_clusters = static_cast<uint32_t>(table_clusters);
    }
    end_ = start + total;
    uint64_t next_block = start + count;
    for (uint64_t index = start / per_block; index <= (end_ - 1) / per_block; ++index) {
        if (!missing(index)) continue;
        if (const DiskStatus status = add_block(index, next_block++); status != DiskStatus::ok) return status;
    }
    for (uint64_t cluster = start; cluster < end_; ++cluster) {
        uint64_t before = 0;
        if (const DiskStatus status = get(cluster, before); status != DiskStatus::ok) return status;
        // The file ends before these; that they are counted already is a corrupt image's doing, or a leak.
        if (before != 0) continue;
        // Of the places for blocks one may be too many.
        const bool spare = cluster >= next_block && cluster < start + count + blocks;
        if (const DiskStatus status = set(cluster, spare ? 0 : 1); status != DiskStatus::ok) return status;
    }
    for (; unused < unused_end; ++unused) {
        if (const DiskStatus status = set(unused, 0); status != DiskStatus::ok) return status;
    }
    first = start;
    return DiskStatus::ok;
}

DiskStatus Refcounts::allocate(uint64_t count, uint64_t& offset) {
    uint64_t first = 0;
    if (const DiskStatus status = find_hole(count, first); status != DiskStatus::ok) return status;
    if (first == 0) {
        if (const DiskStatus status = allocate_at_end(count, first); status != DiskStatus::ok) return status;
    } else {
        for (uint64_t cluster = first; cluster < first + count; ++cluster) {
            if (const DiskStatus status = set(cluster, 1); status != DiskStatus::ok) return status;
        }
        if (first == hint_) hint_ = first + count;
    }
    offset = first * cluster_size();
    return DiskStatus::ok;
}

DiskStatus Refcounts::write_table(std::vector<uint64_t>& freed) {
    if (!table_dirty()) return DiskStatus::ok;
    const size_t from = moved_ ? 0 : dirty_from_;
    const size_t to = moved_ ? table_.size() : dirty_to_;
    std::vector<std::byte> bytes((to - from) * 8);
    for (size_t i = from; i < to; ++i) store(std::span(bytes), (i - from) * 8, table_[i]);
    if (const DiskStatus status = file_.write(header_.refcount_table_offset + from * 8, bytes);
        status != DiskStatus::ok) {
        return status;
    }
    if (moved_) {
        if (const DiskStatus status = file_.flush(); status != DiskStatus::ok) return status;
        std::vector<std::byte> place(12);
        store(std::span(place), 0, header_.refcount_table_offset);
        store(std::span(place), 8, header_.refcount_table_clusters);
        if (const DiskStatus status = file_.write(at_refcount_table, place); status != DiskStatus::ok) return status;
        for (uint64_t i = 0; i < old_clusters_; ++i) freed.push_back(old_offset_ + i * cluster_size());
    }
    moved_ = false;
    dirty_from_ = dirty_to_ = 0;
    return DiskStatus::ok;
}

}  // namespace viv::qcow2
