// What a CPU state carries from one engine to another, part by part. Whole machines that move are in
// guest-tests/moves.py.
#include <x86intrin.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "vmm/core/catch.hpp"
#include "vmm/engine/kvm/kvm_rig.hpp"
#include "vmm/engine/soft/soft_engine.hpp"

using namespace viv;
using namespace viv::testing;

namespace {

constexpr uint32_t msr_tsc = 0x10, msr_deadline = 0x6E0;
constexpr size_t lapic_id = 0x20, lapic_svr = 0xF0, lapic_irr = 0x200, lapic_timer = 0x320, lapic_initial = 0x380,
                 lapic_current = 0x390;

/// The software CPUs of a machine on virtual time. Several sets of them stand for the engines before and after a move.
struct SoftCpus {
    explicit SoftCpus(GuestMemory& memory, VirtualClock& clock, uint32_t cpus = 1, TimeStampCounter tsc = {},
                      const std::optional<CpuidBase>& processor = {})
        : engine(make({.memory = memory, .cpus = cpus, .tsc = tsc, .processor = processor}, clock)) {
        for (uint32_t id = 0; id < cpus; ++id) {
            auto vcpu = engine->create_vcpu(VcpuId{id});
            REQUIRE(vcpu);
            vcpus.push_back(std::move(*vcpu));
            hosts.emplace_back().vcpu = vcpus.back().get();
        }
    }
    static std::unique_ptr<Engine> make(const EngineConfig& config, VirtualClock& clock) {
        auto made = make_soft_engine(config, clock);
        REQUIRE(made);
        return std::move(*made);
    }
    Stop run(size_t i = 0, uint64_t budget = 1000) { return vcpus[i]->run(hosts[i], budget); }
    CpuState state(size_t i = 0) {
        auto now = vcpus[i]->state();
        REQUIRE(now);
        return *now;
    }

    std::unique_ptr<Engine> engine;
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    std::deque<RecordingHost> hosts;
};

struct Memory : GuestMemory {
    Memory() { REQUIRE(add(Gpa{0}, 4 << 20, Kind::ram, "ram")); }
    void code(uint64_t address, std::initializer_list<uint8_t> bytes) {
        for (const uint8_t byte : bytes) store(Gpa{address++}, byte);
    }
};

void put(CpuState& state, size_t reg, uint32_t value) {
    std::memcpy(state.lapic.data() + reg, &value, sizeof value);
}
uint32_t get(const CpuState& state, size_t reg) {
    uint32_t value = 0;
    std::memcpy(&value, state.lapic.data() + reg, sizeof value);
    return value;
}
uint64_t msr(const CpuState& state, uint32_t index) {
    const auto found = std::ranges::find(state.msrs, index, &Msr::index);
    return found == state.msrs.end() ? 0 : found->value;
}
void set_msr(CpuState& state, uint32_t index, uint64_t value) {
    const auto found = std::ranges::find(state.msrs, index, &Msr::index);
    if (found != state.msrs.end()) {
        found->value = value;
    } else {
        state.msrs.push_back({index, value});
        std::ranges::sort(state.msrs, {}, &Msr::index);
    }
}

/// What CPUID shows to code in real mode, leaf by leaf. `run` executes from a state and gives the one behind it.
std::vector<CpuidLeaf> shown_cpuid(auto run) {
    std::vector<CpuidLeaf> shown;
    for (const uint32_t base : {0u, 0x80000000u}) {
        for (uint32_t leaf = base; leaf <= base + 0x18; ++leaf) {
            for (uint32_t subleaf = 0; subleaf < 10; ++subleaf) {
                CpuState state = Rig::real_mode();
                state.gpr[RAX] = leaf;
                state.gpr[RCX] = subleaf;
                const CpuState after = run(state);
                const auto low = [&](size_t reg) { return static_cast<uint32_t>(after.gpr[reg]); };
                shown.push_back({leaf, subleaf, true, low(RAX), low(RBX), low(RCX), low(RDX)});
            }
        }
    }
    return shown;
}

}  // namespace

TEST_CASE("move: the processor is the one that it was, with all that CPUID shows of it") {
    Memory memory;
    VirtualClock clock(100);
    memory.code(0x1000, {0x0F, 0xA2, 0xF4});  // cpuid; hlt
    // As some KVM could show it.
    CpuidBase amd{.identity = {"AuthenticAMD", 25, 1, 1, "AMD EPYC 7R13"}};
    amd.supported.set(CpuFeature::pcid, false);
    amd.physical_address_bits = 48;
    amd.xsave = {{.leaf = 0xD, .indexed = true, .eax = 0xE7, .ebx = 576, .ecx = 0x980}};  // no sizes of components
    SoftCpus before(memory, clock, 2, {2'300'000'000, {}}, amd);
    const auto processor = before.engine->processor();
    REQUIRE(processor);
    CHECK(processor->identity == amd.identity);
    CHECK(processor->physical_address_bits == 48);
    CHECK(processor->shown_hertz == 0);
    CHECK_FALSE(processor->supported.has(CpuFeature::pcid));
    CHECK_FALSE(processor->supported.has(CpuFeature::avx512f));  // nothing that is not executed
    SoftCpus after(memory, clock, 2, {2'300'000'000, {}}, processor);
    const auto cpuid_of = [](SoftCpus& cpus) {
        return shown_cpuid([&](const CpuState& state) {
            REQUIRE(cpus.vcpus[0]->set_state(state));
            CHECK(cpus.run() == Stop::halted);
            return cpus.state();
        });
    };
    CHECK(cpuid_of(before) == cpuid_of(after));
    const auto avx = std::ranges::find(processor->xsave, 2u, &CpuidLeaf::subleaf);
    const bool has_avx = processor->supported.has(CpuFeature::avx);
    CHECK((avx != processor->xsave.end() && avx->eax == 256 && avx->ebx == 576) == has_avx);
    // Its vendor's rules come with it: performance counters of AMD's, and reserved bits of page tables from 48 on.
    CpuState state = Rig::real_mode();
    state.gpr[RCX] = 0xC0010200;
    memory.code(0x1000, {0x0F, 0x32, 0xF4});  // rdmsr; hlt
    REQUIRE(after.vcpus[0]->set_state(state));
    CHECK(after.run() == Stop::halted);
    CHECK(after.state().rip == 0x1003);
    SoftCpus own(memory, clock);
    CHECK(own.engine->processor()->identity.vendor == "GenuineIntel");
    CHECK(own.engine->processor()->shown_hertz == 1'000'000'000);
}

TEST_CASE("move: the processor passes from KVM to the software CPU and back") {
    VIV_KVM_RIG(rig);
    VirtualClock clock(100);
    const auto first = rig.engine->processor();
    REQUIRE(first);
    SoftCpus soft(rig.memory, clock, 1, rig.engine->time_stamp_counter(), first);
    const auto moved = soft.engine->processor();
    CHECK(moved->identity == first->identity);
    CHECK(moved->physical_address_bits == first->physical_address_bits);
    CHECK((moved->supported - first->supported).empty());
    rig.load(0x1000, {0x0F, 0xA2, 0xE6, 0xF4, 0xF4});  // cpuid; out F4h,al; hlt
    const auto at_kvm = shown_cpuid([&](const CpuState& state) {
        CHECK(rig.run(state) == Stop::kicked);
        return *rig.cpu().state();
    });
    const auto at_soft = shown_cpuid([&](const CpuState& state) {
        REQUIRE(soft.vcpus[0]->set_state(state));
        CHECK(soft.run() == Stop::kicked);
        return soft.state();
    });
    for (size_t i = 0; i < at_kvm.size(); ++i) {
        const CpuidLeaf &kvm = at_kvm[i], &own = at_soft[i];
        INFO("leaf " << std::hex << kvm.leaf << " subleaf " << kvm.subleaf);
        // Here and in leaf 1 are features, which KVM may show more of.
        const bool features =
            kvm.leaf == 6 || kvm.leaf == 7 || kvm.leaf == 0xD || kvm.leaf == 0x80000001 || kvm.leaf == 0x80000007;
        const uint32_t last = kvm.leaf < 0x80000000 ? at_kvm[0].eax : at_kvm[250].eax;
        if (features || kvm.leaf > last) continue;
        CHECK(kvm.eax == own.eax);
        CHECK(kvm.ebx == own.ebx);
        if (kvm.leaf == 1) continue;
        CHECK(kvm.ecx == own.ecx);
        CHECK(kvm.edx == own.edx);
    }
    // Back again, and from a software CPU that was the first.
    SoftCpus other(rig.memory, clock, 1, rig.engine->time_stamp_counter());
    for (SoftCpus* from : {&soft, &other}) {
        const auto processor = from->engine->processor();
        auto kvm = make_kvm_engine({.memory = rig.memory, .processor = processor}, {});
        REQUIRE(kvm);
        REQUIRE((*kvm)->create_vcpu(VcpuId{0}));
        CHECK((*kvm)->processor()->identity == processor->identity);
        CHECK((*kvm)->processor()->shown_hertz == processor->shown_hertz);
        CHECK((*kvm)->processor()->physical_address_bits == processor->physical_address_bits);
    }
}

TEST_CASE("move: INIT and start-up messages that a CPU has not looked at are in its state") {
    Memory memory;
    VirtualClock clock(100);
    SoftCpus before(memory, clock, 2), after(memory, clock, 2);
    // As one CPU sends them to the other: INIT, then a start-up message for page 2.
    before.engine->send(0xFEE01000, 0x4500);
    const CpuState initialised = before.state(1);
    CHECK(initialised.activity == Activity::init_received);
    REQUIRE(after.vcpus[1]->set_state(initialised));
    after.engine->send(0xFEE01000, 0x4602);
    const CpuState started = after.state(1);
    CHECK(started.activity == Activity::running);
    CHECK(started.cs.selector == 0x200);
    CHECK(started.rip == 0);
}

TEST_CASE("move: the TSC deadline and a local timer that is due go on counting") {
    Memory memory;
    VirtualClock clock(100);
    SoftCpus before(memory, clock), after(memory, clock);
    CpuState state = before.state();
    put(state, lapic_svr, 0x1FF);
    put(state, lapic_timer, 0x40031);  // TSC deadline, vector 31h
    set_msr(state, msr_deadline, msr(state, msr_tsc) + 5000);
    REQUIRE(before.vcpus[0]->set_state(state));
    CHECK(msr(before.state(), msr_deadline) == msr(state, msr_deadline));
    REQUIRE(after.vcpus[0]->set_state(before.state()));
    clock.skip_to(VirtualTime{4999});
    clock.run_due();
    CHECK(get(after.state(), lapic_irr + 0x10) == 0);
    clock.skip_to(VirtualTime{5000});
    clock.run_due();
    CHECK(get(after.state(), lapic_irr + 0x10) == 1u << 0x11);

    // A one-shot count that has just run out, before anybody has called the timer.
    put(state, lapic_timer, 0x31);
    put(state, lapic_initial, 100);
    put(state, lapic_current, 100);
    set_msr(state, msr_deadline, 0);
    REQUIRE(before.vcpus[0]->set_state(state));
    clock.skip_to(clock.now() + Duration{1000});
    REQUIRE(after.vcpus[0]->set_state(before.state()));
    clock.skip_to(clock.now() + Duration{100});
    clock.run_due();
    CHECK(get(after.state(), lapic_irr + 0x10) == 1u << 0x11);
}

TEST_CASE("move: a single-step trap that is due, and an event for a halted CPU, are delivered") {
    Memory memory;
    VirtualClock clock(100);
    SoftCpus before(memory, clock), after(memory, clock);
    memory.store<uint32_t>(Gpa{1 * 4}, 0x2000);
    memory.store<uint32_t>(Gpa{9 * 4}, 0x3000);
    memory.code(0x1000, {0xE6, 0xF4, 0xF4});  // out F4h,al; hlt -- the OUT kicks, under the trap flag
    memory.code(0x2000, {0x40, 0xF4});        // inc ax; hlt
    memory.code(0x3000, {0x43, 0xF4});        // inc bx; hlt
    CpuState state = Rig::real_mode();
    state.rflags |= 0x100;
    REQUIRE(before.vcpus[0]->set_state(state));
    CHECK(before.run() == Stop::kicked);
    const CpuState trapped = before.state();
    REQUIRE(after.vcpus[0]->set_state(trapped));
    CHECK(after.run() == Stop::halted);
    CHECK(after.state().gpr[RAX] == 1);
    CHECK((after.state().dr6 & 0x4000) != 0);

    CpuState halted = after.state();
    halted.gpr[RBX] = 0;
    halted.activity = Activity::halted;
    halted.event_pending = true;
    halted.event_vector = 9;
    REQUIRE(before.vcpus[0]->set_state(halted));
    CHECK(before.run() == Stop::halted);
    CHECK(before.state().gpr[RBX] == 1);
}

TEST_CASE("move: the software CPU refuses what it does not have, and says what that is") {
    Memory memory;
    VirtualClock clock(100);
    SoftCpus cpus(memory, clock);
    CpuState state = cpus.state();
    state.xcr0 = 0xE7;
    CHECK(cpus.vcpus[0]->set_state(state).error().message.find("XSAVE components 0xe0") != std::string::npos);
    state.xcr0 = 1;
    state.cr4 = 0x1000;  // LA57
    CHECK(cpus.vcpus[0]->set_state(state).error().message.find("CR4") != std::string::npos);
}

TEST_CASE("move: the time stamp counter has the rate and the start that it is given") {
    Memory memory;
    VirtualClock clock(100);
    SoftCpus cpus(memory, clock, 1, {2'500'000'000, 1'000'000});
    CHECK(cpus.engine->time_stamp_counter().hertz == 2'500'000'000);
    clock.skip_to(VirtualTime{1000});
    CHECK(msr(cpus.state(), msr_tsc) == 1'002'500);
}

TEST_CASE("move: registers, vectors and local APIC pass from the software CPU to KVM and back") {
    VIV_KVM_RIG(rig);
    VirtualClock clock(100);
    TimeStampCounter tsc = rig.engine->time_stamp_counter();
    tsc.shows = __rdtsc();
    SoftCpus soft(rig.memory, clock, 1, tsc);
    for (const CpuState& mode : {Rig::real_mode(), Rig::protected_mode(), rig.long_mode()}) {
        CpuState state = mode;
        for (size_t i = 0; i < state.gpr.size(); ++i) state.gpr[i] = 0x1111 * (i + 1);
        state.xsave.assign(832, 0);
        for (size_t i = 0; i < 256; ++i) state.xsave[160 + i] = static_cast<uint8_t>(i * 7);
        state.xsave[32] = 0x5A;  // ST0
        state.xsave[0] = 0x7F;
        state.xsave[1] = 0x02;
        state.xsave[4] = 0x01;
        state.xsave[25] = 0x1F;
        state.xsave[24] = 0x80;
        state.xsave[512] = 3;
        state.interrupt_shadow = true;
        state.dr[1] = 0x1234;
        REQUIRE(soft.vcpus[0]->set_state(state));
        CpuState sent = soft.state();
        put(sent, lapic_svr, 0x1FF);
        put(sent, lapic_irr + 0x10, 1u << 5);
        set_msr(sent, msr_tsc, __rdtsc());
        const auto taken = rig.cpu().set_state(sent);
        INFO((taken ? std::string() : taken.error().message));
        REQUIRE(taken);
        const auto kept = rig.cpu().state();
        REQUIRE(kept);
        REQUIRE(soft.vcpus[0]->set_state(*kept));
        const CpuState back = soft.state();
        CHECK(back.gpr == sent.gpr);
        CHECK(back.rip == sent.rip);
        CHECK(back.rflags == sent.rflags);
        CHECK(back.cr0 == sent.cr0);
        CHECK(back.cr4 == sent.cr4);
        CHECK(back.efer == sent.efer);
        CHECK(back.dr == sent.dr);
        CHECK(back.interrupt_shadow);
        CHECK(back.cs.base == sent.cs.base);
        CHECK(back.cs.type == sent.cs.type);
        CHECK(std::equal(back.xsave.begin(), back.xsave.begin() + 416, sent.xsave.begin()));
        CHECK(get(back, lapic_svr) == 0x1FF);
        CHECK(get(back, lapic_irr + 0x10) == 1u << 5);
        CHECK(get(back, lapic_id) == get(sent, lapic_id));
        CHECK(msr(back, msr_tsc) >= msr(sent, msr_tsc));
    }
}

TEST_CASE("move: an expired one-shot timer does not fire again, and an event ends a halt, on KVM") {
    VIV_KVM_RIG(rig);
    VirtualClock clock(100);
    SoftCpus soft(rig.memory, clock, 1, rig.engine->time_stamp_counter());
    rig.memory.store<uint32_t>(Gpa{0x31 * 4}, 0x2000);
    rig.memory.store<uint32_t>(Gpa{9 * 4}, 0x3000);
    rig.load(0x1000, {0xF4});                                      // hlt
    rig.load(0x2000, {0xB3, 0x77, 0xE6, 0xF4});                    // mov bl,77h; out F4h,al
    rig.load(0x3000, {0xB9, 0, 0, 0xFB, 0xE2, 0xFE, 0xE6, 0xF4});  // mov cx,0; sti; loop $; out F4h,al
    REQUIRE(soft.vcpus[0]->set_state(Rig::real_mode()));
    CpuState state = soft.state();
    put(state, lapic_svr, 0x1FF);
    put(state, lapic_timer, 0x31);
    put(state, lapic_initial, 100);
    put(state, lapic_current, 0);
    state.activity = Activity::halted;
    state.rip = 0x1001;
    state.rflags = 0x202;
    state.event_pending = true;
    state.event_vector = 9;
    CHECK(rig.run(state) == Stop::kicked);
    const auto after = rig.cpu().state();
    REQUIRE(after);
    CHECK((after->gpr[RBX] & 0xFF) == 0);
}

TEST_CASE("move: a local timer of KVM's that ran out between two runs is in the state, which executes nothing") {
    VIV_KVM_RIG(rig);
    rig.load(0x1000, {0x40, 0xEB, 0xFD});  // inc ax; jmp 1000h
    REQUIRE(rig.cpu().set_state(Rig::real_mode()));
    auto state = rig.cpu().state();
    REQUIRE(state);
    put(*state, lapic_svr, 0x1FF);
    put(*state, lapic_timer, 0x31);
    put(*state, lapic_initial, 300'000);
    put(*state, lapic_current, 300'000);
    REQUIRE(rig.cpu().set_state(*state));
    const auto requests = [](const CpuState& now) { return get(now, lapic_irr + 0x10); };
    auto now = rig.cpu().state();
    for (int i = 0; i < 1000 && now && requests(*now) == 0; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        now = rig.cpu().state();
    }
    REQUIRE(now);
    CHECK(requests(*now) == 1u << 0x11);
    CHECK(now->rip == 0x1000);
    CHECK(now->gpr == state->gpr);
    CHECK(get(*now, lapic_current) == 0);
}

TEST_CASE("move: KVM refuses a time stamp counter that it cannot have, and 32-bit paging where it has none") {
    VIV_KVM_RIG(rig);
    const TimeStampCounter own = rig.engine->time_stamp_counter();
    if (!own.shows) VIV_SKIP("this host's KVM sets time stamp counters");
    auto other = make_kvm_engine({rig.memory, 1, "max", {own.hertz + 500'000'000, std::nullopt}}, {});
    REQUIRE(other);
    const auto refused = (*other)->create_vcpu(VcpuId{0});
    REQUIRE(!refused);
    CHECK(refused.error().message.find("MHz") != std::string::npos);
    CpuState state = Rig::real_mode();
    state.msrs.push_back({msr_tsc, *own.shows + 100 * own.hertz});
    CHECK(rig.cpu().set_state(state).error().message.find("time stamp counter") != std::string::npos);
    state = Rig::protected_mode();
    state.cr0 |= 0x80000000;
    const auto set = rig.cpu().set_state(state);
    CHECK((set || set.error().message.find("32-bit paging") != std::string::npos));
}
