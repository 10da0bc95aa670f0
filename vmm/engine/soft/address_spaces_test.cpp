// PCIDs: what is kept, and what has to be forgotten.
#include "vmm/engine/soft/long_machine.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/soft_vcpu.hpp"
#include "vmm/engine/soft/system.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

using Machine = PagedLongMachine;
constexpr uint64_t pcide = 0x20000, no_flush = uint64_t{1} << 63;
constexpr uint64_t here = 0x50000, one = 0x60000, two = 0x61000;
constexpr uint64_t user_page = Machine::present | Machine::writable | Machine::user;

/// Two address spaces, whose page `here` is page `one` or `two`, and the user's look at it without any code.
class TwoSpaces : public Machine {
  public:
    static constexpr uint64_t first = tables, second = 0x80000;  // CR3 without PCID

    TwoSpaces() {
        make_tables(second);
        memory.store(Gpa{one}, uint8_t{1});
        memory.store(Gpa{two}, uint8_t{2});
        map_to(here, one, user_page, first);
        map_to(here, two, user_page, second);
        CpuState s = start(3);
        s.cr4 |= pcide;
        REQUIRE(vcpu->set_state(s));
    }
    soft::Cpu& cpu() { return static_cast<soft::SoftVcpu&>(*vcpu).cpu(); }
    unsigned look() { return soft::load<uint8_t>(cpu(), &insn, here, soft::DS); }
    void go_to(uint64_t root, uint16_t pcid, uint64_t bits = no_flush) { soft::set_cr3(cpu(), root | pcid | bits); }
    /// Behind the processor's back.
    void remap(uint64_t root, uint64_t to, uint64_t bits = user_page) { map_to(here, to, bits, root); }
    void invpcid(uint64_t type, uint16_t pcid, uint64_t address = here) {
        soft::Insn i;
        i.dst = RAX * 8;
        i.base = RBX * 8;
        i.seg = soft::DS;
        memory.store(Gpa{data_at}, uint64_t{pcid});
        memory.store(Gpa{data_at + 8}, address);
        cpu().gpr[RAX] = type;
        cpu().gpr[RBX] = data_at;
        const uint8_t cpl = std::exchange(cpu().cpl, uint8_t{0});
        soft::invpcid(cpu(), i);
        cpu().cpl = cpl;
    }
    /// Both known, then both changed; the first is current.
    void know_and_change(uint64_t bits = user_page) {
        remap(first, one, bits);
        remap(second, two, bits);
        go_to(second, 2, 0);
        CHECK(look() == 2);
        go_to(first, 1, 0);
        CHECK(look() == 1);
        remap(first, two, bits);
        remap(second, one, bits);
    }

    soft::Insn insn;
};

}  // namespace

TEST_CASE("A PCID's translations stay until MOV to CR3 without bit 63 forgets them") {
    TwoSpaces m;
    m.know_and_change();
    m.go_to(TwoSpaces::second, 2);
    CHECK(m.look() == 2);
    m.go_to(TwoSpaces::first, 1);
    CHECK(m.look() == 1);
    m.go_to(TwoSpaces::second, 2, 0);
    CHECK(m.look() == 1);
    m.go_to(TwoSpaces::first, 1, 0);
    CHECK(m.look() == 2);
}

TEST_CASE("A PCID has no translations of another, also when there are more PCIDs than places for them") {
    TwoSpaces m;
    for (unsigned round = 0; round < 2; ++round) {
        for (uint16_t pcid = 0; pcid < 40; ++pcid) {
            m.go_to(pcid % 2 ? TwoSpaces::second : TwoSpaces::first, pcid);
            CHECK(m.look() == (pcid % 2 ? 2 : 1));
        }
    }
}

TEST_CASE("Without CR4.PCIDE a MOV to CR3 forgets what is not global") {
    TwoSpaces m;
    soft::set_cr4(m.cpu(), m.cpu().cr4 & ~pcide);
    m.remap(TwoSpaces::second, two, user_page | Machine::global);
    m.go_to(TwoSpaces::first, 0, 0);
    CHECK(m.look() == 1);
    m.go_to(TwoSpaces::second, 0, 0);
    CHECK(m.look() == 2);
    m.go_to(TwoSpaces::first, 0, 0);
    CHECK(m.look() == 2);
    soft::flush_tlb_page(m.cpu(), here);
    CHECK(m.look() == 1);
}

TEST_CASE("INVPCID forgets a page, a PCID, all, or all but global ones") {
    TwoSpaces m;
    const auto look_at_second = [&m] {
        m.go_to(TwoSpaces::second, 2);
        return m.look();
    };
    const auto look_at_first = [&m] {
        m.go_to(TwoSpaces::first, 1);
        return m.look();
    };
    for (const uint64_t type : {0u, 1u}) {
        INFO("type " << type);
        m.know_and_change();
        m.invpcid(type, 2);
        CHECK(m.look() == 1);
        CHECK(look_at_second() == 1);
        m.know_and_change();
        m.invpcid(type, 1);
        CHECK(m.look() == 2);
        CHECK(look_at_second() == 2);
    }
    for (const uint64_t type : {2u, 3u}) {
        INFO("type " << type);
        m.know_and_change();
        m.invpcid(type, 0);
        CHECK(look_at_second() == 1);
        CHECK(look_at_first() == 2);
    }
    m.know_and_change(user_page | Machine::global);
    m.invpcid(3, 0);
    CHECK(look_at_second() == 2);
    m.invpcid(0, 1);
    CHECK(look_at_second() == 2);
    m.invpcid(2, 0);
    CHECK(look_at_second() == 1);
}

TEST_CASE("INVLPG forgets the page of the current PCID, and a global one everywhere") {
    TwoSpaces m;
    m.know_and_change(user_page | Machine::global);
    soft::flush_tlb_page(m.cpu(), here);
    CHECK(m.look() == 2);
    m.go_to(TwoSpaces::second, 2);
    CHECK(m.look() == 1);
}

TEST_CASE("Switching PCIDs off, a new state, and changed rights of keys forget all PCIDs' translations") {
    TwoSpaces m;
    m.know_and_change();
    m.go_to(TwoSpaces::second, 0, 0);
    soft::set_cr4(m.cpu(), m.cpu().cr4 & ~pcide);
    soft::set_cr4(m.cpu(), m.cpu().cr4 | pcide);
    m.go_to(TwoSpaces::first, 1);
    CHECK(m.look() == 2);
    m.know_and_change();
    CpuState s = m.state();
    REQUIRE(m.vcpu->set_state(s));
    m.go_to(TwoSpaces::second, 2);
    CHECK(m.look() == 1);
    soft::set_cr4(m.cpu(), m.cpu().cr4 | 0x400000);
    m.know_and_change();
    soft::set_pkru(m.cpu(), 1);
    m.go_to(TwoSpaces::second, 2);
    CHECK_THROWS_AS(m.look(), soft::Fault);
}

TEST_CASE("Code at one address is that of its PCID, whatever links were made") {
    TwoSpaces m;
    // The user's page: mov al, 1 or 2; syscall. The kernel notes AL, and goes to the other address space.
    constexpr uint64_t kernel_at = 0x30000, notes = 0x3F000;
    for (const auto& [page, value] : {std::pair{one, uint8_t{1}}, std::pair{two, uint8_t{2}}}) {
        m.code(page, {0xB0, value, 0x90, 0xEB, 0x00, 0x0F, 0x05});  // with a jump, to be linked
    }
    // stosb; mov rdx, cr3-of-the-other (r9); xchg r8, r9; mov cr3, r9'; dec ebp; jz end; mov rcx, r12; sysret; hlt
    m.code(kernel_at, {0xAA, 0x4D, 0x87, 0xC8, 0x41, 0x0F, 0x22, 0xD9, 0xFF, 0xCD, 0x74, 0x06, 0x4C, 0x89, 0xE1, 0x48,
                       0x0F, 0x07, 0xF4});
    for (const uint64_t root : {TwoSpaces::first, TwoSpaces::second}) {
        m.map(kernel_at, Machine::present | Machine::writable | Machine::global, root);
        m.map(notes, Machine::present | Machine::writable | Machine::global, root);
    }
    CpuState s = Machine::start(3);
    s.cr4 |= pcide;
    s.cr3 = TwoSpaces::first | 1;
    s.msrs = {{0xC0000081, uint64_t{0x13} << 48 | uint64_t{Machine::code0} << 32}, {0xC0000082, kernel_at}};
    s.rip = s.gpr[R12] = here;
    s.gpr[RDI] = notes;
    s.gpr[RBP] = 64;
    s.gpr[R8] = TwoSpaces::second | 2 | no_flush;
    s.gpr[R9] = TwoSpaces::first | 1 | no_flush;
    REQUIRE(m.vcpu->set_state(s));
    CHECK(m.run(10'000) == Stop::halted);
    for (uint64_t n = 0; n < 64; ++n) CHECK(m.memory.load<uint8_t>(Gpa{notes + n}) == 1 + n % 2);
}
