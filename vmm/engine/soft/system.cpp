// Control, debug and descriptor table registers, I/O, HLT and the rest of the privileged instructions.
#include "vmm/engine/soft/system.hpp"

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/handlers.hpp"
#include "vmm/engine/soft/host_call.hpp"
#include "vmm/engine/soft/interrupts.hpp"
#include "vmm/engine/soft/lapic.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/segments.hpp"

namespace viv::soft {
namespace {

void need_cpl0(const Cpu& cpu) {
    if (cpu.cpl != 0) raise_gp();
}
void need_protected(const Cpu& cpu) {
    if (cpu.real_or_vm86()) raise_ud();
}
void check_umip(const Cpu& cpu) {
    if ((cpu.cr4 & cr4_umip) && cpu.cpl != 0) raise_gp();
}
void set_sized(Cpu& cpu, uint8_t slot, unsigned size, uint64_t value) {
    switch (size) {
        case 2: return cpu.set_reg<uint16_t>(slot, static_cast<uint16_t>(value));
        case 4: return cpu.set_reg<uint32_t>(slot, static_cast<uint32_t>(value));
        default: return cpu.set_reg<uint64_t>(slot, value);
    }
}
uint16_t selector_operand(Cpu& cpu, const Insn& i) {
    return i.has(insn_memory) ? load_operand<uint16_t>(cpu, &i) : cpu.reg<uint16_t>(i.src);
}
void store_selector(Cpu& cpu, const Insn& i, uint64_t value) {
    if (i.has(insn_memory)) return store_operand<uint16_t>(cpu, &i, static_cast<uint16_t>(value));
    set_sized(cpu, i.dst, i.size, value);
}
void set_zero(Cpu& cpu, bool zero) {
    cpu.arith = static_cast<uint16_t>((cpu.arith & ~0x4000u) | (zero ? 0x4000u : 0u));
}
/// PAE paging reads its four top entries with CR3 (SDM 3A, 4.4.1).
void load_pdptes(Cpu& cpu, uint64_t cr3) {
    std::array<uint64_t, 4> entries{};
    for (unsigned n = 0; n < 4; ++n) {
        entries[n] = physical_load(cpu, ((cr3 & 0xFFFFFFE0) + n * 8) & cpu.physical_mask, 8);
        const uint64_t reserved = 0x1E6 | ~((uint64_t{1} << cpu.engine->features.physical_bits) - 1);
        if ((entries[n] & 1) && (entries[n] & reserved)) raise_gp();
    }
    cpu.pdpte = entries;
}
bool uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer) {
    return (cr0 & cr0_pg) && (cr4 & cr4_pae) && !(efer & efer_lma);
}

}  // namespace

void set_cr0(Cpu& cpu, uint64_t value) {
    if (value >> 32) raise_gp();
    if ((value & cr0_pg) && !(value & cr0_pe)) raise_gp();
    if ((value & cr0_nw) && !(value & cr0_cd)) raise_gp();
    constexpr uint64_t known = cr0_pe | cr0_mp | cr0_em | cr0_ts | cr0_ne | cr0_wp | cr0_am | cr0_nw | cr0_cd | cr0_pg;
    value = (value & known) | cr0_et;
    const uint64_t changed = cpu.cr0 ^ value;
    uint64_t efer = cpu.efer;
    if (changed & cr0_pg) {
        if (value & cr0_pg) {
            if (efer & efer_lme) {
                if (!(cpu.cr4 & cr4_pae) || cpu.seg[CS].long_mode) raise_gp();
                efer |= efer_lma;
            }
        } else {
            if (cpu.code64 || (cpu.cr4 & cr4_pcide)) raise_gp();
            efer &= ~efer_lma;
        }
    }
    if ((changed & cr0_pg) && uses_pdptes(value, cpu.cr4, efer)) load_pdptes(cpu, cpu.cr3);
    cpu.cr0 = value;
    cpu.efer = efer;
    if (changed & (cr0_pg | cr0_pe | cr0_wp)) flush_tlb(cpu);
    update_mode(cpu);
}

void set_cr3(Cpu& cpu, uint64_t value) {
    const bool keep = (cpu.cr4 & cr4_pcide) && (value >> 63);
    value &= ~(uint64_t{1} << 63);
    if (cpu.long_active && (value >> cpu.engine->features.physical_bits)) raise_gp();
    if (!cpu.long_active) value &= 0xFFFFFFFF;
    if (uses_pdptes(cpu.cr0, cpu.cr4, cpu.efer)) load_pdptes(cpu, value);
    cpu.cr3 = value;
    if (!(cpu.cr4 & cr4_pcide)) return flush_tlb_non_global(cpu);
    switch_address_space(cpu, value & 0xFFF, keep);
}

uint64_t known_cr4(const Features& f) {
    uint64_t known = 0;
    if (f.has(CpuFeature::vme)) known |= cr4_vme | cr4_pvi;
    if (f.has(CpuFeature::tsc)) known |= cr4_tsd;
    if (f.has(CpuFeature::de)) known |= cr4_de;
    if (f.has(CpuFeature::pse)) known |= cr4_pse;
    if (f.has(CpuFeature::pae)) known |= cr4_pae;
    if (f.has(CpuFeature::mce)) known |= cr4_mce;
    if (f.has(CpuFeature::pge)) known |= cr4_pge;
    if (f.has(CpuFeature::mmx)) known |= cr4_pce;  // RDPMC came with it
    if (f.has(CpuFeature::fxsr)) known |= cr4_osfxsr;
    if (f.has(CpuFeature::sse)) known |= cr4_osxmmexcpt;
    if (f.has(CpuFeature::umip)) known |= cr4_umip;
    if (f.has(CpuFeature::fsgsbase)) known |= cr4_fsgsbase;
    if (f.has(CpuFeature::pcid)) known |= cr4_pcide;
    if (f.has(CpuFeature::xsave)) known |= cr4_osxsave;
    if (f.has(CpuFeature::smep)) known |= cr4_smep;
    if (f.has(CpuFeature::smap)) known |= cr4_smap;
    if (f.has(CpuFeature::pku)) known |= cr4_pke;
    if (f.has(CpuFeature::pks)) known |= cr4_pks;
    return known;
}

void set_cr4(Cpu& cpu, uint64_t value) {
    if (value & ~known_cr4(cpu.engine->features)) raise_gp();
    const uint64_t changed = cpu.cr4 ^ value;
    if (cpu.long_active && !(value & cr4_pae)) raise_gp();
    if ((changed & value & cr4_pcide) && (!cpu.long_active || (cpu.cr3 & 0xFFF))) raise_gp();
    if ((changed & (cr4_pae | cr4_pse | cr4_pge | cr4_smep)) && uses_pdptes(cpu.cr0, value, cpu.efer)) {
        load_pdptes(cpu, cpu.cr3);
    }
    cpu.cr4 = value;
    constexpr uint64_t of_translations =
        cr4_pse | cr4_pae | cr4_pge | cr4_pcide | cr4_smep | cr4_smap | cr4_pke | cr4_pks;
    if (changed & of_translations) flush_tlb(cpu);
    update_mode(cpu);
}

void set_efer(Cpu& cpu, uint64_t value) {
    const Features& f = cpu.engine->features;
    uint64_t known = efer_lma;
    if (f.has(CpuFeature::syscall)) known |= efer_sce;
    if (f.has(CpuFeature::lm)) known |= efer_lme;
    if (f.has(CpuFeature::nx)) known |= efer_nxe;
    if (value & ~known) raise_gp();
    if (((value ^ cpu.efer) & efer_lme) && (cpu.cr0 & cr0_pg)) raise_gp();
    value = (value & ~efer_lma) | (cpu.efer & efer_lma);
    const bool flush = (value ^ cpu.efer) & efer_nxe;
    cpu.efer = value;
    if (flush) flush_tlb(cpu);
    update_mode(cpu);
}

void check_io(Cpu& cpu, uint16_t port, unsigned size) {
    if (!cpu.protected_mode() || (cpu.cpl <= cpu.iopl() && !cpu.vm86())) return;
    const SegmentRegister& tr = cpu.seg[TR];
    if (tr.unusable || !(tr.type & 8) || tr.limit < 0x67) raise_gp();
    const uint64_t map = system_load(cpu, tr.base + 0x66, 2);
    const uint64_t at = map + port / 8u;
    if (at + 1 > tr.limit) raise_gp();
    const uint64_t bits = system_load(cpu, tr.base + at, 2) >> (port % 8);
    if (bits & ((1u << size) - 1)) raise_gp();
}

void mov_from_cr(Cpu& cpu, const Insn& i) {
    need_cpl0(cpu);
    uint64_t value = 0;
    switch (i.aux) {
        case 0: value = cpu.cr0; break;
        case 2: value = cpu.cr2; break;
        case 3: value = cpu.cr3; break;
        case 4: value = cpu.cr4; break;
        case 8: value = cpu.apic ? cpu.apic->task_priority() >> 4 : 0; break;
        default: raise_ud();
    }
    if (cpu.code64) {
        cpu.set_reg<uint64_t>(i.dst, value);
    } else {
        cpu.set_reg<uint32_t>(i.dst, static_cast<uint32_t>(value));
    }
}

void mov_to_cr(Cpu& cpu, const Insn& i) {
    need_cpl0(cpu);
    const uint64_t value = cpu.code64 ? cpu.gpr[i.src / 8] : cpu.reg<uint32_t>(i.src);
    switch (i.aux) {
        case 0: return set_cr0(cpu, value);
        case 2: cpu.cr2 = value; return;
        case 3: return set_cr3(cpu, value);
        case 4: return set_cr4(cpu, value);
        case 8:
            if (value > 15) raise_gp();
            if (cpu.apic) cpu.apic->set_task_priority(static_cast<uint8_t>(value << 4));
            return;
        default: raise_ud();
    }
}

namespace {
unsigned debug_register(Cpu& cpu, unsigned number) {
    if (number > 7) raise_ud();
    if (number == 4 || number == 5) {
        if (cpu.cr4 & cr4_de) raise_ud();
        number += 2;
    }
    need_cpl0(cpu);
    if (cpu.dr7 & 0x2000) {  // GD: accesses are trapped
        cpu.report_debug(0x2000);
        cpu.dr7 &= ~uint64_t{0x2000};
        raise(vector_db);
    }
    return number;
}
}  // namespace

void mov_from_dr(Cpu& cpu, const Insn& i) {
    const unsigned number = debug_register(cpu, i.aux);
    const uint64_t value = number < 4 ? cpu.dr[number] : (number == 6 ? cpu.dr6 : cpu.dr7);
    set_sized(cpu, i.dst, cpu.code64 ? 8 : 4, value);
}

void mov_to_dr(Cpu& cpu, const Insn& i) {
    const unsigned number = debug_register(cpu, i.aux);
    const uint64_t value = cpu.code64 ? cpu.gpr[i.src / 8] : cpu.reg<uint32_t>(i.src);
    const uint64_t before = cpu.dr7;
    if (number < 4) {
        cpu.dr[number] = value;
    } else {
        if (value >> 32) raise_gp();
        if (number == 6) cpu.dr6 = (value & 0xE00F) | 0xFFFF0FF0;
        if (number == 7) cpu.dr7 = (value & 0xFFFF2BFF) | 0x400;
    }
    if ((cpu.dr7 | before) & 0xFF) flush_tlb(cpu);  // pages with breakpoints have no direct way
    cpu.attention.store(true, std::memory_order_relaxed);
}

namespace {
void load_table(Cpu& cpu, const Insn& i, DescriptorTableRegister& table) {
    need_cpl0(cpu);
    const unsigned base_size = cpu.code64 ? 8 : 4;
    const uint64_t at = operand_address<Access::read>(cpu, &i, 2 + base_size);
    const auto limit = load<uint16_t>(cpu, &i, at, i.seg);
    const uint64_t base_at = (at + 2) & cpu.linear_mask;
    uint64_t base = cpu.code64 ? load<uint64_t>(cpu, &i, base_at, i.seg) : load<uint32_t>(cpu, &i, base_at, i.seg);
    if (!cpu.code64 && i.size == 2) base &= 0xFFFFFF;
    if (!is_canonical(base)) raise_gp();
    table = {base, limit};
}
void store_table(Cpu& cpu, const Insn& i, const DescriptorTableRegister& table) {
    check_umip(cpu);
    const unsigned base_size = cpu.code64 ? 8 : 4;
    const uint64_t at = operand_address<Access::write>(cpu, &i, 2 + base_size);
    probe_write(cpu, &i, at, 2 + base_size, i.seg);
    store<uint16_t>(cpu, &i, at, table.limit, i.seg);
    const uint64_t base_at = (at + 2) & cpu.linear_mask;
    if (cpu.code64) return store<uint64_t>(cpu, &i, base_at, table.base, i.seg);
    store<uint32_t>(cpu, &i, base_at, static_cast<uint32_t>(table.base), i.seg);
}
}  // namespace

void lgdt(Cpu& cpu, const Insn& i) {
    load_table(cpu, i, cpu.gdtr);
}
void lidt(Cpu& cpu, const Insn& i) {
    load_table(cpu, i, cpu.idtr);
}
void sgdt(Cpu& cpu, const Insn& i) {
    store_table(cpu, i, cpu.gdtr);
}
void sidt(Cpu& cpu, const Insn& i) {
    store_table(cpu, i, cpu.idtr);
}

/// A 16-byte descriptor's base must be canonical.
void check_system_base(Cpu& cpu, const Descriptor& d, uint16_t selector) {
    if (cpu.long_active && !is_canonical(d.base())) raise_gp(selector_error(selector));
}

void lldt(Cpu& cpu, const Insn& i) {
    need_protected(cpu);
    need_cpl0(cpu);
    const uint16_t selector = selector_operand(cpu, i);
    if (is_null(selector)) {
        cpu.seg[LDTR] = {.selector = selector,
                         .limit = 0,
                         .type = type_ldt,
                         .code_or_data = false,
                         .present = false,
                         .unusable = true};
    } else {
        if (selector & 4) raise_gp(selector_error(selector));
        const Descriptor d = read_descriptor(cpu, selector, vector_gp);
        if (d.code_or_data() || d.type() != type_ldt) raise_gp(selector_error(selector));
        if (!d.present()) raise(vector_np, selector_error(selector));
        check_system_base(cpu, d, selector);
        cpu.seg[LDTR] = segment_from(selector, d);
    }
    update_segment(cpu, LDTR);
}

void ltr(Cpu& cpu, const Insn& i) {
    need_protected(cpu);
    need_cpl0(cpu);
    const uint16_t selector = selector_operand(cpu, i);
    if (is_null(selector)) raise_gp();
    if (selector & 4) raise_gp(selector_error(selector));
    const Descriptor d = read_descriptor(cpu, selector, vector_gp);
    const bool available = d.type() == type_tss32 || (d.type() == type_tss16 && !cpu.long_active);
    if (d.code_or_data() || !available) raise_gp(selector_error(selector));
    if (!d.present()) raise(vector_np, selector_error(selector));
    check_system_base(cpu, d, selector);
    if (!set_busy(cpu, d)) raise_gp(selector_error(selector));
    cpu.seg[TR] = segment_from(selector, d);
    cpu.seg[TR].type |= 2;
    update_segment(cpu, TR);
}

void sldt(Cpu& cpu, const Insn& i) {
    need_protected(cpu);
    check_umip(cpu);
    store_selector(cpu, i, cpu.seg[LDTR].selector);
}
void str(Cpu& cpu, const Insn& i) {
    need_protected(cpu);
    check_umip(cpu);
    store_selector(cpu, i, cpu.seg[TR].selector);
}
void lmsw(Cpu& cpu, const Insn& i) {
    need_cpl0(cpu);
    const uint64_t value = selector_operand(cpu, i) & 0xF;
    // PE can be set but not cleared this way.
    set_cr0(cpu, (cpu.cr0 & ~uint64_t{0xE}) | value);
}
void smsw(Cpu& cpu, const Insn& i) {
    check_umip(cpu);
    store_selector(cpu, i, cpu.cr0);
}
void clts(Cpu& cpu, const Insn&) {
    need_cpl0(cpu);
    cpu.cr0 &= ~cr0_ts;
    update_units(cpu);
}

void invlpg(Cpu& cpu, const Insn& i) {
    need_cpl0(cpu);
    const uint64_t linear = (effective_address(cpu, &i) + cpu.seg_base[i.seg]) & cpu.linear_mask;
    flush_tlb_page(cpu, linear);
}
void invpcid(Cpu& cpu, const Insn& i) {
    need_cpl0(cpu);
    const uint64_t type = cpu.code64 ? cpu.gpr[i.dst / 8] : cpu.reg<uint32_t>(i.dst);
    const uint64_t at = operand_address<Access::read>(cpu, &i, 16);
    const auto low = load<uint64_t>(cpu, &i, at, i.seg);
    const auto address = load<uint64_t>(cpu, &i, (at + 8) & cpu.linear_mask, i.seg);
    if (type > 3 || (low >> 12)) raise_gp();
    if (type < 2 && (low & 0xFFF) && !(cpu.cr4 & cr4_pcide)) raise_gp();
    if (type == 0 && !is_canonical(address)) raise_gp();
    const auto pcid = static_cast<uint16_t>(low);
    switch (type) {
        case 0: return flush_tlb_page_of(cpu, pcid, address);
        case 1: return flush_tlb_of(cpu, pcid);
        case 2: return flush_tlb(cpu);
        default: return flush_tlb_non_global(cpu);
    }
}
void wbinvd(Cpu& cpu, const Insn&) {
    need_cpl0(cpu);
}
void privileged_nop(Cpu& cpu, const Insn&) {
    need_cpl0(cpu);
}

void hlt(Cpu& cpu, const Insn&) {
    need_cpl0(cpu);
    cpu.activity = Activity::halted;
}

void cli(Cpu& cpu, const Insn&) {
    if (!cpu.protected_mode() || cpu.iopl() >= cpu.cpl) {
        cpu.eflags &= ~flag_if;
    } else if (cpu.vm86() ? (cpu.cr4 & cr4_vme) : (cpu.cpl == 3 && (cpu.cr4 & cr4_pvi))) {
        cpu.eflags &= ~flag_vif;
    } else {
        raise_gp();
    }
}
namespace {
void allow_interrupts(Cpu& cpu) {
    if (!cpu.protected_mode() || cpu.iopl() >= cpu.cpl) {
        if (!(cpu.eflags & flag_if)) cpu.interrupt_shadow = true;
        cpu.eflags |= flag_if;
    } else if (cpu.vm86() ? (cpu.cr4 & cr4_vme) : (cpu.cpl == 3 && (cpu.cr4 & cr4_pvi))) {
        if (cpu.eflags & flag_vip) raise_gp();
        cpu.eflags |= flag_vif;
    } else {
        raise_gp();
    }
}
}  // namespace
/// No interrupt comes before the end of the next instruction (SDM 2B, STI). When none waits, the block just goes on:
/// who comes from now on is seen at its end.
const Insn* sti(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    allow_interrupts(cpu);
    const bool is_last = i + 1 == cpu.block->first() + cpu.block->count;
    if (is_last || cpu.interrupt_held || cpu.attention.load(std::memory_order_relaxed)) {
        refund(cpu, i + 1);
        return leave(cpu, cpu.next_rip());
    }
    cpu.interrupt_shadow = false;
    return next(cpu, i);
}
void clac(Cpu& cpu, const Insn&) {
    if (cpu.cpl != 0) raise_ud();
    cpu.eflags &= ~flag_ac;
    update_mode(cpu);
}
void stac(Cpu& cpu, const Insn&) {
    if (cpu.cpl != 0) raise_ud();
    cpu.eflags |= flag_ac;
    update_mode(cpu);
}

namespace {
/// The descriptor that LAR, LSL, VERR or VERW asks for, when it is there, `wanted`, and may be seen from here.
template <class Wanted>
bool visible_descriptor(Cpu& cpu, const Insn& i, Descriptor& d, Wanted wanted) {
    need_protected(cpu);
    const uint16_t selector = selector_operand(cpu, i);
    if (is_null(selector) || !try_descriptor(cpu, selector, d) || !wanted()) return false;
    return d.is_conforming() || (cpu.cpl <= d.dpl() && (selector & 3) <= d.dpl());
}
bool is_tss_or_ldt(const Descriptor& d) {
    return d.type() == type_ldt || d.type() == type_tss32 || d.type() == type_tss32_busy;
}
}  // namespace

void lar(Cpu& cpu, const Insn& i) {
    Descriptor d;
    const bool good = visible_descriptor(cpu, i, d, [&] {
        if (d.code_or_data() || is_tss_or_ldt(d) || d.type() == type_call_gate32) return true;
        return !cpu.long_active && d.type() >= type_tss16 && d.type() <= type_task_gate;
    });
    set_zero(cpu, good);
    if (good) set_sized(cpu, i.dst, i.size, (d.low >> 32) & (i.size == 2 ? 0xFF00 : 0x00FFFF00));
}
void lsl(Cpu& cpu, const Insn& i) {
    Descriptor d;
    const bool good = visible_descriptor(cpu, i, d, [&] {
        if (d.code_or_data() || is_tss_or_ldt(d)) return true;
        return !cpu.long_active && (d.type() == type_tss16 || d.type() == type_tss16_busy);
    });
    set_zero(cpu, good);
    if (good) set_sized(cpu, i.dst, i.size, d.limit());
}
namespace {
void verify(Cpu& cpu, const Insn& i, bool writing) {
    Descriptor d;
    const bool good = visible_descriptor(cpu, i, d, [&] { return d.code_or_data(); });
    set_zero(cpu, good && (writing ? d.is_writable_data() : d.is_readable()));
}
}  // namespace
void verr(Cpu& cpu, const Insn& i) {
    verify(cpu, i, false);
}
void verw(Cpu& cpu, const Insn& i) {
    verify(cpu, i, true);
}
void arpl(Cpu& cpu, const Insn& i) {
    need_protected(cpu);
    const auto source = cpu.reg<uint16_t>(i.src);
    const auto value = i.has(insn_memory) ? load_operand<uint16_t>(cpu, &i) : cpu.reg<uint16_t>(i.dst);
    const bool raise_rpl = (value & 3) < (source & 3);
    if (raise_rpl) {
        const auto raised = static_cast<uint16_t>((value & ~3u) | (source & 3u));
        i.has(insn_memory) ? store_operand<uint16_t>(cpu, &i, raised) : cpu.set_reg<uint16_t>(i.dst, raised);
    }
    set_zero(cpu, raise_rpl);
}

// aux: 1 when the port is DX, else it is imm.
void in_instruction(Cpu& cpu, const Insn& i) {
    const auto port = i.aux ? cpu.reg<uint16_t>(RDX * 8) : static_cast<uint16_t>(i.imm);
    check_io(cpu, port, i.size);
    check_io_breakpoint(cpu, port, i.size);
    uint64_t value = 0;
    {
        const HostCall call(cpu);
        value = cpu.host->port_read(port, i.size);
    }
    switch (i.size) {
        case 1: return cpu.set_reg<uint8_t>(0, static_cast<uint8_t>(value));
        case 2: return cpu.set_reg<uint16_t>(0, static_cast<uint16_t>(value));
        default: return cpu.set_reg<uint32_t>(0, static_cast<uint32_t>(value));
    }
}
void out_instruction(Cpu& cpu, const Insn& i) {
    const auto port = i.aux ? cpu.reg<uint16_t>(RDX * 8) : static_cast<uint16_t>(i.imm);
    check_io(cpu, port, i.size);
    check_io_breakpoint(cpu, port, i.size);
    const uint64_t value =
        i.size == 1 ? cpu.reg<uint8_t>(0) : (i.size == 2 ? cpu.reg<uint16_t>(0) : cpu.reg<uint32_t>(0));
    const HostCall call(cpu);
    cpu.host->port_write(port, i.size, value);
}

void undefined(Cpu&, const Insn&) {
    raise_ud();
}

}  // namespace viv::soft
