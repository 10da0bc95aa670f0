// Task state segments: stacks of inner levels, and hardware task switches (SDM 3A, 7).
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/segments.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {

bool is_tss32(uint8_t type) {
    return type & 8;
}

struct TaskState {
    uint32_t cr3 = 0, eip = 0, eflags = 0;
    uint32_t gpr[8] = {};
    uint16_t selectors[6] = {};  // ES CS SS DS FS GS
    uint16_t ldt = 0;
    bool trap = false;
};

TaskState read_task(Cpu& cpu, uint64_t base, bool wide) {
    TaskState t;
    if (wide) {
        t.cr3 = static_cast<uint32_t>(system_load(cpu, base + 0x1C, 4));
        t.eip = static_cast<uint32_t>(system_load(cpu, base + 0x20, 4));
        t.eflags = static_cast<uint32_t>(system_load(cpu, base + 0x24, 4));
        for (unsigned n = 0; n < 8; ++n) t.gpr[n] = static_cast<uint32_t>(system_load(cpu, base + 0x28 + 4 * n, 4));
        for (unsigned n = 0; n < 6; ++n) {
            t.selectors[n] = static_cast<uint16_t>(system_load(cpu, base + 0x48 + 4 * n, 2));
        }
        t.ldt = static_cast<uint16_t>(system_load(cpu, base + 0x60, 2));
        t.trap = system_load(cpu, base + 0x64, 1) & 1;
        return t;
    }
    t.eip = static_cast<uint32_t>(system_load(cpu, base + 0x0E, 2));
    t.eflags = static_cast<uint32_t>(system_load(cpu, base + 0x10, 2));
    for (unsigned n = 0; n < 8; ++n) {
        t.gpr[n] = static_cast<uint32_t>(system_load(cpu, base + 0x12 + 2 * n, 2)) | 0xFFFF0000;
    }
    for (unsigned n = 0; n < 4; ++n) t.selectors[n] = static_cast<uint16_t>(system_load(cpu, base + 0x22 + 2 * n, 2));
    t.ldt = static_cast<uint16_t>(system_load(cpu, base + 0x2A, 2));
    return t;
}

void save_task(Cpu& cpu, uint32_t eflags) {
    const uint64_t base = cpu.seg[TR].base;
    if (is_tss32(cpu.seg[TR].type)) {
        system_probe_write(cpu, base + 0x20, 0x40);
        system_store(cpu, base + 0x20, 4, cpu.rip);
        system_store(cpu, base + 0x24, 4, eflags);
        for (unsigned n = 0; n < 8; ++n) system_store(cpu, base + 0x28 + 4 * n, 4, cpu.gpr[n] & 0xFFFFFFFF);
        for (unsigned n = 0; n < 6; ++n) system_store(cpu, base + 0x48 + 4 * n, 2, cpu.seg[n].selector);
        return;
    }
    system_probe_write(cpu, base + 0x0E, 0x1C);
    system_store(cpu, base + 0x0E, 2, cpu.rip & 0xFFFF);
    system_store(cpu, base + 0x10, 2, eflags & 0xFFFF);
    for (unsigned n = 0; n < 8; ++n) system_store(cpu, base + 0x12 + 2 * n, 2, cpu.gpr[n] & 0xFFFF);
    for (unsigned n = 0; n < 4; ++n) system_store(cpu, base + 0x22 + 2 * n, 2, cpu.seg[n].selector);
}

void load_task_ldt(Cpu& cpu, uint16_t selector) {
    cpu.seg[LDTR] = {
        .selector = selector, .limit = 0, .type = type_ldt, .code_or_data = false, .present = false, .unusable = true};
    if (is_null(selector)) return;
    const Descriptor d = (selector & 4) ? Descriptor{} : read_descriptor(cpu, selector, vector_ts);
    if ((selector & 4) || d.code_or_data() || d.type() != type_ldt || !d.present()) {
        raise(vector_ts, selector_error(selector));
    }
    cpu.seg[LDTR] = segment_from(selector, d);
}

void load_task_code(Cpu& cpu, uint16_t selector) {
    if (is_null(selector)) raise(vector_ts, selector_error(selector));
    const Descriptor d = read_descriptor(cpu, selector, vector_ts);
    const unsigned level = selector & 3;
    if (!d.is_code() || (d.is_conforming() ? d.dpl() > level : d.dpl() != level)) {
        raise(vector_ts, selector_error(selector));
    }
    if (!d.present()) raise(vector_np, selector_error(selector));
    load_code_segment(cpu, selector, d, level);
}

void load_task_data(Cpu& cpu, Seg which, uint16_t selector) {
    if (is_null(selector)) {
        cpu.seg[which] = {
            .selector = selector, .limit = 0, .type = 0, .code_or_data = false, .present = false, .unusable = true};
        return;
    }
    const Descriptor d = read_descriptor(cpu, selector, vector_ts);
    if (!d.is_readable() || (!d.is_conforming() && ((selector & 3) > d.dpl() || cpu.cpl > d.dpl()))) {
        raise(vector_ts, selector_error(selector));
    }
    if (!d.present()) raise(vector_np, selector_error(selector));
    set_accessed(cpu, d);
    cpu.seg[which] = segment_from(selector, d);
}

}  // namespace

InnerStack inner_stack(Cpu& cpu, unsigned level) {
    const SegmentRegister& tr = cpu.seg[TR];
    const uint32_t error = selector_error(tr.selector);
    if (cpu.long_active) {
        const uint64_t offset = 4 + level * 8;
        if (offset + 7 > tr.limit) raise(vector_ts, error);
        return {static_cast<uint16_t>(level), system_load(cpu, tr.base + offset, 8)};
    }
    if (is_tss32(tr.type)) {
        const uint64_t offset = 4 + level * 8;
        if (offset + 5 > tr.limit) raise(vector_ts, error);
        return {static_cast<uint16_t>(system_load(cpu, tr.base + offset + 4, 2)),
                system_load(cpu, tr.base + offset, 4)};
    }
    const uint64_t offset = 2 + level * 4;
    if (offset + 3 > tr.limit) raise(vector_ts, error);
    return {static_cast<uint16_t>(system_load(cpu, tr.base + offset + 2, 2)), system_load(cpu, tr.base + offset, 2)};
}

bool set_busy(Cpu& cpu, const Descriptor& descriptor) {
    return !(system_change_bits(cpu, descriptor.address + 5, tss_busy, BitChange::set) & tss_busy);
}

void load_task_gate(Cpu& cpu, const Descriptor& gate, TaskSwitch reason, bool has_error, uint32_t error) {
    const uint16_t selector = gate.gate_selector();
    if (selector & 4) raise_gp(selector_error(selector));
    const Descriptor d = read_descriptor(cpu, selector, vector_gp);
    if (d.code_or_data() || (d.type() != type_tss16 && d.type() != type_tss32)) raise_gp(selector_error(selector));
    if (!d.present()) raise(vector_np, selector_error(selector));
    switch_task(cpu, selector, d, reason, has_error, error);
}

void switch_task(Cpu& cpu, uint16_t selector, const Descriptor& d, TaskSwitch reason, bool has_error, uint32_t error) {
    const bool wide = is_tss32(d.type());
    if (!d.present()) raise(vector_np, selector_error(selector));
    if (d.limit() < (wide ? 0x67u : 0x2Bu)) raise(vector_ts, selector_error(selector));
    const TaskState task = read_task(cpu, d.base(), wide);

    uint32_t saved_flags = cpu.flags();
    if (reason == TaskSwitch::iret) saved_flags &= ~flag_nt;
    save_task(cpu, saved_flags);
    const uint16_t old_selector = cpu.seg[TR].selector;
    if (reason != TaskSwitch::iret && !set_busy(cpu, d)) raise_gp(selector_error(selector));
    if (reason != TaskSwitch::call) {
        Descriptor old;
        if (try_descriptor(cpu, old_selector, old)) {
            system_change_bits(cpu, old.address + 5, tss_busy, BitChange::clear);
        }
    }
    if (reason == TaskSwitch::call) system_store(cpu, d.base(), 2, old_selector);

    // From here on faults happen in the new task.
    cpu.seg[TR] = segment_from(selector, d);
    cpu.seg[TR].type = wide ? type_tss32_busy : type_tss16_busy;
    cpu.cr0 |= cr0_ts;
    if (wide && (cpu.cr0 & cr0_pg) && task.cr3 != cpu.cr3) set_cr3(cpu, task.cr3);
    uint32_t flags = task.eflags;
    if (!wide) flags &= 0xFFFF;
    if (reason == TaskSwitch::call) flags |= flag_nt;
    cpu.set_flags(flags & 0x3F7FD5);
    for (unsigned n = 0; n < 8; ++n) cpu.gpr[n] = task.gpr[n];
    cpu.rip = task.eip;
    cpu.dr7 &= ~uint64_t{0x155};

    if (flags & flag_vm) {
        cpu.cpl = 3;
        load_task_ldt(cpu, task.ldt);
        for (unsigned n = 0; n < 6; ++n) load_real_segment(cpu, static_cast<Seg>(n), task.selectors[n]);
    } else {
        for (unsigned n = 0; n < 6; ++n) cpu.seg[n].selector = task.selectors[n];
        cpu.cpl = task.selectors[CS] & 3;
        load_task_ldt(cpu, task.ldt);
        cpu.seg[SS] = checked_stack(cpu, task.selectors[SS], cpu.cpl, vector_ts);
        load_task_code(cpu, task.selectors[CS]);
        for (const Seg which : {ES, DS, FS, GS}) load_task_data(cpu, which, task.selectors[which]);
    }
    update_mode(cpu);
    if (has_error) {
        if (wide) {
            push<uint32_t>(cpu, cpu.at, error);
        } else {
            push<uint16_t>(cpu, cpu.at, static_cast<uint16_t>(error));
        }
    }
    if (cpu.rip > cpu.seg[CS].limit) raise_gp();
    if (task.trap) {
        cpu.debug_pending |= 0x8000;
        cpu.attention.store(true, std::memory_order_relaxed);
    }
}

}  // namespace viv::soft
