#include "vmm/core/bus.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "vmm/core/machine_lock.hpp"

namespace viv {
namespace {
constexpr uint64_t mask_of(uint8_t size) {
    return size >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * size)) - 1;
}

std::unique_lock<std::mutex> hold(std::mutex* lock) {
    return lock ? hold_machine(*lock) : std::unique_lock<std::mutex>();
}
}  // namespace

void BusDevice::read_block(Access access, std::span<std::byte> data) {
    for (size_t at = 0; at + access.size <= data.size(); at += access.size) {
        const uint64_t value = read(access);
        std::memcpy(data.data() + at, &value, access.size);
    }
}

void BusDevice::write_block(Access access, std::span<const std::byte> data) {
    for (size_t at = 0; at + access.size <= data.size(); at += access.size) {
        uint64_t value = 0;
        std::memcpy(&value, data.data() + at, access.size);
        write(access, value);
    }
}

uint64_t ByteDevice::read(Access access) {
    uint64_t value = 0;
    for (uint8_t i = 0; i < access.size; ++i) value |= uint64_t{read8(access.offset + i)} << (8 * i);
    return value;
}

void ByteDevice::write(Access access, uint64_t value) {
    for (uint8_t i = 0; i < access.size; ++i) write8(access.offset + i, static_cast<uint8_t>(value >> (8 * i)));
}

Bus::Bus(Kind kind, std::mutex* lock) : kind_(kind), lock_(lock), limit_(kind == Kind::ports ? 0xFFFF : ~uint64_t{0}) {
    if (kind_ == Kind::ports) by_port_.resize(0x10000, nullptr);
}

Result<void> Bus::map(uint64_t base, uint64_t size, BusDevice& device, std::string name) {
    if (size == 0 || base > limit_ || size - 1 > limit_ - base) {
        return fail_usage(fmt::format("{}: range {:#x}+{:#x} does not fit on the {} bus", name, base, size,
                                      kind_ == Kind::ports ? "port" : "memory"));
    }
    const uint64_t last = base + (size - 1);
    for (const auto& other : regions_) {
        if (base <= other->base + (other->size - 1) && other->base <= last) {
            return fail_usage(fmt::format("{}: range {:#x}-{:#x} overlaps {:#x}-{:#x} of {}", name, base, last,
                                          other->base, other->base + (other->size - 1), other->name));
        }
    }
    auto region = std::make_unique<Region>(Region{base, size, &device, std::move(name), 0});
    if (kind_ == Kind::ports) std::fill_n(by_port_.begin() + static_cast<ptrdiff_t>(base), size, region.get());
    const auto at = std::ranges::upper_bound(regions_, base, {}, [](const auto& r) { return r->base; });
    regions_.insert(at, std::move(region));
    return {};
}

void Bus::unmap(uint64_t base) {
    const auto at = std::ranges::find_if(regions_, [base](const auto& r) { return r->base == base; });
    if (at == regions_.end()) return;
    if (kind_ == Kind::ports) {
        std::fill_n(by_port_.begin() + static_cast<ptrdiff_t>(base), (*at)->size, nullptr);
    }
    last_hit_ = nullptr;
    regions_.erase(at);
}

Bus::Region* Bus::find(uint64_t address) {
    if (kind_ == Kind::ports) return address <= limit_ ? by_port_[address] : nullptr;
    const auto within = [address](const Region& r) { return address - r.base < r.size; };
    if (last_hit_ && within(*last_hit_)) return last_hit_;
    const auto above = std::ranges::upper_bound(regions_, address, {}, [](const auto& r) { return r->base; });
    if (above == regions_.begin()) return nullptr;
    Region* region = std::prev(above)->get();
    if (!within(*region)) return nullptr;
    return last_hit_ = region;
}

uint64_t Bus::read_held(uint64_t address, uint8_t size) {
    ++counters_.reads;
    if (Region* region = find(address); region && size <= region->size - (address - region->base)) {
        ++region->accesses;
        return region->device->read({address - region->base, size}) & mask_of(size);
    }
    // The access crosses an edge or hits nothing: byte by byte, so that each byte has the answer of its own place.
    uint64_t value = 0;
    for (uint8_t i = 0; i < size; ++i) {
        uint64_t byte = 0xFF;
        if (Region* region = find(address + i)) {
            ++region->accesses;
            byte = region->device->read({address + i - region->base, 1}) & 0xFF;
        } else {
            ++counters_.unmapped_reads;
        }
        value |= byte << (8 * i);
    }
    return value;
}

void Bus::write_held(uint64_t address, uint8_t size, uint64_t value) {
    ++counters_.writes;
    if (Region* region = find(address); region && size <= region->size - (address - region->base)) {
        ++region->accesses;
        region->device->write({address - region->base, size}, value & mask_of(size));
        return;
    }
    for (uint8_t i = 0; i < size; ++i) {
        if (Region* region = find(address + i)) {
            ++region->accesses;
            region->device->write({address + i - region->base, 1}, (value >> (8 * i)) & 0xFF);
        } else {
            ++counters_.unmapped_writes;
        }
    }
}

uint64_t Bus::read(uint64_t address, uint8_t size) {
    const auto guard = hold(lock_);
    return read_held(address, size);
}

void Bus::write(uint64_t address, uint8_t size, uint64_t value) {
    const auto guard = hold(lock_);
    write_held(address, size, value);
}

void Bus::read_block(uint64_t address, uint8_t element_size, std::span<std::byte> data) {
    const auto guard = hold(lock_);
    if (Region* region = find(address); region && element_size <= region->size - (address - region->base)) {
        ++counters_.reads;
        ++region->accesses;
        region->device->read_block({address - region->base, element_size}, data);
        return;
    }
    for (size_t at = 0; at + element_size <= data.size(); at += element_size) {
        const uint64_t value = read_held(address, element_size);
        std::memcpy(data.data() + at, &value, element_size);
    }
}

void Bus::write_block(uint64_t address, uint8_t element_size, std::span<const std::byte> data) {
    const auto guard = hold(lock_);
    if (Region* region = find(address); region && element_size <= region->size - (address - region->base)) {
        ++counters_.writes;
        ++region->accesses;
        region->device->write_block({address - region->base, element_size}, data);
        return;
    }
    for (size_t at = 0; at + element_size <= data.size(); at += element_size) {
        uint64_t value = 0;
        std::memcpy(&value, data.data() + at, element_size);
        write_held(address, element_size, value);
    }
}

bool Bus::covers(uint64_t address, uint64_t size) const {
    return std::ranges::any_of(
        regions_, [&](const auto& r) { return address <= r->base + (r->size - 1) && r->base <= address + (size - 1); });
}

std::vector<Bus::Region> Bus::regions() const {
    std::vector<Region> list;
    for (const auto& region : regions_) list.push_back(*region);
    return list;
}

}  // namespace viv
