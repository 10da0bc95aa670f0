#include <vector>

#include "vmm/engine/soft/test_machine.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

constexpr uint32_t apic_base = 0x1B, tsc_deadline = 0x6E0, svr = 0x80F, lvt_timer = 0x832, initial_count = 0x838,
                   current_count = 0x839, divide = 0x83E;
constexpr uint32_t one_shot = 0x40, periodic = 0x20040, deadline_mode = 0x40040, masked = 0x10000;
constexpr uint32_t by_1 = 0xB, by_2 = 0;
constexpr uint64_t handler = 0x3000;

/// Real-mode code that reads and writes MSRs; in x2APIC mode those are the local APIC's registers.
struct Code {
    std::vector<uint8_t> bytes;
    Code& byte(uint8_t value) {
        bytes.push_back(value);
        return *this;
    }
    Code& load(uint8_t opcode, uint32_t value) {
        byte(0x66).byte(opcode);
        for (unsigned i = 0; i < 32; i += 8) byte(static_cast<uint8_t>(value >> i));
        return *this;
    }
    Code& write(uint32_t msr, uint32_t value) {
        return load(0xB9, msr).load(0xB8, value).load(0xBA, 0).byte(0x0F).byte(0x30);
    }
    Code& read(uint32_t msr) { return load(0xB9, msr).byte(0x0F).byte(0x32); }
};

class ApicMachine : public TestMachine {
  public:
    ApicMachine() {
        memory.store(Gpa{0x40 * 4}, static_cast<uint32_t>(handler));
        CpuState s = reset_state(true);
        s.cs = {.selector = 0, .base = 0, .type = 11};
        s.rip = 0x1000;
        s.gpr[RSP] = 0x8000;
        s.apic_base = 0xFEE00D00;
        REQUIRE(vcpu->set_state(s));
        execute(Code().write(svr, 0x1FF).write(divide, by_1));
    }
    /// Runs the code with interrupts off, to its HLT.
    void execute(Code code) {
        code.byte(0xF4);
        at(0x1000, code);
        CpuState s = state();
        s.rip = 0x1000;
        s.activity = Activity::running;
        REQUIRE(vcpu->set_state(s));
        while (run() == Stop::kicked) continue;
        REQUIRE(state().activity == Activity::halted);
    }
    void at(uint64_t address, const Code& code) {
        for (const uint8_t byte : code.bytes) memory.store(Gpa{address++}, byte);
    }
    uint32_t read(uint32_t msr) {
        execute(Code().read(msr));
        return static_cast<uint32_t>(state().gpr[RAX]);
    }
    void pass(int64_t nanoseconds) {
        clock.skip_to(clock.now() + Duration{nanoseconds});
        clock.run_due();
    }
};

}  // namespace

TEST_CASE("A TSC deadline that has passed interrupts at once, and is over") {
    ApicMachine m;
    m.at(handler, Code().read(tsc_deadline).byte(0xF4));
    Code code = Code().write(lvt_timer, deadline_mode).write(tsc_deadline, 1).byte(0xFB).byte(0x90).byte(0xF4);
    m.at(0x1000, code);
    CpuState s = m.state();
    s.rip = 0x1000;
    s.activity = Activity::running;
    s.gpr[RAX] = ~uint64_t{0};
    REQUIRE(m.vcpu->set_state(s));
    while (m.run() == Stop::kicked) continue;
    CHECK(m.state().rip > handler);
    CHECK(m.state().gpr[RAX] == 0);
}

TEST_CASE("The local APIC's count goes on when its mode changes between one-shot and periodic") {
    ApicMachine m;
    m.execute(Code().write(lvt_timer, one_shot | masked).write(initial_count, 1'000'000));
    m.pass(600'000);
    m.execute(Code().write(lvt_timer, periodic | masked));
    CHECK(m.read(current_count) < 400'000);
    CHECK(m.read(current_count) > 390'000);
    m.pass(500'000);  // around the end
    CHECK(m.read(current_count) > 890'000);
    m.pass(600'000);
    m.execute(Code().write(lvt_timer, one_shot | masked));
    CHECK(m.read(current_count) < 300'000);
    m.pass(400'000);
    CHECK(m.read(current_count) == 0);
    m.execute(Code().write(lvt_timer, periodic | masked).read(current_count));
    CHECK(static_cast<uint32_t>(m.state().gpr[RAX]) == 0);
    CHECK(m.read(initial_count) == 1'000'000);
    m.execute(Code().write(lvt_timer, deadline_mode | masked));
    CHECK(m.read(initial_count) == 0);
}

TEST_CASE("A count that ran out has ended before the mode changes, also when the clock has not called yet") {
    ApicMachine m;
    Code code = Code().write(lvt_timer, one_shot).write(initial_count, 100);
    for (int i = 0; i < 40; ++i) code.byte(0x90);
    m.execute(code.write(lvt_timer, periodic | masked).read(current_count));
    CHECK(static_cast<uint32_t>(m.state().gpr[RAX]) == 0);
    CHECK((m.state().lapic[0x220] & 1) != 0);  // vector 40h
}

TEST_CASE("A change of the divider keeps the local APIC's count and changes its pace") {
    ApicMachine m;
    m.execute(Code().write(lvt_timer, one_shot | masked).write(initial_count, 1'000'000));
    m.pass(500'000);
    m.execute(Code().write(divide, by_2));
    const uint32_t before = m.read(current_count);
    CHECK(before < 500'000);
    CHECK(before > 490'000);
    m.pass(200'000);
    CHECK(m.read(current_count) <= before - 100'000);
    CHECK(m.read(current_count) > before - 110'000);
}

TEST_CASE("A local APIC that was disabled has its first ID again") {
    ApicMachine m;
    CpuState s = m.state();
    s.apic_base = 0xFEE00900;
    s.lapic[0x23] = 5;
    REQUIRE(m.vcpu->set_state(s));
    CHECK(m.state().lapic[0x23] == 5);
    m.execute(Code().write(apic_base, 0xFEE00000).write(apic_base, 0xFEE00800));
    CHECK(m.state().lapic[0x23] == 0);
}
