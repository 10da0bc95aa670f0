// Breakpoints of the debug registers (SDM 3B, 17.2): instructions are faults, data and I/O are traps.
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/run.hpp"

namespace viv::soft {
namespace {

enum class Watch : uint8_t { execute = 0, write = 1, io = 2, access = 3 };

bool enabled(const Cpu& cpu, unsigned n) {
    return (cpu.dr7 >> (2 * n)) & 3;
}
Watch kind_of(const Cpu& cpu, unsigned n) {
    return static_cast<Watch>((cpu.dr7 >> (16 + 4 * n)) & 3);
}
uint64_t length_of(const Cpu& cpu, unsigned n) {
    static constexpr uint64_t lengths[] = {1, 2, 8, 4};
    return lengths[(cpu.dr7 >> (18 + 4 * n)) & 3];
}
/// A breakpoint of some length lies at the multiple of it below its address.
bool touches(const Cpu& cpu, unsigned n, uint64_t address, uint64_t size) {
    const uint64_t length = length_of(cpu, n), start = cpu.dr[n] & ~(length - 1);
    return address < start + length && start < address + size;
}

}  // namespace

void check_code_breakpoint(Cpu& cpu) {
    if (!(cpu.dr7 & 0xFF)) return;
    const uint64_t linear = (cpu.rip + cpu.seg_base[CS]) & cpu.linear_mask;
    uint32_t hits = 0;
    for (unsigned n = 0; n < 4; ++n) {
        if (enabled(cpu, n) && kind_of(cpu, n) == Watch::execute && cpu.dr[n] == linear) hits |= 1u << n;
    }
    if (hits == 0) return;
    cpu.report_debug(hits);
    raise(vector_db);
}

bool watches_data(const Cpu& cpu, uint64_t page) {
    if (!(cpu.dr7 & 0xFF)) return false;
    for (unsigned n = 0; n < 4; ++n) {
        const Watch kind = kind_of(cpu, n);
        if (!enabled(cpu, n) || (kind != Watch::write && kind != Watch::access)) continue;
        if (touches(cpu, n, page, 0x1000)) return true;
    }
    return false;
}

void check_data_breakpoint(Cpu& cpu, uint64_t linear, unsigned size, Access access) {
    for (unsigned n = 0; n < 4; ++n) {
        const Watch kind = kind_of(cpu, n);
        const bool fits = kind == Watch::access || (kind == Watch::write && access == Access::write);
        if (enabled(cpu, n) && fits && touches(cpu, n, linear, size)) cpu.debug_pending |= 1u << n;
    }
}

void check_io_breakpoint(Cpu& cpu, uint16_t port, unsigned size) {
    if (!(cpu.dr7 & 0xFF) || !(cpu.cr4 & cr4_de)) return;
    for (unsigned n = 0; n < 4; ++n) {
        if (enabled(cpu, n) && kind_of(cpu, n) == Watch::io && touches(cpu, n, port, size)) {
            cpu.debug_pending |= 1u << n;
        }
    }
}

}  // namespace viv::soft
