// SYSCALL, SYSRET, SYSENTER, SYSEXIT and null selectors where vendors differ.
#include <array>

#include "vmm/engine/soft/long_machine.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

constexpr uint32_t star = 0xC0000081, lstar = 0xC0000082, cstar = 0xC0000083, sfmask = 0xC0000084;
constexpr uint64_t kernel_at = 0x21000, user_at = 0x22000;

class CallMachine : public PagedLongMachine {
  public:
    static constexpr uint16_t code32 = 0x2B, data32 = 0x33;  // SYSRET to 32 bits: STAR[63:48] and the next one

    explicit CallMachine(const std::string& model) : PagedLongMachine(model) {
        memory.store(Gpa{gdt + (code32 & ~7u)}, uint64_t{0x00CFFB000000FFFF});
        memory.store(Gpa{gdt + (data32 & ~7u)}, uint64_t{0x00CFF3000000FFFF});
    }
    static CpuState start(unsigned cpl) {
        CpuState s = PagedLongMachine::start(cpl);
        s.cr4 = 0x6A0;
        s.xcr0 = 1;
        s.msrs = {{0x174, code0},     {0x175, stack_top},
                  {0x176, kernel_at}, {star, uint64_t{code32} << 48 | uint64_t{code0} << 32 | kernel_at},
                  {lstar, 0x23000},   {cstar, kernel_at},
                  {sfmask, 0x100}};
        return s;
    }
    /// Ring 3 in compatibility mode.
    static CpuState start_compatible() {
        CpuState s = start(3);
        s.cs.selector = code32;
        s.cs.long_mode = false;
        s.cs.default_big = true;
        return s;
    }
    /// Ring 3 in protected mode without paging.
    static CpuState start_legacy(unsigned cpl) {
        CpuState s = cpl == 3 ? start_compatible() : start(0);
        s.cs.long_mode = false;
        s.cs.default_big = true;
        s.cr0 &= ~uint64_t{0x80000000};
        s.efer = 1;
        return s;
    }
};

}  // namespace

TEST_CASE("SYSCALL of 32-bit code is AMD's alone: to CSTAR in long mode, to STAR without") {
    CallMachine amd("opteron"), intel("core2");
    amd.code(kernel_at, {0xF4});
    amd.go(CallMachine::start_compatible(), {0x0F, 0x05});
    CHECK(amd.state().rip == kernel_at + 1);
    CHECK(amd.state().cs.long_mode);
    CHECK(amd.state().gpr[RCX] == CallMachine::code_at + 2);
    CHECK(amd.state().gpr[R11] == 2);
    amd.go(CallMachine::start_legacy(3), {0x0F, 0x05});
    CHECK(amd.state().rip == kernel_at + 1);
    CHECK_FALSE(amd.state().cs.long_mode);
    CHECK(amd.state().cs.selector == CallMachine::code0);
    CHECK(amd.state().gpr[RCX] == CallMachine::code_at + 2);
    intel.go(CallMachine::start_compatible(), {0x0F, 0x05});
    CHECK(intel.vector_taken() == 6);
}

TEST_CASE("SYSRET of 32-bit code returns to 32-bit code, on AMD with interrupts on in legacy mode") {
    CallMachine m("opteron");
    CpuState s = CallMachine::start_legacy(0);
    s.gpr[RCX] = user_at;
    m.code(user_at, {0xEB, 0xFE});
    m.go(s, {0x0F, 0x07});
    CHECK(m.stop == Stop::budget);
    CHECK(m.state().rip == user_at);
    CHECK(m.state().cs.selector == CallMachine::code32);
    CHECK(m.state().cs.dpl == 3);
    CHECK(m.state().ss.selector == CallMachine::data32);
    CHECK((m.state().rflags & 0x200) != 0);
}

TEST_CASE("SYSRET leaves base and attributes of SS alone on AMD, and finds a bad target only there") {
    for (const bool amd : {true, false}) {
        CallMachine m(amd ? "opteron" : "core2");
        CpuState s = CallMachine::start(0);
        s.ss.limit = 0xFFFF;
        s.gpr[RCX] = user_at;
        s.gpr[R11] = 2;
        m.code(user_at, {0xEB, 0xFE});
        m.go(s, {0x48, 0x0F, 0x07});
        CHECK(m.state().rip == user_at);
        CHECK(m.state().ss.limit == (amd ? 0xFFFF : 0xFFFFFFFF));
        CHECK(m.state().ss.dpl == 3);
        s.gpr[RCX] = 0x800000000000;
        m.go(s, {0x48, 0x0F, 0x07});
        CHECK(m.vector_taken() == 13);
        const auto pushed_cs = m.memory.load<uint64_t>(Gpa{m.state().gpr[RSP] + 16});
        CHECK((pushed_cs & 3) == (amd ? 3 : 0));
    }
}

TEST_CASE("SYSENTER and SYSEXIT are unknown to AMD's processors in long mode, and known without") {
    CallMachine amd("opteron"), intel("core2");
    for (CallMachine* m : {&amd, &intel}) {
        const bool is_amd = m == &amd;
        m->code(kernel_at, {0xF4});
        for (const bool compatible : {false, true}) {
            m->go(compatible ? CallMachine::start_compatible() : CallMachine::start(3), {0x0F, 0x34});
            CHECK(m->vector_taken() == (is_amd ? 6 : -1));
        }
        m->go(CallMachine::start_legacy(3), {0x0F, 0x34});
        CHECK(m->state().rip == kernel_at + 1);
        CpuState s = CallMachine::start(0);
        s.gpr[RDX] = user_at;
        s.gpr[RCX] = 0x30000;
        m->code(user_at, {0x0F, 0x0B});
        m->go(s, {0x48, 0x0F, 0x35});
        CHECK(m->vector_taken() == 6);
        const auto pushed_rip = m->memory.load<uint64_t>(Gpa{m->state().gpr[RSP]});
        CHECK(pushed_rip == (is_amd ? CallMachine::code_at : user_at));
    }
}

TEST_CASE("SYSCALL and SYSRET trap by the TF that they leave") {
    CallMachine m("core2");
    CpuState s = CallMachine::start(3);
    s.rflags |= 0x100;
    m.code(0x23000, {0xF4});
    m.go(s, {0x0F, 0x05});  // SFMASK clears TF
    CHECK(m.state().rip == 0x23001);
    s = CallMachine::start(0);
    s.gpr[RCX] = user_at;
    s.gpr[R11] = 0x102;
    m.code(user_at, {0x90, 0x90});
    m.go(s, {0x48, 0x0F, 0x07});
    CHECK(m.vector_taken() == 1);
    CHECK(m.memory.load<uint64_t>(Gpa{m.state().gpr[RSP]}) == user_at);
}

TEST_CASE("a null selector leaves the base of FS alone on AMD's old processors, and clears it elsewhere") {
    CallMachine amd("opteron"), intel("core2");
    for (CallMachine* m : {&amd, &intel}) {
        CpuState s = CallMachine::start(0);
        s.fs.base = 0x12345000;
        m->go(s, {0x8E, 0xE0});  // mov fs,eax
        CHECK(m->state().fs.selector == 0);
        CHECK(m->state().fs.base == (m == &amd ? 0x12345000 : 0));
    }
}

TEST_CASE("CPUID shows SYSCALL to 32-bit code on AMD, and the basic features once more") {
    CallMachine amd("opteron"), intel("core2");
    for (CallMachine* m : {&amd, &intel}) {
        CpuState s = CallMachine::start_legacy(0);
        s.gpr[RAX] = 0x80000001;
        m->go(s, {0x0F, 0xA2});
        const bool is_amd = m == &amd;
        CHECK((m->state().gpr[RDX] >> 11 & 1) == (is_amd ? 1 : 0));
        CHECK((m->state().gpr[RDX] & 1) == (is_amd ? 1 : 0));
    }
}

TEST_CASE("CPUID shows the last leaf for those beyond it on Intel's processors, zeros on AMD's, and zeros for gaps") {
    CallMachine amd("opteron"), intel("core2");
    const auto shown = [](CallMachine& m, uint32_t leaf) {
        CpuState s = CallMachine::start(0);
        s.gpr[RAX] = leaf;
        s.gpr[RCX] = 7;
        m.go(s, {0x0F, 0xA2});
        const auto& gpr = m.state().gpr;
        return std::array{gpr[RAX], gpr[RBX], gpr[RCX], gpr[RDX]};
    };
    const std::array<uint64_t, 4> nothing{};
    CHECK(shown(amd, 0x12) == nothing);
    CHECK(shown(amd, 0x80000009) == nothing);
    CHECK(shown(intel, 0x80000009) == shown(intel, 0x12));
    CHECK(shown(intel, 0x80000005) == nothing);
    CallMachine modern("x86-64-v3");
    CHECK(shown(modern, 0x80000009) == shown(modern, 0xD));
    CHECK(shown(modern, 0xB) == std::array<uint64_t, 4>{0, 0, 7, 0});  // a level that there is not
}

TEST_CASE("AMD's performance counters are there and count nothing") {
    CallMachine amd("opteron"), intel("core2");
    for (CallMachine* m : {&amd, &intel}) {
        CpuState s = CallMachine::start(0);
        s.gpr[RCX] = 0xC0010004;
        s.gpr[RAX] = 5;
        m->go(s, {0x0F, 0x30, 0x0F, 0x32});  // wrmsr; rdmsr
        CHECK(m->vector_taken() == (m == &amd ? -1 : 13));
        if (m == &amd) CHECK(m->state().gpr[RAX] == 0);
    }
}
