// Instruction breakpoints (SDM 3B, 17.2).
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/run.hpp"

namespace viv::soft {

void check_code_breakpoint(Cpu& cpu) {
    if (!(cpu.dr7 & 0xFF)) return;
    const uint64_t linear = (cpu.rip + cpu.seg_base[CS]) & cpu.linear_mask;
    uint32_t hits = 0;
    for (unsigned n = 0; n < 4; ++n) {
        const bool enabled = (cpu.dr7 >> (2 * n)) & 3;
        const bool executes = ((cpu.dr7 >> (16 + 4 * n)) & 3) == 0;
        if (enabled && executes && cpu.dr[n] == linear) hits |= 1u << n;
    }
    if (hits == 0) return;
    cpu.dr6 |= hits;
    raise(vector_db);
}

}  // namespace viv::soft
