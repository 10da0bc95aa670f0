#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/lapic.hpp"
#include "vmm/engine/soft/memory.hpp"

namespace viv::soft {
namespace {

constexpr uint64_t pte_present = 1, pte_write = 2, pte_user = 4, pte_accessed = 0x20, pte_dirty = 0x40,
                   pte_large = 0x80, pte_global = 0x100, pte_nx = uint64_t{1} << 63;
constexpr uint64_t address_bits = 0x000FFFFFFFFFF000;  // 52 bits; those above MAXPHYADDR are reserved

/// What a walk found, before rights are judged.
struct Leaf {
    uint64_t physical = 0;  // of the 4 KiB page
    bool write = true, user = true, execute = true, global = false, dirty = false;
    uint8_t key = 0;
};

/// Error code bits of #PF (SDM 3A, 4.7).
constexpr uint32_t error_present = 1, error_write = 2, error_user = 4, error_reserved = 8, error_fetch = 0x10,
                   error_key = 0x20;

void clear(TlbEntry& entry) {
    const bool listed = entry.listed;
    entry = {};
    entry.listed = listed;
}

class Walk {
  public:
    Walk(Cpu& cpu, uint64_t linear, Access access, bool user, bool smap)
        : cpu_(cpu), linear_(linear), access_(access), user_(user), smap_(smap) {}

    /// False: it faults, and Cpu::fault says how; or, with changed(), another CPU changed an entry meanwhile, and the
    /// walk has to begin anew.
    bool run() {
        if (!(cpu_.cr0 & cr0_pg)) {
            leaf_ = {.physical = linear_ & 0xFFFFF000, .dirty = true};
            rights_ = {true, true, true};
            return true;
        }
        const bool found = !(cpu_.cr4 & cr4_pae) ? legacy() : !(cpu_.efer & efer_lma) ? pae() : long_mode();
        return found && judge();
    }
    [[nodiscard]] const Leaf& leaf() const { return leaf_; }
    /// What the CPU may do with the page, in this mode.
    struct Rights {
        bool read = false, write = false, execute = false;
    };
    [[nodiscard]] const Rights& rights() const { return rights_; }
    [[nodiscard]] bool changed() const { return changed_; }
    /// False: as run() with changed().
    bool set_dirty() {
        const Pending& last = pending_[pending_count_ - 1];
        changed_ = !physical_set_bits(cpu_, last.address, last.size, last.value | pte_accessed, pte_dirty);
        return !changed_;
    }

  private:
    bool fault(uint32_t bits) {
        uint32_t error = bits;
        if (access_ == Access::write) error |= error_write;
        if (user_) error |= error_user;
        const bool nx = (cpu_.cr4 & cr4_pae) && (cpu_.efer & efer_nxe);
        if (access_ == Access::execute && (nx || (cpu_.cr4 & cr4_smep))) error |= error_fetch;
        forget_page(cpu_, linear_);
        cpu_.fault = {vector_pf, true, error, linear_};
        return false;
    }

    /// Reads an entry and takes its rights; false: it faults.
    bool entry(uint64_t address, unsigned size, uint64_t& value) {
        address &= cpu_.physical_mask;
        value = physical_load(cpu_, address, size);
        if (!(value & pte_present)) return fault(0);
        leaf_.write &= (value & pte_write) != 0;
        leaf_.user &= (value & pte_user) != 0;
        if (size == 8) {
            if (value & pte_nx) {
                if (!(cpu_.efer & efer_nxe)) return fault(error_present | error_reserved);
                leaf_.execute = false;
            }
            // PAE paging outside of long mode reserves all above, too.
            const uint64_t checked = cpu_.efer & efer_lma ? address_bits : ~pte_nx & page_mask;
            const uint64_t reserved = checked & ~((uint64_t{1} << cpu_.engine->features.physical_bits) - 1);
            if (value & reserved) return fault(error_present | error_reserved);
        }
        pending_[pending_count_++] = {address, size, value};
        return true;
    }

    /// Accessed bits are set once the walk is known to be good. An entry that changed meanwhile is not touched (SDM 3A,
    /// 4.8: what a processor sets it sets in the entry that it has used).
    bool set_accessed() {
        for (unsigned i = 0; i < pending_count_ && !changed_; ++i) {
            const Pending& p = pending_[i];
            if (!(p.value & pte_accessed))
                changed_ = !physical_set_bits(cpu_, p.address, p.size, p.value, pte_accessed);
        }
        return !changed_;
    }

    bool legacy() {
        uint64_t pde = 0, pte = 0;
        if (!entry((cpu_.cr3 & 0xFFFFF000) + ((linear_ >> 22) & 0x3FF) * 4, 4, pde)) return false;
        if ((pde & pte_large) && (cpu_.cr4 & cr4_pse)) {
            const bool pse36 = cpu_.engine->features.has(CpuFeature::pse36);
            if (pde & (pse36 ? 0x200000u : 0x3FE000u)) return fault(error_present | error_reserved);
            const uint64_t base = (pde & 0xFFC00000) | ((pde & 0x1FE000) << 19);  // PSE-36
            return finish(base | (linear_ & 0x3FF000), pde);
        }
        if (!entry((pde & 0xFFFFF000) + ((linear_ >> 12) & 0x3FF) * 4, 4, pte)) return false;
        return finish(pte & 0xFFFFF000, pte);
    }

    bool pae() {
        const uint64_t pdpte = cpu_.pdpte[(linear_ >> 30) & 3];
        if (!(pdpte & pte_present)) return fault(0);
        return page_directory(pdpte);
    }

    bool page_directory(uint64_t above) {
        uint64_t pde = 0, pte = 0;
        if (!entry((above & address_bits) + ((linear_ >> 21) & 0x1FF) * 8, 8, pde)) return false;
        if (pde & pte_large) {
            if (pde & 0x1FE000) return fault(error_present | error_reserved);
            return finish((pde & address_bits & ~uint64_t{0x1FFFFF}) | (linear_ & 0x1FF000), pde);
        }
        if (!entry((pde & address_bits) + ((linear_ >> 12) & 0x1FF) * 8, 8, pte)) return false;
        return finish(pte & address_bits, pte);
    }

    bool long_mode() {
        uint64_t pml4e = 0, pdpte = 0;
        if (!entry((cpu_.cr3 & address_bits) + ((linear_ >> 39) & 0x1FF) * 8, 8, pml4e)) return false;
        if (pml4e & pte_large) return fault(error_present | error_reserved);
        if (!entry((pml4e & address_bits) + ((linear_ >> 30) & 0x1FF) * 8, 8, pdpte)) return false;
        if (pdpte & pte_large) {
            if ((pdpte & 0x3FFFE000) || !cpu_.engine->features.has(CpuFeature::pdpe1gb)) {
                return fault(error_present | error_reserved);
            }
            return finish((pdpte & address_bits & ~uint64_t{0x3FFFFFFF}) | (linear_ & 0x3FFFF000), pdpte);
        }
        return page_directory(pdpte);
    }

    bool finish(uint64_t physical, uint64_t last) {
        leaf_.physical = physical;
        leaf_.global = (last & pte_global) && (cpu_.cr4 & cr4_pge);
        leaf_.dirty = last & pte_dirty;
        leaf_.key = (last >> 59) & 15;
        return true;
    }

    /// Whether the page's protection key forbids what its other rights may allow (SDM 3A, 4.6.2).
    Rights key_rights() const {
        const bool keys = cpu_.long_active && (cpu_.cr4 & (leaf_.user ? cr4_pke : cr4_pks));
        const uint32_t bits = keys ? (leaf_.user ? cpu_.pkru : cpu_.pkrs) >> (2 * leaf_.key) : 0;
        const bool access_disable = bits & 1;
        const bool write_disable = (bits & 2) && (user_ || (cpu_.cr0 & cr0_wp));
        return {!access_disable, !access_disable && !write_disable, true};
    }

    /// SDM 3A, 4.6.1.
    bool judge() {
        const Rights key = key_rights();
        const bool hidden = user_ ? !leaf_.user : leaf_.user && smap_;
        rights_.read = !hidden && key.read;
        rights_.write = !hidden && key.write && (leaf_.write || (!user_ && !(cpu_.cr0 & cr0_wp)));
        rights_.execute = leaf_.execute && (user_ ? leaf_.user : !(leaf_.user && (cpu_.cr4 & cr4_smep)));
        const auto of_access = [this](const Rights& rights) {
            return access_ == Access::read ? rights.read : access_ == Access::write ? rights.write : rights.execute;
        };
        if (!of_access(rights_)) return fault(error_present | (of_access(key) ? 0 : error_key));
        return set_accessed();
    }

    struct Pending {
        uint64_t address;
        unsigned size;
        uint64_t value;
    };
    Cpu& cpu_;
    uint64_t linear_;
    Access access_;
    bool user_;
    bool smap_;
    Leaf leaf_;
    Rights rights_;
    Pending pending_[4];
    unsigned pending_count_ = 0;
    bool changed_ = false;
};

void flush(Cpu& cpu, bool keep_global) {
    ++cpu.counters.flushes;
    for (Tlb& tlb : cpu.tlbs) {
        unsigned kept = 0;
        for (unsigned i = 0; i < tlb.used_count; ++i) {
            TlbEntry& entry = tlb.entries[tlb.used[i]];
            if (keep_global && entry.global && entry.page != TlbEntry::no_tag) {
                tlb.used[kept++] = tlb.used[i];
            } else {
                entry = {};
            }
        }
        tlb.used_count = kept;
    }
    cpu.tlbs.void_epochs();
    keep_global ? new_local_code_epoch(cpu) : new_code_epoch(cpu);
}

}  // namespace

TlbEntry& translate(Cpu& cpu, Tlb& tlb, uint64_t linear, Access access, bool user) {
    TlbEntry* const entry = try_translate(cpu, tlb, linear, access, user);
    if (!entry) throw cpu.fault;
    return *entry;
}

TlbEntry* try_translate(Cpu& cpu, Tlb& tlb, uint64_t linear, Access access, bool user) {
    ++cpu.counters.walks;
    Walk walk(cpu, linear, access, user, &tlb == &cpu.tlbs[tlb_supervisor_smap]);
    if (!walk.run()) return walk.changed() ? try_translate(cpu, tlb, linear, access, user) : nullptr;
    const Leaf leaf = walk.leaf();
    const bool sets_dirty = access == Access::write && !leaf.dirty;
    if (sets_dirty && !walk.set_dirty()) return try_translate(cpu, tlb, linear, access, user);

    TlbEntry& entry = tlb.at(linear);
    if (!entry.listed) tlb.used[tlb.used_count++] = static_cast<uint16_t>((linear >> 12) % Tlb::size);
    entry = {};
    entry.listed = true;
    entry.page = linear & page_mask;
    entry.physical = leaf.physical & cpu.physical_mask;
    entry.may_read = walk.rights().read;
    entry.may_write = walk.rights().write && (leaf.dirty || sets_dirty);
    entry.may_execute = walk.rights().execute;
    entry.global = leaf.global;
    entry.user = leaf.user;
    entry.key = leaf.key;
    const bool apic = cpu.apic && (cpu.apic_base & 0xC00) == 0x800 && entry.physical == (cpu.apic_base & 0xFFFFFF000);
    const auto window = apic ? std::span<std::byte>{}
                             : cpu.engine->memory.window(Gpa{entry.physical}, 0x1000, GuestMemory::Intent::read);
    if (window.empty()) return &entry;
    entry.host = window.data();
    entry.addend = reinterpret_cast<uint64_t>(window.data()) - entry.page;
    if (&tlb == &cpu.tlbs[tlb_user_aligned]) return &entry;  // every access is checked
    if (watches_data(cpu, entry.page)) return &entry;
    if (entry.may_read) entry.read = entry.page;
    if (access == Access::write) open_for_writing(cpu, tlb, entry);
    return &entry;
}

void open_for_writing(Cpu& cpu, const Tlb& tlb, TlbEntry& entry) {
    if (!entry.host || entry.write == entry.page || !entry.may_write || &tlb == &cpu.tlbs[tlb_user_aligned]) return;
    if (cpu.engine->memory.window(Gpa{entry.physical}, 0x1000, GuestMemory::Intent::write).empty()) return;
    if (watches_data(cpu, entry.page) || !cpu.blocks->may_open(cpu, entry.host)) return;
    cpu.engine->memory.mark_dirty(Gpa{entry.physical}, 0x1000);
    entry.write = entry.page;
}

void flush_tlb(Cpu& cpu) {
    flush(cpu, false);
    cpu.tlbs.rebind(cpu.cr4 & cr4_pcide ? cpu.cr3 & 0xFFF : 0);
}

void flush_tlb_non_global(Cpu& cpu) {
    flush(cpu, true);
}

void forget_page(Cpu& cpu, uint64_t linear) {
    for (const TlbKind kind : {tlb_supervisor_smap, tlb_supervisor, tlb_user, tlb_user_aligned}) {
        TlbEntry& entry = cpu.tlbs[kind].at(linear);
        if (entry.page == (linear & page_mask)) clear(entry);
    }
    if (cpu.supervisor_code.may_have(linear)) return new_code_epoch(cpu);
    if (cpu.tlbs.user_code().may_have(linear)) new_user_code_epoch(cpu);
}

void flush_tlb_page(Cpu& cpu, uint64_t linear) {
    for (Tlb& tlb : cpu.tlbs) {
        TlbEntry& entry = tlb.at(linear);
        if (entry.page == (linear & page_mask) && entry.global) clear(entry);
    }
    cpu.tlbs.void_epochs_on(linear);  // perhaps it was global
    forget_page(cpu, linear);
}

void flush_tlb_keys(Cpu& cpu, uint32_t changed, bool user_pages) {
    for (Tlb& tlb : cpu.tlbs) {
        for (unsigned i = 0; i < tlb.used_count; ++i) {
            TlbEntry& entry = tlb.entries[tlb.used[i]];
            if (entry.user == user_pages && (changed >> (2 * entry.key) & 3)) clear(entry);
        }
    }
}

void protect_code_page(Cpu& cpu, const std::byte* host_page) {
    for (Tlb& tlb : cpu.tlbs) {
        for (unsigned i = 0; i < tlb.used_count; ++i) {
            TlbEntry& entry = tlb.entries[tlb.used[i]];
            if (entry.host == host_page) entry.write = TlbEntry::no_tag;
        }
    }
}

}  // namespace viv::soft
