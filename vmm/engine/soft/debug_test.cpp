// The debug registers (SDM 3B, 17.2 and 17.3).
#include "vmm/engine/soft/test_machine.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

/// Real mode whose vector 1 halts at 2000h.
class DebugMachine : public TestMachine {
  public:
    DebugMachine() { memory.store(Gpa{4}, uint32_t{0x00002000}), memory.store(Gpa{0x2000}, uint8_t{0xF4}); }
    void go(std::initializer_list<uint8_t> bytes, uint64_t dr0, uint64_t dr7, uint64_t cr4 = 0, uint64_t flags = 2) {
        code(0x1000, bytes);
        start_real(0x1000);
        CpuState s = state();
        s.dr = {dr0, 0, 0, 0};
        s.dr7 = dr7 | 0x400;
        s.cr4 = cr4;
        s.rflags = flags;
        s.gpr[RBX] = 0x3000;
        s.gpr[RDI] = 0x3000;
        REQUIRE(vcpu->set_state(s));
        REQUIRE(run(1000) == Stop::halted);
    }
    bool trapped() { return state().rip == 0x2001; }
    uint16_t return_ip() { return memory.load<uint16_t>(Gpa{0x7FFA}); }
    uint64_t hits() { return state().dr6 & 0xE00F; }
};

// DR7: breakpoint 0 on with the kind and length.
constexpr uint64_t watch_write1 = 1 | 1 << 16, watch_write2 = 1 | 1 << 16 | 1 << 18,
                   watch_access4 = 1 | 3 << 16 | 3 << 18, watch_io1 = 1 | 2 << 16, watch_code = 1;

}  // namespace

TEST_CASE("A data breakpoint traps behind the instruction that writes there") {
    DebugMachine m;
    m.go({0x90, 0x88, 0x07, 0x90, 0xF4}, 0x3000, watch_write1);  // nop; mov [bx], al; nop; hlt
    CHECK(m.trapped());
    CHECK(m.return_ip() == 0x1003);
    CHECK(m.hits() == 1);
}

TEST_CASE("A breakpoint for writes lets reads pass, one for accesses does not") {
    DebugMachine m;
    m.go({0x8A, 0x07, 0xF4}, 0x3000, watch_write1);  // mov al, [bx]; hlt
    CHECK(!m.trapped());
    m.go({0x8A, 0x47, 0x03, 0xF4}, 0x3000, watch_access4);  // mov al, [bx+3]; hlt
    CHECK(m.trapped());
    m.go({0x8A, 0x47, 0x04, 0xF4}, 0x3000, watch_access4);  // mov al, [bx+4]; hlt
    CHECK(!m.trapped());
}

TEST_CASE("A breakpoint is hit by each byte of its length, and by accesses that only touch it") {
    DebugMachine m;
    m.go({0x88, 0x47, 0x01, 0xF4}, 0x3001, watch_write2);  // mov [bx+1], al: the word at 3000h
    CHECK(m.trapped());
    m.go({0x66, 0x89, 0x47, 0xFD, 0xF4}, 0x3000, watch_write1);  // mov [bx-3], eax
    CHECK(m.trapped());
    m.go({0x66, 0x89, 0x47, 0xFC, 0xF4}, 0x3000, watch_write1);  // mov [bx-4], eax
    CHECK(!m.trapped());
}

TEST_CASE("A repeated string instruction traps behind the iteration that hits") {
    DebugMachine m;
    m.go({0xB9, 0x10, 0x00, 0xFC, 0xF3, 0xAA, 0xF4}, 0x3004, watch_write1);  // mov cx, 16; cld; rep stosb; hlt
    CHECK(m.trapped());
    CHECK(m.return_ip() == 0x1004);
    CHECK(m.state().gpr[RCX] == 11);
}

TEST_CASE("Pushes, stack reads and vector stores hit data breakpoints") {
    DebugMachine m;
    m.go({0x50, 0xF4}, 0x7FFE, watch_write1);  // push ax; hlt
    CHECK(m.trapped());
    m.go({0x0F, 0x11, 0x07, 0xF4}, 0x300F, watch_write1, 0x600);  // movups [bx], xmm0; hlt
    CHECK(m.trapped());
}

TEST_CASE("An I/O breakpoint traps behind the IN or OUT, with CR4.DE only") {
    DebugMachine m;
    m.go({0xE6, 0x80, 0x90, 0xF4}, 0x80, watch_io1, 8);  // out 80h, al; nop; hlt
    CHECK(m.trapped());
    CHECK(m.return_ip() == 0x1002);
    m.go({0xE6, 0x80, 0x90, 0xF4}, 0x80, watch_io1, 0);
    CHECK(!m.trapped());
    m.go({0xE6, 0x81, 0x90, 0xF4}, 0x80, watch_io1, 8);
    CHECK(!m.trapped());
}

TEST_CASE("A code breakpoint is a fault, which RF lets pass once") {
    DebugMachine m;
    m.go({0x90, 0x90, 0xF4}, 0x1001, watch_code);
    CHECK(m.trapped());
    CHECK(m.return_ip() == 0x1001);
    CHECK(m.hits() == 1);
    m.go({0x90, 0x90, 0xF4}, 0x1000, watch_code, 0, 0x10002);
    CHECK(!m.trapped());
}

TEST_CASE("A single step and a data breakpoint are one trap") {
    DebugMachine m;
    m.go({0x88, 0x07, 0xF4}, 0x3000, watch_write1, 0, 0x102);
    CHECK(m.trapped());
    CHECK(m.hits() == 0x4001);
}

TEST_CASE("DR7.GD guards the debug registers and is clear in the handler") {
    DebugMachine m;
    m.go({0x0F, 0x21, 0xC0, 0xF4}, 0, 0x2000);  // mov eax, dr0
    CHECK(m.trapped());
    CHECK(m.return_ip() == 0x1000);
    CHECK(m.hits() == 0x2000);
    CHECK((m.state().dr7 & 0x2000) == 0);
    m.go({0x90, 0xF4}, 0, 0x2000, 0, 0x102);  // a single step clears it too
    CHECK(m.trapped());
    CHECK((m.state().dr7 & 0x2000) == 0);
}

TEST_CASE("A breakpoint that is switched off leaves no trace") {
    DebugMachine m;
    // mov [bx], al with the breakpoint off, by way of mov dr7, eax (eax 0): nothing traps after that.
    m.go({0x66, 0x31, 0xC0, 0x0F, 0x23, 0xF8, 0x88, 0x07, 0xF4}, 0x3000, watch_write1);
    CHECK(!m.trapped());
}

TEST_CASE("DR6 tells which breakpoints this trap is of, and keeps its other bits") {
    DebugMachine m;
    // mov eax, 400Ah (BS, B3, B1); mov dr6, eax; mov [bx], al; hlt
    m.go({0x66, 0xB8, 0x0A, 0x40, 0, 0, 0x0F, 0x23, 0xF0, 0x88, 0x07, 0xF4}, 0x3000, watch_write1);
    CHECK(m.trapped());
    CHECK(m.hits() == 0x4001);
}

TEST_CASE("A breakpoint that MOV SS has put off and ICEBP are one trap") {
    DebugMachine m;
    // The handler counts in CL and returns.
    m.code(0x2000, {0xFE, 0xC1, 0xCF});
    m.memory.store(Gpa{0x3000}, uint16_t{0});
    m.go({0x31, 0xC9, 0x8E, 0x17, 0xF1, 0xF4}, 0x3000, watch_access4);  // xor cx, cx; mov ss, [bx]; icebp; hlt
    CHECK(m.state().rip == 0x1006);
    CHECK((m.state().gpr[RCX] & 0xFF) == 1);
    CHECK(m.hits() == 1);
    m.go({0x31, 0xC9, 0x8E, 0x17, 0xCD, 0x01, 0xF4}, 0x3000, watch_access4);  // int 1 is another
    CHECK((m.state().gpr[RCX] & 0xFF) == 2);
}
