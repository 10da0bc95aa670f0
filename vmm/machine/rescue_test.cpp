// Instructions that some hosts' KVM cannot execute. On a full host the processor executes them, and the results are the
// same.
#include <bit>
#include <chrono>
#include <thread>

#include "vmm/engine/kvm/kvm_rig.hpp"
#include "vmm/engine/soft/soft_rescuer.hpp"

using namespace viv;
using namespace viv::testing;

#define VIV_RESCUE_RIG(rig) VIV_KVM_RIG(rig, 1, "max", make_soft_rescuer)

namespace {

/// Whether this host's KVM interprets kernel code, so that rescues must happen.
bool needs_rescue(Rig& rig) {
    for (const std::string& limit : rig.engine->limits()) {
        if (limit.find("interpret") != limit.npos) return true;
    }
    return false;
}

uint64_t rescues(Rig& rig, std::string_view mnemonic) {
    for (const auto& [name, count] : rig.engine->counters()) {
        if (name == "rescues." + std::string(mnemonic)) return count;
    }
    return 0;
}

CpuState run_to_end(Rig& rig, const CpuState& state) {
    CHECK(rig.run(state) == Stop::kicked);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    return *after;
}

}  // namespace

TEST_CASE("rescue: popcnt a thousand times in protected mode, counted by name") {
    VIV_RESCUE_RIG(rig);
    // mov ecx,1000; xor edx,edx; again: popcnt eax,ecx; add edx,eax; dec ecx; jnz again; out F4h,al
    rig.load(0x1000,
             {0xB9, 0xE8, 0x03, 0, 0, 0x31, 0xD2, 0xF3, 0x0F, 0xB8, 0xC1, 0x01, 0xC2, 0x49, 0x75, 0xF7, 0xE6, 0xF4});
    uint64_t expected = 0;
    for (unsigned n = 1; n <= 1000; ++n) expected += static_cast<uint64_t>(std::popcount(n));
    CHECK(run_to_end(rig, Rig::protected_mode()).gpr[RDX] == expected);
    CHECK(rescues(rig, "popcnt") == (needs_rescue(rig) ? 1000 : 0));
}

TEST_CASE("rescue: lock cmpxchg16b counts across 64 bits") {
    VIV_RESCUE_RIG(rig);
    // again: mov rax,[rsi]; mov rdx,[rsi+8]; mov rbx,rax; mov rcx,rdx; add rbx,1; adc rcx,0; lock cmpxchg16b [rsi];
    // jnz again; dec rdi; jnz again; out F4h,al
    rig.load(0x1000, {0x48, 0x8B, 0x06, 0x48, 0x8B, 0x56, 0x08, 0x48, 0x89, 0xC3, 0x48, 0x89,
                      0xD1, 0x48, 0x83, 0xC3, 0x01, 0x48, 0x83, 0xD1, 0x00, 0xF0, 0x48, 0x0F,
                      0xC7, 0x0E, 0x75, 0xE4, 0x48, 0xFF, 0xCF, 0x75, 0xDF, 0xE6, 0xF4});
    rig.memory.store<uint64_t>(Gpa{0x3000}, ~uint64_t{15});
    rig.memory.store<uint64_t>(Gpa{0x3008}, 5);
    CpuState state = rig.long_mode();
    state.gpr[RSI] = 0x3000;
    state.gpr[RDI] = 100;
    run_to_end(rig, state);
    CHECK(rig.memory.load<uint64_t>(Gpa{0x3000}) == 84);
    CHECK(rig.memory.load<uint64_t>(Gpa{0x3008}) == 6);
    CHECK(rescues(rig, "cmpxchg16b") == (needs_rescue(rig) ? 100 : 0));
}

TEST_CASE("rescue: SSE between registers keeps what KVM has in the others") {
    VIV_RESCUE_RIG(rig);
    // movups xmm7,[rsi]; movq xmm0,rax; paddq xmm0,xmm0; movq rbx,xmm0; cvtsi2sd xmm1,rax; mulsd xmm1,xmm1;
    // cvttsd2si rcx,xmm1; movups [rsi+16],xmm7; out F4h,al
    rig.load(0x1000, {0x0F, 0x10, 0x3E, 0x66, 0x48, 0x0F, 0x6E, 0xC0, 0x66, 0x0F, 0xD4, 0xC0, 0x66,
                      0x48, 0x0F, 0x7E, 0xC3, 0xF2, 0x48, 0x0F, 0x2A, 0xC8, 0xF2, 0x0F, 0x59, 0xC9,
                      0xF2, 0x48, 0x0F, 0x2C, 0xC9, 0x0F, 0x11, 0x7E, 0x10, 0xE6, 0xF4});
    rig.memory.store<uint64_t>(Gpa{0x3000}, 0x0123456789ABCDEF);
    rig.memory.store<uint64_t>(Gpa{0x3008}, 0xFEDCBA9876543210);
    CpuState state = rig.long_mode();
    state.gpr[RSI] = 0x3000;
    state.gpr[RAX] = 0x1234;
    const CpuState after = run_to_end(rig, state);
    CHECK(after.gpr[RBX] == 0x2468);
    CHECK(after.gpr[RCX] == 0x1234 * 0x1234);
    CHECK(rig.memory.load<uint64_t>(Gpa{0x3010}) == 0x0123456789ABCDEF);
    CHECK(rig.memory.load<uint64_t>(Gpa{0x3018}) == 0xFEDCBA9876543210);
}

TEST_CASE("rescue: x87 in real mode, and what it stores is noted as written") {
    VIV_RESCUE_RIG(rig);
    // fninit; fld1; fadd st,st; fistp word [3000h]; fldpi; fld1; fcompp; fnstsw ax; out F4h,al
    rig.load(0x1000, {0xDB, 0xE3, 0xD9, 0xE8, 0xD8, 0xC0, 0xDF, 0x1E, 0x00, 0x30,
                      0xD9, 0xEB, 0xD9, 0xE8, 0xDE, 0xD9, 0xDF, 0xE0, 0xE6, 0xF4});
    rig.engine->sync_dirty(Gpa{0});
    rig.memory.take_dirty(Gpa{0});
    const CpuState after = run_to_end(rig, Rig::real_mode());
    CHECK(rig.memory.load<uint16_t>(Gpa{0x3000}) == 2);
    CHECK((after.gpr[RAX] & 0x4700) == 0x0100);  // C0: 1 is less than pi
    rig.engine->sync_dirty(Gpa{0});
    CHECK(rig.memory.take_dirty(Gpa{0}).at(3));
}

TEST_CASE("rescue: xgetbv, xsave and xrstor") {
    VIV_RESCUE_RIG(rig);
    // xor ecx,ecx; xgetbv; mov r8d,eax; mov eax,3; xor edx,edx; movq xmm3,rbx; xsave [rsi]; pxor xmm3,xmm3;
    // xrstor [rsi]; movq rdi,xmm3; out F4h,al
    rig.load(0x1000, {0x31, 0xC9, 0x0F, 0x01, 0xD0, 0x41, 0x89, 0xC0, 0xB8, 0x03, 0,    0,    0,
                      0x31, 0xD2, 0x66, 0x48, 0x0F, 0x6E, 0xDB, 0x0F, 0xAE, 0x26, 0x66, 0x0F, 0xEF,
                      0xDB, 0x0F, 0xAE, 0x2E, 0x66, 0x48, 0x0F, 0x7E, 0xDF, 0xE6, 0xF4});
    CpuState state = rig.long_mode();
    state.cr4 |= 0x40000;  // OSXSAVE
    state.xcr0 = 3;
    state.gpr[RSI] = 0x4000;
    state.gpr[RBX] = 0xCAFE'F00D'1234'5678;
    const CpuState after = run_to_end(rig, state);
    CHECK(after.gpr[R8] == 3);
    CHECK(after.gpr[RDI] == state.gpr[RBX]);
    CHECK((rig.memory.load<uint64_t>(Gpa{0x4200}) & 2) == 2);  // XSTATE_BV: SSE was saved
}

TEST_CASE("rescue: stac opens user pages and clac closes them") {
    VIV_RESCUE_RIG(rig);
    // stac; mov eax,[rsi]; pushf; pop rbx; clac; out F4h,al
    rig.load(0x1000, {0x0F, 0x01, 0xCB, 0x8B, 0x06, 0x9C, 0x5B, 0x0F, 0x01, 0xCA, 0xE6, 0xF4});
    CpuState state = rig.long_mode();
    rig.memory.store<uint64_t>(Gpa{0x102000}, 0x83);  // the first 2 MiB are the supervisor's, the next the user's
    rig.memory.store<uint32_t>(Gpa{0x200000}, 0x5AFE);
    state.cr4 |= 0x200000;  // SMAP
    state.gpr[RSI] = 0x200000;
    if (!rig.cpu().set_state(state)) VIV_SKIP("this host has no SMAP");
    const CpuState after = run_to_end(rig, state);
    CHECK(after.gpr[RAX] == 0x5AFE);
    CHECK((after.gpr[RBX] & 0x40000) != 0);
    CHECK((after.rflags & 0x40000) == 0);
}

TEST_CASE("rescue: int n and iretd in protected mode, with gates and descriptors of the guest") {
    VIV_RESCUE_RIG(rig);
    rig.memory.store<uint64_t>(Gpa{0x6008}, 0x00CF9B000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x6010}, 0x00CF93000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x5000 + 0x30 * 8}, 0x00008E0000082000);
    rig.load(0x2000, {0x40, 0x9C, 0x5B, 0xCF});  // inc eax; pushfd; pop ebx; iretd
    // mov ecx,50; again: int 30h; loop again; out F4h,al
    rig.load(0x1000, {0xB9, 0x32, 0, 0, 0, 0xCD, 0x30, 0xE2, 0xFC, 0xE6, 0xF4});
    CpuState state = Rig::protected_mode();
    state.gdtr = {0x6000, 0x17};
    state.idtr = {0x5000, 0x7FF};
    state.gpr[RAX] = 0;
    state.rflags = 0x202;
    const CpuState after = run_to_end(rig, state);
    CHECK(after.gpr[RAX] == 50);
    CHECK((after.gpr[RBX] & 0x200) == 0);
    CHECK((after.rflags & 0x200) != 0);
    CHECK(after.gpr[RSP] == state.gpr[RSP]);
    CHECK(after.cs.selector == 8);
}

TEST_CASE("rescue: aaa and daa in real mode") {
    VIV_RESCUE_RIG(rig);
    // mov ax,0Bh; aaa; mov bx,ax; mov al,3Ch; clc; daa; out F4h,al
    rig.load(0x1000, {0xB8, 0x0B, 0x00, 0x37, 0x89, 0xC3, 0xB0, 0x3C, 0xF8, 0x27, 0xE6, 0xF4});
    const CpuState after = run_to_end(rig, Rig::real_mode());
    CHECK((after.gpr[RBX] & 0xFFFF) == 0x0101);
    CHECK((after.gpr[RAX] & 0xFF) == 0x42);
}

TEST_CASE("rescue: what is not an instruction raises #UD in the guest") {
    VIV_RESCUE_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{6 * 4}, 0x2000);
    rig.load(0x1000, {0x90, 0x0F, 0xB9, 0xC0});  // nop; ud1 ax,ax
    rig.load(0x2000, {0x5B, 0xE6, 0xF4});        // pop bx; out F4h,al
    CHECK((run_to_end(rig, Rig::real_mode()).gpr[RBX] & 0xFFFF) == 0x1001);
}

TEST_CASE("rescue: a vector store reaches a device") {
    VIV_RESCUE_RIG(rig);
    rig.load(0x1000, {0x66, 0x0F, 0x6E, 0xC0, 0x66, 0x0F, 0x7E, 0x03, 0xE6, 0xF4});  // movd xmm0,eax; movd [ebx],xmm0
    CpuState state = Rig::protected_mode();
    state.cr4 |= 0x200;  // OSFXSR
    state.gpr[RAX] = 0x11223344;
    state.gpr[RBX] = 0xE0000000;
    run_to_end(rig, state);
    REQUIRE(rig.host().memory_writes.size() == 1);
    CHECK(rig.host().memory_writes[0] == RecordingHost::Write{0xE0000000, 4, 0x11223344});
}

TEST_CASE("rescue: an access to the local APIC behind an x87 instruction is left to KVM") {
    VIV_RESCUE_RIG(rig);
    // fninit; fld1; mov dword [ebx],1FFh; mov eax,[ebx]; fistp dword [3000h]; out F4h,al
    rig.load(0x1000, {0xDB, 0xE3, 0xD9, 0xE8, 0xC7, 0x03, 0xFF, 0x01, 0,    0,
                      0x8B, 0x03, 0xDB, 0x1D, 0x00, 0x30, 0,    0,    0xE6, 0xF4});
    CpuState state = Rig::protected_mode();
    state.gpr[RBX] = 0xFEE000F0;
    const CpuState after = run_to_end(rig, state);
    CHECK((after.gpr[RAX] & 0xFFFFFFFF) == 0x1FF);
    CHECK(rig.memory.load<uint32_t>(Gpa{0x3000}) == 1);
    CHECK(rig.host().memory_writes.empty());
}

TEST_CASE("rescue: the registers are right after a run of one instruction") {
    VIV_RESCUE_RIG(rig);
    rig.load(0x1000, {0xF3, 0x0F, 0xB8, 0xC3});  // popcnt eax,ebx
    CpuState state = Rig::protected_mode();
    state.gpr[RBX] = 0xFF;
    REQUIRE(rig.cpu().set_state(state));
    CHECK(rig.cpu().run(rig.host(), 1) == Stop::budget);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    CHECK(after->rip == 0x1004);
    CHECK(after->gpr[RAX] == 8);
}

TEST_CASE("rescue: code that changes between two rescues is seen") {
    VIV_RESCUE_RIG(rig);
    // again: popcnt eax,ebx; add edx,eax; mov byte [1003h],0C1h (then: popcnt eax,ecx); dec esi; jnz again; out F4h,al
    rig.load(0x1000,
             {0xF3, 0x0F, 0xB8, 0xC3, 0x01, 0xC2, 0xC6, 0x05, 0x03, 0x10, 0, 0, 0xC1, 0x4E, 0x75, 0xF0, 0xE6, 0xF4});
    CpuState state = Rig::protected_mode();
    state.gpr[RBX] = 1;
    state.gpr[RCX] = 0xFF;
    state.gpr[RDX] = 0;
    state.gpr[RSI] = 2;
    CHECK(run_to_end(rig, state).gpr[RDX] == 9);
}

TEST_CASE("rescue: INT 80h and above in real mode work, also thousands of times") {
    VIV_RESCUE_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{0x80 * 4}, 0x2000);
    rig.memory.store<uint32_t>(Gpa{0xFF * 4}, 0x02000010);  // 200h:10h is 2010h
    rig.load(0x2000, {0x40, 0xCF});                         // inc ax; iret
    rig.load(0x2010, {0x43, 0xCF});                         // inc bx; iret
    // mov cx,2000; loop: int 80h; int FFh; loop; out F4h,al
    rig.load(0x1000, {0xB9, 0xD0, 0x07, 0xCD, 0x80, 0xCD, 0xFF, 0xE2, 0xFA, 0xE6, 0xF4});
    CpuState state = Rig::real_mode();
    state.gpr[RAX] = state.gpr[RBX] = 0;
    state.idtr.limit = 0x3FF;
    CHECK(rig.run(state) == Stop::kicked);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    CHECK(after->gpr[RAX] == 2000);
    CHECK(after->gpr[RBX] == 2000);
    CHECK(after->gpr[RSP] == state.gpr[RSP]);
    CHECK((rescues(rig, "int") == 4000) == needs_rescue(rig));
}

TEST_CASE("rescue: a high INT in real mode wraps its stack and clears IF and TF") {
    VIV_RESCUE_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{0xE7 * 4}, 0x2000);
    rig.load(0x1000, {0xFB, 0xF9, 0xCD, 0xE7, 0xE6, 0xF4});  // sti; stc; int E7h; out F4h,al
    rig.load(0x2000, {0x9C, 0x5A, 0xE6, 0xF4});              // pushf; pop dx; out F4h,al
    CpuState state = Rig::real_mode();
    state.gpr[RSP] = 0x10002;  // SP is 2: the frame goes to 0, FFFEh and FFFCh
    state.ss.selector = 0x3000;
    state.ss.base = 0x30000;
    state.idtr.limit = 0x3FF;
    CHECK(rig.run(state) == Stop::kicked);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    CHECK(after->gpr[RSP] == 0x1FFFC);
    CHECK(after->rip == 0x2004);
    CHECK((after->gpr[RDX] & 0x201) == 1);  // carry stays, IF is clear
    CHECK((rig.memory.load<uint16_t>(Gpa{0x30000}) & 0x201) == 0x201);
    CHECK(rig.memory.load<uint16_t>(Gpa{0x3FFFE}) == 0);
    CHECK(rig.memory.load<uint16_t>(Gpa{0x3FFFC}) == 0x1004);
}

TEST_CASE("rescue: VMCALL, on which some hosts hang without an exit, is an invalid opcode, and a loop is left alone") {
    VIV_RESCUE_RIG(rig);
    if (!needs_rescue(rig)) VIV_SKIP("a full host's KVM serves hypercalls");
    rig.memory.store<uint64_t>(Gpa{0x6008}, 0x00CF9B000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x6010}, 0x00CF93000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x5000 + 6 * 8}, 0x00008E0000082000);
    // out 80h,al; here: test byte [3000h],1; jz here; vmcall
    rig.load(0x1000, {0xE6, 0x80, 0xF6, 0x05, 0x00, 0x30, 0, 0, 1, 0x74, 0xF7, 0x0F, 0x01, 0xC1});
    rig.load(0x2000, {0x5B, 0xE6, 0xF4});  // pop ebx; out F4h,al
    std::jthread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        rig.memory.store<uint8_t>(Gpa{0x3000}, 1);
    });
    CpuState state = Rig::protected_mode();
    state.gdtr = {0x6000, 0x17};
    state.idtr = {0x5000, 0x7FF};
    CHECK(run_to_end(rig, state).gpr[RBX] == 0x100B);
    CHECK(rescues(rig, "vmcall") + rescues(rig, "undefined") == 1);
    CHECK(rescues(rig, "test") == 0);
    CHECK(rescues(rig, "jz") == 0);
}

TEST_CASE("rescue: what nobody can execute ends the run with its name") {
    VIV_RESCUE_RIG(rig);
    if (!needs_rescue(rig)) VIV_SKIP("this host's KVM executes it");
    rig.load(0x1000, {0x62, 0xF1, 0x7D, 0x48, 0xEF, 0xC0});  // vpxord zmm0,zmm0,zmm0
    REQUIRE(rig.cpu().set_state(Rig::protected_mode()));
    CHECK(rig.cpu().run(rig.host(), ~uint64_t{0}) == Stop::failed);
    CHECK(rig.cpu().failure().find("vpxord") != std::string::npos);
}
