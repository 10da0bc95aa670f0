#include <array>

#include "vmm/engine/soft/soft_engine.hpp"
#include "vmm/engine/soft/test_machine.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

constexpr uint64_t gdt = 0x5000, idt = 0x6000, tss = 0x7000, handlers = 0xA000, tables = 0x10000;
constexpr uint16_t code0 = 0x08, data0 = 0x10, code3 = 0x1B, data3 = 0x23, tss_selector = 0x28, gate_selector = 0x30,
                   tss2_selector = 0x38;

uint64_t descriptor(uint32_t base, uint32_t limit, uint64_t access, uint64_t flags) {
    return (limit & 0xFFFF) | uint64_t{base & 0xFFFFFF} << 16 | access << 40 | uint64_t{limit >> 16 & 0xF} << 48 |
           flags << 52 | uint64_t{base >> 24} << 56;
}

/// 32-bit protected mode with flat segments, a TSS, and a handler for each vector that halts at handlers + 16 * vector.
class ProtectedMachine : public TestMachine {
  public:
    ProtectedMachine() {
        memory.store(Gpa{gdt + code0}, descriptor(0, 0xFFFFF, 0x9B, 0xC));
        memory.store(Gpa{gdt + data0}, descriptor(0, 0xFFFFF, 0x93, 0xC));
        memory.store(Gpa{gdt + (code3 & ~7u)}, descriptor(0, 0xFFFFF, 0xFB, 0xC));
        memory.store(Gpa{gdt + (data3 & ~7u)}, descriptor(0, 0xFFFFF, 0xF3, 0xC));
        memory.store(Gpa{gdt + tss_selector}, descriptor(tss, 0x67 + 0x2001, 0x8B, 0));
        for (uint64_t vector = 0; vector < 256; ++vector) {
            set_gate(static_cast<uint8_t>(vector), handlers + 16 * vector, vector == 0x80 ? 3 : 0);
            memory.store(Gpa{handlers + 16 * vector}, uint8_t{0xF4});
        }
        memory.store(Gpa{tss + 4}, uint32_t{0x9000});
        memory.store(Gpa{tss + 8}, uint32_t{data0});
        memory.store(Gpa{tss + 0x66}, uint16_t{0x68});
    }
    void set_gate(uint8_t vector, uint64_t target, uint64_t dpl) {
        memory.store(Gpa{idt + vector * 8u}, (target & 0xFFFF) | uint64_t{code0} << 16 | (0x8E00 | dpl << 13) << 32 |
                                                 (target >> 16 & 0xFFFF) << 48);
    }
    CpuState start(unsigned cpl, uint64_t eip) {
        CpuState s = reset_state(true);
        s.cr0 = 0x33;
        s.rip = eip;
        const auto dpl = static_cast<uint8_t>(cpl);
        s.cs = {.selector = cpl ? code3 : code0, .limit = 0xFFFFFFFF, .type = 11, .dpl = dpl, .default_big = true};
        s.ss = {.selector = cpl ? data3 : data0, .limit = 0xFFFFFFFF, .type = 3, .dpl = dpl, .default_big = true};
        s.ds = s.es = s.ss;
        s.gpr[RSP] = cpl ? 0x8800 : 0x9000;
        s.gdtr = {gdt, 0xFF};
        s.idtr = {idt, 0x7FF};
        s.tr = {.selector = tss_selector, .base = tss, .limit = 0x67 + 0x2001, .type = 11, .code_or_data = false};
        return s;
    }
    void go(const CpuState& s) {
        REQUIRE(vcpu->set_state(s));
        stop = run();
    }
    /// The vector whose handler halted; -1 when none did.
    int vector_taken() {
        const uint64_t at = state().rip - 1;
        if (stop != Stop::halted || at < handlers || at >= handlers + 4096) return -1;
        return static_cast<int>((at - handlers) / 16);
    }
    uint32_t stack(unsigned slot) { return memory.load<uint32_t>(Gpa{state().gpr[RSP] + 4 * slot}); }

    /// Identity page tables of 4 KiB pages for the first 4 MiB, all for user and writable.
    void map_identity() {
        memory.store(Gpa{tables}, uint32_t{tables + 0x1000} | 7);
        for (uint32_t page = 0; page < 1024; ++page) set_page(page, 7);
    }
    void set_page(uint32_t page, uint32_t rights) {
        memory.store(Gpa{tables + 0x1000 + 4 * page}, page << 12 | rights);
    }
    uint32_t page(uint32_t number) { return memory.load<uint32_t>(Gpa{tables + 0x1000 + 4 * number}); }
    CpuState start_paged(unsigned cpl, uint64_t eip) {
        map_identity();
        CpuState s = start(cpl, eip);
        s.cr0 |= 0x80010000;
        s.cr3 = tables;
        return s;
    }

    Stop stop = Stop::budget;
};

/// 64-bit mode at ring 0 with the first 2 MiB mapped to themselves for all rings, and a handler of #GP that halts.
class LongMachine : public TestMachine {
  public:
    static constexpr uint64_t code_at = 0x4000, stack_top = 0x9000, gp_handler = 0xB000;
    static constexpr uint16_t user_data = 0x1B, user_code = 0x23, system_selector = 0x28;

    LongMachine() {
        memory.store(Gpa{0x1000}, uint64_t{0x2007});
        memory.store(Gpa{0x2000}, uint64_t{0x3007});
        memory.store(Gpa{0x3000}, uint64_t{0x87});
        memory.store(Gpa{gdt + code0}, descriptor(0, 0xFFFFF, 0x9B, 0xA));
        memory.store(Gpa{gdt + data0}, descriptor(0, 0xFFFFF, 0x93, 0xC));
        memory.store(Gpa{gdt + (user_data & ~7u)}, descriptor(0, 0xFFFFF, 0xF3, 0xC));
        memory.store(Gpa{gdt + (user_code & ~7u)}, descriptor(0, 0xFFFFF, 0xFB, 0xA));
        memory.store(Gpa{idt + 13 * 16}, (gp_handler & 0xFFFF) | uint64_t{code0} << 16 | uint64_t{0x8E00} << 32);
        memory.store(Gpa{gp_handler}, uint8_t{0xF4});
    }
    static CpuState start() {
        CpuState s = reset_state(true);
        s.cr0 = 0x80000033;
        s.cr3 = 0x1000;
        s.cr4 = 0x20;
        s.efer = 0x500;
        s.cs = {.selector = code0, .limit = 0xFFFFFFFF, .type = 11, .long_mode = true};
        s.ss = {.selector = data0, .limit = 0xFFFFFFFF, .type = 3, .default_big = true};
        s.ds = s.es = s.fs = s.gs = s.ss;
        s.rip = code_at;
        s.gpr[RSP] = stack_top;
        s.gdtr = {gdt, 0xFF};
        s.idtr = {idt, 0xFFF};
        return s;
    }
};

}  // namespace

TEST_CASE("An interrupt from ring 3 takes the stack of the TSS and pushes the old one") {
    ProtectedMachine m;
    m.code(0x1000, {0xCD, 0x80});
    m.go(m.start(3, 0x1000));
    CHECK(m.vector_taken() == 0x80);
    CHECK(m.state().cs.selector == code0);
    CHECK(m.state().gpr[RSP] == 0x9000 - 20);
    CHECK(m.stack(0) == 0x1002);
    CHECK(m.stack(1) == code3);
    CHECK(m.stack(3) == 0x8800);
    CHECK(m.stack(4) == data3);
}

TEST_CASE("A gate's privilege is checked, with the vector in the error code") {
    ProtectedMachine m;
    m.code(0x1000, {0xCD, 0x21});
    m.go(m.start(3, 0x1000));
    CHECK(m.vector_taken() == 13);
    CHECK(m.stack(0) == 0x21 * 8 + 2);
    CHECK(m.stack(1) == 0x1000);
}

TEST_CASE("Privileged instructions and ports are refused to ring 3") {
    ProtectedMachine m;
    m.code(0x1000, {0xF4});
    m.go(m.start(3, 0x1000));
    CHECK(m.vector_taken() == 13);
    m.memory.store(Gpa{tss + 0x68 + 0x60 / 8}, uint16_t{1});
    m.code(0x1000, {0xE4, 0x60});
    m.go(m.start(3, 0x1000));
    CHECK(m.vector_taken() == 13);
    // With the port's bit clear in the map it is allowed.
    m.memory.store(Gpa{tss + 0x68 + 0x60 / 8}, uint16_t{0});
    m.on_port_read = [](uint16_t) { return uint64_t{0x5A}; };
    m.code(0x1000, {0xE4, 0x60, 0xCD, 0x80});
    m.go(m.start(3, 0x1000));
    CHECK(m.vector_taken() == 0x80);
    CHECK((m.state().gpr[RAX] & 0xFF) == 0x5A);
}

TEST_CASE("A page fault tells its address and why") {
    ProtectedMachine m;
    CpuState s = m.start_paged(3, 0x1000);
    m.set_page(0x200, 0);
    m.code(0x1000, {0xA1, 0x34, 0x00, 0x20, 0x00});  // mov eax, [200034h]
    m.go(s);
    CHECK(m.vector_taken() == 14);
    CHECK(m.state().cr2 == 0x200034);
    CHECK(m.stack(0) == 4);  // user, not present
    m.set_page(0x200, 5);
    m.code(0x1000, {0xA3, 0x34, 0x00, 0x20, 0x00});  // mov [200034h], eax
    m.go(s);
    CHECK(m.vector_taken() == 14);
    CHECK(m.stack(0) == 7);  // user, write, present
    m.set_page(0x200, 3);
    m.code(0x1000, {0xA1, 0x34, 0x00, 0x20, 0x00});
    m.go(s);
    CHECK(m.stack(0) == 5);  // a supervisor page
}

TEST_CASE("Accessed and dirty bits follow reads and writes") {
    ProtectedMachine m;
    const CpuState s = m.start_paged(0, 0x1000);
    m.code(0x1000, {0xA1, 0, 0, 0x20, 0, 0xF4});
    m.go(s);
    CHECK((m.page(0x200) & 0x60) == 0x20);
    m.code(0x1000, {0xA3, 0, 0, 0x20, 0, 0xF4});
    m.go(s);
    CHECK((m.page(0x200) & 0x60) == 0x60);
}

TEST_CASE("CR0.WP decides whether the supervisor may write read-only pages") {
    ProtectedMachine m;
    CpuState s = m.start_paged(0, 0x1000);
    m.set_page(0x200, 5);
    m.code(0x1000, {0xA3, 0, 0, 0x20, 0, 0xF4});
    m.go(s);
    CHECK(m.vector_taken() == 14);
    CHECK(m.stack(0) == 3);
    s.cr0 &= ~uint64_t{0x10000};
    m.go(s);
    CHECK(m.vector_taken() == -1);
}

TEST_CASE("SMEP and SMAP keep the supervisor off user pages, and AC opens the latter") {
    ProtectedMachine m;
    CpuState s = m.start_paged(0, 0x1000);
    for (uint32_t page = 0; page < 0x100; ++page) m.set_page(page, 3);
    m.code(0x1000, {0xB8, 0, 0, 0x20, 0, 0xFF, 0xE0});  // mov eax, 200000h; jmp eax
    m.code(0x200000, {0xF4});
    s.cr4 = 0x100000;
    m.go(s);
    CHECK(m.vector_taken() == 14);
    CHECK(m.stack(0) == 0x11);
    m.code(0x1000, {0xA1, 0, 0, 0x20, 0, 0xF4});
    s.cr4 = 0x200000;
    m.go(s);
    CHECK(m.vector_taken() == 14);
    CHECK(m.stack(0) == 1);
    m.code(0x1000, {0x0F, 0x01, 0xCB, 0xA1, 0, 0, 0x20, 0, 0x0F, 0x01, 0xCA, 0xF4});  // stac, clac
    m.go(s);
    CHECK(m.vector_taken() == -1);
}

TEST_CASE("A changed page table counts after INVLPG") {
    ProtectedMachine m;
    const CpuState s = m.start_paged(0, 0x1000);
    m.memory.store(Gpa{0x200000}, uint8_t{1});
    m.memory.store(Gpa{0x201000}, uint8_t{2});
    // mov al,[200000h]; mov dword [table entry], 201007h; invlpg [200000h]; mov ah,[200000h]; hlt
    m.code(0x1000, {0xA0, 0,    0,    0x20, 0, 0xC7, 0x05, 0x00, 0x18, 0x01, 0x00, 0x07, 0x10, 0x20, 0x00,
                    0x0F, 0x01, 0x3D, 0,    0, 0x20, 0,    0x8A, 0x25, 0,    0,    0x20, 0,    0xF4});
    m.go(s);
    CHECK((m.state().gpr[RAX] & 0xFFFF) == 0x0201);
}

TEST_CASE("A fault while delivering a fault is a double fault, and the third one shuts down") {
    ProtectedMachine m;
    m.code(0x1000, {0x0F, 0x0B});  // ud2
    m.memory.store(Gpa{idt + 6 * 8}, uint64_t{0});
    m.go(m.start(0, 0x1000));
    CHECK(m.vector_taken() == 13);  // no gate: #GP, which #UD does not turn into a double fault
    m.memory.store(Gpa{idt + 13 * 8}, uint64_t{0});
    m.go(m.start(0, 0x1000));
    CHECK(m.vector_taken() == 8);
    m.memory.store(Gpa{idt + 8 * 8}, uint64_t{0});
    m.go(m.start(0, 0x1000));
    CHECK(m.stop == Stop::shutdown);
}

TEST_CASE("A call gate into ring 0 copies its parameters") {
    ProtectedMachine m;
    m.memory.store(Gpa{gdt + gate_selector},
                   uint64_t{0x2000} | uint64_t{code0} << 16 | uint64_t{2} << 32 | uint64_t{0xEC} << 40);
    m.code(0x1000, {0x6A, 0x11, 0x6A, 0x22, 0x9A, 0, 0, 0, 0, 0x33, 0x00, 0xCD, 0x80});
    m.code(0x2000, {0x8B, 0x44, 0x24, 0x08, 0xCA, 0x08, 0x00});  // mov eax,[esp+8]; retf 8
    m.go(m.start(3, 0x1000));
    CHECK(m.vector_taken() == 0x80);
    CHECK(m.state().gpr[RAX] == 0x22);
    CHECK(m.stack(3) == 0x8800);  // the outer stack, its parameters released
    CHECK(m.stack(1) == code3);
}

TEST_CASE("A far jump to a TSS switches tasks and IRET with NT comes back") {
    ProtectedMachine m;
    constexpr uint64_t tss2 = 0xC000;
    m.memory.store(Gpa{gdt + tss2_selector}, descriptor(tss2, 0x67, 0x89, 0));
    m.memory.store(Gpa{tss2 + 0x20}, uint32_t{0x2000});
    m.memory.store(Gpa{tss2 + 0x24}, uint32_t{2});
    m.memory.store(Gpa{tss2 + 0x28}, uint32_t{0x77});
    m.memory.store(Gpa{tss2 + 0x38}, uint32_t{0x8400});
    for (unsigned n = 0; n < 6; ++n) m.memory.store(Gpa{tss2 + 0x48 + 4 * n}, uint32_t{n == 1 ? code0 : data0});
    m.code(0x1000, {0x9A, 0, 0, 0, 0, 0x38, 0x00, 0x90, 0xF4});  // call the task; nop; hlt
    m.code(0x2000, {0x89, 0xC3, 0xCF});                          // mov ebx, eax; iret
    CpuState s = m.start(0, 0x1000);
    s.gpr[RAX] = 0x11;
    m.go(s);
    CHECK(m.stop == Stop::halted);
    CHECK(m.state().rip == 0x1009);
    CHECK(m.state().gpr[RAX] == 0x11);
    CHECK(m.memory.load<uint32_t>(Gpa{tss2 + 0x34}) == 0x77);  // EBX of the other task
    CHECK(m.state().tr.selector == tss_selector);
    CHECK((m.state().cr0 & 8) != 0);
}

TEST_CASE("Virtual-8086 mode sends INT n with IOPL below 3 to the monitor") {
    ProtectedMachine m;
    m.code(0x21000, {0xB8, 0x34, 0x12, 0xCD, 0x21});
    CpuState s = m.start(0, 0x1000);
    // The monitor enters by IRETD with VM set.
    m.code(0x1000, {0xCF});
    const uint32_t frame[] = {0x1000, 0x2000, 0x20002, 0x100, 0x3000, 0x10, 0x20, 0x30, 0x40};
    for (unsigned n = 0; n < 9; ++n) m.memory.store(Gpa{0x8F00 + 4 * n}, frame[n]);
    s.gpr[RSP] = 0x8F00;
    m.go(s);
    CHECK(m.vector_taken() == 13);
    CHECK((m.state().gpr[RAX] & 0xFFFF) == 0x1234);
    CHECK(m.stack(1) == 0x1003);
    CHECK((m.stack(3) & 0x20000) != 0);
    CHECK(m.stack(6) == 0x10);  // ES of the interrupted code
}

TEST_CASE("The trap flag stops after each instruction, and tells so in DR6") {
    ProtectedMachine m;
    m.code(0x1000, {0x40, 0x40, 0x40});
    CpuState s = m.start(0, 0x1000);
    s.rflags |= 0x100;
    m.go(s);
    CHECK(m.vector_taken() == 1);
    CHECK(m.stack(0) == 0x1001);
    CHECK((m.state().dr6 & 0x4000) != 0);
    CHECK(m.state().gpr[RAX] == 1);
}

TEST_CASE("An instruction breakpoint faults before its instruction") {
    ProtectedMachine m;
    m.code(0x1000, {0x40, 0x40, 0x40});
    CpuState s = m.start(0, 0x1000);
    s.dr[0] = 0x1002;
    s.dr7 = 0x402;
    m.go(s);
    CHECK(m.vector_taken() == 1);
    CHECK(m.stack(0) == 0x1002);
    CHECK((m.state().dr6 & 1) != 0);
}

TEST_CASE("An NMI is taken with interrupts off, and a second one only after IRET") {
    ProtectedMachine m;
    m.code(0x1000, {0x90, 0xF4});
    REQUIRE(m.vcpu->set_state(m.start(0, 0x1000)));
    m.vcpu->inject_nmi();
    m.stop = m.run();
    CHECK(m.vector_taken() == 2);
    m.vcpu->inject_nmi();
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().nmi_pending);
}

TEST_CASE("Of NMIs that come at once two are taken, of those that come during one a single one more") {
    ProtectedMachine m;
    constexpr uint64_t handler = handlers + 2 * 16;
    m.code(0x1000, {0x41, 0xF4, 0xEB, 0xFC});  // inc ecx; hlt; jmp back
    m.code(handler, {0x43, 0xCF});             // inc ebx; iretd
    REQUIRE(m.vcpu->set_state(m.start(0, 0x1000)));
    REQUIRE(m.run() == Stop::halted);
    const uint64_t taken = m.state().gpr[RBX];
    for (const unsigned sent : {1u, 2u, 3u, 300u}) {
        const uint64_t before = m.state().gpr[RBX];
        for (unsigned n = 0; n < sent; ++n) m.vcpu->inject_nmi();
        REQUIRE(m.run() == Stop::halted);
        CHECK(m.state().gpr[RBX] == before + std::min(sent, 2u));
    }
    CHECK(m.state().gpr[RBX] == taken + 7);
    m.code(handler, {0x43, 0xF4, 0xCF});  // inc ebx; hlt; iretd
    m.vcpu->inject_nmi();
    REQUIRE(m.run() == Stop::halted);
    for (unsigned n = 0; n < 3; ++n) m.vcpu->inject_nmi();
    m.code(handler, {0x43, 0xCF});
    CpuState s = m.state();
    s.rip = handler + 1;
    s.activity = Activity::running;
    REQUIRE(m.vcpu->set_state(s));
    REQUIRE(m.run() == Stop::halted);
    CHECK(m.state().gpr[RBX] == taken + 9);
}

TEST_CASE("An NMI that came during another one is taken right after its IRET, also into a loop") {
    ProtectedMachine m;
    constexpr uint64_t handler = handlers + 2 * 16;
    m.code(0x1000, {0x41, 0x90, 0xEB, 0xFC});  // inc ecx; nop; jmp back
    m.code(handler, {0x43, 0xF4, 0xCF});       // inc ebx; hlt; iretd
    CpuState s = m.start(0, 0x1000);
    REQUIRE(m.vcpu->set_state(s));
    // Often enough for the way from IRET to the loop to be known.
    for (uint64_t round = 1; round <= 20; ++round) {
        m.run(100);
        m.vcpu->inject_nmi();
        REQUIRE(m.run(100) == Stop::halted);
        m.vcpu->inject_nmi();
        s = m.state();
        s.activity = Activity::running;
        REQUIRE(m.vcpu->set_state(s));
        REQUIRE(m.run(50) == Stop::halted);  // the second one, out of the first one's IRET
        CHECK(m.state().gpr[RBX] == 2 * round);
        s = m.state();
        s.activity = Activity::running;
        REQUIRE(m.vcpu->set_state(s));
    }
}

TEST_CASE("Segment limits are checked with SS telling #SS and others #GP") {
    ProtectedMachine m;
    CpuState s = m.start(0, 0x1000);
    s.ds.limit = 0xFFF;
    m.code(0x1000, {0xA1, 0xFD, 0x0F, 0, 0});  // 4 bytes, the last beyond
    m.go(s);
    CHECK(m.vector_taken() == 13);
    s.ds.limit = 0x1000;
    m.code(0x1000, {0xA1, 0xFD, 0x0F, 0, 0, 0xF4});
    m.go(s);
    CHECK(m.vector_taken() == -1);
    s.ss.limit = 0x8FFF;
    s.gpr[RSP] = 0x9002;
    m.code(0x1000, {0x50});
    m.go(s);
    // The handler's pushes would not fit either: a double fault, and no stack for it.
    CHECK(m.stop == Stop::shutdown);
}

TEST_CASE("The local APIC's timer interrupts when its time has come") {
    ProtectedMachine m;
    // mov dword [FEE000F0h], 1FFh; LVT timer = 40h; divide by 1; count = 1000; sti; hlt
    m.code(0x1000, {0xC7, 0x05, 0xF0, 0,    0xE0, 0xFE, 0xFF, 0x01, 0,    0,    0xC7, 0x05, 0x20, 0x03,
                    0xE0, 0xFE, 0x40, 0,    0,    0,    0xC7, 0x05, 0xE0, 0x03, 0xE0, 0xFE, 0x0B, 0,
                    0,    0,    0xC7, 0x05, 0x80, 0x03, 0xE0, 0xFE, 0xE8, 0x03, 0,    0,    0xFB, 0xF4});
    REQUIRE(m.vcpu->set_state(m.start(0, 0x1000)));
    Stop stop = m.run();
    while (stop == Stop::kicked) stop = m.run();
    CHECK(stop == Stop::halted);
    CHECK(m.state().rip == 0x102A);
    const auto deadline = m.clock.next_deadline();
    REQUIRE(deadline);
    m.clock.skip_to(*deadline);
    m.clock.run_due();
    m.stop = m.run();
    CHECK(m.vector_taken() == 0x40);
}

TEST_CASE("SYSCALL and SYSRET go to ring 0 and back in 64-bit code") {
    TestMachine m;
    m.memory.store(Gpa{0x1000}, uint64_t{0x2007});
    m.memory.store(Gpa{0x2000}, uint64_t{0x3007});
    m.memory.store(Gpa{0x3000}, uint64_t{0x87});
    m.code(0x4000, {0x0F, 0x05, 0x90, 0xF4});              // syscall; nop; hlt (which ring 3 may not)
    m.code(0x5000, {0x48, 0x89, 0xCB, 0x48, 0x0F, 0x07});  // mov rbx, rcx; sysret
    CpuState s = reset_state(true);
    s.cr0 = 0x80000033;
    s.cr3 = 0x1000;
    s.cr4 = 0x20;
    s.efer = 0x501;
    s.cs = {.selector = 0x33, .limit = 0xFFFFFFFF, .type = 11, .dpl = 3, .long_mode = true};
    s.ss = {.selector = 0x2B, .limit = 0xFFFFFFFF, .type = 3, .dpl = 3, .default_big = true};
    s.rip = 0x4000;
    s.rflags = 0x202;
    s.idtr = {0, 0};
    s.msrs = {{0xC0000081, 0x0023001000000000}, {0xC0000082, 0x5000}, {0xC0000084, 0x200}};
    REQUIRE(m.vcpu->set_state(s));
    m.run(3);
    CHECK(m.state().rip == 0x4002);
    CHECK(m.state().cs.selector == 0x33);
    CHECK(m.state().cs.dpl == 3);
    CHECK(m.state().gpr[RBX] == 0x4002);
    CHECK((m.state().rflags & 0x200) != 0);
    CHECK(m.run(100) == Stop::shutdown);
}

TEST_CASE("IRETQ to ring 3 makes inner data segments null and keeps their bases") {
    LongMachine m;
    m.code(LongMachine::code_at, {0x48, 0xCF});
    CpuState s = LongMachine::start();
    s.gs.base = 0x123456789;
    s.fs = {.selector = LongMachine::user_data, .base = 0x77, .limit = 0xFFFFFFFF, .type = 3, .dpl = 3};
    s.gpr[RSP] -= 40;
    const std::array<uint64_t, 5> frame{0x4100, LongMachine::user_code, 2, 0x8800, LongMachine::user_data};
    m.memory.store(Gpa{s.gpr[RSP]}, frame);
    REQUIRE(m.vcpu->set_state(s));
    m.run(1);
    const CpuState after = m.state();
    CHECK(after.rip == 0x4100);
    CHECK(after.cs.dpl == 3);
    CHECK(after.gs.selector == 0);
    CHECK(after.gs.unusable);
    CHECK(after.gs.base == 0x123456789);
    CHECK(after.fs.selector == LongMachine::user_data);
    CHECK(after.ds.unusable);
}

TEST_CASE("LTR and LLDT refuse a 64-bit base that is not canonical") {
    const auto loads = [](uint8_t modrm, uint64_t access, uint32_t upper) {
        LongMachine m;
        m.code(LongMachine::code_at, {0x0F, 0x00, modrm, 0xF4});
        m.memory.store(Gpa{gdt + LongMachine::system_selector}, descriptor(0x7000, 0x67, access, 0));
        m.memory.store(Gpa{gdt + LongMachine::system_selector + 8}, uint64_t{upper});
        CpuState s = LongMachine::start();
        s.gpr[RAX] = LongMachine::system_selector;
        REQUIRE(m.vcpu->set_state(s));
        m.run(10);
        const CpuState after = m.state();
        if (after.rip == LongMachine::code_at + 4) return true;
        CHECK(after.rip == LongMachine::gp_handler + 1);
        CHECK(m.memory.load<uint64_t>(Gpa{after.gpr[RSP]}) == LongMachine::system_selector);
        return false;
    };
    constexpr uint8_t ltr = 0xD8, lldt = 0xD0;
    constexpr uint64_t available_tss = 0x89, ldt = 0x82;
    CHECK(loads(ltr, available_tss, 0x00007FFF));
    CHECK(loads(ltr, available_tss, 0xFFFF8000));
    CHECK_FALSE(loads(ltr, available_tss, 0x00008000));
    CHECK(loads(lldt, ldt, 0xFFFF8000));
    CHECK_FALSE(loads(lldt, ldt, 0xFFAAAAAA));
}

TEST_CASE("Code that another page took the place of runs as soon as its translation is forgotten") {
    const std::array<std::array<uint8_t, 7>, 2> ways{{
        {0x0F, 0x01, 0x3D, 0x00, 0x00, 0x03, 0x00},  // invlpg [30000h]
        {0x0F, 0x20, 0xD8, 0x0F, 0x22, 0xD8, 0x90},  // mov eax, cr3; mov cr3, eax; nop
    }};
    for (const auto& way : ways) {
        ProtectedMachine m;
        // mov ecx, 3; again: call 30000h; dec ecx; jnz again; mov ebx, eax; mov dword [the page's entry], 31007h
        m.code(0x20000, {0xB9, 3,    0,    0,    0,    0xE8, 0xF6, 0xFF, 0,    0,    0x49, 0x75, 0xF8,
                         0x89, 0xC3, 0xC7, 0x05, 0xC0, 0x10, 0x01, 0x00, 0x07, 0x10, 0x03, 0x00});
        for (size_t n = 0; n < way.size(); ++n) m.memory.store(Gpa{0x20019 + n}, way[n]);
        m.code(0x20020, {0xE8, 0xDB, 0xFF, 0, 0, 0xF4});  // call 30000h; hlt
        m.code(0x30000, {0xB8, 1, 0, 0, 0, 0xC3});        // mov eax, 1; ret
        m.code(0x31000, {0xB8, 2, 0, 0, 0, 0xC3});        // mov eax, 2; ret
        m.go(m.start_paged(0, 0x20000));
        CHECK(m.state().gpr[RBX] == 1);
        CHECK(m.state().gpr[RAX] == 2);
    }
}
