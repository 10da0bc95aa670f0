#pragma once

#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {

/// Control registers with all their checks and effects; #GP(0) for what the manual forbids.
void set_cr0(Cpu& cpu, uint64_t value);
void set_cr3(Cpu& cpu, uint64_t value);
void set_cr4(Cpu& cpu, uint64_t value);
void set_efer(Cpu& cpu, uint64_t value);
/// The protection keys' registers.
void set_pkru(Cpu& cpu, uint32_t value);
void set_pkrs(Cpu& cpu, uint32_t value);
/// The bits of CR4 that a CPU with these features has.
uint64_t known_cr4(const Features& features);
/// Throws #GP(0) when the port is not allowed at this privilege level (SDM 1, 19.5).
void check_io(Cpu& cpu, uint16_t port, unsigned size);
uint64_t read_msr(Cpu& cpu, uint32_t index);
void write_msr(Cpu& cpu, uint32_t index, uint64_t value);
uint64_t read_tsc(Cpu& cpu);

// Instructions, in the manual's spelling. Operands: dst, src, imm, aux (a register's number), memory.
void mov_from_cr(Cpu& cpu, const Insn& i);
void mov_to_cr(Cpu& cpu, const Insn& i);
void mov_from_dr(Cpu& cpu, const Insn& i);
void mov_to_dr(Cpu& cpu, const Insn& i);
void lgdt(Cpu& cpu, const Insn& i);
void lidt(Cpu& cpu, const Insn& i);
void sgdt(Cpu& cpu, const Insn& i);
void sidt(Cpu& cpu, const Insn& i);
void lldt(Cpu& cpu, const Insn& i);
void ltr(Cpu& cpu, const Insn& i);
void sldt(Cpu& cpu, const Insn& i);
void str(Cpu& cpu, const Insn& i);
void lmsw(Cpu& cpu, const Insn& i);
void smsw(Cpu& cpu, const Insn& i);
void clts(Cpu& cpu, const Insn& i);
void invlpg(Cpu& cpu, const Insn& i);
void invpcid(Cpu& cpu, const Insn& i);
void wbinvd(Cpu& cpu, const Insn& i);
void rdmsr(Cpu& cpu, const Insn& i);
void wrmsr(Cpu& cpu, const Insn& i);
void rdtsc(Cpu& cpu, const Insn& i);
void rdtscp(Cpu& cpu, const Insn& i);
void rdpmc(Cpu& cpu, const Insn& i);
void rdpid(Cpu& cpu, const Insn& i);
void rdrand(Cpu& cpu, const Insn& i);
void cpuid_instruction(Cpu& cpu, const Insn& i);
void rdpkru(Cpu& cpu, const Insn& i);
void wrpkru(Cpu& cpu, const Insn& i);
void hlt(Cpu& cpu, const Insn& i);
void cli(Cpu& cpu, const Insn& i);
const Insn* sti(Cpu& cpu, const Insn* i);
void clac(Cpu& cpu, const Insn& i);
void stac(Cpu& cpu, const Insn& i);
void syscall(Cpu& cpu, const Insn& i);
void sysret(Cpu& cpu, const Insn& i);
void sysenter(Cpu& cpu, const Insn& i);
void sysexit(Cpu& cpu, const Insn& i);
void swapgs(Cpu& cpu, const Insn& i);
void rdfsbase(Cpu& cpu, const Insn& i);
void wrfsbase(Cpu& cpu, const Insn& i);
void lar(Cpu& cpu, const Insn& i);
void lsl(Cpu& cpu, const Insn& i);
void verr(Cpu& cpu, const Insn& i);
void verw(Cpu& cpu, const Insn& i);
void arpl(Cpu& cpu, const Insn& i);
void xgetbv(Cpu& cpu, const Insn& i);
void xsetbv(Cpu& cpu, const Insn& i);
void monitor(Cpu& cpu, const Insn& i);
void mwait(Cpu& cpu, const Insn& i);
/// Whether MWAIT is over because of what it monitors.
bool monitor_ends(Cpu& cpu);
void in_instruction(Cpu& cpu, const Insn& i);
void out_instruction(Cpu& cpu, const Insn& i);
void undefined(Cpu& cpu, const Insn& i);
void privileged_nop(Cpu& cpu, const Insn& i);

// Instructions of the user level that are not worth a template (misc.cpp).
void pushf(Cpu& cpu, const Insn& i);
void popf(Cpu& cpu, const Insn& i);
void lahf(Cpu& cpu, const Insn& i);
void sahf(Cpu& cpu, const Insn& i);
void clc(Cpu& cpu, const Insn& i);
void stc(Cpu& cpu, const Insn& i);
void cmc(Cpu& cpu, const Insn& i);
void cld(Cpu& cpu, const Insn& i);
void std_instruction(Cpu& cpu, const Insn& i);
void salc(Cpu& cpu, const Insn& i);
void xlat(Cpu& cpu, const Insn& i);
void convert(Cpu& cpu, const Insn& i);         // CBW CWDE CDQE
void convert_double(Cpu& cpu, const Insn& i);  // CWD CDQ CQO
void pusha(Cpu& cpu, const Insn& i);
void popa(Cpu& cpu, const Insn& i);
void enter_instruction(Cpu& cpu, const Insn& i);
void leave_instruction(Cpu& cpu, const Insn& i);
void bound(Cpu& cpu, const Insn& i);
void nop(Cpu& cpu, const Insn& i);
void mov_to_segment(Cpu& cpu, const Insn& i);  // aux: the segment
void mov_from_segment(Cpu& cpu, const Insn& i);
void push_segment(Cpu& cpu, const Insn& i);
void pop_segment(Cpu& cpu, const Insn& i);
void load_far_pointer(Cpu& cpu, const Insn& i);  // LDS LES LSS LFS LGS
void jmp_far(Cpu& cpu, const Insn& i);           // selector in disp, offset in imm; or through memory
void call_far(Cpu& cpu, const Insn& i);
void ret_far(Cpu& cpu, const Insn& i);
void int_n(Cpu& cpu, const Insn& i);
void int3(Cpu& cpu, const Insn& i);
void int1(Cpu& cpu, const Insn& i);
void into(Cpu& cpu, const Insn& i);
void iret(Cpu& cpu, const Insn& i);
void touch(Cpu& cpu, const Insn& i);  // CLFLUSH: only its faults

}  // namespace viv::soft
