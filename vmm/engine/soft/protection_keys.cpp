// Protection keys: PKRU for user pages, IA32_PKRS for supervisor pages (SDM 3A, 4.6.2). The page walk judges by them.
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {
void check_pkru(const Cpu& cpu) {
    if (!(cpu.cr4 & cr4_pke)) raise_ud();
    if (cpu.reg<uint32_t>(RCX * 8) != 0) raise_gp();
}
}  // namespace

void set_pkru(Cpu& cpu, uint32_t value) {
    const uint32_t changed = cpu.pkru ^ value;
    cpu.pkru = value;
    if (changed != 0 && (cpu.cr4 & cr4_pke)) flush_tlb_keys(cpu, changed, true);
}

void set_pkrs(Cpu& cpu, uint32_t value) {
    const uint32_t changed = cpu.pkrs ^ value;
    cpu.pkrs = value;
    if (changed != 0 && (cpu.cr4 & cr4_pks)) flush_tlb_keys(cpu, changed, false);
}

void rdpkru(Cpu& cpu, const Insn&) {
    check_pkru(cpu);
    cpu.set_reg<uint32_t>(RAX * 8, cpu.pkru);
    cpu.set_reg<uint32_t>(RDX * 8, 0);
}

void wrpkru(Cpu& cpu, const Insn&) {
    check_pkru(cpu);
    if (cpu.reg<uint32_t>(RDX * 8) != 0) raise_gp();
    set_pkru(cpu, cpu.reg<uint32_t>(RAX * 8));
}

}  // namespace viv::soft
