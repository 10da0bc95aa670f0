// MONITOR and MWAIT (SDM 3A, 9.10.4). The monitored line counts as written when its contents change; MWAIT may end at
// any time, so what ends it too often is right, and what would never end it is only a store of what was there.
#include <utility>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {

std::array<uint8_t, Monitor::line> contents(Cpu& cpu) {
    std::array<uint8_t, Monitor::line> bytes{};
    const auto window = cpu.engine->memory.window(Gpa{cpu.monitor.physical}, Monitor::line, GuestMemory::Intent::read);
    if (!window.empty()) std::memcpy(bytes.data(), window.data(), bytes.size());
    return bytes;
}

}  // namespace

// mask: the address size; seg: the segment.
void monitor(Cpu& cpu, const Insn& i) {
    if (cpu.cpl != 0) raise_ud();
    if (cpu.gpr[RCX] & 0xFFFFFFFF) raise_gp();
    const uint64_t linear = segment_address<Access::read>(cpu, &i, i.seg, cpu.gpr[RAX] & i.mask, 1);
    static_cast<void>(load<uint8_t>(cpu, &i, linear, i.seg));
    const TlbEntry& entry = cpu.tlb->at(linear);
    cpu.monitor.physical = (entry.physical | (linear & 0xFFF)) & ~uint64_t{Monitor::line - 1};
    cpu.monitor.armed = true;
    cpu.monitor.seen = contents(cpu);
}

void mwait(Cpu& cpu, const Insn&) {
    if (cpu.cpl != 0) raise_ud();
    if (cpu.gpr[RCX] & 0xFFFFFFFF) raise_gp();
    if (!std::exchange(cpu.monitor.armed, false) || contents(cpu) != cpu.monitor.seen) return;
    cpu.activity = Activity::halted;
    cpu.monitor.waits = true;
}

bool monitor_ends(Cpu& cpu) {
    return cpu.monitor.waits && contents(cpu) != cpu.monitor.seen;
}

}  // namespace viv::soft
