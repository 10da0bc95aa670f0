// Model-specific registers, the time stamp counter, fast system calls, FS and GS bases, XCR0.

#include <algorithm>
#include <utility>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/lapic.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/segments.hpp"
#include "vmm/engine/soft/system.hpp"
#include "vmm/engine/soft/vector.hpp"

namespace viv::soft {
namespace {

void need_canonical(uint64_t linear) {
    if (!is_canonical(linear)) raise_gp();
}
void need_cpl0(const Cpu& cpu) {
    if (cpu.cpl != 0) raise_gp();
}
bool is_memory_type(uint64_t type) {
    return type <= 7 && type != 2 && type != 3;
}
void set_edx_eax(Cpu& cpu, uint64_t value) {
    cpu.set_reg<uint32_t>(RAX * 8, static_cast<uint32_t>(value));
    cpu.set_reg<uint32_t>(RDX * 8, static_cast<uint32_t>(value >> 32));
}
uint64_t edx_eax(const Cpu& cpu) {
    return uint64_t{cpu.reg<uint32_t>(RDX * 8)} << 32 | cpu.reg<uint32_t>(RAX * 8);
}

constexpr uint32_t fixed_mtrrs[11] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F};

uint64_t* mtrr(Cpu& cpu, uint32_t index) {
    if (index >= 0x200 && index < 0x210) return &cpu.mtrr_variable[index - 0x200];
    for (unsigned n = 0; n < 11; ++n) {
        if (index == fixed_mtrrs[n]) return &cpu.mtrr_fixed[n];
    }
    return nullptr;
}

/// Whether the model has an MSR that belongs to a feature; true for those that belong to none.
bool has_msr(const Features& f, uint32_t index) {
    using enum CpuFeature;
    const bool p6 = f.has(cmov);
    if (index >= 0x200 && index <= 0x26F) return f.has(mtrr);
    switch (index) {
        case 0x10: return f.has(tsc);
        case 0x1B: return f.has(apic) && p6;
        case 0x3B: return f.has(tsc_adjust);
        case 0x48:
        case 0x49: return f.has(spec_ctrl);
        case 0x10A: return f.has(arch_capabilities);
        case 0x17:
        case 0x79:
        case 0x8B: return p6;
        case 0xFE:
        case 0x2FF: return f.has(mtrr);
        case 0x174:
        case 0x175:
        case 0x176: return f.has(sep);
        case 0x179:
        case 0x17A: return f.has(mca);
        case 0x277: return f.has(pat);
        case 0x3A:
        case 0xCE:
        case 0xE7:
        case 0xE8:
        case 0x198:
        case 0x1A0: return f.has(lm);  // of about the same age
        case 0x1D9: return p6;
        case 0x6E0: return f.has(tsc_deadline);
        case 0x6E1: return f.has(pks);
        case 0xDA0: return f.has(xsaves);
        case 0xC0000080: return f.has(syscall) || f.has(lm) || f.has(nx);
        case 0xC0000081:
        case 0xC0000082:
        case 0xC0000083:
        case 0xC0000084: return f.has(syscall);
        case 0xC0000100:
        case 0xC0000101:
        case 0xC0000102: return f.has(lm);
        case 0xC0000103: return f.has(rdtscp) || f.has(rdpid);
        default: return true;
    }
}

bool is_silent(const Features& f, uint32_t index) {
    return std::ranges::any_of(f.rules.silent_msrs,
                               [=](const MsrRange& r) { return index >= r.first && index <= r.last; });
}

}  // namespace

uint64_t read_tsc(Cpu& cpu) {
    return cpu.engine->tsc(cpu) + cpu.tsc_offset;
}

uint64_t read_msr(Cpu& cpu, uint32_t index) {
    const Features& f = cpu.engine->features;
    if (!has_msr(f, index)) raise_gp();
    if (const uint64_t* value = mtrr(cpu, index)) return *value;
    if (index >= 0x800 && index < 0x900) {
        if (!cpu.apic || (cpu.apic_base & 0xC00) != 0xC00) raise_gp();
        return cpu.apic->read_msr(cpu, index);
    }
    switch (index) {
        case 0x00:
        case 0x01: return 0;  // machine check address and type
        case 0x10: return read_tsc(cpu);
        case 0x17: return 0;  // platform ID
        case 0x1B: return cpu.apic_base;
        case 0x3A: return 1;  // feature control: locked, no VMX
        case 0x3B: return cpu.tsc_adjust;
        case 0x48: return cpu.speculation_control;
        case 0x49: raise_gp();  // commands, to be written only
        case 0x8B: return cpu.microcode << 32;
        case 0xCE: return (f.tsc_hertz / 100'000'000) << 8;
        case 0xE7:
        case 0xE8: return read_tsc(cpu);  // MPERF, APERF
        case 0xFE: return 0x508;          // MTRRcap: write combining, fixed ranges, 8 variable ones
        case 0x10A:
            // ARCH_CAPABILITIES: none of the known ways around protection works here, so guests need no defence
            // (PSCHANGE, MDS, L1TF, SSB, TAA, MMIO, BHI, PBRSB, GDS, RFDS, ITS; SDM 4, table 2-2). With IBRS it may
            // stay on, so that guests need not make a detour of each indirect branch.
            return 0x40000000'0D10E179 | (f.has(CpuFeature::spec_ctrl) ? 2 : 0);
        case 0x174: return cpu.sysenter_cs;
        case 0x175: return cpu.sysenter_esp;
        case 0x176: return cpu.sysenter_eip;
        case 0x179: return 0;  // machine check: no banks
        case 0x17A: return 0;
        case 0x198: return 0x1000;
        case 0x1A0: return cpu.misc_enable | 1;  // fast strings
        case 0x1D9: return 0;
        case 0x277: return cpu.pat;
        case 0x2FF: return cpu.mtrr_def_type;
        case 0x6E0:
            if (!cpu.apic) raise_gp();
            return cpu.apic->tsc_deadline();
        case 0x6E1: return cpu.pkrs;
        case 0xDA0:  // XSS: no supervisor components
            return 0;
        case 0xC0000080: return cpu.efer;
        case 0xC0000081: return cpu.star;
        case 0xC0000082: return cpu.lstar;
        case 0xC0000083: return cpu.cstar;
        case 0xC0000084: return cpu.sfmask;
        case 0xC0000100: return cpu.seg[FS].base;
        case 0xC0000101: return cpu.seg[GS].base;
        case 0xC0000102: return cpu.kernel_gs_base;
        case 0xC0000103: return cpu.tsc_aux;
        default:
            if (!is_silent(f, index)) raise_gp();
            return 0;
    }
}

void write_msr(Cpu& cpu, uint32_t index, uint64_t value) {
    if (!has_msr(cpu.engine->features, index)) raise_gp();
    if (uint64_t* at = mtrr(cpu, index)) {
        *at = value;
        return;
    }
    if (index >= 0x800 && index < 0x900) {
        if (!cpu.apic || (cpu.apic_base & 0xC00) != 0xC00) raise_gp();
        return cpu.apic->write_msr(cpu, index, value);
    }
    switch (index) {
        case 0x10: {
            const uint64_t delta = value - read_tsc(cpu);
            cpu.tsc_offset += delta;
            cpu.tsc_adjust += delta;
            return;
        }
        case 0x1B:
            if (!cpu.apic) raise_gp();
            return cpu.apic->set_base(cpu, value);
        case 0x3B:
            cpu.tsc_offset += value - cpu.tsc_adjust;
            cpu.tsc_adjust = value;
            return;
        case 0x48:  // SPEC_CTRL: IBRS, and STIBP, which may be set without being there
            if (value & ~uint64_t{3}) raise_gp();
            cpu.speculation_control = value;
            return;
        case 0x49:  // PRED_CMD: there are no predictions of the guest's to forget
            if (value & ~uint64_t{1}) raise_gp();
            return;
        case 0x79: return;  // microcode update: taken, without effect
        case 0x8B: return;
        case 0x174: cpu.sysenter_cs = value & 0xFFFFFFFF; return;
        case 0x175:
            need_canonical(value);
            cpu.sysenter_esp = value;
            return;
        case 0x176:
            need_canonical(value);
            cpu.sysenter_eip = value;
            return;
        case 0x17A: return;
        case 0x1A0: cpu.misc_enable = value & ~uint64_t{1}; return;
        case 0x1D9: return;
        case 0x277:
            for (unsigned n = 0; n < 8; ++n) {
                if (!is_memory_type((value >> (8 * n)) & 0xFF)) raise_gp();
            }
            cpu.pat = value;
            return;
        case 0x2FF: cpu.mtrr_def_type = value & 0xCFF; return;
        case 0x6E0:
            if (!cpu.apic) raise_gp();
            return cpu.apic->set_tsc_deadline(cpu, value);
        case 0x6E1:
            if (value >> 32) raise_gp();
            return set_pkrs(cpu, static_cast<uint32_t>(value));
        case 0xDA0:
            if (value != 0) raise_gp();
            return;
        case 0xC0000080: return set_efer(cpu, value);
        case 0xC0000081: cpu.star = value; return;
        case 0xC0000082:
            need_canonical(value);
            cpu.lstar = value;
            return;
        case 0xC0000083:
            need_canonical(value);
            cpu.cstar = value;
            return;
        case 0xC0000084: cpu.sfmask = value & 0xFFFFFFFF; return;
        case 0xC0000100:
        case 0xC0000101: {
            need_canonical(value);
            const Seg which = index == 0xC0000100 ? FS : GS;
            cpu.seg[which].base = value;
            update_segment(cpu, which);
            return;
        }
        case 0xC0000102:
            need_canonical(value);
            cpu.kernel_gs_base = value;
            return;
        case 0xC0000103: cpu.tsc_aux = value & 0xFFFFFFFF; return;
        default:
            if (!is_silent(cpu.engine->features, index)) raise_gp();
    }
}

void rdmsr(Cpu& cpu, const Insn&) {
    need_cpl0(cpu);
    set_edx_eax(cpu, read_msr(cpu, cpu.reg<uint32_t>(RCX * 8)));
}
void wrmsr(Cpu& cpu, const Insn&) {
    need_cpl0(cpu);
    write_msr(cpu, cpu.reg<uint32_t>(RCX * 8), edx_eax(cpu));
}
void rdtsc(Cpu& cpu, const Insn&) {
    if ((cpu.cr4 & cr4_tsd) && cpu.cpl != 0) raise_gp();
    set_edx_eax(cpu, read_tsc(cpu));
}
void rdtscp(Cpu& cpu, const Insn& i) {
    rdtsc(cpu, i);
    cpu.set_reg<uint32_t>(RCX * 8, static_cast<uint32_t>(cpu.tsc_aux));
}
void rdpmc(Cpu& cpu, const Insn&) {
    if (!(cpu.cr4 & cr4_pce) && cpu.cpl != 0) raise_gp();
    raise_gp();  // there are no counters
}
void rdpid(Cpu& cpu, const Insn& i) {
    cpu.set_reg<uint32_t>(i.dst, static_cast<uint32_t>(cpu.tsc_aux));
    if (cpu.code64) cpu.set_reg<uint64_t>(i.dst, cpu.tsc_aux);
}
void rdrand(Cpu& cpu, const Insn& i) {
    // A seeded xorshift (Marsaglia 2003): repeatable by intent.
    uint64_t x = cpu.random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    cpu.random = x;
    const uint64_t value = x * 0x2545F4914F6CDD1D;
    switch (i.size) {
        case 2: cpu.set_reg<uint16_t>(i.dst, static_cast<uint16_t>(value >> 32)); break;
        case 4: cpu.set_reg<uint32_t>(i.dst, static_cast<uint32_t>(value >> 32)); break;
        default: cpu.set_reg<uint64_t>(i.dst, value); break;
    }
    cpu.set_arithmetic_flags(flag_cf);
}
void cpuid_instruction(Cpu& cpu, const Insn&) {
    const CpuidResult r = cpuid(cpu, cpu.reg<uint32_t>(RAX * 8), cpu.reg<uint32_t>(RCX * 8));
    cpu.set_reg<uint32_t>(RAX * 8, r.eax);
    cpu.set_reg<uint32_t>(RBX * 8, r.ebx);
    cpu.set_reg<uint32_t>(RCX * 8, r.ecx);
    cpu.set_reg<uint32_t>(RDX * 8, r.edx);
}

namespace {
/// The flat segments that fast system calls load without looking at a table.
SegmentRegister flat_code(uint16_t selector, unsigned dpl, bool long_mode) {
    return {.selector = selector,
            .base = 0,
            .limit = 0xFFFFFFFF,
            .type = 11,
            .dpl = static_cast<uint8_t>(dpl),
            .long_mode = long_mode,
            .default_big = !long_mode,
            .granularity = true};
}
SegmentRegister flat_data(uint16_t selector, unsigned dpl) {
    return {.selector = selector,
            .base = 0,
            .limit = 0xFFFFFFFF,
            .type = 3,
            .dpl = static_cast<uint8_t>(dpl),
            .default_big = true,
            .granularity = true};
}
}  // namespace

namespace {
void check_syscall(const Cpu& cpu) {
    const bool right_mode = cpu.code64 || (cpu.features->rules.syscall_outside_64_bit && !cpu.real_or_vm86());
    if (!(cpu.efer & efer_sce) || !right_mode) raise_ud();
}
void check_sysenter(const Cpu& cpu) {
    if (cpu.long_active && !cpu.features->rules.sysenter_in_long_mode) raise_ud();
    if (!cpu.protected_mode() || (cpu.sysenter_cs & 0xFFFC) == 0) raise_gp();
}
/// SYSCALL and SYSRET look at TF when they are done, and not before.
void trap_by_new_flags(Cpu& cpu) {
    cpu.trap_suppressed = true;
    if (cpu.eflags & flag_tf) cpu.debug_pending |= 0x4000;
}
}  // namespace

void syscall(Cpu& cpu, const Insn&) {
    check_syscall(cpu);
    if (cpu.long_active) {
        cpu.gpr[RCX] = cpu.rip;
        cpu.gpr[R11] = cpu.flags() & ~flag_rf;
        cpu.set_flags(cpu.flags() & ~static_cast<uint32_t>(cpu.sfmask) & ~flag_rf);
        cpu.rip = cpu.code64 ? cpu.lstar : cpu.cstar;
    } else {
        cpu.set_reg<uint32_t>(RCX * 8, static_cast<uint32_t>(cpu.rip));
        cpu.eflags &= ~(flag_vm | flag_if | flag_rf);
        cpu.rip = cpu.star & 0xFFFFFFFF;
    }
    const auto selector = static_cast<uint16_t>(cpu.star >> 32);
    cpu.seg[CS] = flat_code(selector & 0xFFFC, 0, cpu.long_active);
    cpu.seg[SS] = flat_data(static_cast<uint16_t>((selector & 0xFFFC) + 8), 0);
    cpu.cpl = 0;
    update_mode(cpu);
    trap_by_new_flags(cpu);
}

void sysret(Cpu& cpu, const Insn& i) {
    check_syscall(cpu);
    need_cpl0(cpu);
    const VendorRules& rules = cpu.features->rules;
    const auto selector = static_cast<uint16_t>(cpu.star >> 48);
    if (i.size == 8) {
        if (rules.sysret_checks_target) need_canonical(cpu.gpr[RCX]);
        cpu.rip = cpu.gpr[RCX];
        cpu.seg[CS] = flat_code(static_cast<uint16_t>((selector + 16) | 3), 3, true);
    } else {
        cpu.rip = cpu.reg<uint32_t>(RCX * 8);
        cpu.seg[CS] = flat_code(static_cast<uint16_t>(selector | 3), 3, false);
    }
    const auto stack = static_cast<uint16_t>((selector + 8) | 3);
    if (rules.sysret_loads_stack_segment) {
        cpu.seg[SS] = flat_data(stack, 3);
    } else {
        cpu.seg[SS].selector = stack;
        cpu.seg[SS].dpl = 3;
    }
    if (cpu.long_active) {
        cpu.set_flags(static_cast<uint32_t>(cpu.gpr[R11] & 0x3C7FD7) | 2);
    } else {
        cpu.eflags |= flag_if;
    }
    cpu.cpl = 3;
    update_mode(cpu);
    trap_by_new_flags(cpu);
}

void sysenter(Cpu& cpu, const Insn&) {
    check_sysenter(cpu);
    cpu.eflags &= ~(flag_vm | flag_if | flag_rf);
    const auto selector = static_cast<uint16_t>(cpu.sysenter_cs & 0xFFFC);
    cpu.cpl = 0;
    cpu.seg[CS] = flat_code(selector, 0, cpu.long_active);
    cpu.seg[SS] = flat_data(static_cast<uint16_t>(selector + 8), 0);
    cpu.gpr[RSP] = cpu.long_active ? cpu.sysenter_esp : cpu.sysenter_esp & 0xFFFFFFFF;
    cpu.rip = cpu.long_active ? cpu.sysenter_eip : cpu.sysenter_eip & 0xFFFFFFFF;
    update_mode(cpu);
}

void sysexit(Cpu& cpu, const Insn& i) {
    check_sysenter(cpu);
    need_cpl0(cpu);
    const auto base = static_cast<uint16_t>(cpu.sysenter_cs & 0xFFFC);
    const bool wide = i.size == 8;
    if (wide) {
        need_canonical(cpu.gpr[RDX]);
        need_canonical(cpu.gpr[RCX]);
    }
    cpu.rip = wide ? cpu.gpr[RDX] : cpu.reg<uint32_t>(RDX * 8);
    cpu.gpr[RSP] = wide ? cpu.gpr[RCX] : cpu.reg<uint32_t>(RCX * 8);
    cpu.seg[CS] = flat_code(static_cast<uint16_t>((base + (wide ? 32 : 16)) | 3), 3, wide);
    cpu.seg[SS] = flat_data(static_cast<uint16_t>((base + (wide ? 40 : 24)) | 3), 3);
    cpu.cpl = 3;
    update_mode(cpu);
}

void swapgs(Cpu& cpu, const Insn&) {
    if (!cpu.code64) raise_ud();
    need_cpl0(cpu);
    std::swap(cpu.seg[GS].base, cpu.kernel_gs_base);
    update_segment(cpu, GS);
}

// aux: the segment.
void rdfsbase(Cpu& cpu, const Insn& i) {
    if (!cpu.code64 || !(cpu.cr4 & cr4_fsgsbase)) raise_ud();
    const uint64_t base = cpu.seg[i.aux].base;
    if (i.size == 8) {
        cpu.set_reg<uint64_t>(i.dst, base);
    } else {
        cpu.set_reg<uint32_t>(i.dst, static_cast<uint32_t>(base));
    }
}
void wrfsbase(Cpu& cpu, const Insn& i) {
    if (!cpu.code64 || !(cpu.cr4 & cr4_fsgsbase)) raise_ud();
    const uint64_t base = i.size == 8 ? cpu.gpr[i.dst / 8] : cpu.reg<uint32_t>(i.dst);
    need_canonical(base);
    cpu.seg[i.aux].base = base;
    update_segment(cpu, static_cast<Seg>(i.aux));
}

void xgetbv(Cpu& cpu, const Insn&) {
    if (!(cpu.cr4 & cr4_osxsave)) raise_ud();
    const auto index = cpu.reg<uint32_t>(RCX * 8);
    if (index == 1 && cpu.engine->features.has(CpuFeature::xgetbv1)) {
        return set_edx_eax(cpu, cpu.xcr0 & components_in_use(cpu));
    }
    if (index != 0) raise_gp();
    set_edx_eax(cpu, cpu.xcr0);
}
void xsetbv(Cpu& cpu, const Insn&) {
    if (!(cpu.cr4 & cr4_osxsave)) raise_ud();
    need_cpl0(cpu);
    const uint64_t value = edx_eax(cpu);
    if (cpu.reg<uint32_t>(RCX * 8) != 0 || !(value & 1) || (value & ~cpu.engine->features.xcr0_mask()) ||
        ((value & 4) && !(value & 2))) {
        raise_gp();
    }
    cpu.xcr0 = value;
    update_mode(cpu);
}

}  // namespace viv::soft
