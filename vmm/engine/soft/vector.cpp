// Instructions that the host executes for the guest, with the guest's faults around them.
#include "vmm/engine/soft/vector.hpp"

#include <algorithm>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/host_call.hpp"

namespace viv::soft {
namespace {

bool uses_fpu(Unit unit) {
    return unit == Unit::x87 || unit == Unit::mmx || unit == Unit::sse_mmx;
}

/// What executing an operation under unmasked exceptions may have to take back.
struct Backup {
    explicit Backup(const Cpu& cpu) : gpr(cpu.gpr), arith(cpu.arith), vectors(cpu.vector_registers) {}
    void restore(Cpu& cpu) const {
        cpu.gpr = gpr;
        cpu.arith = arith;
        cpu.vector_registers = vectors;
    }
    std::array<uint64_t, 18> gpr;
    uint16_t arith;
    std::array<Xmm, 16> vectors;
};

/// What every MMX instruction does, also one that ends with a SIMD exception: TOP is 0 and all registers count as used.
/// FxImage has the registers in the order of ST(i).
void enter_mmx(Cpu& cpu) {
    unload_fpu(cpu);
    const unsigned top = (cpu.fx.fsw >> 11) & 7;
    std::rotate(cpu.fx.st.begin(), cpu.fx.st.begin() + ((8 - top) & 7), cpu.fx.st.end());
    cpu.fx.fsw &= static_cast<uint16_t>(~0x3800u);
    cpu.fx.ftw = 0xFF;
}

constexpr uint32_t mxcsr_before_result = 7;  // invalid, denormal, division
constexpr uint32_t mxcsr_underflow = 0x10, mxcsr_underflow_mask = 0x800, mxcsr_flush = 0x8000;

/// Executes with all exceptions masked and says which flags that raised.
uint32_t raised_by(Cpu& cpu, const NativeOp& op, void* memory, uint32_t mxcsr) {
    load_mxcsr(cpu, mxcsr & ~0x3Fu);
    op.code(&cpu, memory);
    sync_mxcsr(cpu);
    return cpu.fx.mxcsr & 0x3F;
}

/// With unmasked SIMD exceptions: nothing is changed when one of them occurs (SDM 1, 11.5).
void execute_simd_carefully(Cpu& cpu, const NativeOp& op, void* memory) {
    sync_mxcsr(cpu);
    const bool fpu = uses_fpu(op.unit);
    if (fpu) unload_fpu(cpu);
    const Backup backup(cpu);
    const FxImage x87 = cpu.fx;
    const uint32_t before = cpu.fx.mxcsr;
    std::array<std::byte, 64> target{};
    void* to = op.writes_memory ? target.data() : memory;
    const auto restore = [&] {
        backup.restore(cpu);
        if (!fpu) return;
        unload_fpu(cpu);
        cpu.fx = x87;
    };
    uint32_t raised = 0, effective = before;
    if (!(before & mxcsr_underflow_mask)) {
        // Unmasked, it counts for exact results too, as flushing them does; and they are not flushed then.
        if (fpu) load_fpu(cpu);
        raised = raised_by(cpu, op, to, before | mxcsr_flush) & mxcsr_underflow;
        restore();
        effective &= ~mxcsr_flush;
    }
    if (fpu) load_fpu(cpu);
    raised |= raised_by(cpu, op, to, effective);
    const uint32_t unmasked = ~(before >> 7) & 0x3F;
    // The exceptions that are found before there is a result keep those from being reported that depend on it.
    if (raised & unmasked & mxcsr_before_result) raised &= mxcsr_before_result;
    if (raised & unmasked) {
        restore();
        if (fpu) enter_mmx(cpu);
        load_mxcsr(cpu, before | raised);
        raise(cpu.cr4 & cr4_osxmmexcpt ? vector_xm : vector_ud);
    }
    load_mxcsr(cpu, before | raised);
    if (op.writes_memory) std::memcpy(memory, target.data(), op.memory_size);
}

/// With unmasked x87 exceptions: the host's FPU has them unmasked too, and does what is right with operands and result.
/// It would report them at the next waiting instruction, which is never executed.
void execute_x87_carefully(Cpu& cpu, const NativeOp& op, void* memory) {
    unload_fpu(cpu);
    const uint16_t before = cpu.fx.fsw;
    cpu.fx.fsw &= 0x7F00;
    load_fpu_unmasked(cpu);
    op.code(&cpu, memory);
    unload_fpu(cpu);
    cpu.fx.fsw = static_cast<uint16_t>(cpu.fx.fsw | (before & 0x7F));
}

template <bool loads, bool stores, bool fpu>
const Insn* native(Cpu& cpu, const Insn* i) {
    const auto& op = *static_cast<const NativeOp*>(i->extra);
    cpu.at = i;
    if (cpu.unit_faults[static_cast<unsigned>(op.unit)] != 0) [[unlikely]]
        check_unit(cpu, op.unit);
    if constexpr (fpu) check_x87_exception(cpu);
    void* memory = cpu.scratch.data();
    uint64_t linear = 0;
    bool in_place = false;
    if constexpr (loads || stores) {
        linear = operand_address < stores ? Access::write : Access::read > (cpu, i, op.memory_size);
        if (linear & (op.alignment - 1u)) raise_gp();
        std::byte* at = direct < stores ? Access::write : Access::read > (cpu, linear, op.memory_size);
        in_place = at;
        if (at) {
            memory = at;
        } else {
            if constexpr (stores) probe_write(cpu, i, linear, op.memory_size, i->seg);
            // A store with an unmasked exception may not happen.
            const bool keeps = stores && fpu && op.arithmetic && (cpu.fx.fcw & 0x3F) != 0x3F;
            if (loads || keeps) load_bytes(cpu, i, linear, memory, op.memory_size, i->seg);
        }
    }
    if constexpr (fpu) {
        if (op.unit == Unit::x87) {
            cpu.fx.fip = cpu.current_rip();
            cpu.fx.fop = static_cast<uint16_t>(i->opcode);
            if constexpr (loads || stores) cpu.fx.fdp = effective_address(cpu, i);
        }
        if (op.unit == Unit::x87 && (cpu.fx.fcw & 0x3F) != 0x3F) [[unlikely]] {
            execute_x87_carefully(cpu, op, memory);
        } else if (op.unit == Unit::sse_mmx && op.arithmetic && (cpu.fx.mxcsr & 0x1F80) != 0x1F80) [[unlikely]] {
            execute_simd_carefully(cpu, op, memory);
        } else {
            load_fpu(cpu);
            op.code(&cpu, memory);
        }
    } else if (op.arithmetic && (cpu.fx.mxcsr & 0x1F80) != 0x1F80) [[unlikely]] {
        execute_simd_carefully(cpu, op, memory);
    } else {
        op.code(&cpu, memory);
    }
    if constexpr (stores) {
        if (!in_place) store_bytes(cpu, i, linear, memory, op.memory_size, i->seg);
    }
    return next(cpu, i);
}

/// A load or store of selected elements: the others do not fault.
void masked_move(Cpu& cpu, const Insn& i) {
    const auto& op = *static_cast<const NativeOp*>(i.extra);
    check_unit(cpu, op.unit);
    const WithoutAlignmentChecks unchecked(cpu);
    const unsigned size = op.element_size;
    const uint64_t offset = effective_address(cpu, &i);
    const uint64_t start = (offset + cpu.seg_base[i.seg]) & cpu.linear_mask;
    std::memset(cpu.scratch.data(), 0, op.memory_size);
    const auto selected = [&](unsigned at) {
        return cpu.vector_registers[op.mask_register].bytes[at + size - 1] & 0x80;
    };
    for (unsigned at = 0; at < op.memory_size; at += size) {
        if (!selected(at)) continue;
        const uint64_t linear = (start + at) & cpu.linear_mask;
        if (i.has(insn_checked)) {
            op.writes_memory ? check_segment<Access::write>(cpu, &i, i.seg, (offset + at) & i.mask, size)
                             : check_segment<Access::read>(cpu, &i, i.seg, (offset + at) & i.mask, size);
        }
        if (op.writes_memory) {
            probe_write(cpu, &i, linear, size, i.seg);
        } else {
            load_bytes(cpu, &i, linear, cpu.scratch.data() + at, size, i.seg);
        }
    }
    if (!op.writes_memory) return op.code(&cpu, cpu.scratch.data());
    for (unsigned at = 0; at < op.memory_size; at += size) {
        if (!selected(at)) continue;
        const uint8_t* from = cpu.vector_registers[op.source_register].bytes.data() + at;
        store_bytes(cpu, &i, (start + at) & cpu.linear_mask, from, size, i.seg);
    }
}

template <bool fpu>
Handler pick(const NativeOp& op) {
    if (op.reads_memory && op.writes_memory) return native<true, true, fpu>;
    if (op.reads_memory) return native<true, false, fpu>;
    if (op.writes_memory) return native<false, true, fpu>;
    return native<false, false, fpu>;
}

}  // namespace

Handler native_handler(const NativeOp& op) {
    if (op.element_size != 0) return simple<masked_move>;
    return uses_fpu(op.unit) ? pick<true>(op) : pick<false>(op);
}

void update_units(Cpu& cpu) {
    const uint8_t not_available = cpu.cr0 & cr0_ts ? vector_nm : 0;
    const bool emulated = cpu.cr0 & cr0_em;
    const auto set = [&](Unit unit, uint8_t fault) { cpu.unit_faults[static_cast<unsigned>(unit)] = fault; };
    set(Unit::general, 0);
    set(Unit::x87, emulated ? uint8_t{vector_nm} : not_available);
    set(Unit::mmx, emulated ? uint8_t{vector_ud} : not_available);
    const uint8_t sse = emulated || !(cpu.cr4 & cr4_osfxsr) ? uint8_t{vector_ud} : not_available;
    set(Unit::sse, sse);
    set(Unit::sse_mmx, sse);
    const bool avx = (cpu.cr4 & cr4_osxsave) && (cpu.xcr0 & 6) == 6 && !cpu.real_or_vm86();
    set(Unit::avx, avx ? not_available : uint8_t{vector_ud});
}

void check_unit(Cpu& cpu, Unit unit) {
    const uint8_t fault = cpu.unit_faults[static_cast<unsigned>(unit)];
    if (fault != 0) raise(fault);
}

uint16_t status_word(const Cpu& cpu) {
    uint16_t status = cpu.fx.fsw;
    if (cpu.fpu_live) asm volatile("fnstsw %0" : "=a"(status));
    status &= 0x7F7F;
    if (status & ~cpu.fx.fcw & 0x3F) status |= 0x8080;
    return status;
}

namespace {
/// FERR# as a PC uses it (SDM 1, appendix D): the processor waits in front of the instruction for the interrupt, unless
/// IGNNE# lets it go on.
void report_by_wire(Cpu& cpu) {
    bool ignored = true;
    {
        const HostCall call(cpu);
        ignored = cpu.host->x87_error(true);
    }
    cpu.ferr = true;
    if (ignored) return;
    cpu.activity = Activity::halted;
    throw Fault{.vector = vector_none};
}
}  // namespace

void release_ferr(Cpu& cpu) {
    if (!cpu.ferr || (status_word(cpu) & 0x80)) return;
    cpu.ferr = false;
    const HostCall call(cpu);
    cpu.host->x87_error(false);
}

void check_x87_exception(Cpu& cpu) {
    if ((cpu.fx.fcw & 0x3F) == 0x3F && !cpu.ferr) return;
    if (!(status_word(cpu) & 0x80)) return release_ferr(cpu);
    if (cpu.cr0 & cr0_ne) raise(vector_mf);
    report_by_wire(cpu);
}

}  // namespace viv::soft
