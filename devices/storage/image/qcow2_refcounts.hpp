#pragma once

#include <cstdint>
#include <vector>

#include "devices/storage/image/qcow2_format.hpp"
#include "devices/storage/image/qcow2_tables.hpp"

namespace viv::qcow2 {

/// How often each cluster of the file is in use. Counts change in memory first; write_blocks() and write_table() put
/// them into the file, in an order that is the owner's affair: a count may be too high in the file at any time, never
/// too low.
class Refcounts {
  public:
    Refcounts(ImageFile& file, Header& header);

    /// Reads the refcount table.
    [[nodiscard]] DiskStatus load();
    /// Forgets all counts; a new table is made from the cluster `end` on, behind everything that is of use in the file.
    void start_anew(uint64_t end);

    [[nodiscard]] DiskStatus get(uint64_t cluster, uint64_t& count);
    [[nodiscard]] DiskStatus set(uint64_t cluster, uint64_t count);
    /// Adds to a count. io_error if it would leave its range: the image is corrupt.
    [[nodiscard]] DiskStatus add(uint64_t cluster, int64_t change);
    /// Finds `count` free clusters in a row, with a count of 1 from now on. `offset` is a byte offset.
    [[nodiscard]] DiskStatus allocate(uint64_t count, uint64_t& offset);
    [[nodiscard]] uint64_t max_count() const;

    [[nodiscard]] bool blocks_dirty() const { return blocks_.any_dirty(); }
    [[nodiscard]] bool table_dirty() const { return moved_ || dirty_from_ != dirty_to_; }
    [[nodiscard]] DiskStatus write_blocks() { return blocks_.write(TableCache::Which::all); }
    /// Points the file to new blocks, and the header to a new table; the blocks are durable already. `old_table` gets
    /// the clusters of a table that is not in use any more, when all this is durable.
    [[nodiscard]] DiskStatus write_table(std::vector<uint64_t>& freed);

    /// Byte offsets of blocks; 0: none, all counts are 0.
    [[nodiscard]] const std::vector<uint64_t>& table() const { return table_; }
    /// The first cluster behind everything that is in the file or was allocated.
    [[nodiscard]] uint64_t end() const { return end_; }
    [[nodiscard]] bool is_block(uint64_t offset) const;

  private:
    void find_end();
    [[nodiscard]] uint64_t cluster_size() const { return header_.cluster_size(); }
    [[nodiscard]] DiskStatus block_of(uint64_t cluster, Table*& block);
    [[nodiscard]] DiskStatus find_hole(uint64_t count, uint64_t& first);
    [[nodiscard]] DiskStatus allocate_at_end(uint64_t count, uint64_t& first);
    [[nodiscard]] DiskStatus add_block(uint64_t index, uint64_t cluster);
    [[nodiscard]] uint64_t read_count(const Table& block, uint64_t index) const;
    void write_count(Table& block, uint64_t index, uint64_t count) const;

    ImageFile& file_;
    Header& header_;
    TableCache blocks_;
    std::vector<uint64_t> table_;
    std::vector<uint64_t> sorted_blocks_;
    uint64_t hint_ = 1;  // no free cluster below
    uint64_t end_ = 1;
    size_t dirty_from_ = 0;  // entries of the table
    size_t dirty_to_ = 0;
    bool moved_ = false;  // the header has another table yet
    uint64_t old_offset_ = 0;
    uint64_t old_clusters_ = 0;
};

}  // namespace viv::qcow2
