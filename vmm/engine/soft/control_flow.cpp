// Jcc JMP CALL RET (near), LOOP LOOPE LOOPNE JCXZ, and how blocks follow each other.
#include "vmm/engine/soft/control_flow.hpp"

#include <utility>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/run.hpp"

namespace viv::soft {
namespace {

uint64_t target_of(const Cpu& cpu, const Insn* i) {
    return (cpu.gpr[17] + i->imm) & i->mask;
}
uint64_t after(const Cpu& cpu, const Insn* i) {
    return (cpu.gpr[17] + i->offset + i->length) & cpu.linear_mask;
}

/// A branch to a non-canonical address faults at the branch (SDM 2A, JMP and RET).
void check_target(Cpu& cpu, const Insn* i, uint64_t rip) {
    const bool bad =
        cpu.code64 ? static_cast<int64_t>(rip << 16) >> 16 != static_cast<int64_t>(rip) : rip > cpu.seg[CS].limit;
    if (bad) [[unlikely]] {
        cpu.at = i;
        raise_gp();
    }
}

template <Condition C>
const Insn* jcc(Cpu& cpu, const Insn* i) {
    if (holds<C>(cpu)) return follow(cpu, cpu.block->links[0], target_of(cpu, i));
    return follow(cpu, cpu.block->links[1], after(cpu, i));
}

template <class T>
const Insn* call_direct(Cpu& cpu, const Insn* i) {
    const uint64_t target = target_of(cpu, i);
    if (!try_push<T>(cpu, i, static_cast<T>(after(cpu, i)))) [[unlikely]]
        return faulted(cpu, i);
    return follow(cpu, cpu.block->links[0], target);
}

template <class T, Form F>
const Insn* jmp_indirect(Cpu& cpu, const Insn* i) {
    const uint64_t target = F == Form::r ? cpu.reg<T>(i->dst) : load_operand<T>(cpu, i);
    check_target(cpu, i, target);
    return jump(cpu, target);
}

template <class T, Form F>
const Insn* call_indirect(Cpu& cpu, const Insn* i) {
    const uint64_t target = F == Form::r ? cpu.reg<T>(i->dst) : load_operand<T>(cpu, i);
    check_target(cpu, i, target);
    push<T>(cpu, i, static_cast<T>(cpu.gpr[17] + i->offset + i->length));
    return jump(cpu, target);
}

template <class T>
const Insn* ret(Cpu& cpu, const Insn* i) {
    const Loaded<T> top = try_peek_stack<T>(cpu, i);
    if (!top.good) [[unlikely]]
        return faulted(cpu, i);
    const uint64_t target = top.value;
    check_target(cpu, i, target);
    drop_stack(cpu, sizeof(T) + i->imm);
    return jump(cpu, target);
}

template <LoopKind Kind>
const Insn* loop(Cpu& cpu, const Insn* i) {
    const uint64_t counter_mask = i->aux == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * i->aux)) - 1;
    uint64_t count = cpu.gpr[RCX] & counter_mask;
    bool taken = count == 0;
    if constexpr (Kind != LoopKind::jcxz) {
        count = (count - 1) & counter_mask;
        taken = count != 0;
        if constexpr (Kind == LoopKind::loope) taken = taken && holds<Condition::z>(cpu);
        if constexpr (Kind == LoopKind::loopne) taken = taken && holds<Condition::nz>(cpu);
        cpu.gpr[RCX] = i->aux == 2 ? (cpu.gpr[RCX] & ~counter_mask) | count : count;
    }
    if (taken) return follow(cpu, cpu.block->links[0], target_of(cpu, i));
    return follow(cpu, cpu.block->links[1], after(cpu, i));
}

}  // namespace

Handler jcc_handler(unsigned condition) {
    Handler found = nullptr;
    [&]<size_t... index>(std::index_sequence<index...>) {
        ((condition == index ? void(found = jcc<static_cast<Condition>(index)>) : void()), ...);
    }
    (std::make_index_sequence<16>{});
    return found;
}

const Insn* jmp_direct(Cpu& cpu, const Insn* i) {
    return follow(cpu, cpu.block->links[0], target_of(cpu, i));
}

Handler call_direct_handler(unsigned size) {
    return by_wide_size(size, []<class T>() -> Handler { return call_direct<T>; });
}

Handler jmp_indirect_handler(Form form, unsigned size) {
    if (form == Form::r) return by_wide_size(size, []<class T>() -> Handler { return jmp_indirect<T, Form::r>; });
    return by_wide_size(size, []<class T>() -> Handler { return jmp_indirect<T, Form::m>; });
}

Handler call_indirect_handler(Form form, unsigned size) {
    if (form == Form::r) return by_wide_size(size, []<class T>() -> Handler { return call_indirect<T, Form::r>; });
    return by_wide_size(size, []<class T>() -> Handler { return call_indirect<T, Form::m>; });
}

Handler ret_handler(unsigned size) {
    return by_wide_size(size, []<class T>() -> Handler { return ret<T>; });
}

Handler loop_handler(LoopKind kind) {
    switch (kind) {
        case LoopKind::loop: return loop<LoopKind::loop>;
        case LoopKind::loope: return loop<LoopKind::loope>;
        case LoopKind::loopne: return loop<LoopKind::loopne>;
        case LoopKind::jcxz: return loop<LoopKind::jcxz>;
    }
    return nullptr;
}

const Insn* end_of_block(Cpu& cpu, const Insn* i) {
    return follow(cpu, cpu.block->links[1], (cpu.gpr[17] + i->offset) & cpu.rip_space());
}

const Insn* leave_stale_block(Cpu& cpu, const Insn* i) {
    refund(cpu, i);
    return leave(cpu, (cpu.gpr[17] + i->offset) & cpu.rip_space());
}

const Insn* enter_interpreted(Cpu& cpu, Block* block, uint64_t rip) {
    return enter(cpu, block, rip);
}

const Insn* enter_by_link(Cpu& cpu, Block* block, uint64_t rip, Link* link) {
    cpu.blocks->jit.join(*cpu.block, *link);
    return enter(cpu, block, rip);
}

const Insn* follow_slow(Cpu& cpu, Link& link, uint64_t rip) {
    // With the slice over, or in single steps, the block is not looked for: that may fault, and it is not due yet.
    if (cpu.remaining <= 0 || cpu.attention.load(std::memory_order_relaxed)) return leave(cpu, rip);
    Block* const from = cpu.block;
    if (from->flavour & Flavour::single) return leave(cpu, rip);
    Block* block = link.rip == rip ? find_again(cpu, link.block, rip) : nullptr;
    if (!block) block = find_block(cpu, rip);
    if (!block) return leave(cpu, rip);
    // A stale block must not be written to.
    if (block->page && !from->stale) {
        cpu.blocks->jit.relink(*from, link, *block);
        link = {cpu.code_tag, rip, block};
    }
    return enter(cpu, block, rip);
}

const Insn* jump_slow(Cpu& cpu, uint64_t rip) {
    if (cpu.remaining <= 0 || cpu.attention.load(std::memory_order_relaxed)) return leave(cpu, rip);
    if (cpu.block->flavour & Flavour::single) return leave(cpu, rip);
    JumpCacheEntry& entry = cpu.jump_cache[jump_cache_slot(rip)];
    Block* block = entry.rip == rip ? find_again(cpu, entry.block, rip) : nullptr;
    if (!block) block = find_block(cpu, rip);
    if (!block) return leave(cpu, rip);
    if (block->page) entry = {rip, cpu.code_tag, block, cpu.flavour};
    return enter(cpu, block, rip);
}

}  // namespace viv::soft
