// Far JMP, CALL and RET: within and between privilege levels, through gates and to tasks (SDM 3A, 5.8).
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/segments.hpp"

namespace viv::soft {
namespace {

uint64_t size_mask(unsigned size) {
    return size == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * size)) - 1;
}

void push_return(Cpu& cpu, unsigned size) {
    push_sized(cpu, size, cpu.seg[CS].selector);
    push_sized(cpu, size, cpu.rip);
}

/// Rights of a direct transfer to a code segment (SDM 3A, 5.8.1).
void check_code(Cpu& cpu, uint16_t selector, const Descriptor& d) {
    if (!d.is_code()) raise_gp(selector_error(selector));
    if (d.is_conforming()) {
        if (d.dpl() > cpu.cpl) raise_gp(selector_error(selector));
    } else if ((selector & 3) > cpu.cpl || d.dpl() != cpu.cpl) {
        raise_gp(selector_error(selector));
    }
    if (cpu.long_active && d.long_mode() && d.default_big()) raise_gp(selector_error(selector));
    if (!d.present()) raise(vector_np, selector_error(selector));
}

void check_offset(Cpu& cpu, const Descriptor& d, uint64_t offset) {
    if (cpu.long_active && d.long_mode()) {
        if (!is_canonical(offset)) raise_gp();
    } else if (offset > d.limit()) {
        raise_gp();
    }
}

void enter_code(Cpu& cpu, uint16_t selector, const Descriptor& d, uint64_t offset, unsigned cpl) {
    check_offset(cpu, d, offset);
    load_code_segment(cpu, selector, d, cpl);
    cpu.rip = offset;
    update_mode(cpu);
}

void check_gate(Cpu& cpu, uint16_t selector, const Descriptor& gate) {
    if (gate.dpl() < cpu.cpl || gate.dpl() < (selector & 3)) raise_gp(selector_error(selector));
    if (!gate.present()) raise(vector_np, selector_error(selector));
}

struct GateTarget {
    uint16_t selector;
    Descriptor descriptor;
};

GateTarget gate_target(Cpu& cpu, const Descriptor& gate) {
    const uint16_t selector = gate.gate_selector();
    if (is_null(selector)) raise_gp();
    const Descriptor d = read_descriptor(cpu, selector, vector_gp);
    if (!d.is_code() || d.dpl() > cpu.cpl) raise_gp(selector_error(selector));
    if (cpu.long_active && (!d.long_mode() || d.default_big())) raise_gp(selector_error(selector));
    return {selector, d};
}

uint64_t gate_offset(const Cpu& cpu, const Descriptor& gate) {
    if (cpu.long_active) return gate.gate_offset();
    return gate.type() == type_call_gate16 ? gate.gate_offset() & 0xFFFF : gate.gate_offset() & 0xFFFFFFFF;
}

/// A call gate into a more privileged segment: new stack, old one and the parameters on it.
void call_inner(Cpu& cpu, const Descriptor& gate, const GateTarget& target) {
    const unsigned level = target.descriptor.dpl();
    const unsigned size = cpu.long_active ? 8 : (gate.type() == type_call_gate16 ? 2 : 4);
    const InnerStack stack = inner_stack(cpu, level);
    const uint64_t old_sp = cpu.gpr[RSP];
    const uint16_t old_ss = cpu.seg[SS].selector;
    const uint16_t old_cs = cpu.seg[CS].selector;
    const uint64_t return_rip = cpu.rip;
    const unsigned parameters = cpu.long_active ? 0 : (gate.low >> 32) & 31;
    uint64_t values[31] = {};
    for (unsigned n = 0; n < parameters; ++n) values[n] = peek_sized(cpu, size, n * size);
    if (cpu.long_active) {
        cpu.seg[SS] = null_stack(static_cast<uint16_t>(level), level);
    } else {
        cpu.seg[SS] = checked_stack(cpu, stack.selector, level, vector_ts);
    }
    load_code_segment(cpu, target.selector, target.descriptor, level);
    cpu.gpr[RSP] = stack.pointer;
    update_mode(cpu);
    push_sized(cpu, size, old_ss);
    push_sized(cpu, size, old_sp);
    for (unsigned n = parameters; n-- > 0;) push_sized(cpu, size, values[n]);
    push_sized(cpu, size, old_cs);
    push_sized(cpu, size, return_rip);
    check_offset(cpu, target.descriptor, gate_offset(cpu, gate));
    cpu.rip = gate_offset(cpu, gate);
}

void call_gate(Cpu& cpu, uint16_t selector, const Descriptor& gate, bool is_call) {
    check_gate(cpu, selector, gate);
    const GateTarget target = gate_target(cpu, gate);
    const Descriptor& d = target.descriptor;
    if (!is_call && !d.is_conforming() && d.dpl() != cpu.cpl) raise_gp(selector_error(target.selector));
    if (!d.present()) raise(vector_np, selector_error(target.selector));
    if (is_call && !d.is_conforming() && d.dpl() < cpu.cpl) return call_inner(cpu, gate, target);
    if (is_call) {
        const unsigned size = cpu.long_active ? 8 : (gate.type() == type_call_gate16 ? 2 : 4);
        push_return(cpu, size);
    }
    enter_code(cpu, target.selector, d, gate_offset(cpu, gate), cpu.cpl);
}

/// Far JMP and CALL to a system descriptor.
void through_system(Cpu& cpu, uint16_t selector, const Descriptor& d, bool is_call) {
    const TaskSwitch reason = is_call ? TaskSwitch::call : TaskSwitch::jump;
    switch (d.type()) {
        case type_call_gate16:
            if (cpu.long_active) break;
            return call_gate(cpu, selector, d, is_call);
        case type_call_gate32: return call_gate(cpu, selector, d, is_call);
        case type_task_gate:
            if (cpu.long_active) break;
            check_gate(cpu, selector, d);
            return load_task_gate(cpu, d, reason);
        case type_tss16:
        case type_tss32:
            if (cpu.long_active) break;
            check_gate(cpu, selector, d);
            return switch_task(cpu, selector, d, reason);
        default: break;
    }
    raise_gp(selector_error(selector));
}

/// JMP and CALL to selector:offset.
void far_transfer(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned size, bool is_call) {
    Transaction transaction(cpu);
    offset &= size_mask(size);
    if (cpu.real_or_vm86()) {
        if (offset > cpu.seg[CS].limit) raise_gp();
        if (is_call) push_return(cpu, size);
        load_real_segment(cpu, CS, selector);
        cpu.rip = offset;
        update_mode(cpu);
    } else {
        if (is_null(selector)) raise_gp();
        const Descriptor d = read_descriptor(cpu, selector, vector_gp);
        if (d.code_or_data()) {
            check_code(cpu, selector, d);
            if (is_call) push_return(cpu, size);
            enter_code(cpu, selector, d, offset, cpu.cpl);
        } else {
            through_system(cpu, selector, d, is_call);
        }
    }
    transaction.commit();
}
}  // namespace

void far_jump(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned size) {
    far_transfer(cpu, selector, offset, size, false);
}

void far_call(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned size) {
    far_transfer(cpu, selector, offset, size, true);
}

void far_return(Cpu& cpu, unsigned size, unsigned release) {
    Transaction transaction(cpu);
    const uint64_t offset = peek_sized(cpu, size, 0);
    const auto selector = static_cast<uint16_t>(peek_sized(cpu, size, size));
    if (cpu.real_or_vm86()) {
        if (offset > cpu.seg[CS].limit) raise_gp();
        drop_stack(cpu, 2 * size + release);
        load_real_segment(cpu, CS, selector);
        cpu.rip = offset;
        update_mode(cpu);
        return transaction.commit();
    }
    const Descriptor d = return_target(cpu, selector);
    const unsigned level = selector & 3;
    if (level == cpu.cpl) {
        drop_stack(cpu, 2 * size + release);
        enter_code(cpu, selector, d, offset, level);
        return transaction.commit();
    }
    const uint64_t outer_sp = peek_sized(cpu, size, 2 * size + release);
    const auto outer_ss = static_cast<uint16_t>(peek_sized(cpu, size, 3 * size + release));
    check_offset(cpu, d, offset);
    cpu.seg[SS] = return_stack(cpu, outer_ss, d, level);
    load_code_segment(cpu, selector, d, level);
    drop_inner_segments(cpu);
    cpu.rip = offset;
    update_mode(cpu);
    cpu.gpr[RSP] = (cpu.stack_mask == 0xFFFF ? cpu.gpr[RSP] & ~cpu.stack_mask : 0) | (outer_sp & cpu.stack_mask);
    drop_stack(cpu, release);
    transaction.commit();
}

}  // namespace viv::soft
