#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "devices/storage/image/image_file.hpp"

namespace viv::qcow2 {

/// One table of the file in memory: an L2 table or a refcount block, a cluster each.
struct Table {
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
    // What the file does not have yet; from == to: nothing.
    size_t dirty_from = 0;
    size_t dirty_to = 0;
    bool fresh = false;  // nothing in the file points to it yet
    uint64_t last_use = 0;

    [[nodiscard]] bool dirty() const { return dirty_from != dirty_to; }
    void touch(size_t from, size_t length);
};

/// Keeps a bounded number of tables. Pointers hold until the next get() or insert().
class TableCache {
  public:
    TableCache(ImageFile& file, uint64_t table_size);

    /// Whether the next table that is taken in puts out one that is dirty, which get() and insert() then write; an
    /// owner who cares for the order of writes writes them before.
    [[nodiscard]] bool victim_is_dirty();
    /// The table at `offset`, from the file if need be.
    [[nodiscard]] DiskStatus get(uint64_t offset, Table*& table);
    /// A table of zeros at `offset`, whatever the file has there; dirty and fresh.
    [[nodiscard]] DiskStatus insert(uint64_t offset, Table*& table);
    /// Forgets the table at `offset` with all that is not written.
    void drop(uint64_t offset) { tables_.erase(offset); }
    void clear() { tables_.clear(); }

    enum class Which { fresh, all };
    /// Writes the dirty tables in the order of the file.
    [[nodiscard]] DiskStatus write(Which which);
    [[nodiscard]] bool any_dirty() const;

  private:
    [[nodiscard]] DiskStatus make_room();
    [[nodiscard]] DiskStatus write_table(Table& table);
    [[nodiscard]] Table* victim();

    ImageFile& file_;
    uint64_t table_size_;
    size_t capacity_;
    uint64_t uses_ = 0;
    std::unordered_map<uint64_t, std::unique_ptr<Table>> tables_;
};

}  // namespace viv::qcow2
