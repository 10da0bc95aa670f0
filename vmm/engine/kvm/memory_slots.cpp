#include "vmm/engine/kvm/memory_slots.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/engine/kvm/kvm_api.hpp"

namespace viv::kvm {
namespace {
constexpr uint64_t wrap_base = 0x100000;
constexpr uint64_t wrap_size = 0x10000;
constexpr uint64_t page_size = GuestMemory::page_size;

size_t bitmap_words(const Slot& slot) {
    return (slot.size / page_size + 63) / 64;
}
}  // namespace

std::vector<Slot> plan_slots(std::span<const GuestMemory::Region> regions, bool a20) {
    std::vector<Slot> slots;
    const auto add = [&slots](const GuestMemory::Region& region, uint64_t from, uint64_t to, uint64_t at) {
        from = std::max(from, region.base.value);
        to = std::min(to, region.base.value + region.size);
        if (from >= to) return;
        slots.push_back(
            {from + at, to - from, region.host + (from - region.base.value), region.kind == GuestMemory::Kind::rom});
    };
    for (const GuestMemory::Region& region : regions) {
        add(region, 0, wrap_base, 0);
        if (a20) add(region, wrap_base, wrap_base + wrap_size, 0);
        add(region, wrap_base + wrap_size, ~uint64_t{0}, 0);
        if (!a20) add(region, 0, wrap_size, wrap_base);
    }
    return slots;
}

Result<void> MemorySlots::update() {
    return apply();
}

Result<void> MemorySlots::set_a20(bool enabled) {
    if (a20_.exchange(enabled) == enabled) return {};
    return apply();
}

Result<void> MemorySlots::apply() {
    const std::vector<Slot> wanted = plan_slots(memory_.regions(), a20());
    const std::lock_guard lock(mutex_);
    const auto is_wanted = [&wanted](const Installed& one) {
        return std::ranges::find(wanted, one.slot) != wanted.end();
    };
    const auto is_installed = [this](const Slot& slot) {
        return std::ranges::find(installed_, slot, &Installed::slot) != installed_.end();
    };
    if (std::ranges::all_of(installed_, is_wanted) && std::ranges::all_of(wanted, is_installed)) return {};

    generation_.fetch_add(1, std::memory_order_acq_rel);
    Result<void> outcome;
    std::erase_if(installed_, [&](const Installed& one) {
        if (is_wanted(one)) return false;
        if (auto done = set_region(one, false); !done) outcome = done;
        return true;
    });
    for (const Slot& slot : wanted) {
        if (is_installed(slot)) continue;
        uint32_t id = 0;
        while (std::ranges::find(installed_, id, &Installed::id) != installed_.end()) ++id;
        const Installed added{slot, id, false, {}};
        if (auto done = set_region(added, true); !done) {
            outcome = done;
            break;
        }
        installed_.push_back(added);
    }
    generation_.fetch_add(1, std::memory_order_acq_rel);
    return outcome;
}

Result<void> MemorySlots::set_region(const Installed& installed, bool present) {
    const kvm_userspace_memory_region region{
        .slot = installed.id,
        .flags = (installed.slot.read_only ? uint32_t{KVM_MEM_READONLY} : 0) |
                 (installed.logging ? uint32_t{KVM_MEM_LOG_DIRTY_PAGES} : 0),
        .guest_phys_addr = installed.slot.base,
        .memory_size = present ? installed.slot.size : 0,
        .userspace_addr = reinterpret_cast<uint64_t>(installed.slot.host),
    };
    if (call(vm_, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return fail_errno(fmt::format("cannot {} KVM memory {:#x}+{:#x}", present ? "set" : "remove",
                                      installed.slot.base, installed.slot.size),
                          errno);
    }
    return {};
}

Result<void> MemorySlots::sync_dirty(Gpa base) {
    const GuestMemory::Region* region = memory_.find(base);
    if (!region) return {};
    const std::lock_guard lock(mutex_);
    for (Installed& one : installed_) {
        const Slot& slot = one.slot;
        if (slot.read_only || slot.host < region->host || slot.host >= region->host + region->size) continue;
        const Gpa start = region->base + static_cast<uint64_t>(slot.host - region->host);
        if (!one.logging) {
            one.logging = true;
            one.written.assign(bitmap_words(slot), 0);
            TRY(set_region(one, true));
            memory_.note_write(start, slot.size);
            continue;
        }
        std::vector<uint64_t> written = std::exchange(one.written, std::vector<uint64_t>(bitmap_words(slot)));
        std::vector<uint64_t> by_cpus(written.size());
        kvm_dirty_log log{.slot = one.id, .padding1 = 0, .dirty_bitmap = by_cpus.data()};
        if (call(vm_, KVM_GET_DIRTY_LOG, &log) < 0) return fail_errno("cannot read KVM's log of written pages", errno);
        for (uint64_t page = 0; page < slot.size / page_size; ++page) {
            if ((written[page / 64] | by_cpus[page / 64]) >> (page % 64) & 1) {
                memory_.note_write(start + page * page_size, page_size);
            }
        }
    }
    return {};
}

/// An index into installed_; its size when no slot holds it all.
size_t MemorySlots::find(uint64_t address, size_t size) const {
    const auto at = std::ranges::find_if(installed_, [=](const Installed& one) {
        return address >= one.slot.base && address - one.slot.base < one.slot.size &&
               size <= one.slot.size - (address - one.slot.base);
    });
    return static_cast<size_t>(at - installed_.begin());
}

bool MemorySlots::read(uint64_t address, std::span<std::byte> out) const {
    const std::lock_guard lock(mutex_);
    const size_t at = find(address, out.size());
    if (at == installed_.size()) return false;
    const Slot& slot = installed_[at].slot;
    std::memcpy(out.data(), slot.host + (address - slot.base), out.size());
    return true;
}

bool MemorySlots::write(uint64_t address, std::span<const std::byte> in) {
    const std::lock_guard lock(mutex_);
    const size_t at = find(address, in.size());
    if (at == installed_.size() || installed_[at].slot.read_only) return false;
    Installed& one = installed_[at];
    const uint64_t offset = address - one.slot.base;
    std::memcpy(one.slot.host + offset, in.data(), in.size());
    if (one.logging) {
        for (uint64_t page = offset / page_size; page <= (offset + in.size() - 1) / page_size; ++page) {
            one.written[page / 64] |= uint64_t{1} << (page % 64);
        }
    }
    return true;
}

}  // namespace viv::kvm
