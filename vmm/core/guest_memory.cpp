#include "vmm/core/guest_memory.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace viv {

/// One memory file, mapped once. Regions and aliases point into it.
struct GuestMemory::Backing {
    int fd = -1;
    std::byte* host = nullptr;
    uint64_t size = 0;
    // A page each. CPUs of their own threads mark pages and look at generations while devices do.
    std::vector<std::atomic<uint32_t>> generation;
    std::vector<std::atomic<uint8_t>> dirty;
    bool is_store = false;

    ~Backing() {
        if (host) munmap(host, size);
        if (fd >= 0) close(fd);
    }
};

GuestMemory::GuestMemory() = default;
GuestMemory::~GuestMemory() = default;

Result<std::unique_ptr<GuestMemory::Backing>> GuestMemory::make_backing(uint64_t size, const std::string& name) {
    auto backing = std::make_unique<Backing>();
    backing->size = size;
    backing->fd = memfd_create(name.c_str(), MFD_CLOEXEC);
    if (backing->fd < 0) return fail_errno(fmt::format("cannot create guest memory '{}'", name), errno);
    if (ftruncate(backing->fd, static_cast<off_t>(size)) != 0) {
        return fail_errno(fmt::format("cannot size guest memory '{}' to {} MiB", name, size >> 20), errno);
    }
    void* host = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, backing->fd, 0);
    if (host == MAP_FAILED) {
        return fail_errno(
            fmt::format("cannot map {} MiB of guest memory '{}'; try a smaller --memory", size >> 20, name), errno);
    }
    backing->host = static_cast<std::byte*>(host);
    backing->generation = std::vector<std::atomic<uint32_t>>(size / page_size);
    for (auto& generation : backing->generation) generation.store(1, std::memory_order_relaxed);
    backing->dirty = std::vector<std::atomic<uint8_t>>(size / page_size);
    return backing;
}

Result<void> GuestMemory::add(Gpa base, uint64_t size, Kind kind, std::string name) {
    auto backing = TRY(make_backing(size, name));
    Region region{base, size, kind, backing->host, std::move(name), static_cast<uint32_t>(backings_.size()), 0};
    TRY(insert(std::move(region)));
    backings_.push_back(std::move(backing));
    changed();
    return {};
}

Result<GuestMemory::Store> GuestMemory::add_store(uint64_t size, std::string name) {
    if (size == 0 || size % page_size) {
        return fail_usage(fmt::format("memory '{}': {:#x} bytes are not whole pages", name, size));
    }
    auto backing = TRY(make_backing(size, name));
    backing->is_store = true;
    backings_.push_back(std::move(backing));
    return Store{static_cast<uint32_t>(backings_.size() - 1), size};
}

Result<void> GuestMemory::show(Gpa base, uint64_t size, Store store, uint64_t offset, Kind kind, std::string name) {
    VIV_ASSERT(store.backing < backings_.size() && offset % page_size == 0);
    VIV_ASSERT(offset <= store.size && size <= store.size - offset);
    TRY(insert({base, size, kind, backings_[store.backing]->host + offset, std::move(name), store.backing, offset}));
    changed();
    return {};
}

std::optional<GuestMemory::Store> GuestMemory::store_of(const Region& region) const {
    const Backing& backing = *backings_[region.backing];
    if (!backing.is_store) return std::nullopt;
    return Store{region.backing, backing.size};
}

std::span<std::byte> GuestMemory::bytes(Store store) {
    return {backings_[store.backing]->host, static_cast<size_t>(store.size)};
}

GuestMemory::Change::~Change() {
    if (--memory_.open_changes_ == 0 && std::exchange(memory_.change_waits_, false)) memory_.changed();
}

/// The region list is another one.
void GuestMemory::changed() {
    if (open_changes_) {
        change_waits_ = true;
        return;
    }
    for (auto& listener : listeners_) listener();
    // Engines have dropped their mappings; only now may host memory go.
    for (uint32_t i = 0; i < backings_.size(); ++i) {
        if (!backings_[i] || backings_[i]->is_store) continue;
        if (std::ranges::none_of(regions_, [i](const Region& r) { return r.backing == i; })) backings_[i].reset();
    }
    if (!std::exchange(observers_know_, false)) return;
    for (Observer* observer : observers_) observer->regions_changed();
}

void GuestMemory::will_change() {
    if (std::exchange(observers_know_, true)) return;
    for (Observer* observer : observers_) observer->regions_will_change();
}

Result<void> GuestMemory::add_alias(Gpa base, uint64_t size, Gpa target, Kind kind, std::string name) {
    const Region* source = find(target);
    if (!source || size > source->size - (target - source->base)) {
        return fail_usage(
            fmt::format("memory '{}': the alias target {:#x}+{:#x} is not in one region", name, target.value, size));
    }
    const uint64_t offset = target - source->base;
    TRY(insert(
        {base, size, kind, source->host + offset, std::move(name), source->backing, source->backing_offset + offset}));
    changed();
    return {};
}

Result<void> GuestMemory::insert(Region region) {
    if (region.size == 0 || region.size % page_size || region.base.value % page_size ||
        region.base.value + region.size < region.base.value) {
        return fail_usage(fmt::format("memory '{}': {:#x}+{:#x} is not a range of whole pages", region.name,
                                      region.base.value, region.size));
    }
    for (const Region& other : regions_) {
        if (region.base.value < other.base.value + other.size && other.base.value < region.base.value + region.size) {
            return fail_usage(fmt::format("memory '{}' at {:#x}+{:#x} overlaps '{}' at {:#x}+{:#x}", region.name,
                                          region.base.value, region.size, other.name, other.base.value, other.size));
        }
    }
    const auto at = std::ranges::upper_bound(regions_, region.base, {}, &Region::base);
    will_change();
    regions_.insert(at, std::move(region));
    return {};
}

bool GuestMemory::remove(Gpa base) {
    const auto at = std::ranges::find(regions_, base, &Region::base);
    if (at == regions_.end()) return false;
    will_change();
    regions_.erase(at);
    changed();
    return true;
}

const GuestMemory::Region* GuestMemory::find(Gpa address) const {
    const auto above = std::ranges::upper_bound(regions_, address, {}, &Region::base);
    if (above == regions_.begin()) return nullptr;
    const Region& region = *std::prev(above);
    return address - region.base < region.size ? &region : nullptr;
}

template <class Step>
bool GuestMemory::for_each_piece(Gpa address, size_t size, Step step) const {
    bool complete = true;
    for (size_t done = 0; done < size;) {
        const Gpa here = address + done;
        size_t piece = size - done;
        const Region* region = find(here);
        if (region) {
            piece = static_cast<size_t>(std::min<uint64_t>(piece, region->size - (here - region->base)));
        } else {
            const auto next = std::ranges::upper_bound(regions_, here, {}, &Region::base);
            if (next != regions_.end()) piece = static_cast<size_t>(std::min<uint64_t>(piece, next->base - here));
        }
        complete &= step(region, here, done, piece);
        done += piece;
    }
    return complete;
}

namespace {

/// Calls `step` with the offset and a zero of the type of each piece: the longest that are aligned, in order.
template <class Step>
void for_each_word(const std::byte* guest, size_t size, Step step) {
    for (size_t at = 0; at < size;) {
        const auto fits = [place = reinterpret_cast<uintptr_t>(guest + at), rest = size - at](size_t bytes) {
            return rest >= bytes && place % bytes == 0;
        };
        const auto go = [&](auto zero) {
            step(at, zero);
            at += sizeof(zero);
        };
        if (fits(8)) {
            go(uint64_t{});
        } else if (fits(4)) {
            go(uint32_t{});
        } else if (fits(2)) {
            go(uint16_t{});
        } else {
            go(uint8_t{});
        }
    }
}

/// CPUs look at rings, indices and flags while devices change them, and the other way round. So what is as short as
/// those goes in order, and what is aligned of it at once. What is longer is data, which somebody is told of.
constexpr size_t longest_shared = 64;

void copy_to_guest(std::byte* guest, const std::byte* from, size_t size) {
    if (size > longest_shared) {
        std::memcpy(guest, from, size);
        return;
    }
    for_each_word(guest, size, [&](size_t at, auto value) {
        using Shared [[gnu::may_alias]] = decltype(value);
        std::memcpy(&value, from + at, sizeof(value));
        __atomic_store_n(reinterpret_cast<Shared*>(guest + at), value, __ATOMIC_RELEASE);
    });
}

void copy_from_guest(std::byte* to, const std::byte* guest, size_t size) {
    if (size > longest_shared) {
        std::memcpy(to, guest, size);
        return;
    }
    for_each_word(guest, size, [&](size_t at, auto value) {
        using Shared [[gnu::may_alias]] = decltype(value);
        value = __atomic_load_n(reinterpret_cast<const Shared*>(guest + at), __ATOMIC_ACQUIRE);
        std::memcpy(to + at, &value, sizeof(value));
    });
}

}  // namespace

bool GuestMemory::read(Gpa address, std::span<std::byte> out) const {
    return for_each_piece(address, out.size(), [&](const Region* region, Gpa here, size_t at, size_t size) {
        if (!region) {
            std::memset(out.data() + at, 0xFF, size);
            return false;
        }
        copy_from_guest(out.data() + at, region->host + (here - region->base), size);
        return true;
    });
}

bool GuestMemory::copy_in(Gpa address, std::span<const std::byte> in, bool into_rom) {
    return for_each_piece(address, in.size(), [&](const Region* region, Gpa here, size_t at, size_t size) {
        if (!region || (region->kind == Kind::rom && !into_rom)) return false;
        copy_to_guest(region->host + (here - region->base), in.data() + at, size);
        note_write(here, size);
        return true;
    });
}

bool GuestMemory::write(Gpa address, std::span<const std::byte> in) {
    return copy_in(address, in, false);
}

bool GuestMemory::write_rom(Gpa address, std::span<const std::byte> in) {
    return copy_in(address, in, true);
}

std::span<std::byte> GuestMemory::window(Gpa address, uint64_t size, Intent intent) {
    const Region* region = find(address);
    if (!region || size > region->size - (address - region->base)) return {};
    if (intent == Intent::write && region->kind == Kind::rom) return {};
    return {region->host + (address - region->base), static_cast<size_t>(size)};
}

template <class Mark>
void GuestMemory::for_each_page(Gpa address, uint64_t size, Mark mark) {
    if (size == 0) return;
    const Region* region = find(address);
    if (!region) return;
    const uint64_t first = region->backing_offset + (address - region->base);
    const uint64_t last = std::min(first + size, region->backing_offset + region->size) - 1;
    for (uint64_t page = first / page_size; page <= last / page_size; ++page) mark(*backings_[region->backing], page);
}

namespace {
/// Notes one page; relaxed, since who looks has been told in another way.
template <class Backing>
void note_page(Backing& backing, uint64_t page) {
    backing.generation[page].fetch_add(1, std::memory_order_relaxed);
    backing.dirty[page].store(1, std::memory_order_relaxed);
}

template <class Backing>
std::vector<bool> take_pages(Backing& backing, uint64_t first, uint64_t count) {
    std::vector<bool> taken(count);
    for (uint64_t page = 0; page < count; ++page) {
        auto& dirty = backing.dirty[first + page];
        if (dirty.load(std::memory_order_relaxed)) taken[page] = dirty.exchange(0) != 0;
    }
    return taken;
}
}  // namespace

void GuestMemory::count_write(const std::byte* host, uint64_t size) {
    noted_writes_.fetch_add(1, std::memory_order_relaxed);
    for (Observer* observer : observers_) observer->written(host, size);
}

void GuestMemory::count_take() {
    dirty_takes_.fetch_add(1, std::memory_order_relaxed);
    for (Observer* observer : observers_) observer->dirt_taken();
}

void GuestMemory::note_write(Gpa address, uint64_t size) {
    for_each_page(address, size, [](Backing& backing, uint64_t page) { note_page(backing, page); });
    const Region* region = size ? find(address) : nullptr;
    const uint64_t at = region ? address - region->base : 0;
    count_write(region ? region->host + at : nullptr, region ? std::min(size, region->size - at) : 0);
}

void GuestMemory::note_store_write(Store store, uint64_t offset, uint64_t size) {
    if (size == 0) return;
    Backing& backing = *backings_[store.backing];
    for (uint64_t page = offset / page_size; page <= (offset + size - 1) / page_size; ++page) note_page(backing, page);
    count_write(backing.host + offset, size);
}

void GuestMemory::mark_dirty(Gpa address, uint64_t size) {
    for_each_page(address, size,
                  [](Backing& backing, uint64_t page) { backing.dirty[page].store(1, std::memory_order_relaxed); });
}

uint32_t GuestMemory::write_generation(Gpa address) const {
    const Region* region = find(address);
    if (!region) return 0;
    return backings_[region->backing]->generation[(region->backing_offset + (address - region->base)) / page_size].load(
        std::memory_order_relaxed);
}

std::vector<bool> GuestMemory::take_dirty(Gpa base) {
    const Region* region = find(base);
    if (!region) return {};
    auto taken = take_pages(*backings_[region->backing], region->backing_offset / page_size, region->size / page_size);
    count_take();
    return taken;
}

std::vector<bool> GuestMemory::take_dirty(Store store) {
    for (const Region& region : regions_) {
        if (ask_ && region.backing == store.backing && region.kind == Kind::ram) ask_(region.base);
    }
    Backing& backing = *backings_[store.backing];
    auto taken = take_pages(backing, 0, backing.dirty.size());
    count_take();
    return taken;
}

int GuestMemory::file_descriptor(const Region& region) const {
    return backings_[region.backing]->fd;
}

uint64_t GuestMemory::ram_size() const {
    uint64_t total = 0;
    std::vector<uint32_t> seen;
    for (const Region& region : regions_) {
        if (region.kind != Kind::ram || std::ranges::find(seen, region.backing) != seen.end()) continue;
        seen.push_back(region.backing);
        total += backings_[region.backing]->size;
    }
    return total;
}

}  // namespace viv
