#include "vmm/engine/kvm/kvm_engine.hpp"

#include <chrono>
#include <thread>

#include "vmm/core/doorbells.hpp"
#include "vmm/engine/kvm/kvm_rig.hpp"

using namespace viv;
using namespace viv::testing;
using Write = RecordingHost::Write;

TEST_CASE("kvm: port reads and writes of every size reach the host") {
    VIV_KVM_RIG(rig);
    rig.host().port_values[0x60] = 0x12345678;
    // in al,60h; out 80h,al; in ax,60h; out 80h,ax; in eax,60h; out 80h,eax; out F4h,al
    rig.load(0x1000, {0xE4, 0x60, 0xE6, 0x80, 0xE5, 0x60, 0xE7, 0x80, 0x66, 0xE5, 0x60, 0x66, 0xE7, 0x80, 0xE6, 0xF4});
    CHECK(rig.run(Rig::real_mode()) == Stop::kicked);
    CHECK(rig.host().port_writes ==
          std::vector<Write>{{0x80, 1, 0x78}, {0x80, 2, 0x5678}, {0x80, 4, 0x12345678}, {0xF4, 1, 0x78}});
    const auto state = rig.cpu().state();
    REQUIRE(state);
    CHECK(state->rip == 0x1010);  // the last OUT is complete
}

TEST_CASE("kvm: memory that nothing backs is the host's") {
    VIV_KVM_RIG(rig);
    rig.host().memory_values[0xF0000000] = 0xCAFEF00D;
    // mov eax,[F0000000h]; mov [F0000004h],ax; mov byte [F0000006h],5; out F4h,al
    rig.load(0x1000, {0xA1, 0x00, 0x00, 0x00, 0xF0, 0x66, 0xA3, 0x04, 0x00, 0x00,
                      0xF0, 0xC6, 0x05, 0x06, 0x00, 0x00, 0xF0, 0x05, 0xE6, 0xF4});
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    CHECK(rig.host().memory_writes == std::vector<Write>{{0xF0000004, 2, 0xF00D}, {0xF0000006, 1, 5}});
}

TEST_CASE("kvm: a doorbell takes the writes of its size and place, and nothing else") {
    VIV_KVM_RIG(rig);
    auto* doorbells = dynamic_cast<Doorbells*>(rig.engine.get());
    REQUIRE(doorbells);
    HostEvent event;
    REQUIRE(doorbells->add_doorbell(0xF0000004, 2, event.descriptor()));
    // mov [F0000004h],ax; mov [F0000004h],ax; mov [F0000004h],al; mov [F0000006h],ax; out F4h,al
    rig.load(0x1000, {0x66, 0xA3, 0x04, 0x00, 0x00, 0xF0, 0x66, 0xA3, 0x04, 0x00, 0x00, 0xF0, 0xA2,
                      0x04, 0x00, 0x00, 0xF0, 0x66, 0xA3, 0x06, 0x00, 0x00, 0xF0, 0xE6, 0xF4});
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    CHECK(rig.host().memory_writes == std::vector<Write>{{0xF0000004, 1, 0}, {0xF0000006, 2, 0}});
    CHECK(event.take());
    CHECK_FALSE(event.take());
    doorbells->remove_doorbell(0xF0000004, 2, event.descriptor());
    rig.host().memory_writes.clear();
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    CHECK(rig.host().memory_writes.size() == 4);
    CHECK_FALSE(event.take());
}

TEST_CASE("kvm: 64-bit code runs and its state can be read") {
    VIV_KVM_RIG(rig);
    // mov rax,1122334455667788h; mov r9,rax; out F4h,al
    rig.load(0x1000, {0x48, 0xB8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x49, 0x89, 0xC1, 0xE6, 0xF4});
    CHECK(rig.run(rig.long_mode()) == Stop::kicked);
    const auto state = rig.cpu().state();
    REQUIRE(state);
    CHECK(state->gpr[R9] == 0x1122334455667788);
    CHECK((state->efer & 0x400) != 0);
}

TEST_CASE("kvm: INS and OUTS move every element") {
    VIV_KVM_RIG(rig);
    // mov di,2000h; mov cx,8; mov dx,1F0h; rep insw; mov si,2000h; mov cx,3; rep outsw; out F4h,al
    rig.load(0x1000, {0xFC, 0xBF, 0x00, 0x20, 0xB9, 0x08, 0x00, 0xBA, 0xF0, 0x01, 0xF3,
                      0x6D, 0xBE, 0x00, 0x20, 0xB9, 0x03, 0x00, 0xF3, 0x6F, 0xE6, 0xF4});
    CHECK(rig.run(Rig::real_mode()) == Stop::kicked);
    size_t bytes = 0;
    for (const Write& block : rig.host().blocks) bytes += block.value;
    CHECK(bytes == 16);
    CHECK(rig.host().port_writes ==
          std::vector<Write>{{0x1F0, 2, 0x0201}, {0x1F0, 2, 0x0403}, {0x1F0, 2, 0x0605}, {0xF4, 1, 0}});
}

TEST_CASE("kvm: a budget counts instructions and ends the run after them") {
    VIV_KVM_RIG(rig);
    // mov cx,5; again: in al,60h; out 80h,al; loop again; nop; jmp here
    rig.load(0x1000, {0xB9, 0x05, 0x00, 0xE4, 0x60, 0xE6, 0x80, 0xE2, 0xFA, 0x90, 0xEB, 0xFE});
    REQUIRE(rig.cpu().set_state(Rig::real_mode()));
    CHECK(rig.cpu().run(rig.host(), 0) == Stop::budget);
    CHECK(rig.cpu().run(rig.host(), 12) == Stop::budget);
    CHECK(rig.cpu().instructions() == 12);
    CHECK(rig.host().port_writes.size() == 4);
    CHECK(rig.cpu().state()->rip == 0x1007);
    CHECK(rig.cpu().run(rig.host(), 5) == Stop::budget);
    CHECK(rig.cpu().instructions() == 17);
    CHECK(rig.cpu().state()->rip == 0x100A);

    // mov eax,[F0000000h]; mov [F0000004h],ax; inc dword [F0000008h]; out F4h,al
    rig.load(0x1000, {0xA1, 0x00, 0x00, 0x00, 0xF0, 0x66, 0xA3, 0x04, 0x00, 0x00, 0xF0, 0xFF, 0x05, 0x08, 0x00, 0x00,
                      0xF0, 0xE6, 0xF4});
    REQUIRE(rig.cpu().set_state(Rig::protected_mode()));
    CHECK(rig.cpu().run(rig.host(), 3) == Stop::budget);
    CHECK(rig.cpu().instructions() == 20);
    CHECK(rig.cpu().state()->rip == 0x1011);
    CHECK(rig.host().memory_writes.size() == 2);

    // Without a budget nothing is counted.
    CHECK(rig.cpu().run(rig.host(), ~uint64_t{0}) == Stop::kicked);
    CHECK(rig.cpu().instructions() == 20);
}

TEST_CASE("kvm: the 8259A's interrupt is taken when the guest allows it") {
    VIV_KVM_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{0x20 * 4}, 0x2000);       // vector 20h -> 0:2000h
    rig.load(0x1000, {0xE6, 0x80, 0xFB, 0xF4, 0xE6, 0xF4});  // out 80h,al; sti; hlt; out F4h,al
    rig.load(0x2000, {0xE6, 0x81, 0xCF});                    // out 81h,al; iret
    rig.host().on_port_write = [&](uint16_t port, uint64_t) {
        if (port == 0x80) rig.cpu().set_intr(true);
    };
    CHECK(rig.run(Rig::real_mode()) == Stop::kicked);
    CHECK(rig.host().acknowledged == 1);
    CHECK(rig.host().port_writes == std::vector<Write>{{0x80, 1, 0}, {0x81, 1, 0}, {0xF4, 1, 0}});
}

TEST_CASE("kvm: an interrupt from another thread wakes a halted CPU") {
    VIV_KVM_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{0x20 * 4}, 0x2000);
    rig.load(0x1000, {0xFB, 0xF4, 0xE6, 0xF4});  // sti; hlt; out F4h,al
    rig.load(0x2000, {0xE6, 0x81, 0xCF});
    std::thread device([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        rig.cpu().set_intr(true);
    });
    CHECK(rig.run(Rig::real_mode()) == Stop::kicked);
    device.join();
    CHECK(rig.host().port_writes == std::vector<Write>{{0x81, 1, 0}, {0xF4, 1, 0}});
}

TEST_CASE("kvm: a kick stops a CPU that halts, spins, or has not started") {
    VIV_KVM_RIG(rig);
    rig.load(0x1000, {0xFA, 0xF4});  // cli; hlt
    rig.load(0x1100, {0xEB, 0xFE});  // jmp $
    for (const uint64_t rip : {uint64_t{0x1000}, uint64_t{0x1100}}) {
        std::thread other([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            rig.cpu().kick();
        });
        CHECK(rig.run(Rig::real_mode(rip)) == Stop::kicked);
        other.join();
    }
    rig.cpu().kick();
    CHECK(rig.run(Rig::real_mode(0x1100)) == Stop::kicked);
    const auto state = rig.cpu().state();
    REQUIRE(state);
    CHECK(state->rip == 0x1100);
}

TEST_CASE("kvm: with A20 off the 64 KiB above 1 MiB are the first 64 KiB") {
    VIV_KVM_RIG(rig);
    rig.memory.store<uint8_t>(Gpa{0x500}, 0x11);
    rig.memory.store<uint8_t>(Gpa{0x100500}, 0x22);
    rig.host().on_port_write = [&](uint16_t port, uint64_t value) {
        if (port == 0x92) rig.engine->set_a20(value != 0);
    };
    // mov al,[100500h]; out 80h,al; mov al,0; out 92h,al; mov al,[100500h]; out 80h,al; mov byte [100501h],33h;
    // mov al,1; out 92h,al; mov al,[100500h]; out 80h,al; mov al,[501h]; out 80h,al; out F4h,al
    rig.load(0x1000, {0xA0, 0x00, 0x05, 0x10, 0x00, 0xE6, 0x80, 0xB0, 0x00, 0xE6, 0x92, 0xA0, 0x00, 0x05, 0x10,
                      0x00, 0xE6, 0x80, 0xC6, 0x05, 0x01, 0x05, 0x10, 0x00, 0x33, 0xB0, 0x01, 0xE6, 0x92, 0xA0,
                      0x00, 0x05, 0x10, 0x00, 0xE6, 0x80, 0xA0, 0x01, 0x05, 0x00, 0x00, 0xE6, 0x80, 0xE6, 0xF4});
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    std::vector<uint64_t> seen;
    for (const Write& write : rig.host().port_writes) {
        if (write.address == 0x80) seen.push_back(write.value);
    }
    CHECK(seen == std::vector<uint64_t>{0x22, 0x11, 0x22, 0x33});
}

TEST_CASE("kvm: writes to ROM reach the host and leave the ROM alone") {
    VIV_KVM_RIG(rig);
    REQUIRE(rig.memory.add(Gpa{0xFFFF0000}, 0x10000, GuestMemory::Kind::rom, "rom"));
    const std::byte contents{0x5A};
    rig.memory.write_rom(Gpa{0xFFFF0010}, {&contents, 1});
    // mov byte [FFFF0010h],1; mov al,[FFFF0010h]; out F4h,al
    rig.load(0x1000, {0xC6, 0x05, 0x10, 0x00, 0xFF, 0xFF, 0x01, 0xA0, 0x10, 0x00, 0xFF, 0xFF, 0xE6, 0xF4});
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    CHECK(rig.host().memory_writes == std::vector<Write>{{0xFFFF0010, 1, 1}});
    CHECK(rig.host().port_writes == std::vector<Write>{{0xF4, 1, 0x5A}});
}

TEST_CASE("kvm: a triple fault is a shutdown") {
    VIV_KVM_RIG(rig);
    CpuState state = Rig::protected_mode();
    state.idtr.limit = 0;
    rig.load(0x1000, {0x0F, 0x0B});  // ud2
    CHECK(rig.run(state) == Stop::shutdown);
}

TEST_CASE("kvm: the guest sees the CPUID of its model") {
    VIV_KVM_RIG(rig, 2, "pentium3,+kvmclock");
    // xor eax,eax; cpuid; mov eax,ebx; out 80h,eax; mov eax,1; cpuid; out 80h,eax; mov eax,ebx; out 80h,eax;
    // mov eax,40000000h; cpuid; mov eax,ebx; out 80h,eax; out F4h,al
    rig.load(0x1000,
             {0x31, 0xC0, 0x0F, 0xA2, 0x89, 0xD8, 0xE7, 0x80, 0xB8, 0x01, 0x00, 0x00, 0x00, 0x0F, 0xA2, 0xE7, 0x80,
              0x89, 0xD8, 0xE7, 0x80, 0xB8, 0x00, 0x00, 0x00, 0x40, 0x0F, 0xA2, 0x89, 0xD8, 0xE7, 0x80, 0xE6, 0xF4});
    CpuState state = Rig::protected_mode();
    state.apic_base &= ~uint64_t{0x100};
    CHECK(rig.run(state, 1) == Stop::kicked);
    const auto& writes = rig.host(1).port_writes;
    REQUIRE(writes.size() == 5);
    CHECK(writes[0].value == 0x756E6547);  // "Genu"
    CHECK(writes[1].value == 0x686);
    CHECK(writes[2].value >> 24 == 1);           // APIC ID
    CHECK((writes[2].value >> 16 & 0xFF) == 2);  // CPUs in the package
    CHECK(writes[3].value == 0x4B4D564B);
}

TEST_CASE("kvm: an impossible engine is refused in words") {
    GuestMemory memory;
    const auto unknown = make_kvm_engine({memory, 1, "pentiun"});
    REQUIRE_FALSE(unknown);
    const bool no_kvm = unknown.error().message.find("/dev/kvm") != std::string::npos;
    if (no_kvm) VIV_SKIP(unknown.error().message);
    CHECK(unknown.error().message.find("unknown CPU model 'pentiun'") == 0);
    CHECK(make_kvm_engine({memory, 17, "max"}).error().message.find("1 to 16") != std::string::npos);
    CHECK(make_kvm_engine({memory, 0, "max"}).error().kind == ErrorKind::usage);
}
