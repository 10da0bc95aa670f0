// Interrupt and exception delivery, INT n and IRET in every mode (SDM 3A, 6 and 20.3; 3B, 20).
#include "vmm/engine/soft/interrupts.hpp"

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/segments.hpp"
#include "vmm/engine/soft/tracing.hpp"

namespace viv::soft {
namespace {

/// Real mode, and virtual-8086 mode where VME redirects to it. `table` is the linear address of the vector table.
void real_interrupt(Cpu& cpu, uint8_t vector, uint64_t table, uint32_t pushed_flags) {
    push<uint16_t>(cpu, cpu.at, static_cast<uint16_t>(pushed_flags));
    push<uint16_t>(cpu, cpu.at, cpu.seg[CS].selector);
    push<uint16_t>(cpu, cpu.at, static_cast<uint16_t>(cpu.rip));
    const uint64_t entry = system_load(cpu, table + vector * 4u, 4);
    load_real_segment(cpu, CS, static_cast<uint16_t>(entry >> 16));
    cpu.rip = entry & 0xFFFF;
}

void clear_flags_for(Cpu& cpu, bool clear_if) {
    cpu.eflags &= ~(flag_tf | flag_nt | flag_rf | flag_vm);
    if (clear_if) cpu.eflags &= ~flag_if;
}

struct Gate {
    Descriptor descriptor;
    unsigned size = 4;  // of what is pushed
    bool clear_if = false;
};

Gate find_gate(Cpu& cpu, uint8_t vector, Source source) {
    const uint32_t error = vector * 8u + 2;
    const unsigned entry_size = cpu.long_active ? 16 : 8;
    if (vector * entry_size + entry_size - 1 > cpu.idtr.limit) raise_gp(error);
    Gate gate;
    Descriptor& d = gate.descriptor;
    d.address = cpu.idtr.base + vector * entry_size;
    d.low = system_load(cpu, d.address, 8);
    if (cpu.long_active) d.high = system_load(cpu, d.address + 8, 8);
    bool valid = !d.code_or_data();
    switch (d.type()) {
        case type_task_gate: valid = valid && !cpu.long_active; break;
        case type_interrupt_gate16:
        case type_trap_gate16:
            valid = valid && !cpu.long_active;
            gate.size = 2;
            break;
        case type_interrupt_gate32:
        case type_trap_gate32: gate.size = cpu.long_active ? 8 : 4; break;
        default: valid = false;
    }
    if (!valid) raise_gp(error);
    if (source == Source::software && d.dpl() < cpu.cpl) raise_gp(error);
    if (!d.present()) raise(vector_np, error);
    gate.clear_if = d.type() == type_interrupt_gate16 || d.type() == type_interrupt_gate32;
    return gate;
}

/// Puts the new stack of an interrupt to an inner level (or with an IST entry) into place.
void switch_stack(Cpu& cpu, const Gate& gate, unsigned level) {
    if (cpu.long_active) {
        const unsigned ist = (gate.descriptor.low >> 32) & 7;
        uint64_t pointer = 0;
        if (ist != 0) {
            const uint64_t offset = 0x24 + (ist - 1) * 8;
            if (offset + 7 > cpu.seg[TR].limit) raise(vector_ts, selector_error(cpu.seg[TR].selector));
            pointer = system_load(cpu, cpu.seg[TR].base + offset, 8);
        } else if (level != cpu.cpl) {
            pointer = inner_stack(cpu, level).pointer;
        } else {
            pointer = cpu.gpr[RSP];
        }
        if (!is_canonical(pointer)) raise(vector_ss, 0);
        cpu.gpr[RSP] = pointer & ~uint64_t{15};
        if (level != cpu.cpl) cpu.seg[SS] = null_stack(static_cast<uint16_t>(level), level);
        return;
    }
    if (level == cpu.cpl && !cpu.vm86()) return;
    const InnerStack stack = inner_stack(cpu, level);
    cpu.seg[SS] = checked_stack(cpu, stack.selector, level, vector_ts);
    cpu.gpr[RSP] =
        cpu.seg[SS].default_big ? stack.pointer : (cpu.gpr[RSP] & ~uint64_t{0xFFFF}) | (stack.pointer & 0xFFFF);
}

void protected_interrupt(Cpu& cpu, uint8_t vector, Source source, bool has_error, uint32_t error) {
    const Gate gate = find_gate(cpu, vector, source);
    if (gate.descriptor.type() == type_task_gate) {
        return load_task_gate(cpu, gate.descriptor, TaskSwitch::call, has_error, error);
    }
    const uint16_t selector = gate.descriptor.gate_selector();
    if (is_null(selector)) raise_gp();
    const Descriptor code = read_descriptor(cpu, selector, vector_gp);
    if (!code.is_code() || code.dpl() > cpu.cpl) raise_gp(selector_error(selector));
    if (cpu.long_active && (!code.long_mode() || code.default_big())) raise_gp(selector_error(selector));
    if (!code.present()) raise(vector_np, selector_error(selector));
    const unsigned level = code.is_conforming() ? cpu.cpl : code.dpl();
    const bool from_vm86 = cpu.vm86();
    if (from_vm86 && level != 0) raise_gp(selector_error(selector));
    const bool new_stack = level != cpu.cpl || from_vm86;

    const uint16_t old_ss = cpu.seg[SS].selector, old_cs = cpu.seg[CS].selector;
    const uint64_t old_sp = cpu.gpr[RSP], old_rip = cpu.rip;
    const uint32_t old_flags = cpu.flags() | (source == Source::exception && vector != vector_db ? flag_rf : 0);
    const uint16_t old_data[4] = {cpu.seg[GS].selector, cpu.seg[FS].selector, cpu.seg[DS].selector,
                                  cpu.seg[ES].selector};
    switch_stack(cpu, gate, level);
    clear_flags_for(cpu, gate.clear_if);
    load_code_segment(cpu, selector, code, level);
    update_mode(cpu);
    if (from_vm86) {
        for (const uint16_t value : old_data) push_sized(cpu, gate.size, value);
    }
    if (new_stack || cpu.long_active) {
        push_sized(cpu, gate.size, old_ss);
        push_sized(cpu, gate.size, old_sp);
    }
    push_sized(cpu, gate.size, old_flags);
    push_sized(cpu, gate.size, old_cs);
    push_sized(cpu, gate.size, old_rip);
    if (has_error) push_sized(cpu, gate.size, error);
    if (from_vm86) {
        for (const Seg which : {ES, DS, FS, GS}) {
            cpu.seg[which] = {.limit = 0, .type = 0, .code_or_data = false, .present = false, .unusable = true};
        }
    }
    uint64_t offset = gate.descriptor.gate_offset();
    if (gate.size == 2) offset &= 0xFFFF;
    if (gate.size == 4) offset &= 0xFFFFFFFF;
    if (gate.size == 8 ? !is_canonical(offset) : offset > code.limit()) raise_gp();
    cpu.rip = offset;
}

/// Exceptions that make a double fault of a second one (SDM 3A, table 6-5).
bool is_contributory(uint8_t vector) {
    return vector == vector_de || vector == vector_ts || vector == vector_np || vector == vector_ss ||
           vector == vector_gp;
}

}  // namespace

void interrupt(Cpu& cpu, uint8_t vector, Source source, bool has_error, uint32_t error) {
    if (cpu.engine->trace) [[unlikely]]
        trace_interrupt(cpu, vector, source, has_error, error);
    Transaction transaction(cpu);
    if (cpu.protected_mode()) {
        protected_interrupt(cpu, vector, source, has_error, error);
    } else {
        if (vector * 4u + 3 > cpu.idtr.limit) raise_gp(vector * 8u + 2);
        real_interrupt(cpu, vector, cpu.idtr.base, cpu.flags());
        cpu.eflags &= ~(flag_if | flag_tf | flag_ac | flag_rf);
    }
    update_mode(cpu);
    cpu.interrupt_shadow = false;
    transaction.commit();
}

void deliver(Cpu& cpu, Fault fault, Source source) {
    static const Insn outside{};
    cpu.at = &outside;
    while (true) {
        if (fault.vector == vector_pf && source == Source::exception) cpu.cr2 = fault.address;
        // The handler may use the debug registers (SDM 3B, 17.2.4).
        if (fault.vector == vector_db && source == Source::exception) cpu.dr7 &= ~uint64_t{0x2000};
        try {
            return interrupt(cpu, fault.vector, source, fault.has_error && cpu.protected_mode(), fault.error);
        } catch (const Fault& second) {
            cpu.at = &outside;
            Fault now = second;
            const bool external = source == Source::external || source == Source::exception;
            if (now.has_error && now.vector != vector_pf && external) now.error |= 1;
            const bool first_counts = source == Source::exception;
            if (first_counts && fault.vector == vector_df) {
                cpu.shutdown = true;
                return;
            }
            const bool doubles =
                first_counts &&
                ((is_contributory(fault.vector) && is_contributory(now.vector)) ||
                 (fault.vector == vector_pf && (is_contributory(now.vector) || now.vector == vector_pf)));
            if (now.vector == vector_pf) cpu.cr2 = now.address;
            fault = doubles ? Fault{vector_df, true, 0, 0} : now;
            source = Source::exception;
        }
    }
}

void software_interrupt(Cpu& cpu, uint8_t vector, IntKind kind) {
    cpu.trap_suppressed = true;
    if (cpu.protected_mode() && cpu.vm86() && kind == IntKind::int_n) {
        const bool vme = cpu.cr4 & cr4_vme;
        bool redirect = false;
        if (vme) {
            const uint64_t map = system_load(cpu, cpu.seg[TR].base + 0x66, 2);
            const uint64_t at = map - 32 + vector / 8u;
            if (at > cpu.seg[TR].limit) raise_gp();
            redirect = !((system_load(cpu, cpu.seg[TR].base + at, 1) >> (vector % 8)) & 1);
        }
        if (redirect) {
            Transaction transaction(cpu);
            uint32_t pushed = cpu.flags();
            if (cpu.iopl() < 3) {
                pushed = (pushed & ~flag_if) | flag_iopl | (cpu.eflags & flag_vif ? flag_if : 0);
            }
            const bool full = cpu.iopl() == 3;
            real_interrupt(cpu, vector, 0, pushed);
            cpu.eflags &= ~(flag_tf | flag_nt | (full ? flag_if : flag_vif));
            update_mode(cpu);
            return transaction.commit();
        }
        if (cpu.iopl() < 3) raise_gp();
    }
    interrupt(cpu, vector, kind == IntKind::int1 ? Source::external : Source::software);
}

void load_flags(Cpu& cpu, uint32_t value, unsigned size) {
    uint32_t changeable = flags_arithmetic | flag_tf | flag_df | flag_nt | flag_ac | flag_id;
    if (cpu.cpl == 0 || !cpu.protected_mode()) changeable |= flag_iopl;
    if (!cpu.protected_mode() || cpu.cpl <= cpu.iopl()) changeable |= flag_if;
    if (size == 2) changeable &= 0xFFFF;
    const uint32_t old = cpu.flags() & ~flag_rf;
    cpu.set_flags((old & ~changeable) | (value & changeable));
    update_mode(cpu);
}

namespace {

void return_to_vm86(Cpu& cpu, uint64_t rip, uint16_t selector, uint32_t flags) {
    const uint64_t sp = peek_sized(cpu, 4, 12);
    uint16_t selectors[5];  // SS ES DS FS GS
    for (unsigned n = 0; n < 5; ++n) selectors[n] = static_cast<uint16_t>(peek_sized(cpu, 4, 16 + 4 * n));
    cpu.set_flags((flags & 0x3F7FD5) | flag_vm);
    cpu.cpl = 3;
    load_real_segment(cpu, CS, selector);
    load_real_segment(cpu, SS, selectors[0]);
    load_real_segment(cpu, ES, selectors[1]);
    load_real_segment(cpu, DS, selectors[2]);
    load_real_segment(cpu, FS, selectors[3]);
    load_real_segment(cpu, GS, selectors[4]);
    cpu.gpr[RSP] = sp;
    cpu.rip = rip & 0xFFFF;
    update_mode(cpu);
}

void return_from_vm86(Cpu& cpu, unsigned size) {
    const bool virtual_if = cpu.iopl() < 3;
    if (virtual_if && !((cpu.cr4 & cr4_vme) && size == 2)) raise_gp();
    const uint64_t rip = peek_sized(cpu, size, 0);
    const auto selector = static_cast<uint16_t>(peek_sized(cpu, size, size));
    const auto flags = static_cast<uint32_t>(peek_sized(cpu, size, 2 * size));
    if (rip > 0xFFFF) raise_gp();
    if (virtual_if) {
        if ((flags & flag_tf) || ((flags & flag_if) && (cpu.eflags & flag_vip))) raise_gp();
    }
    drop_stack(cpu, 3 * size);
    load_real_segment(cpu, CS, selector);
    cpu.rip = rip;
    uint32_t changeable = flags_arithmetic | flag_tf | flag_df | flag_nt;
    if (!virtual_if) changeable |= flag_if;
    if (size == 4) changeable |= flag_ac | flag_id | flag_rf;
    uint32_t value = (cpu.flags() & ~changeable & ~flag_rf) | (flags & changeable);
    if (virtual_if) value = (value & ~flag_vif) | (flags & flag_if ? flag_vif : 0);
    cpu.set_flags(value);
    update_mode(cpu);
}

/// The flags that IRET takes at this privilege level.
void return_flags(Cpu& cpu, uint32_t flags, unsigned size, unsigned old_cpl, unsigned old_iopl) {
    uint32_t changeable = flags_arithmetic | flag_tf | flag_df | flag_nt;
    if (size != 2) changeable |= flag_rf | flag_ac | flag_id;
    if (old_cpl <= old_iopl) changeable |= flag_if;
    if (old_cpl == 0) {
        changeable |= flag_iopl;
        if (size != 2) changeable |= flag_vif | flag_vip;
    }
    cpu.set_flags((cpu.flags() & ~changeable & ~(size == 2 ? 0 : flag_rf)) | (flags & changeable));
}

void protected_return(Cpu& cpu, unsigned size) {
    const uint64_t rip = peek_sized(cpu, size, 0);
    const auto selector = static_cast<uint16_t>(peek_sized(cpu, size, size));
    const auto flags = static_cast<uint32_t>(peek_sized(cpu, size, 2 * size));
    if ((flags & flag_vm) && cpu.cpl == 0 && size == 4 && !cpu.long_active) {
        return return_to_vm86(cpu, rip, selector, flags);
    }
    const Descriptor d = return_target(cpu, selector);
    const unsigned level = selector & 3;
    const unsigned old_cpl = cpu.cpl, old_iopl = cpu.iopl();
    const bool with_stack = level != cpu.cpl || cpu.code64;
    if (cpu.long_active && d.long_mode() ? !is_canonical(rip) : rip > d.limit()) raise_gp();
    if (with_stack) {
        const uint64_t sp = peek_sized(cpu, size, 3 * size);
        const auto ss = static_cast<uint16_t>(peek_sized(cpu, size, 4 * size));
        cpu.seg[SS] = return_stack(cpu, ss, d, level);
        load_code_segment(cpu, selector, d, level);
        if (level != old_cpl) drop_inner_segments(cpu);
        return_flags(cpu, flags, size, old_cpl, old_iopl);
        update_mode(cpu);
        cpu.gpr[RSP] =
            cpu.stack_mask == 0xFFFF ? (cpu.gpr[RSP] & ~uint64_t{0xFFFF}) | (sp & 0xFFFF) : sp & cpu.stack_mask;
    } else {
        drop_stack(cpu, 3 * size);
        load_code_segment(cpu, selector, d, level);
        return_flags(cpu, flags, size, old_cpl, old_iopl);
        update_mode(cpu);
    }
    cpu.rip = rip;
}

}  // namespace

void interrupt_return(Cpu& cpu, unsigned size) {
    Transaction transaction(cpu);
    if (!cpu.protected_mode()) {
        const uint64_t rip = peek_sized(cpu, size, 0);
        const auto selector = static_cast<uint16_t>(peek_sized(cpu, size, size));
        const auto flags = static_cast<uint32_t>(peek_sized(cpu, size, 2 * size));
        if (rip > cpu.seg[CS].limit) raise_gp();
        drop_stack(cpu, 3 * size);
        load_real_segment(cpu, CS, selector);
        cpu.rip = rip;
        const uint32_t changeable = size == 2 ? 0x7FD5u : 0x257FD5u;
        cpu.set_flags((cpu.flags() & ~changeable) | (flags & changeable));
    } else if (cpu.vm86()) {
        return_from_vm86(cpu, size);
    } else if (cpu.eflags & flag_nt) {
        if (cpu.long_active) raise_gp();
        const auto back = static_cast<uint16_t>(system_load(cpu, cpu.seg[TR].base, 2));
        if (is_null(back) || (back & 4)) raise(vector_ts, selector_error(back));
        const Descriptor d = read_descriptor(cpu, back, vector_ts);
        const bool busy = !d.code_or_data() && (d.type() == type_tss16_busy || d.type() == type_tss32_busy);
        if (!busy) raise(vector_ts, selector_error(back));
        switch_task(cpu, back, d, TaskSwitch::iret);
    } else {
        protected_return(cpu, size);
    }
    update_mode(cpu);
    cpu.nmi_blocked = false;
    transaction.commit();
}

}  // namespace viv::soft
