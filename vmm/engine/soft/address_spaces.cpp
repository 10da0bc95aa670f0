// Translations of several PCIDs (SDM 3A, 4.10). Only those that the user's accesses use are kept while another PCID is
// current: the manual lets a processor forget others at any time.
#include <algorithm>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/memory.hpp"

namespace viv::soft {
namespace {

void forget_local(Tlb& tlb) {
    unsigned kept = 0;
    for (unsigned i = 0; i < tlb.used_count; ++i) {
        TlbEntry& entry = tlb.entries[tlb.used[i]];
        if (entry.global && entry.page != TlbEntry::no_tag) {
            tlb.used[kept++] = tlb.used[i];
        } else {
            entry = {};
        }
    }
    tlb.used_count = kept;
}

}  // namespace

TlbSet::Space* TlbSet::find(int pcid) {
    const auto end = spaces_.begin() + count_;
    const auto found = std::find_if(spaces_.begin(), end, [pcid](const Space& s) { return s.pcid == pcid; });
    return found == end ? nullptr : &*found;
}

bool TlbSet::select(uint16_t pcid, uint32_t& user_epoch) {
    spaces_[current_].user_epoch = user_epoch;
    Space* space = find(pcid);
    const bool known = space;
    if (!known) {
        space = find(nobody);
        if (!space && count_ < spaces_at_most) {
            space = &spaces_[count_++];
            space->tlb = std::make_unique<Tlb>();
        }
        if (!space) space = &*std::ranges::min_element(spaces_, {}, &Space::used);
        space->pcid = pcid;
        space->user_epoch = 0;
    }
    space->used = ++selections_;
    user_epoch = space->user_epoch;
    current_ = static_cast<unsigned>(space - spaces_.data());
    return known;
}

void TlbSet::rebind(uint16_t pcid) {
    for (Space& space : spaces_) space.pcid = nobody;
    spaces_[current_].pcid = pcid;
}

Tlb* TlbSet::other(uint16_t pcid) {
    Space* const space = find(pcid);
    return space && space != &spaces_[current_] ? space->tlb.get() : nullptr;
}

void TlbSet::void_epochs() {
    for (Space& space : spaces_) space.user_epoch = 0;
}

void TlbSet::void_epochs_on(uint64_t linear) {
    for (Space& space : spaces_) {
        if (space.code.may_have(linear)) space.user_epoch = 0;
    }
}

void TlbSet::void_epoch(uint16_t pcid) {
    if (Space* const space = find(pcid)) space->user_epoch = 0;
}

void switch_address_space(Cpu& cpu, uint16_t pcid, bool keep) {
    for (const TlbKind kind : {tlb_supervisor_smap, tlb_supervisor, tlb_user_aligned}) forget_local(cpu.tlbs[kind]);
    const bool known = cpu.tlbs.select(pcid, cpu.user_epoch);
    if (!known || !keep) {
        forget_local(cpu.tlbs[tlb_user]);
        cpu.user_epoch = 0;
    }
    if (cpu.user_epoch == 0 || cpu.ran_local_supervisor_code) new_local_code_epoch(cpu);
    update_mode(cpu);
}

void flush_tlb_page_of(Cpu& cpu, uint16_t pcid, uint64_t linear) {
    if (pcid == cpu.tlbs.current()) return forget_page(cpu, linear);
    Tlb* const tlb = cpu.tlbs.other(pcid);
    if (!tlb) return;
    TlbEntry& entry = tlb->at(linear);
    if (entry.page == (linear & page_mask) && !entry.global) {
        const bool listed = entry.listed;
        entry = {};
        entry.listed = listed;
    }
    cpu.tlbs.void_epoch(pcid);
}

void flush_tlb_of(Cpu& cpu, uint16_t pcid) {
    if (pcid == cpu.tlbs.current()) return switch_address_space(cpu, pcid, false);
    if (Tlb* const tlb = cpu.tlbs.other(pcid)) forget_local(*tlb);
    cpu.tlbs.void_epoch(pcid);
}

}  // namespace viv::soft
