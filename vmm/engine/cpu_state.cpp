#include "vmm/engine/cpu_state.hpp"

#include <fmt/format.h>

namespace viv {
namespace {
std::string segment_text(const char* name, const SegmentRegister& s) {
    return fmt::format("{:<4} {:04x} base {:016x} limit {:08x} type {:x} dpl {}{}{}{}{}\n", name, s.selector, s.base,
                       s.limit, s.type, s.dpl, s.present ? " present" : "", s.long_mode ? " long" : "",
                       s.default_big ? " big" : "", s.unusable ? " unusable" : "");
}
}  // namespace

CpuState reset_state(bool bootstrap) {
    CpuState state;
    if (!bootstrap) {
        state.apic_base &= ~uint64_t{0x100};  // BSP flag, SDM 3A 11.4.4
        state.activity = Activity::wait_for_sipi;
    }
    return state;
}

std::string to_text(const CpuState& s) {
    std::string text;
    constexpr const char* names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                     "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    for (size_t i = 0; i < 16; ++i)
        text += fmt::format("{:<3} {:016x}{}", names[i], s.gpr[i], i % 4 == 3 ? "\n" : "  ");
    text += fmt::format("rip {:016x}  rflags {:08x}  cr0 {:08x}  cr2 {:x}  cr3 {:x}  cr4 {:x}  efer {:x}\n", s.rip,
                        s.rflags, s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
    text += segment_text("cs", s.cs) + segment_text("ds", s.ds) + segment_text("es", s.es) + segment_text("fs", s.fs) +
            segment_text("gs", s.gs) + segment_text("ss", s.ss) + segment_text("ldtr", s.ldtr) +
            segment_text("tr", s.tr);
    text += fmt::format("gdtr {:x}+{:x}  idtr {:x}+{:x}  activity {}\n", s.gdtr.base, s.gdtr.limit, s.idtr.base,
                        s.idtr.limit, static_cast<unsigned>(s.activity));
    return text;
}

}  // namespace viv
