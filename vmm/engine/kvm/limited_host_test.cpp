#include "vmm/engine/kvm/limited_host.hpp"

#include <fcntl.h>

#include <algorithm>

#include "vmm/engine/kvm/kvm_rig.hpp"

using namespace viv;
using namespace viv::kvm;
using namespace viv::testing;

namespace {
bool has_limit(Rig& rig, std::string_view text) {
    return std::ranges::any_of(rig.engine->limits(), [text](const std::string& limit) { return limit.contains(text); });
}
}  // namespace

TEST_CASE("kvm: a short interrupt window in a long loop is not missed") {
    VIV_KVM_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{0x20 * 4}, 0x2000);
    rig.load(0x2000, {0xE6, 0xF4, 0xCF});  // out F4h,al; iret
    // out 80h,al; loop: sti; nop; nop; cli; mov cx,2000; loop $; jmp loop
    rig.load(0x1000, {0xE6, 0x80, 0xFB, 0x90, 0x90, 0xFA, 0xB9, 0xD0, 0x07, 0xE2, 0xFE, 0xEB, 0xF5});
    rig.host().on_port_write = [&](uint16_t port, uint64_t) {
        if (port == 0x80) rig.cpu().set_intr(true);
    };
    CHECK(rig.run(Rig::real_mode()) == Stop::kicked);
    CHECK(rig.host().acknowledged == 1);
}

TEST_CASE("kvm: where 32-bit paging does not exist the run ends in front of it and says so") {
    VIV_KVM_RIG(rig);
    bool without_paging = false;
    for (const std::string& limit : rig.engine->limits()) without_paging |= limit.find("32-bit paging") != limit.npos;
    if (!without_paging) VIV_SKIP("this host has 32-bit paging");
    // mov eax,cr0; or eax,80000000h; mov cr0,eax
    rig.load(0x1000, {0x0F, 0x20, 0xC0, 0x0D, 0x00, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0});
    REQUIRE(rig.cpu().set_state(Rig::protected_mode()));
    CHECK(rig.cpu().run(rig.host(), ~uint64_t{0}) == Stop::unsupported);
    CHECK(rig.cpu().failure().find("32-bit paging") != std::string::npos);
    const auto state = rig.cpu().state();
    REQUIRE(state);
    CHECK(state->rip == 0x1008);  // still in front of the MOV
    CHECK(state->gpr[RAX] == 0xE0000011);
}

TEST_CASE("kvm: 32-bit paging is noticed from 16-bit code, too, and behind prefixes") {
    VIV_KVM_RIG(rig);
    if (!has_limit(rig, "32-bit paging")) VIV_SKIP("this host has 32-bit paging");
    rig.load(0x1000, {0x66, 0x0F, 0x22, 0xC0});  // data32 mov cr0,eax
    CpuState state = Rig::protected_mode();
    state.cs.default_big = false;
    state.gpr[RAX] = 0x80000011;
    REQUIRE(rig.cpu().set_state(state));
    CHECK(rig.cpu().run(rig.host(), ~uint64_t{0}) == Stop::unsupported);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    CHECK(after->rip == 0x1000);
    CHECK(after->gpr[RAX] == 0x80000011);
}

TEST_CASE("kvm: where SYSCALL stays at CPL 3 the run ends behind the write that sets it up") {
    VIV_KVM_RIG(rig);
    if (!has_limit(rig, "SYSCALL")) VIV_SKIP("this host has SYSCALL");
    // mov ecx,C0000082h; xor edx,edx; mov eax,2000h; wrmsr; mov ecx,C0000080h; rdmsr; or eax,1; wrmsr; nop
    rig.load(0x1000, {0xB9, 0x82, 0, 0, 0xC0, 0x31, 0xD2, 0xB8, 0x00, 0x20, 0,    0,    0x0F, 0x30,
                      0xB9, 0x80, 0, 0, 0xC0, 0x0F, 0x32, 0x83, 0xC8, 0x01, 0x0F, 0x30, 0x90});
    REQUIRE(rig.cpu().set_state(rig.long_mode()));
    CHECK(rig.cpu().run(rig.host(), ~uint64_t{0}) == Stop::unsupported);
    CHECK(rig.cpu().failure().find("SYSCALL") != std::string::npos);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    CHECK(after->rip == 0x101A);
    CHECK((after->efer & 0x501) == 0x501);
    CHECK(std::ranges::find(after->msrs, uint32_t{0xC0000082}, &Msr::index)->value == 0x2000);
}

TEST_CASE("kvm: an instruction that the host cannot execute is reported with its bytes and what to do") {
    VIV_KVM_RIG(rig);
    rig.load(0x1000, {0xF3, 0x0F, 0xB8, 0xC3, 0xE6, 0xF4});  // popcnt eax,ebx; out F4h,al
    REQUIRE(rig.cpu().set_state(Rig::protected_mode()));
    const Stop stop = rig.cpu().run(rig.host(), ~uint64_t{0});
    if (stop == Stop::kicked) VIV_SKIP("this host executes it");
    CHECK(stop == Stop::failed);
    const std::string failure = rig.cpu().failure();
    CHECK(failure.find("instruction bytes f3 0f b8 c3 e6 f4") != std::string::npos);
    CHECK(failure.find("VT-x or AMD-V") != std::string::npos);
    CHECK(failure.find("rip 0000000000001000") != std::string::npos);
    CHECK(failure.find("last exits:") != std::string::npos);
}

TEST_CASE("kvm: an interrupt of the local APIC while we step leaves the guest no trap flag of ours") {
    VIV_KVM_RIG(rig);
    if (!has_limit(rig, "interrupt windows")) VIV_SKIP("this host is not stepped to find interrupt windows");
    CpuState state = rig.long_mode();
    rig.memory.store<uint64_t>(Gpa{0x101018}, 0x103000 | 7);  // 3 GiB on
    rig.memory.store<uint64_t>(Gpa{0x103000 + 503 * 8}, 0xFEE00087);
    rig.memory.store<uint64_t>(Gpa{0x6008}, 0x00AF9B000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x6010}, 0x00CF93000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x5000 + 0x01 * 16}, 0x00008E0000082100);
    rig.memory.store<uint64_t>(Gpa{0x5000 + 0x30 * 16}, 0x00008E0000082000);
    state.gdtr = {0x6000, 0x17};
    state.idtr = {0x5000, 0xFFF};
    state.gpr[RBX] = state.gpr[RDX] = 0;
    // mov edi,FEE00000h; mov dword [rdi+F0h],1FFh; mov dword [rdi+3E0h],0Bh; mov dword [rdi+320h],30h;
    // mov dword [rdi+380h],300000; sti; again: inc ecx; cmp ebx,20; jb again; out F4h,al
    rig.load(0x1000, {0xBF, 0x00, 0x00, 0xE0, 0xFE, 0xC7, 0x87, 0xF0, 0x00, 0x00, 0x00, 0xFF, 0x01, 0x00,
                      0x00, 0xC7, 0x87, 0xE0, 0x03, 0x00, 0x00, 0x0B, 0x00, 0x00, 0x00, 0xC7, 0x87, 0x20,
                      0x03, 0x00, 0x00, 0x30, 0x00, 0x00, 0x00, 0xC7, 0x87, 0x80, 0x03, 0x00, 0x00, 0xE0,
                      0x93, 0x04, 0x00, 0xFB, 0xFF, 0xC1, 0x83, 0xFB, 0x14, 0x72, 0xF9, 0xE6, 0xF4});
    // inc ebx; cmp ebx,20; jae last; mov dword [rdi+380h],300000; last: mov dword [rdi+B0h],0; iretq
    rig.load(0x2000, {0xFF, 0xC3, 0x83, 0xFB, 0x14, 0x73, 0x0A, 0xC7, 0x87, 0x80, 0x03, 0x00, 0x00, 0xE0, 0x93,
                      0x04, 0x00, 0xC7, 0x87, 0xB0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x48, 0xCF});
    // inc edx; and dword [rsp+16],FFFFFEFFh; iretq
    rig.load(0x2100, {0xFF, 0xC2, 0x81, 0x64, 0x24, 0x10, 0xFF, 0xFE, 0xFF, 0xFF, 0x48, 0xCF});
    REQUIRE(rig.cpu().set_state(state));
    constexpr uint64_t counted = 1'000'000'000;  // a run with a budget steps each instruction
    CHECK(rig.cpu().run(rig.host(), counted) == Stop::kicked);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    CHECK(after->gpr[RBX] == 20);  // each was asked for by the one before
    CHECK(after->gpr[RDX] == 0);
}

TEST_CASE("kvm: our trap flag is taken out of a frame that was pushed during a step, and the guest's own is not") {
    const FileDescriptor kvm{open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (kvm.get() < 0) VIV_SKIP("this host has no /dev/kvm to use");
    const FileDescriptor vm{call(kvm.get(), KVM_CREATE_VM, 0)};
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x10000, GuestMemory::Kind::ram, "ram"));
    MemorySlots slots(vm.get(), memory);
    REQUIRE(slots.update());
    const FileDescriptor vcpu{call(vm.get(), KVM_CREATE_VCPU, 0)};
    REQUIRE(vcpu.get() >= 0);
    auto run = std::make_unique<kvm_run>();
    ExitCounters counters;
    LimitedHost host(HostLimits{}, slots, vcpu.get(), *run, counters);
    // A real-mode interrupt at 100h:1234h with SP 800h: what is at 7FEh is FLAGS.
    const auto flags_after_step = [&](uint64_t guest_flags, uint16_t pushed_ip, uint64_t sp) {
        host.step_always(false);
        run->s.regs.regs = {};
        run->s.regs.regs.rflags = guest_flags;
        run->s.regs.regs.rip = 0x1234;
        run->s.regs.regs.rsp = 0x800;
        run->s.regs.sregs.cs.selector = 0x100;
        run->s.regs.sregs.cs.base = 0x1000;
        host.prepare(false);
        host.step_always(true);
        run->s.regs.regs.rflags = guest_flags;
        host.prepare(false);
        memory.store<uint16_t>(Gpa{0x7FA}, pushed_ip);
        memory.store<uint16_t>(Gpa{0x7FC}, 0x100);
        memory.store<uint16_t>(Gpa{0x7FE}, 0x0302);
        run->s.regs.regs.rip = 0x2000;
        run->s.regs.regs.rsp = sp;
        host.returned();
        return memory.load<uint16_t>(Gpa{0x7FE});
    };
    CHECK(flags_after_step(0x202, 0x1234, 0x7FA) == 0x0202);
    CHECK(flags_after_step(0x202, 0x1234, 0x7F8) == 0x0202);  // the handler has pushed a word since
    CHECK(flags_after_step(0x302, 0x1234, 0x7FA) == 0x0302);  // the guest steps itself
    CHECK(flags_after_step(0x202, 0x1236, 0x7FA) == 0x0302);  // no frame of this instruction
    CHECK(flags_after_step(0x202, 0x1234, 0x800) == 0x0302);  // nothing was pushed
}

TEST_CASE("kvm: a loop at CPL 0 is timed, and where the host's kernel interprets it that shows") {
    const FileDescriptor kvm{open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (kvm.get() < 0) VIV_SKIP("this host has no /dev/kvm to use");
    const auto limits = probe_host_limits(kvm.get());
    REQUIRE(limits);
    CHECK(limits->kernel_speed > 1);
    if (limits->emulates_kernel_code) CHECK(limits->slow_kernel_code);
}

TEST_CASE("kvm: a slow host is told with its speed") {
    HostLimits limits;
    CHECK(limits.lines().empty());
    limits.kernel_speed = 4'600'000;
    CHECK(limits.lines().empty());
    limits.slow_kernel_code = true;
    REQUIRE(limits.lines().size() == 1);
    CHECK(limits.lines().front().contains("at about 4 million instructions a second only"));
    limits.emulates_kernel_code = true;
    REQUIRE(limits.lines().size() == 1);
    CHECK(limits.lines().front().contains("interprets all but 64-bit user code: about 4 million"));
}
