#include <chrono>
#include <thread>

#include "vmm/engine/kvm/kvm_rig.hpp"

using namespace viv;
using namespace viv::testing;
using Write = RecordingHost::Write;

namespace {

/// 32-bit code with a descriptor table and one interrupt gate: `vector` leads to 2000h.
CpuState with_gate(Rig& rig, uint8_t vector) {
    rig.memory.store<uint64_t>(Gpa{0x3808}, 0x00CF9B000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x3810}, 0x00CF93000000FFFF);
    rig.memory.store<uint64_t>(Gpa{0x3000u + vector * 8u}, 0x00008E0000082000);
    CpuState state = Rig::protected_mode();
    state.gdtr = {0x3800, 0x17};
    state.idtr = {0x3000, 0x7FF};
    return state;
}

// mov dword [FEE000F0h],1FFh (enable the local APIC); sti; hlt; jmp $
constexpr std::initializer_list<uint8_t> enable_and_wait = {0xC7, 0x05, 0xF0, 0x00, 0xE0, 0xFE, 0xFF, 0x01,
                                                            0x00, 0x00, 0xFB, 0xE6, 0x82, 0xF4, 0xEB, 0xFE};
// mov dword [FEE000B0h],0 (EOI); out 81h,al; out F4h,al
constexpr std::initializer_list<uint8_t> end_and_stop = {0xC7, 0x05, 0xB0, 0x00, 0xE0, 0xFE, 0x00,
                                                         0x00, 0x00, 0x00, 0xE6, 0x81, 0xE6, 0xF4};

}  // namespace

TEST_CASE("kvm: a second CPU waits for INIT and SIPI and then runs") {
    VIV_KVM_RIG(rig, 2);
    // mov dword [FEE00310h],1000000h; mov dword [FEE00300h],4500h; the same with 4602h; l: cmp byte [4000h],55h; jne l;
    // out F4h,al
    rig.load(0x1000, {0xC7, 0x05, 0x10, 0x03, 0xE0, 0xFE, 0x00, 0x00, 0x00, 0x01, 0xC7, 0x05, 0x00, 0x03,
                      0xE0, 0xFE, 0x00, 0x45, 0x00, 0x00, 0xC7, 0x05, 0x00, 0x03, 0xE0, 0xFE, 0x02, 0x46,
                      0x00, 0x00, 0x80, 0x3D, 0x00, 0x40, 0x00, 0x00, 0x55, 0x75, 0xF7, 0xE6, 0xF4});
    // At 2000h in real mode: mov byte cs:[2000h],55h (that is 4000h); out F4h,al
    rig.load(0x2000, {0x2E, 0xC6, 0x06, 0x00, 0x20, 0x55, 0xE6, 0xF4});
    CHECK(rig.cpu(1).state()->activity == Activity::wait_for_sipi);
    Stop second = Stop::failed;
    std::thread other([&] { second = rig.cpu(1).run(rig.host(1), ~uint64_t{0}); });
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    other.join();
    CHECK(second == Stop::kicked);
    CHECK(rig.host(1).port_writes == std::vector<Write>{{0xF4, 1, 0}});
    CHECK(rig.cpu(1).state()->cs.base == 0x2000);
}

TEST_CASE("kvm: a CPU that waits for SIPI can be kicked") {
    VIV_KVM_RIG(rig, 2);
    std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        rig.cpu(1).kick();
    });
    CHECK(rig.cpu(1).run(rig.host(1), ~uint64_t{0}) == Stop::kicked);
    other.join();
    CHECK(rig.cpu(1).state()->activity == Activity::wait_for_sipi);
}

TEST_CASE("kvm: the EOI of a level-triggered vector comes back to the IOAPIC") {
    VIV_KVM_RIG(rig);
    rig.load(0x1000, enable_and_wait);
    rig.load(0x2000, end_and_stop);
    std::vector<Engine::IoApicRoute> routes(24);
    routes[5] = {.address = 0xFEE00000, .data = 0x50, .level_triggered = true, .masked = false};
    rig.engine->set_ioapic_routes(routes);
    rig.host().on_port_write = [&](uint16_t port, uint64_t) {
        if (port == 0x82) rig.engine->send(0xFEE00000, 0xC050);  // level, assert
    };
    CHECK(rig.run(with_gate(rig, 0x50)) == Stop::kicked);
    CHECK(rig.host().ends == std::vector<uint8_t>{0x50});
}

TEST_CASE("kvm: the EOI of an edge-triggered message stays in the local APIC") {
    VIV_KVM_RIG(rig);
    rig.load(0x1000, enable_and_wait);
    rig.load(0x2000, end_and_stop);
    rig.host().on_port_write = [&](uint16_t port, uint64_t) {
        if (port == 0x82) rig.engine->send(0xFEE00000, 0x51);
    };
    CHECK(rig.run(with_gate(rig, 0x51)) == Stop::kicked);
    CHECK(rig.host().port_writes == std::vector<Write>{{0x82, 1, 0}, {0x81, 1, 0}, {0xF4, 1, 0}});
    CHECK(rig.host().ends.empty());
}

TEST_CASE("kvm: a message from another thread wakes a halted CPU") {
    VIV_KVM_RIG(rig);
    rig.load(0x1000, enable_and_wait);
    rig.load(0x2000, end_and_stop);
    std::thread device([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        rig.engine->send(0xFEE00000, 0x52);
    });
    CHECK(rig.run(with_gate(rig, 0x52)) == Stop::kicked);
    device.join();
}

TEST_CASE("kvm: an NMI arrives although interrupts are disabled") {
    VIV_KVM_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{2 * 4}, 0x2000);
    rig.load(0x1000, {0xFA, 0xF4, 0xEB, 0xFE});  // cli; hlt; jmp $
    rig.load(0x2000, {0xE6, 0xF4});
    std::thread button([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        rig.cpu().inject_nmi();
    });
    CHECK(rig.run(Rig::real_mode()) == Stop::kicked);
    button.join();
    CHECK(rig.host().port_writes == std::vector<Write>{{0xF4, 1, 0}});
}

TEST_CASE("kvm: two CPUs count together without losing one") {
    VIV_KVM_RIG(rig, 2);
    // mov ecx,20000; l: lock inc dword [4000h]; loop l; out F4h,al
    rig.load(0x1000, {0xB9, 0x20, 0x4E, 0x00, 0x00, 0xF0, 0xFF, 0x05, 0x00, 0x40, 0x00, 0x00, 0xE2, 0xF7, 0xE6, 0xF4});
    CpuState second = Rig::protected_mode();
    second.apic_base &= ~uint64_t{0x100};
    REQUIRE(rig.cpu(1).set_state(second));
    std::thread other([&] { rig.cpu(1).run(rig.host(1), ~uint64_t{0}); });
    CHECK(rig.run(Rig::protected_mode()) == Stop::kicked);
    other.join();
    CHECK(rig.memory.load<uint32_t>(Gpa{0x4000}) == 40000);
}

TEST_CASE("kvm: kicks and interrupts at any moment are never lost") {
    VIV_KVM_RIG(rig);
    rig.memory.store<uint32_t>(Gpa{0x20 * 4}, 0x2000);
    rig.load(0x1000, {0xFB, 0xF4, 0xEB, 0xFC});  // sti; l: hlt; jmp l
    rig.load(0x2000, {0xE6, 0x81, 0xCF});        // out 81h,al; iret
    REQUIRE(rig.cpu().set_state(Rig::real_mode()));
    std::atomic<int> handled = 0;
    rig.host().on_port_write = [&](uint16_t, uint64_t) { ++handled; };
    std::thread device([&] {
        for (int i = 0; i < 2000; ++i) {
            rig.cpu().set_intr(true);
            while (handled.load() <= i) std::this_thread::yield();
        }
        rig.cpu().kick();
    });
    CHECK(rig.cpu().run(rig.host(), ~uint64_t{0}) == Stop::kicked);
    device.join();
    CHECK(handled == 2000);
    CHECK(rig.host().acknowledged == 2000);
}
