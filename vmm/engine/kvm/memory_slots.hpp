#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"

namespace viv::kvm {

/// One memory slot as KVM is to have it.
struct Slot {
    uint64_t base = 0;
    uint64_t size = 0;
    std::byte* host = nullptr;
    bool read_only = false;
    bool operator==(const Slot&) const = default;
};

/// The slots that show `regions` to the guest. KVM has no A20 gate: with A20 off, the 64 KiB above 1 MiB, all that real
/// mode can reach there, show the first 64 KiB. They are a slot of their own in both positions, so that the gate
/// changes nothing else.
std::vector<Slot> plan_slots(std::span<const GuestMemory::Region> regions, bool a20);

/// Keeps KVM's memory slots in step with a GuestMemory.
class MemorySlots {
  public:
    /// `vm` is the VM's file descriptor.
    MemorySlots(int vm, GuestMemory& memory) : vm_(vm), memory_(memory) {}

    /// Changes the slots that differ from the region list. Under the machine lock.
    Result<void> update();
    /// As update(), for another position of the gate. Returns at once when it is the same.
    Result<void> set_a20(bool enabled);
    [[nodiscard]] bool a20() const { return a20_.load(std::memory_order_relaxed); }

    /// Tells GuestMemory::note_write() which pages of the region at `base` the CPUs wrote since the last call. The
    /// first call for a region turns tracking on and reports every page. Under the machine lock.
    Result<void> sync_dirty(Gpa base);

    /// Moves with the start and with the end of every change. A CPU whose exit saw memory missing while it moved looks
    /// again.
    [[nodiscard]] uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
    /// Copies from and to what the guest sees at `address`; false (and nothing done) when one slot does not hold it all
    /// or, for writing, is read-only. From any thread.
    bool read(uint64_t address, std::span<std::byte> out) const;
    bool write(uint64_t address, std::span<const std::byte> in);

  private:
    struct Installed {
        Slot slot;
        uint32_t id = 0;
        bool logging = false;
        std::vector<uint64_t> written;  // by write() since the last sync_dirty(); one bit a page
    };
    Result<void> apply();
    Result<void> set_region(const Installed& installed, bool present);
    [[nodiscard]] size_t find(uint64_t address, size_t size) const;

    int vm_;
    GuestMemory& memory_;
    std::atomic<bool> a20_ = true;
    std::atomic<uint64_t> generation_ = 0;
    mutable std::mutex mutex_;  // guards installed_
    std::vector<Installed> installed_;
};

}  // namespace viv::kvm
