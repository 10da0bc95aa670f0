#pragma once

#include "vmm/engine/soft/handlers.hpp"
#include "vmm/engine/soft/native_code.hpp"

namespace viv::soft {

/// Executes the NativeOp of i->extra: faults of its unit, memory operand, floating point exceptions.
Handler native_handler(const NativeOp& op);

/// #UD or #NM when CR0, CR4 and XCR0 do not let the unit be used, #MF for a pending x87 exception.
void check_unit(Cpu& cpu, Unit unit);
/// #MF, or FERR# with CR0.NE clear, when an unmasked x87 exception is pending.
void check_x87_exception(Cpu& cpu);
/// Takes FERR# back when nothing is pending any more.
void release_ferr(Cpu& cpu);
/// The x87 status word with ES and B.
uint16_t status_word(const Cpu& cpu);

/// Gathers and masked moves make no alignment checks (SDM 2C, VGATHERDPD).
class WithoutAlignmentChecks {
  public:
    explicit WithoutAlignmentChecks(Cpu& cpu) : cpu_(cpu), tlb_(cpu.tlb) {
        if (tlb_ == &cpu.tlbs[tlb_user_aligned]) cpu.tlb = &cpu.tlbs[tlb_user];
    }
    ~WithoutAlignmentChecks() { cpu_.tlb = tlb_; }
    WithoutAlignmentChecks(const WithoutAlignmentChecks&) = delete;
    WithoutAlignmentChecks& operator=(const WithoutAlignmentChecks&) = delete;

  private:
    Cpu& cpu_;
    Tlb* tlb_;
};

/// How many vector registers the code has.
unsigned vector_count(const Cpu& cpu);
/// Between the x87's registers and the first 160 bytes of an FXSAVE or XSAVE area without MXCSR (SDM 1, 10.5.1);
/// pointers have 64 bits for instructions of size 8.
void fill_x87(Cpu& cpu, const Insn& i, FxImage& image);
void take_x87(Cpu& cpu, const Insn& i, const FxImage& image);
/// The state of FNINIT, with zeros in the registers.
void reset_x87(Cpu& cpu);
/// #GP(0) for an address that is not a multiple of `alignment`.
void check_aligned(uint64_t linear, uint64_t alignment);
/// The state components that are not in their initial state (SDM 1, 13.6).
uint64_t components_in_use(Cpu& cpu);

// Instructions about the state itself.
void ldmxcsr(Cpu& cpu, const Insn& i);
void stmxcsr(Cpu& cpu, const Insn& i);
void fxsave(Cpu& cpu, const Insn& i);  // size 8: the REX.W form
void fxrstor(Cpu& cpu, const Insn& i);
void xsave(Cpu& cpu, const Insn& i);
void xsaveopt(Cpu& cpu, const Insn& i);
void xsavec(Cpu& cpu, const Insn& i);
void xsaves(Cpu& cpu, const Insn& i);
void xrstor(Cpu& cpu, const Insn& i);
void xrstors(Cpu& cpu, const Insn& i);
void vzeroupper(Cpu& cpu, const Insn& i);
void vzeroall(Cpu& cpu, const Insn& i);
void maskmov(Cpu& cpu, const Insn& i);  // size: 8 for MMX; dst and src: register numbers

/// dst, src (the selection) and aux (the index): register numbers; size: 1 for 8-byte indices, 2 for 8-byte data; imm:
/// how many elements.
void gather(Cpu& cpu, const Insn& i);

void fninit(Cpu& cpu, const Insn& i);
void fnclex(Cpu& cpu, const Insn& i);
void fnstcw(Cpu& cpu, const Insn& i);
void fldcw(Cpu& cpu, const Insn& i);
void fnstsw(Cpu& cpu, const Insn& i);
void fnstenv(Cpu& cpu, const Insn& i);
void fldenv(Cpu& cpu, const Insn& i);
void fnsave(Cpu& cpu, const Insn& i);
void frstor(Cpu& cpu, const Insn& i);
void fwait(Cpu& cpu, const Insn& i);

}  // namespace viv::soft
