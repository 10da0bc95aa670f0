// Segment registers: descriptors, checks, and everything that follows from them (SDM 3A, 3.4 and 5).
#include "vmm/engine/soft/segments.hpp"

#include <limits>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/memory.hpp"

namespace viv::soft {

void raise(uint8_t vector) {
    throw Fault{vector, false, 0, 0};
}

void raise(uint8_t vector, uint32_t error) {
    throw Fault{vector, true, error, 0};
}

void update_segment(Cpu& cpu, Seg which) {
    const SegmentRegister& s = cpu.seg[which];
    SegmentBounds& bounds = cpu.bounds[which];
    const bool base_counts = !cpu.code64 || which == FS || which == GS || which >= LDTR;
    cpu.seg_base[which] = base_counts ? s.base : 0;
    if (cpu.code64) {
        bounds = {.read_high = ~uint64_t{0}, .write_high = ~uint64_t{0}};
        return;
    }
    const bool protection = cpu.protected_mode() && !cpu.vm86();
    const bool is_data = !(s.type & 8);
    if (s.unusable || (protection && !s.present)) {
        bounds = {.low = 1, .write_low = 1, .read_high = 0, .write_high = 0};  // nothing, not even byte 0
        return;
    }
    bounds.low = 0;
    bounds.read_high = s.limit;
    if (is_data && (s.type & 4) && s.code_or_data) {  // expand-down
        bounds.low = uint64_t{s.limit} + 1;
        bounds.read_high = s.default_big ? 0xFFFFFFFF : 0xFFFF;
    } else if (s.limit == 0xFFFFFFFF) {
        bounds.read_high = ~uint64_t{0};  // an access may wrap around the top
    }
    bounds.write_low = bounds.low;
    bounds.write_high = bounds.read_high;
    if (!protection) return;
    const bool writable = is_data && (s.type & 2), readable = is_data || (s.type & 2);
    if (!writable) {
        bounds.write_low = 1;
        bounds.write_high = 0;
    }
    if (!readable) {
        bounds.low = 1;
        bounds.read_high = 0;
    }
}

namespace {
void update_code_tag(Cpu& cpu) {
    const uint32_t epoch = cpu.cpl == 3 ? cpu.user_epoch : cpu.supervisor_epoch;
    cpu.code_tag = uint64_t{epoch} << 32 | (cpu.seg_base[CS] & 0xFFFFFFFF);
}
}  // namespace

void update_mode(Cpu& cpu) {
    cpu.long_active = cpu.efer & efer_lma;
    cpu.code64 = cpu.long_active && cpu.seg[CS].long_mode && !cpu.vm86();
    if (!cpu.protected_mode()) {
        cpu.cpl = 0;
    } else if (cpu.vm86()) {
        cpu.cpl = 3;
    }
    cpu.linear_mask = cpu.code64 ? ~uint64_t{0} : 0xFFFFFFFF;
    cpu.stack_mask = cpu.code64 ? ~uint64_t{0} : (cpu.seg[SS].default_big ? 0xFFFFFFFF : 0xFFFF);
    for (unsigned s = ES; s <= TR; ++s) update_segment(cpu, static_cast<Seg>(s));

    uint8_t flavour = cpu.code64 ? 2 : (cpu.seg[CS].default_big ? 1 : 0);
    bool flat = true;
    for (const Seg s : {ES, CS, SS, DS}) {
        const SegmentBounds& bounds = cpu.bounds[s];
        flat = flat && bounds.low == 0 && bounds.read_high == ~uint64_t{0} &&
               (s == CS || bounds.write_high == ~uint64_t{0});
    }
    if (flat && (flavour != 1 || cpu.seg[SS].default_big)) flavour |= Flavour::flat;
    if (cpu.cpl == 3) flavour |= Flavour::user;
    cpu.flavour = flavour;

    TlbKind kind = tlb_supervisor;
    if (cpu.cpl == 3) {
        kind = (cpu.cr0 & cr0_am) && (cpu.eflags & flag_ac) ? tlb_user_aligned : tlb_user;
    } else if ((cpu.cr4 & cr4_smap) && !(cpu.eflags & flag_ac)) {
        kind = tlb_supervisor_smap;
    }
    cpu.tlb = &cpu.tlbs[kind];
    update_units(cpu);
    update_code_tag(cpu);
}

void new_code_epoch(Cpu& cpu) {
    cpu.supervisor_epoch = cpu.user_epoch = cpu.blocks->next_epoch();
    cpu.ran_local_supervisor_code = false;
    cpu.supervisor_code = cpu.tlbs.user_code() = {};
    cpu.tlbs.void_epochs();
    update_code_tag(cpu);
}

void new_local_code_epoch(Cpu& cpu) {
    cpu.ran_local_supervisor_code ? new_code_epoch(cpu) : new_user_code_epoch(cpu);
}

void new_user_code_epoch(Cpu& cpu) {
    cpu.user_epoch = cpu.blocks->next_epoch();
    cpu.tlbs.user_code() = {};
    update_code_tag(cpu);
}

bool try_descriptor(Cpu& cpu, uint16_t selector, Descriptor& out) {
    const bool local = selector & 4;
    if (local && cpu.seg[LDTR].unusable) return false;
    const uint64_t base = local ? cpu.seg[LDTR].base : cpu.gdtr.base;
    const uint32_t limit = local ? cpu.seg[LDTR].limit : cpu.gdtr.limit;
    const uint32_t offset = selector & 0xFFF8;
    if (offset + 7 > limit) return false;
    out.address = base + offset;
    out.low = system_load(cpu, out.address, 8);
    out.high = 0;
    const bool system64 = cpu.long_active && !out.code_or_data() &&
                          (out.type() == type_ldt || out.type() == type_tss32 || out.type() == type_tss32_busy ||
                           out.type() == type_call_gate32);
    if (system64) {
        if (offset + 15 > limit) return false;
        out.high = system_load(cpu, out.address + 8, 8);
    }
    return true;
}

Descriptor read_descriptor(Cpu& cpu, uint16_t selector, uint8_t vector, bool) {
    Descriptor found;
    if (!try_descriptor(cpu, selector, found)) raise(vector, selector_error(selector));
    return found;
}

void set_accessed(Cpu& cpu, const Descriptor& descriptor) {
    if (descriptor.type() & 1) return;
    system_change_bits(cpu, descriptor.address + 5, 1, BitChange::set);
}

SegmentRegister segment_from(uint16_t selector, const Descriptor& d) {
    SegmentRegister s;
    s.selector = selector;
    s.base = d.base();
    s.limit = d.limit();
    s.type = d.type();
    if (d.code_or_data()) s.type |= 1;
    s.code_or_data = d.code_or_data();
    s.dpl = d.dpl();
    s.present = d.present();
    s.available = (d.low >> 52) & 1;
    s.long_mode = d.long_mode();
    s.default_big = d.default_big();
    s.granularity = d.granularity();
    return s;
}

void load_real_segment(Cpu& cpu, Seg which, uint16_t selector) {
    SegmentRegister& s = cpu.seg[which];
    s.selector = selector;
    s.base = uint64_t{selector} << 4;
    s.unusable = false;
    if (cpu.vm86()) {
        s = SegmentRegister{.selector = selector, .base = s.base, .limit = 0xFFFF, .type = 3, .dpl = 3};
    } else {
        // Real mode keeps the limit and the rights: that is how "big real mode" works. Only S and P are forced.
        s.present = true;
        s.code_or_data = true;
    }
}

SegmentRegister null_stack(uint16_t selector, unsigned dpl) {
    return {.selector = selector,
            .limit = 0,
            .type = 0,
            .code_or_data = false,
            .dpl = static_cast<uint8_t>(dpl),
            .present = false,
            .unusable = true};
}

void push_sized(Cpu& cpu, unsigned size, uint64_t value) {
    switch (size) {
        case 2: return push<uint16_t>(cpu, cpu.at, static_cast<uint16_t>(value));
        case 4: return push<uint32_t>(cpu, cpu.at, static_cast<uint32_t>(value));
        default: return push<uint64_t>(cpu, cpu.at, value);
    }
}

uint64_t peek_sized(Cpu& cpu, unsigned size, uint64_t depth) {
    switch (size) {
        case 2: return peek_stack<uint16_t>(cpu, cpu.at, depth);
        case 4: return peek_stack<uint32_t>(cpu, cpu.at, depth);
        default: return peek_stack<uint64_t>(cpu, cpu.at, depth);
    }
}

SegmentRegister checked_stack(Cpu& cpu, uint16_t selector, unsigned cpl, uint8_t vector) {
    if (is_null(selector)) {
        raise(vector, vector == vector_gp ? 0 : selector_error(selector));
    }
    const Descriptor d = read_descriptor(cpu, selector, vector);
    if ((selector & 3u) != cpl || d.dpl() != cpl || !d.is_writable_data()) raise(vector, selector_error(selector));
    if (!d.present()) raise(vector_ss, selector_error(selector));
    set_accessed(cpu, d);
    return segment_from(selector, d);
}

void load_segment(Cpu& cpu, Seg which, uint16_t selector) {
    if (cpu.real_or_vm86()) {
        load_real_segment(cpu, which, selector);
    } else if (which == SS) {
        if (is_null(selector)) {
            if (!cpu.code64 || cpu.cpl == 3 || (selector & 3) != cpu.cpl) raise_gp();
            cpu.seg[SS] = null_stack(selector, cpu.cpl);
        } else {
            cpu.seg[SS] = checked_stack(cpu, selector, cpu.cpl, vector_gp);
        }
    } else if (is_null(selector)) {
        SegmentRegister& s = cpu.seg[which];
        s = {.selector = selector,
             .base = cpu.features->rules.null_selector_keeps_base ? s.base : 0,
             .limit = 0,
             .type = 0,
             .code_or_data = false,
             .present = false,
             .unusable = true};
    } else {
        const Descriptor d = read_descriptor(cpu, selector, vector_gp);
        if (!d.is_readable()) raise_gp(selector_error(selector));
        if (!d.is_conforming() && ((selector & 3) > d.dpl() || cpu.cpl > d.dpl())) raise_gp(selector_error(selector));
        if (!d.present()) raise(vector_np, selector_error(selector));
        set_accessed(cpu, d);
        cpu.seg[which] = segment_from(selector, d);
    }
    update_mode(cpu);
}

void load_code_segment(Cpu& cpu, uint16_t selector, const Descriptor& d, unsigned cpl) {
    set_accessed(cpu, d);
    cpu.seg[CS] = segment_from(static_cast<uint16_t>((selector & ~3u) | cpl), d);
    cpu.cpl = static_cast<uint8_t>(cpl);
}

Descriptor return_target(Cpu& cpu, uint16_t selector) {
    if (is_null(selector)) raise_gp();
    const Descriptor d = read_descriptor(cpu, selector, vector_gp);
    const unsigned level = selector & 3;
    if (!d.is_code() || level < cpu.cpl) raise_gp(selector_error(selector));
    if (d.is_conforming() ? d.dpl() > level : d.dpl() != level) raise_gp(selector_error(selector));
    if (cpu.long_active && d.long_mode() && d.default_big()) raise_gp(selector_error(selector));
    if (!d.present()) raise(vector_np, selector_error(selector));
    return d;
}

SegmentRegister return_stack(Cpu& cpu, uint16_t selector, const Descriptor& code, unsigned level) {
    if (!is_null(selector)) return checked_stack(cpu, selector, level, vector_gp);
    if (!cpu.long_active || !code.long_mode() || level == 3) raise_gp();
    return null_stack(selector, level);
}

void drop_inner_segments(Cpu& cpu) {
    for (const Seg which : {ES, DS, FS, GS}) {
        SegmentRegister& s = cpu.seg[which];
        if (s.unusable) continue;
        const bool conforming = s.code_or_data && (s.type & 0xC) == 0xC;
        if (!conforming && s.dpl < cpu.cpl) {
            // The base stays: 64-bit code goes on using that of FS and GS.
            s = {.base = s.base, .limit = 0, .type = 0, .code_or_data = false, .present = false, .unusable = true};
        }
    }
}

}  // namespace viv::soft
