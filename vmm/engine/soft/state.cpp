// Between the handlers' Cpu and CpuState.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/run.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {

struct NamedMsr {
    uint32_t index;
    uint64_t Cpu::*value;
};
constexpr NamedMsr stored_msrs[] = {{0x174, &Cpu::sysenter_cs},
                                    {0x175, &Cpu::sysenter_esp},
                                    {0x176, &Cpu::sysenter_eip},
                                    {0x1A0, &Cpu::misc_enable},
                                    {0x277, &Cpu::pat},
                                    {0x2FF, &Cpu::mtrr_def_type},
                                    {0xC0000081, &Cpu::star},
                                    {0xC0000082, &Cpu::lstar},
                                    {0xC0000083, &Cpu::cstar},
                                    {0xC0000084, &Cpu::sfmask},
                                    {0xC0000102, &Cpu::kernel_gs_base},
                                    {0xC0000103, &Cpu::tsc_aux}};
constexpr uint32_t fixed_mtrrs[11] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F};

constexpr size_t xsave_header = 512, xsave_avx = 576, avx_end = 832;
constexpr uint64_t component_pkru = 0x200;

}  // namespace

std::vector<uint8_t> save_vectors(Cpu& cpu) {
    const Features& features = cpu.engine->features;
    uint64_t components = features.xcr0_mask() | 3;  // also without XSAVE
    std::vector<uint8_t> area(std::max<size_t>(avx_end, features.xsave_size(components)));
    FxImage image = cpu.fx;
    for (unsigned n = 0; n < 16; ++n) {
        std::memcpy(image.xmm.data() + 16 * n, cpu.vector_registers[n].bytes.data(), 16);
        std::memcpy(area.data() + xsave_avx + 16 * n, cpu.vector_registers[n].bytes.data() + 16, 16);
    }
    std::memcpy(area.data(), &image, sizeof image);
    // Another engine may not know this component: it is left out in its initial state.
    if (cpu.pkru == 0) components &= ~component_pkru;
    if (components & component_pkru) std::memcpy(area.data() + features.pkru_offset, &cpu.pkru, sizeof cpu.pkru);
    std::memcpy(area.data() + xsave_header, &components, 8);
    return area;
}

void load_vectors(Cpu& cpu, const std::vector<uint8_t>& area) {
    cpu.fx = {};
    cpu.vector_registers = {};
    set_pkru(cpu, 0);
    if (area.size() < 576) return;
    uint64_t components = 0;
    std::memcpy(&components, area.data() + xsave_header, 8);
    FxImage image;
    std::memcpy(&image, area.data(), sizeof image);
    if (components & 1) {
        const uint32_t mxcsr = cpu.fx.mxcsr;
        cpu.fx = image;
        cpu.fx.mxcsr = mxcsr;
    }
    if (components & 6) cpu.fx.mxcsr = image.mxcsr & 0xFFFF;
    cpu.fx.mxcsr_mask = 0xFFFF;
    for (unsigned n = 0; n < 16; ++n) {
        if (components & 2) std::memcpy(cpu.vector_registers[n].bytes.data(), image.xmm.data() + 16 * n, 16);
        if ((components & 4) && area.size() >= avx_end) {
            std::memcpy(cpu.vector_registers[n].bytes.data() + 16, area.data() + xsave_avx + 16 * n, 16);
        }
    }
    cpu.fx.xmm = {};
    const Features& features = cpu.engine->features;
    const bool has_pkru = features.has(CpuFeature::pku) && area.size() >= features.pkru_offset + sizeof cpu.pkru;
    if ((components & component_pkru) && has_pkru) {
        uint32_t pkru = 0;
        std::memcpy(&pkru, area.data() + features.pkru_offset, sizeof pkru);
        set_pkru(cpu, pkru);
    }
}

void save_registers(Cpu& cpu, CpuState& s) {
    std::copy_n(cpu.gpr.begin(), 16, s.gpr.begin());
    s.rip = cpu.rip;
    s.rflags = cpu.flags();
    s.es = cpu.seg[ES];
    s.cs = cpu.seg[CS];
    s.ss = cpu.seg[SS];
    s.ds = cpu.seg[DS];
    s.fs = cpu.seg[FS];
    s.gs = cpu.seg[GS];
    s.ldtr = cpu.seg[LDTR];
    s.tr = cpu.seg[TR];
    s.gdtr = cpu.gdtr;
    s.idtr = cpu.idtr;
    s.cr0 = cpu.cr0;
    s.cr2 = cpu.cr2;
    s.cr3 = cpu.cr3;
    s.cr4 = cpu.cr4;
    s.efer = cpu.efer;
    s.apic_base = cpu.apic_base;
    s.dr = cpu.dr;
    s.dr6 = cpu.dr6;
    s.dr7 = cpu.dr7;
    s.interrupt_shadow = cpu.interrupt_shadow;
    s.nmi_blocked = cpu.nmi_blocked;
}

Result<void> check_cpu_state(const Cpu& cpu, const CpuState& s) {
    const uint64_t components = s.xcr0 & ~cpu.engine->features.xcr0_mask();
    if (components != 0) {
        return fail(
            fmt::format("the guest has switched on XSAVE components {:#x}, which the software CPU does not have; "
                        "start the machine with --cpu x86-64-v3, or another model without AVX-512",
                        components));
    }
    if (const uint64_t bits = s.cr4 & ~known_cr4(cpu.engine->features)) {
        return fail(fmt::format("the guest has set bits {:#x} in CR4, which the software CPU does not have", bits));
    }
    if (!s.lapic.empty() && s.lapic.size() != 1024) {
        return fail(fmt::format("the CPU state has {} bytes of local APIC, it must be 1024", s.lapic.size()));
    }
    return {};
}

CpuState save_cpu_state(Cpu& cpu) {
    cpu.engine->native.release_fpu(cpu);
    CpuState s;
    save_registers(cpu, s);
    s.cr8 = cpu.apic ? cpu.apic->task_priority() >> 4 : 0;
    s.xcr0 = cpu.xcr0;
    s.xsave = save_vectors(cpu);
    const uint64_t tsc = ticks_in(cpu.engine->clock.now().ns, cpu.engine->features.tsc_hertz) + cpu.tsc_offset;
    s.msrs.push_back({0x10, tsc});
    s.msrs.push_back({0x3B, cpu.tsc_adjust});
    for (const auto& msr : stored_msrs) s.msrs.push_back({msr.index, cpu.*msr.value});
    std::ranges::find(s.msrs, uint32_t{0x1A0}, &Msr::index)->value |= 1;  // fast strings, as it reads
    for (unsigned n = 0; n < 16; ++n) s.msrs.push_back({0x200 + n, cpu.mtrr_variable[n]});
    for (unsigned n = 0; n < 11; ++n) s.msrs.push_back({fixed_mtrrs[n], cpu.mtrr_fixed[n]});
    if (cpu.apic && cpu.apic->tsc_deadline() != 0) s.msrs.push_back({0x6E0, cpu.apic->tsc_deadline()});
    if (cpu.pkrs != 0) s.msrs.push_back({0x6E1, cpu.pkrs});
    if (cpu.speculation_control != 0) s.msrs.push_back({0x48, cpu.speculation_control});
    std::ranges::sort(s.msrs, {}, &Msr::index);
    s.activity = cpu.monitor.waits ? Activity::running : cpu.activity;  // MWAIT may end at any time
    s.nmi_pending = cpu.nmis_pending != 0;
    s.event_pending = cpu.event_pending;
    if (cpu.event_pending) {
        s.event_is_exception = cpu.event_is_exception;
        s.event_vector = cpu.event.vector;
        s.event_has_error_code = cpu.event.has_error;
        s.event_error_code = cpu.event.error;
    } else if (cpu.debug_pending != 0) {
        s.event_pending = s.event_is_exception = true;
        s.event_vector = vector_db;
        s.dr6 = (s.dr6 & ~uint64_t{0xF}) | cpu.debug_pending;
    }
    return s;
}

void load_registers(Cpu& cpu, const CpuState& s) {
    std::copy_n(s.gpr.begin(), 16, cpu.gpr.begin());
    cpu.gpr[16] = 0;
    cpu.rip = s.rip;
    cpu.set_flags(static_cast<uint32_t>(s.rflags));
    cpu.seg = {s.es, s.cs, s.ss, s.ds, s.fs, s.gs, s.ldtr, s.tr};
    cpu.gdtr = s.gdtr;
    cpu.idtr = s.idtr;
    cpu.cr0 = s.cr0;
    cpu.cr2 = s.cr2;
    cpu.cr3 = s.cr3;
    cpu.cr4 = s.cr4;
    cpu.efer = s.efer;
    cpu.apic_base = s.apic_base;
    cpu.dr = s.dr;
    cpu.dr6 = s.dr6;
    cpu.dr7 = s.dr7;
    cpu.interrupt_shadow = s.interrupt_shadow;
    cpu.nmi_blocked = s.nmi_blocked;
    cpu.debug_pending = 0;
    cpu.shutdown = false;
    // CPL is the DPL of SS (SDM 3A, 5.5), but for modes that say otherwise.
    cpu.cpl = static_cast<uint8_t>(!(cpu.cr0 & cr0_pe) ? 0 : cpu.seg[SS].dpl);
    if ((cpu.cr0 & cr0_pg) && (cpu.cr4 & cr4_pae) && !(cpu.efer & efer_lma)) {
        for (unsigned n = 0; n < 4; ++n) {
            cpu.pdpte[n] = cpu.engine->memory.load<uint64_t>(Gpa{(s.cr3 & 0xFFFFFFE0) + n * 8});
        }
    }
    flush_tlb(cpu);
    update_mode(cpu);
}

void load_msrs(Cpu& cpu, const std::vector<Msr>& msrs) {
    for (const Msr& msr : msrs) {
        for (const auto& stored : stored_msrs) {
            if (stored.index == msr.index) cpu.*stored.value = msr.value;
        }
        if (msr.index >= 0x200 && msr.index < 0x210) cpu.mtrr_variable[msr.index - 0x200] = msr.value;
        for (unsigned n = 0; n < 11; ++n) {
            if (fixed_mtrrs[n] == msr.index) cpu.mtrr_fixed[n] = msr.value;
        }
        if (msr.index == 0x6E1) set_pkrs(cpu, static_cast<uint32_t>(msr.value));
        if (msr.index == 0x48) cpu.speculation_control = msr.value;
        if (msr.index == 0x3B) cpu.tsc_adjust = msr.value;
        if (msr.index == 0x10) {
            cpu.tsc_offset = msr.value - ticks_in(cpu.engine->clock.now().ns, cpu.engine->features.tsc_hertz);
        }
    }
}

void load_cpu_state(Cpu& cpu, const CpuState& s) {
    cpu.engine->native.release_fpu(cpu);
    cpu.xcr0 = s.xcr0;
    load_vectors(cpu, s.xsave);
    // What the state does not list has its power-on value.
    for (const auto& stored : stored_msrs) cpu.*stored.value = 0;
    cpu.pat = 0x0007040600070406;
    cpu.mtrr_variable = {};
    cpu.mtrr_fixed = {};
    set_pkrs(cpu, 0);
    cpu.speculation_control = 0;
    load_msrs(cpu, s.msrs);
    cpu.activity = s.activity;
    cpu.monitor = {};
    cpu.ferr = !(s.cr0 & cr0_ne);  // perhaps; the next instruction of the x87 sees to it
    cpu.nmis_pending = s.nmi_pending;
    cpu.event_pending = s.event_pending;
    cpu.event_is_exception = s.event_is_exception;
    cpu.event = {s.event_vector, s.event_has_error_code, s.event_error_code, s.cr2};
    load_registers(cpu, s);
}

}  // namespace viv::soft
