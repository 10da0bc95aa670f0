#pragma once

#include "vmm/engine/soft/cpu.hpp"
#include "vmm/engine/soft/memory.hpp"

/// How instructions follow each other. The optimising compiler turns `return next(...)` into a jump, so that a block
/// runs without coming back; builds without tail calls (debug, sanitizers) hand the next instruction to a loop.
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(VIV_NO_TAIL_CALLS) && !defined(__clang__)
#define VIV_TAIL_CALLS 1
#else
#define VIV_TAIL_CALLS 0
#endif

namespace viv::soft {

inline const Insn* start(Cpu& cpu, const Insn* i) {
#if VIV_TAIL_CALLS
    return i->handler(cpu, i);
#else
    static_cast<void>(cpu);
    return i;
#endif
}

inline const Insn* next(Cpu& cpu, const Insn* i) {
    return start(cpu, i + 1);
}

/// Leaves the block; the run loop goes on at cpu.rip.
inline const Insn* leave(Cpu& cpu, uint64_t rip) {
    cpu.rip = rip;
    return nullptr;
}

/// Gives back the instructions of the block from `i` on, which are not going to run now.
inline void refund(Cpu& cpu, const Insn* i) {
    cpu.remaining += cpu.block->count - (i - cpu.block->first());
}

/// Continues with `block` at `rip`, unless the slice is over or something waits.
inline const Insn* enter(Cpu& cpu, Block* block, uint64_t rip) {
    if (cpu.remaining < block->count || cpu.attention.load(std::memory_order_relaxed)) [[unlikely]]
        return leave(cpu, rip);
    cpu.remaining -= block->count;
    cpu.gpr[17] = rip;
    cpu.block = block;
    return start(cpu, block->first());
}

/// To `rip` by way of a link of the current block, or the long way.
const Insn* follow_slow(Cpu& cpu, Link& link, uint64_t rip);
inline const Insn* follow(Cpu& cpu, Link& link, uint64_t rip) {
    if (link.rip == rip && link.tag == cpu.code_tag) [[likely]]
        return enter(cpu, link.block, rip);
    return follow_slow(cpu, link, rip);
}

/// To a computed `rip` by way of the jump cache.
const Insn* jump_slow(Cpu& cpu, uint64_t rip);
inline const Insn* jump(Cpu& cpu, uint64_t rip) {
    const JumpCacheEntry& entry = cpu.jump_cache[jump_cache_slot(rip)];
    if (entry.rip == rip && entry.tag == cpu.code_tag && entry.flavour == cpu.flavour) [[likely]]
        return enter(cpu, entry.block, rip);
    return jump_slow(cpu, rip);
}

/// Ends the instruction `i` with the page fault in Cpu::fault, and goes on in the guest's handler.
const Insn* faulted(Cpu& cpu, const Insn* i);
/// Puts the CPU in front of the instruction `cpu.at` and delivers what it raised.
void deliver_from_block(Cpu& cpu, const Fault& fault);

/// What stands after the last instruction of a block that ends without a branch.
const Insn* end_of_block(Cpu& cpu, const Insn* i);
/// What all instructions of a voided block become.
const Insn* leave_stale_block(Cpu& cpu, const Insn* i);

/// Handlers made of plain functions: for instructions where speed is not decided by the call.
using Semantics = void (*)(Cpu&, const Insn&);

/// An instruction after which the block goes on.
template <Semantics function>
const Insn* simple(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    function(cpu, *i);
    return next(cpu, i);
}

/// An instruction that ends its block: `function` may change cpu.rip, which is that of the next instruction.
template <Semantics function>
const Insn* ending(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    cpu.rip = cpu.next_rip();
    function(cpu, *i);
    return nullptr;
}

/// Goes on at cpu.rip after a transfer of control to other privileges, unless the run loop has to look first.
/// `old_eflags`: from before it.
inline const Insn* arrive(Cpu& cpu, uint32_t old_eflags) {
    const bool opens = (cpu.eflags & ~old_eflags & flag_if) && cpu.interrupt_held;
    if (opens || (cpu.eflags & (flag_tf | flag_rf)) || cpu.interrupt_shadow || cpu.shutdown) return nullptr;
    return jump(cpu, cpu.rip);
}

/// A transfer of control that ends its block, in the manner of ending().
template <Semantics function>
const Insn* transfer(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    cpu.rip = cpu.next_rip();
    const uint32_t old_eflags = cpu.eflags;
    function(cpu, *i);
    return arrive(cpu, old_eflags);
}

/// One that may change how code is decoded: goes on with the block only when it did not.
template <Semantics function>
const Insn* mode_changing(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    const uint8_t flavour = cpu.flavour;
    const uint64_t tag = cpu.code_tag;
    function(cpu, *i);
    if (cpu.flavour == flavour && cpu.code_tag == tag) return next(cpu, i);
    refund(cpu, i + 1);
    return leave(cpu, cpu.next_rip());
}

}  // namespace viv::soft
