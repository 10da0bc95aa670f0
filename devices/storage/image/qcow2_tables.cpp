#include "devices/storage/image/qcow2_tables.hpp"

#include <algorithm>

#include "vmm/core/result.hpp"

namespace viv::qcow2 {
namespace {

constexpr uint64_t cache_bytes = 16 << 20;
constexpr size_t write_unit = 512;

}  // namespace

void Table::touch(size_t from, size_t length) {
    // What a disk writes at once is a sector.
    const size_t first = from / write_unit * write_unit;
    const size_t last = std::min((from + length + write_unit - 1) / write_unit * write_unit, bytes.size());
    dirty_from = dirty() ? std::min(dirty_from, first) : first;
    dirty_to = std::max(dirty_to, last);
}

TableCache::TableCache(ImageFile& file, uint64_t table_size)
    : file_(file), table_size_(table_size), capacity_(std::clamp<size_t>(cache_bytes / table_size, 8, 1024)) {}

Table* TableCache::victim() {
    if (tables_.size() < capacity_) return nullptr;
    return std::ranges::min_element(tables_, {}, [](const auto& entry) { return entry.second->last_use; })
        ->second.get();
}

bool TableCache::victim_is_dirty() {
    const Table* table = victim();
    return table && table->dirty();
}

DiskStatus TableCache::make_room() {
    Table* table = victim();
    if (!table) return DiskStatus::ok;
    if (const DiskStatus status = write_table(*table); status != DiskStatus::ok) return status;
    tables_.erase(table->offset);
    return DiskStatus::ok;
}

DiskStatus TableCache::get(uint64_t offset, Table*& table) {
    auto at = tables_.find(offset);
    if (at == tables_.end()) {
        if (const DiskStatus status = make_room(); status != DiskStatus::ok) return status;
        auto fresh = std::make_unique<Table>();
        fresh->offset = offset;
        fresh->bytes.resize(table_size_);
        if (const DiskStatus status = file_.read(offset, fresh->bytes); status != DiskStatus::ok) return status;
        at = tables_.emplace(offset, std::move(fresh)).first;
    }
    table = at->second.get();
    table->last_use = ++uses_;
    return DiskStatus::ok;
}

DiskStatus TableCache::insert(uint64_t offset, Table*& table) {
    tables_.erase(offset);
    if (const DiskStatus status = make_room(); status != DiskStatus::ok) return status;
    auto fresh = std::make_unique<Table>();
    fresh->offset = offset;
    fresh->bytes.resize(table_size_);
    fresh->dirty_to = table_size_;
    fresh->fresh = true;
    fresh->last_use = ++uses_;
    table = fresh.get();
    tables_.emplace(offset, std::move(fresh));
    return DiskStatus::ok;
}

DiskStatus TableCache::write_table(Table& table) {
    if (!table.dirty()) return DiskStatus::ok;
    const auto dirty = std::span(table.bytes).subspan(table.dirty_from, table.dirty_to - table.dirty_from);
    const DiskStatus status = file_.write(table.offset + table.dirty_from, dirty);
    if (status == DiskStatus::ok) table.dirty_from = table.dirty_to = 0;
    return status;
}

DiskStatus TableCache::write(Which which) {
    std::vector<Table*> dirty;
    for (const auto& [offset, table] : tables_) {
        if (table->dirty() && (which == Which::all || table->fresh)) dirty.push_back(table.get());
    }
    std::ranges::sort(dirty, {}, &Table::offset);
    for (Table* table : dirty) {
        if (const DiskStatus status = write_table(*table); status != DiskStatus::ok) return status;
        // Who writes fresh tables points to them next.
        table->fresh = false;
    }
    return DiskStatus::ok;
}

bool TableCache::any_dirty() const {
    return std::ranges::any_of(tables_, [](const auto& entry) { return entry.second->dirty(); });
}

}  // namespace viv::qcow2
