#include "vmm/engine/kvm/vcpu_state.hpp"

#include <chrono>
#include <random>
#include <thread>

#include "vmm/engine/kvm/kvm_rig.hpp"

using namespace viv;
using namespace viv::testing;

namespace {

/// Any state that a processor could be in, made from a seed.
CpuState random_state(Rig& rig, unsigned seed) {
    std::mt19937_64 random(seed);
    CpuState state = seed % 3 == 0 ? Rig::real_mode() : seed % 3 == 1 ? Rig::protected_mode() : rig.long_mode();
    const bool is_64_bit = state.efer != 0;
    for (uint64_t& gpr : state.gpr) gpr = is_64_bit ? random() : random() & 0xFFFFFFFF;
    state.rflags = 2 | (random() & 0xCD5);
    state.rip = random() & 0xFFFF;
    for (SegmentRegister* segment : {&state.ds, &state.es, &state.fs, &state.gs}) {
        segment->base = (random() & 0xFFFF) << 4;
        segment->selector = static_cast<uint16_t>(segment->base >> 4);
    }
    state.gdtr = {random() & 0xFFFFF, static_cast<uint16_t>(random())};
    state.idtr = {random() & 0xFFFFF, static_cast<uint16_t>(random())};
    state.cr2 = random() & 0xFFFFFFFF;
    state.cr8 = random() & 15;
    for (uint64_t& address : state.dr) address = random() & 0xFFFFFFFF;
    state.dr6 = 0xFFFF0FF0 | (random() & 0xF);
    state.dr7 = 0x400 | (random() & 0xFF);
    state.xsave.assign(4096, 0);
    for (size_t i = 160; i < 416; ++i) state.xsave[i] = static_cast<uint8_t>(random());  // XMM0 to XMM15
    const uint16_t fcw = 0x027F;
    const uint32_t mxcsr = 0x1FA0;
    std::memcpy(state.xsave.data(), &fcw, sizeof fcw);
    std::memcpy(state.xsave.data() + 24, &mxcsr, sizeof mxcsr);
    state.xsave[512] = 3;
    state.activity = seed % 2 ? Activity::halted : Activity::running;
    state.nmi_blocked = seed % 5 == 0;
    if (seed % 4 == 0) {
        state.event_pending = true;
        state.event_vector = 0x35;
    } else if (seed % 4 == 1) {
        state.event_pending = state.event_is_exception = state.event_has_error_code = true;
        state.event_vector = 13;
        state.event_error_code = 0x10;
    }
    if (state.event_pending) state.activity = Activity::running;  // an event ends a halt
    return state;
}

const Msr* find(const std::vector<Msr>& msrs, uint32_t index) {
    const auto at = std::ranges::find(msrs, index, &Msr::index);
    return at == msrs.end() ? nullptr : &*at;
}

void collect_differences(const TreeNode& a, const TreeNode& b, std::string& names) {
    for (size_t i = 0; i < a.properties.size(); ++i) {
        if (a.properties[i] != b.properties[i]) names += a.name + "/" + a.properties[i].first + " ";
    }
    for (size_t i = 0; i < a.children.size(); ++i) collect_differences(a.children[i], b.children[i], names);
}
/// The names of the fields that differ.
std::string differences(const CpuState& a, const CpuState& b) {
    std::string names;
    collect_differences(write_state("cpu", a), write_state("cpu", b), names);
    return names;
}

}  // namespace

TEST_CASE("kvm state: what is set comes back, whatever it is") {
    VIV_KVM_RIG(rig);
    for (unsigned seed = 0; seed < 60; ++seed) {
        INFO("seed " << seed);
        const CpuState wanted = random_state(rig, seed);
        REQUIRE(rig.cpu().set_state(wanted));
        auto got = rig.cpu().state();
        REQUIRE(got);
        CHECK(got->lapic.size() == 1024);
        CHECK_FALSE(got->msrs.empty());
        CHECK(std::ranges::equal(std::span(got->xsave).first(416), std::span(wanted.xsave).first(416)));
        // Set by what the other fields hold.
        got->lapic = wanted.lapic;
        got->msrs = wanted.msrs;
        got->xsave = wanted.xsave;
        CHECK(differences(*got, wanted) == "");
    }
}

TEST_CASE("kvm state: a state that was read can be set and is the same again") {
    VIV_KVM_RIG(rig);
    REQUIRE(rig.cpu().set_state(random_state(rig, 2)));
    auto first = rig.cpu().state();
    REQUIRE(first);
    for (Msr& msr : first->msrs) {
        if (msr.index == 0x174) msr.value = 0x10;                     // IA32_SYSENTER_CS
        if (msr.index == 0xC0000082) msr.value = 0xFFFF800000001000;  // IA32_LSTAR
    }
    REQUIRE(rig.cpu().set_state(*first));
    auto second = rig.cpu().state();
    REQUIRE(second);
    CHECK(find(second->msrs, 0x174)->value == 0x10);
    CHECK(find(second->msrs, 0xC0000082)->value == 0xFFFF800000001000);
    // The time stamp counter goes on.
    std::erase_if(first->msrs, [](const Msr& msr) { return msr.index == 0x10; });
    std::erase_if(second->msrs, [](const Msr& msr) { return msr.index == 0x10; });
    CHECK(first->msrs == second->msrs);
    first->msrs = second->msrs;
    CHECK(differences(*first, *second) == "");
}

TEST_CASE("kvm state: a reset takes back what the guest did to its MSRs") {
    VIV_KVM_RIG(rig);
    auto before = rig.cpu().state();
    REQUIRE(before);
    CpuState changed = *before;
    for (Msr& msr : changed.msrs) {
        if (msr.index == 0x175) msr.value = 0x1234;  // IA32_SYSENTER_ESP
    }
    REQUIRE(rig.cpu().set_state(changed));
    REQUIRE(rig.cpu().set_state(reset_state(true)));
    CHECK(find(rig.cpu().state()->msrs, 0x175)->value == find(before->msrs, 0x175)->value);
}

TEST_CASE("kvm state: a state of wrong shape is refused") {
    VIV_KVM_RIG(rig);
    CpuState state = Rig::real_mode();
    state.xsave.resize(100);
    CHECK(rig.cpu().set_state(state).error().message.find("XSAVE") != std::string::npos);
    state.xsave.clear();
    state.lapic.resize(5);
    CHECK(rig.cpu().set_state(state).error().message.find("APIC") != std::string::npos);
    state.lapic.clear();
    state.msrs = {{0x12345678, 1}};
    CHECK(rig.cpu().set_state(state).error().message.find("0x12345678") != std::string::npos);
}

TEST_CASE("kvm state: a program moves to another machine in the middle and goes on") {
    VIV_KVM_RIG(source);
    VIV_KVM_RIG(target);
    constexpr uint32_t rounds = 20'000;
    // mov ecx,rounds; xor eax,eax; l: imul eax,eax,1664525; add eax,1013904223; mov [2000h],eax; loop l; out F4h,al
    source.load(0x1000, {0xB9,         rounds & 0xFF, rounds >> 8 & 0xFF,
                         rounds >> 16, 0x00,          0x31,
                         0xC0,         0x69,          0xC0,
                         0x0D,         0x66,          0x19,
                         0x00,         0x05,          0x5F,
                         0xF3,         0x6E,          0x3C,
                         0xA3,         0x00,          0x20,
                         0x00,         0x00,          0xE2,
                         0xEE,         0xE6,          0xF4});
    uint32_t expected = 0;
    for (uint32_t i = 0; i < rounds; ++i) expected = expected * 1664525 + 1013904223;

    REQUIRE(source.cpu().set_state(Rig::protected_mode()));
    Rig* here = &source;
    Rig* there = &target;
    unsigned moves = 0;
    for (;; ++moves) {
        std::thread watch([cpu = &here->cpu()] {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            cpu->kick();
        });
        const Stop stop = here->cpu().run(here->host(), ~uint64_t{0});
        watch.join();
        REQUIRE(stop == Stop::kicked);
        if (!here->host().port_writes.empty()) break;
        const auto state = here->cpu().state();
        REQUIRE(state);
        std::vector<std::byte> ram(Rig::ram);
        here->memory.read(Gpa{0}, ram);
        there->memory.write(Gpa{0}, ram);
        REQUIRE(there->cpu().set_state(*state));
        std::swap(here, there);
    }
    CHECK(here->cpu().state()->gpr[RAX] == expected);
    CHECK(here->memory.load<uint32_t>(Gpa{0x2000}) == expected);
    if (moves == 0) WARN("this host was too fast to move the program");
}

TEST_CASE("kvm state: an interrupt between the 8259A and the guest moves too") {
    VIV_KVM_RIG(source);
    VIV_KVM_RIG(target);
    for (Rig* rig : {&source, &target}) {
        rig->memory.store<uint32_t>(Gpa{0x20 * 4}, 0x2000);
        rig->load(0x1000, {0xFB, 0xEB, 0xFE});        // sti; jmp $
        rig->load(0x2000, {0xE6, 0x81, 0xE6, 0xF4});  // out 81h,al; out F4h,al
    }
    source.host().kick_on_acknowledge = true;
    source.cpu().set_intr(true);
    CHECK(source.run(Rig::real_mode()) == Stop::kicked);
    CHECK(source.host().port_writes.empty());
    const auto state = source.cpu().state();
    REQUIRE(state);
    CHECK(state->event_pending);
    CHECK(state->event_vector == 0x20);
    CHECK(target.run(*state) == Stop::kicked);
    CHECK(target.host().port_writes.size() == 2);
    // And the source, when it goes on instead, gets it once.
    CHECK(source.cpu().run(source.host(), ~uint64_t{0}) == Stop::kicked);
    CHECK(source.host().port_writes.size() == 2);
    CHECK_FALSE(source.cpu().state()->event_pending);
    CHECK(source.host().acknowledged == 1);
}
