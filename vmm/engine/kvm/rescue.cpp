#include "vmm/engine/kvm/rescue.hpp"

#include <algorithm>

namespace viv::kvm {
namespace {

constexpr uint64_t reset_dr6 = 0xFFFF0FF0;

/// KVM's registers and the CpuState's, in pairs.
void for_each_segment(kvm_sregs& sregs, CpuState& state, auto visit) {
    visit(sregs.cs, state.cs);
    visit(sregs.ds, state.ds);
    visit(sregs.es, state.es);
    visit(sregs.fs, state.fs);
    visit(sregs.gs, state.gs);
    visit(sregs.ss, state.ss);
    visit(sregs.tr, state.tr);
    visit(sregs.ldt, state.ldtr);
}

void for_each_control(kvm_sregs& sregs, CpuState& state, auto visit) {
    const auto in_place = [&](auto& kvm_value, uint64_t& value) { visit(kvm_value, value); };
    in_place(sregs.cr0, state.cr0);
    in_place(sregs.cr2, state.cr2);
    in_place(sregs.cr3, state.cr3);
    in_place(sregs.cr4, state.cr4);
    in_place(sregs.efer, state.efer);
    in_place(sregs.gdt.base, state.gdtr.base);
    in_place(sregs.idt.base, state.idtr.base);
}

}  // namespace

Result<void> Rescue::take_registers(Cause cause) {
    auto& shared = run_.s.regs;
    if (!(run_.kvm_valid_regs & KVM_SYNC_X86_SREGS) && call(vcpu_, KVM_GET_SREGS, &shared.sregs) < 0) {
        return fail_errno("cannot read a CPU's system registers", errno);
    }
    if (!(run_.kvm_valid_regs & KVM_SYNC_X86_EVENTS) && call(vcpu_, KVM_GET_VCPU_EVENTS, &shared.events) < 0) {
        return fail_errno("cannot read a CPU's pending events", errno);
    }
    from_kvm(shared.regs, state);
    for_each_segment(shared.sregs, state, [](kvm_segment& from, SegmentRegister& to) { to = from_kvm(from); });
    for_each_control(shared.sregs, state, [](auto& from, uint64_t& to) { to = from; });
    state.gdtr.limit = shared.sregs.gdt.limit;
    state.idtr.limit = shared.sregs.idt.limit;
    state.cr8 = shared.sregs.cr8;
    state.apic_base = shared.sregs.apic_base;
    state.dr6 = reset_dr6;
    state.interrupt_shadow = shared.events.interrupt.shadow != 0;
    state.nmi_blocked = shared.events.nmi.masked != 0;
    vectors_changed = false;
    code = {};
    const auto& failure = run_.emulation_failure;
    if (cause == Cause::failure && failure.ndata >= 3 &&
        failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
        code = {failure.insn_bytes, std::min<size_t>(failure.insn_size, sizeof failure.insn_bytes)};
    }
    return {};
}

Result<void> Rescue::load(Part part) {
    switch (part) {
        case Part::vectors: return read_xsave(vcpu_, layout_, state.xsave);
        case Part::xcr0: state.xcr0 = TRY(read_xcr0(vcpu_, layout_)); return {};
        case Part::msrs: state.msrs = TRY(read_msrs(vcpu_, layout_.msrs)); return {};
    }
    return {};
}

Result<void> Rescue::give_back() {
    auto& shared = run_.s.regs;
    shared.regs = to_kvm(state);
    run_.kvm_dirty_regs |= KVM_SYNC_X86_REGS;

    // Only what differs: KVM has details in segments that a CpuState has not, and setting these registers is not free.
    bool system_changed = false;
    for_each_segment(shared.sregs, state, [&](kvm_segment& to, SegmentRegister& now) {
        if (from_kvm(to) == now) return;
        to = to_kvm(now);
        system_changed = true;
    });
    for_each_control(shared.sregs, state, [&](auto& to, uint64_t& now) {
        system_changed |= to != now;
        to = now;
    });
    if (system_changed) run_.kvm_dirty_regs |= KVM_SYNC_X86_SREGS;

    auto& events = shared.events;
    if (state.interrupt_shadow != (events.interrupt.shadow != 0) || state.nmi_blocked != (events.nmi.masked != 0)) {
        events.interrupt.shadow = state.interrupt_shadow ? KVM_X86_SHADOW_INT_MOV_SS : 0;
        events.nmi.masked = state.nmi_blocked;
        events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
        run_.kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    }
    // Interrupts may be off now.
    run_.ready_for_interrupt_injection = 0;

    if (vectors_changed && call(vcpu_, KVM_SET_XSAVE, state.xsave.data()) < 0) {
        return fail_errno("cannot set a CPU's XSAVE image", errno);
    }
    if (state.dr6 != reset_dr6 && layout_.has_debug_registers) {
        kvm_debugregs debug{};
        if (call(vcpu_, KVM_GET_DEBUGREGS, &debug) < 0) return fail_errno("cannot read a CPU's debug registers", errno);
        debug.dr6 |= state.dr6;
        if (call(vcpu_, KVM_SET_DEBUGREGS, &debug) < 0) return fail_errno("cannot set a CPU's debug registers", errno);
    }
    return {};
}

Result<Rescuer::Report> Rescue::execute(VcpuHost& host, uint64_t limit, bool a20_enabled, Cause cause) {
    TRY(take_registers(cause));
    a20 = a20_enabled;
    const auto report = TRY(rescuer_->rescue(*this, host, limit));
    TRY(give_back());
    return report;
}

}  // namespace viv::kvm
