#include "vmm/engine/soft/soft_engine.hpp"

#include <array>

#include "vmm/core/catch.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/test_machine.hpp"

using namespace viv;
using namespace viv::soft_test;

TEST_CASE("Real mode runs from a state and halts") {
    TestMachine m;
    // mov ax, 1234h; add ax, 1; mov [2000h], ax; hlt
    m.code(0x1000, {0xB8, 0x34, 0x12, 0x83, 0xC0, 0x01, 0xA3, 0x00, 0x20, 0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().gpr[RAX] == 0x1235);
    CHECK(m.memory.load<uint16_t>(Gpa{0x2000}) == 0x1235);
    CHECK(m.state().rip == 0x100A);
}

TEST_CASE("A loop counts its instructions") {
    TestMachine m;
    // mov cx, 1000; again: dec cx; jnz again; hlt
    m.code(0x1000, {0xB9, 0xE8, 0x03, 0x49, 0x75, 0xFD, 0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.vcpu->instructions() == 1 + 2000 + 1);
}

TEST_CASE("A budget is kept to the instruction") {
    TestMachine m;
    m.code(0x1000, {0x40, 0x40, 0x40, 0x40, 0x40, 0xEB, 0xF9});  // inc ax x5; jmp
    m.start_real(0x1000);
    CHECK(m.run(13) == Stop::budget);
    CHECK(m.vcpu->instructions() == 13);
    CHECK(m.state().gpr[RAX] == 11);
}

TEST_CASE("INT goes through the vector table and IRET comes back") {
    TestMachine m;
    m.memory.store(Gpa{0x21 * 4}, uint32_t{0x00002000});
    m.code(0x1000, {0xF9, 0xCD, 0x21, 0xF4});  // stc; int 21h; hlt
    m.code(0x2000, {0xB0, 0x42, 0xF8, 0xCF});  // mov al, 42h; clc; iret
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().gpr[RAX] == 0x42);
    CHECK((m.state().rflags & 1) == 1);
    CHECK(m.state().gpr[RSP] == 0x8000);
}

TEST_CASE("Code that is written over runs as written") {
    TestMachine m;
    // mov byte [target+1], 7; target: mov al, 1; hlt -- the store changes the very next instruction.
    m.code(0x1000, {0xC6, 0x06, 0x06, 0x10, 0x07, 0xB0, 0x01, 0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().gpr[RAX] == 7);
}

TEST_CASE("What a device writes into memory is executed as written") {
    TestMachine m;
    // again: mov al, 1; out 80h, al; jmp again -- the port's device changes the immediate.
    m.code(0x1000, {0xB0, 0x01, 0xE6, 0x80, 0x3C, 0x09, 0x75, 0xF8, 0xF4});
    m.on_port_write = [&](uint16_t, uint64_t) { m.memory.store(Gpa{0x1001}, uint8_t{9}); };
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK((m.state().gpr[RAX] & 0xFF) == 9);
}

TEST_CASE("Memory that a write takes away is gone for the next instruction") {
    struct Flash : TestMachine {
        Flash() : TestMachine(0x80000) {
            const auto store = memory.add_store(0x1000, "flash");
            REQUIRE(store);
            memory.bytes(*store)[0] = std::byte{0x5A};
            REQUIRE(memory.show(Gpa{0x80000}, 0x1000, *store, 0, GuestMemory::Kind::rom, "flash"));
        }
        void memory_write(Gpa address, uint8_t, uint64_t) override { memory.remove(address); }
        uint64_t memory_read(Gpa, uint8_t) override { return 0x80; }
    } m;
    // mov ax, 8000h; mov ds, ax; mov al, [0]; mov byte [0], 70h; mov ah, [0]; hlt
    m.code(0x1000, {0xB8, 0x00, 0x80, 0x8E, 0xD8, 0xA0, 0x00, 0x00, 0xC6, 0x06, 0x00, 0x00, 0x70, 0x8A, 0x26, 0x00,
                    0x00, 0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().gpr[RAX] == 0x805A);
}

TEST_CASE("REP MOVSB copies across pages and counts down") {
    TestMachine m;
    for (uint32_t n = 0; n < 0x3000; ++n) m.memory.store(Gpa{0x4000 + n}, static_cast<uint8_t>(n * 7));
    // mov si,4000h; mov di,8100h; mov cx,2800h; rep movsb; hlt
    m.code(0x1000, {0xBE, 0x00, 0x40, 0xBF, 0x00, 0x81, 0xB9, 0x00, 0x28, 0xF3, 0xA4, 0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().gpr[RCX] == 0);
    CHECK(m.state().gpr[RSI] == 0x6800);
    bool same = true;
    for (uint32_t n = 0; n < 0x2800; ++n) {
        same = same && m.memory.load<uint8_t>(Gpa{0x8100 + n}) == static_cast<uint8_t>(n * 7);
    }
    CHECK(same);
}

TEST_CASE("A division by zero is exception 0 at the instruction itself") {
    TestMachine m;
    m.memory.store(Gpa{0}, uint32_t{0x00002000});
    m.code(0x1000, {0x31, 0xC9, 0xF7, 0xF1, 0xF4});  // xor cx,cx; div cx
    m.code(0x2000, {0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.memory.load<uint16_t>(Gpa{0x7FFA}) == 0x1002);
}

TEST_CASE("The interrupt wire is taken after STI and one more instruction") {
    TestMachine m;
    m.memory.store(Gpa{0x20 * 4}, uint32_t{0x00002000});
    m.code(0x1000, {0xFB, 0x40, 0x40, 0xF4});  // sti; inc ax; inc ax
    m.code(0x2000, {0xF4});
    m.pic_vector = 0x20;
    m.start_real(0x1000);
    m.vcpu->set_intr(true);
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().gpr[RAX] == 1);
    CHECK(m.memory.load<uint16_t>(Gpa{0x7FFA}) == 0x1002);
}

TEST_CASE("With the A20 gate closed the second megabyte is the first") {
    TestMachine m;
    m.memory.store(Gpa{0x500}, uint8_t{1});
    m.memory.store(Gpa{0x100500}, uint8_t{2});
    // mov ax, FFFFh; mov ds, ax; mov al, [510h]; hlt
    m.code(0x1000, {0xB8, 0xFF, 0xFF, 0x8E, 0xD8, 0xA0, 0x10, 0x05, 0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK((m.state().gpr[RAX] & 0xFF) == 2);
    m.engine->set_a20(false);
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK((m.state().gpr[RAX] & 0xFF) == 1);
}

TEST_CASE("INIT and a start-up message start the second CPU at its page") {
    TestMachine m;
    auto made = m.engine->create_vcpu(VcpuId{1});
    REQUIRE(made);
    auto second = std::move(*made);
    REQUIRE(second->set_state(reset_state(false)));
    m.code(0x3000, {0xB8, 0x55, 0xAA, 0x2E, 0xA3, 0x00, 0x01, 0xF4});  // mov ax,AA55h; mov cs:[100h],ax; hlt
    CHECK(second->run(m, 1000) == Stop::halted);
    CHECK(second->instructions() == 0);
    // Big real mode reaches the local APIC: destination 1; INIT; start-up at page 3.
    m.code(0x1000, {0x66, 0xBB, 0x00, 0x03, 0xE0, 0xFE,                      // mov ebx, FEE00300h
                    0x67, 0x66, 0xC7, 0x43, 0x10, 0x00, 0x00, 0x00, 0x01,    // mov dword [ebx+10h], 01000000h
                    0x67, 0x66, 0xC7, 0x03, 0x00, 0x45, 0x00, 0x00,          // mov dword [ebx], 4500h
                    0x67, 0x66, 0xC7, 0x03, 0x03, 0x46, 0x00, 0x00, 0xF4});  // mov dword [ebx], 4603h; hlt
    m.start_real(0x1000);
    CpuState s = m.state();
    s.ds.limit = 0xFFFFFFFF;
    s.lapic.clear();
    REQUIRE(m.vcpu->set_state(s));
    CHECK(m.run() == Stop::halted);
    CHECK(second->run(m, 1000) == Stop::halted);
    CHECK(second->instructions() == 3);
    CHECK(m.memory.load<uint16_t>(Gpa{0x3100}) == 0xAA55);
}

TEST_CASE("x87 and SSE compute as the processor does, under the guest's rounding") {
    TestMachine m;
    m.memory.store(Gpa{0x2000}, 1.0);
    m.memory.store(Gpa{0x2008}, 3.0);
    m.memory.store(Gpa{0x2010}, uint16_t{0xC3F});  // truncate
    // fninit; fld qword [2000h]; fdiv qword [2008h]; fldcw [2010h]; fistp word [2020h]; fnstsw ax; hlt
    m.code(0x1000, {0xDB, 0xE3, 0xDD, 0x06, 0x00, 0x20, 0xDC, 0x36, 0x08, 0x20, 0xDD, 0x16, 0x28,
                    0x20, 0xD9, 0x2E, 0x10, 0x20, 0xDF, 0x1E, 0x20, 0x20, 0xDF, 0xE0, 0xF4});
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK(m.memory.load<double>(Gpa{0x2028}) == 1.0 / 3.0);
    CHECK(m.memory.load<uint16_t>(Gpa{0x2020}) == 0);
    CHECK((m.state().gpr[RAX] & 0x20) != 0);  // inexact
}

TEST_CASE("With CR0.TS set the first x87 instruction is #NM") {
    TestMachine m;
    m.memory.store(Gpa{7 * 4}, uint32_t{0x00002000});
    m.code(0x1000, {0xD9, 0xE8});
    m.code(0x2000, {0xF4});
    m.start_real(0x1000);
    CpuState s = m.state();
    s.cr0 |= 8;
    REQUIRE(m.vcpu->set_state(s));
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().rip == 0x2001);
    CHECK(m.memory.load<uint16_t>(Gpa{0x7FFA}) == 0x1000);
}

TEST_CASE("A state comes back as it was set") {
    TestMachine m;
    m.start_real(0x1000);
    CpuState s = m.state();
    for (size_t n = 0; n < 16; ++n) s.gpr[n] = 0x1111111111111111 * n;
    s.rflags = 0x8D7;
    s.dr = {1, 2, 3, 4};
    for (size_t n = 160; n < 416; ++n) s.xsave[n] = static_cast<uint8_t>(n);
    REQUIRE(m.vcpu->set_state(s));
    CHECK(m.state() == s);
}

TEST_CASE("When the code epochs run out they start again without losing the code") {
    TestMachine m;
    static_cast<soft::SoftEngine&>(*m.engine).blocks.epoch = 0xFFFFFFFD;
    // again: mov al, 1; out 80h, al; cmp al, 9; jne again -- the port's device changes the immediate, in the end to 9.
    m.code(0x1000, {0xB0, 0x01, 0xE6, 0x80, 0x3C, 0x09, 0x75, 0xF8, 0xF4});
    uint8_t value = 1;
    m.on_port_write = [&](uint16_t, uint64_t) { m.memory.store(Gpa{0x1001}, ++value); };
    m.start_real(0x1000);
    CHECK(m.run() == Stop::halted);
    CHECK((m.state().gpr[RAX] & 0xFF) == 9);
    CHECK(static_cast<soft::SoftEngine&>(*m.engine).blocks.epoch < 100);
}

TEST_CASE(
    "With CR0.NE clear an x87 exception waits for IRQ 13 in front of the next instruction, and IGNNE# lets it go") {
    TestMachine m;
    m.memory.store(Gpa{0x2000}, uint16_t{0x37B});  // division unmasked
    m.memory.store(Gpa{0x75 * 4}, uint32_t{0x00003000});
    // fninit; fldcw [2000h]; fld1; fldz; fdivp; fld1 (waits); hlt
    m.code(0x1000, {0xDB, 0xE3, 0xD9, 0x2E, 0x00, 0x20, 0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9, 0xD9, 0xE8, 0xF4});
    m.code(0x3000, {0xE6, 0xF0, 0xDB, 0xE2, 0xCF});  // out F0h, al; fnclex; iret
    std::vector<bool> ferr;
    bool ignne = false;
    m.on_x87_error = [&](bool pending) {
        ferr.push_back(pending);
        return ignne;
    };
    m.on_port_write = [&](uint16_t port, uint64_t) { ignne = ignne || port == 0xF0; };
    m.start_real(0x1000);
    CpuState s = m.state();
    s.rflags |= 0x200;
    REQUIRE(m.vcpu->set_state(s));
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().rip == 0x100C);
    CHECK(ferr == std::vector<bool>{false, true});
    m.pic_vector = 0x75;
    m.vcpu->set_intr(true);
    CHECK(m.run() == Stop::halted);
    CHECK(m.state().rip == 0x100F);
    CHECK(ferr == std::vector<bool>{false, true, false});
    CHECK(m.memory.load<uint16_t>(Gpa{0x7FFA}) == 0x100C);
}
