#include "vmm/engine/soft/jit.hpp"

#include <initializer_list>
#include <random>
#include <vector>

#include "vmm/engine/soft/long_machine.hpp"
#include "vmm/engine/soft/soft_vcpu.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

/// Makes loops of random instructions. RBX points to data, RSP to a stack, R15 counts the rounds.
class Programs {
  public:
    explicit Programs(unsigned seed) : random_(seed) {}

    std::vector<uint8_t> make(unsigned length, uint8_t rounds) {
        code_ = {0x41, 0xBF, rounds, 0, 0, 0};  // mov r15d, rounds
        const size_t start = code_.size();
        for (unsigned n = 0; n < length; ++n) instruction();
        add({0x41, 0xFF, 0xCF, 0x0F, 0x85});  // dec r15d; jnz start
        const auto back = static_cast<uint32_t>(start - code_.size() - 4);
        for (unsigned n = 0; n < 4; ++n) code_.push_back(static_cast<uint8_t>(back >> (8 * n)));
        code_.push_back(0xF4);
        return code_;
    }

  private:
    unsigned number(unsigned below) { return static_cast<unsigned>(random_() % below); }
    uint8_t byte() { return static_cast<uint8_t>(random_()); }
    void add(std::initializer_list<uint8_t> bytes) { code_.insert(code_.end(), bytes); }
    void add_int32() {
        for (unsigned n = 0; n < 4; ++n) code_.push_back(byte());
    }
    /// Of a register that the program may change.
    unsigned reg() {
        constexpr unsigned rbx = 3, rsp = 4, r15 = 15;
        while (true) {
            const unsigned n = number(16);
            if (n != rbx && n != rsp && n != r15) return n;
        }
    }
    /// Prefixes, opcode and operands: `field` is the register or what it extends the opcode by.
    void with_modrm(std::initializer_list<uint8_t> opcode, unsigned field, bool may_be_memory, bool is_byte) {
        const bool in_memory = may_be_memory && number(2);
        const unsigned rm = in_memory ? 3 : reg();
        const unsigned width = number(4);
        if (width == 0 && !is_byte) code_.push_back(0x66);
        const unsigned rex = 0x40 | (width == 1 ? 8 : 0) | (field >= 8 ? 4 : 0) | (rm >= 8 ? 1 : 0);
        code_.push_back(static_cast<uint8_t>(rex));
        add(opcode);
        code_.push_back(static_cast<uint8_t>((in_memory ? 0x40 : 0xC0) | (field % 8) << 3 | rm % 8));
        // Also over the edge of the page, and so that later ones see what earlier ones wrote.
        if (in_memory) code_.push_back(static_cast<uint8_t>(number(32) * 4 + number(2)));
    }
    void arithmetic() {
        const auto operation = static_cast<uint8_t>(number(8) * 8);
        const bool is_byte = number(4) == 0;
        const auto direction = static_cast<uint8_t>(number(2) * 2);
        with_modrm({static_cast<uint8_t>(operation | direction | (is_byte ? 0 : 1))}, reg(), true, is_byte);
    }
    void with_immediate() {
        with_modrm({0x83}, number(8), true, false);
        code_.push_back(byte());
    }
    void shift() {
        const bool is_byte = number(4) == 0;
        unsigned operation = number(8);
        if (operation == 6) operation = 4;
        if (number(2)) return with_modrm({static_cast<uint8_t>(is_byte ? 0xD2 : 0xD3)}, operation, true, is_byte);
        with_modrm({static_cast<uint8_t>(is_byte ? 0xC0 : 0xC1)}, operation, true, is_byte);
        code_.push_back(byte());
    }
    void one_operand() {
        const bool is_byte = number(4) == 0;
        const auto wide = static_cast<uint8_t>(is_byte ? 0 : 1);
        if (number(2)) return with_modrm({static_cast<uint8_t>(0xFE | wide)}, number(2), true, is_byte);
        with_modrm({static_cast<uint8_t>(0xF6 | wide)}, 2 + number(2), true, is_byte);
    }
    void two_byte_opcode() {
        const auto condition = static_cast<uint8_t>(number(16));
        switch (number(6)) {
            case 0: return with_modrm({0x0F, static_cast<uint8_t>(0x40 | condition)}, reg(), true, false);
            case 1: return with_modrm({0x0F, static_cast<uint8_t>(0x90 | condition)}, 0, true, true);
            case 2: return with_modrm({0x0F, static_cast<uint8_t>(0xB6 + number(2))}, reg(), true, false);
            case 3: return with_modrm({0x0F, static_cast<uint8_t>(0xBE + number(2))}, reg(), true, false);
            case 4: return with_modrm({0x0F, 0xAF}, reg(), true, false);
            default: with_modrm({0x0F, 0xBA}, 4 + number(4), true, false); code_.push_back(byte());
        }
    }
    void instruction() {
        switch (number(14)) {
            case 0:
            case 1:
            case 2: return arithmetic();
            case 3: return with_immediate();
            case 4: return shift();
            case 5: return one_operand();
            case 6:
            case 7: return two_byte_opcode();
            case 8: return with_modrm({static_cast<uint8_t>(0x88 + number(4))}, reg(), true, true);
            case 9: return with_modrm({static_cast<uint8_t>(0x84 + number(4))}, reg(), number(2) != 0, true);
            case 10:  // push, pop
                return add({static_cast<uint8_t>(0x50 + number(3)), static_cast<uint8_t>(0x58 + 5 + number(3))});
            case 11:  // lea reg, [rbx + rcx * 4 + disp]
                return add({0x48, 0x8D, static_cast<uint8_t>(0x44 | number(3) << 3), 0x8B, byte()});
            case 12:  // mov reg, imm
                add({0x48, 0xC7, static_cast<uint8_t>(0xC0 | (5 + number(3)))});
                return add_int32();
            default:  // a jump over two bytes, and a call of the RET behind a jump
                if (number(2)) return add({static_cast<uint8_t>(0x70 | number(16)), 2, 0x29, 0xC0});
                add({0xE8, 2, 0, 0, 0, 0xEB, 1, 0xC3});
        }
    }

    std::mt19937 random_;
    std::vector<uint8_t> code_;
};

void load(PagedLongMachine& m, const std::vector<uint8_t>& code, std::mt19937& random) {
    uint64_t address = PagedLongMachine::code_at;
    for (const uint8_t byte : code) m.memory.store(Gpa{address++}, byte);
    for (uint64_t n = 0; n < 0x200; n += 8)
        m.memory.store(Gpa{PagedLongMachine::data_at + 0xF80 + n}, uint64_t{random()} << 32 | random());
}

CpuState random_start(std::mt19937& random) {
    CpuState s = PagedLongMachine::start(0);
    for (unsigned n = 0; n < 16; ++n) {
        if (n == RSP || n == RBX) continue;
        s.gpr[n] = random() % 3 == 0 ? random() % 4 : uint64_t{random()} << 32 | random();
    }
    // Some of the data are on the next page.
    s.gpr[RBX] = PagedLongMachine::data_at + 0xF80;
    s.rflags = 2 | (random() & 0x8D5);
    return s;
}

}  // namespace

TEST_CASE("host code does what the interpreter does") {
    uint64_t compiled = 0;
    for (unsigned seed = 0; seed < 150; ++seed) {
        INFO("seed " << seed);
        const std::vector<uint8_t> code = Programs(seed).make(40, 4);
        PagedLongMachine interpreted, native;
        interpreted.jit().threshold = 0;
        native.jit().shortest_row = 1 + seed % 2;
        for (PagedLongMachine* m : {&interpreted, &native}) {
            std::mt19937 random(seed);
            load(*m, code, random);
            REQUIRE(m->vcpu->set_state(random_start(random)));
            REQUIRE(m->run() == Stop::halted);
        }
        const CpuState expected = interpreted.state(), got = native.state();
        for (unsigned n = 0; n < 16; ++n) {
            INFO("register " << n);
            CHECK(got.gpr[n] == expected.gpr[n]);
        }
        CHECK(got.rflags == expected.rflags);
        CHECK(got.rip == expected.rip);
        CHECK(native.vcpu->instructions() == interpreted.vcpu->instructions());
        for (uint64_t n = 0; n < 0x200; ++n) {
            const Gpa at{PagedLongMachine::data_at + 0xF80 + n};
            if (native.memory.load<uint8_t>(at) != interpreted.memory.load<uint8_t>(at)) FAIL_CHECK("data at " << n);
        }
        CHECK(interpreted.jit().blocks == 0);
        compiled += native.jit().blocks;
    }
    CHECK(compiled > 1000);
}

TEST_CASE("the stack and the branches of 32-bit code are host code, too") {
    constexpr uint64_t code = PagedLongMachine::code_at, data = PagedLongMachine::data_at;
    const auto run = [](uint32_t threshold, uint64_t stack_base) {
        PagedLongMachine m;
        m.jit().threshold = threshold;
        m.jit().shortest_row = 2;
        // again: push eax; push 12345678h; push -1; pop edx; pop esi; pop edi; push esp; pop ebp; call f; call [ebx]
        m.code(code, {0x50, 0x68, 0x78, 0x56, 0x34, 0x12, 0x6A, 0xFF, 0x5A, 0x5E,
                      0x5F, 0x54, 0x5D, 0xE8, 0x1E, 0x00, 0x00, 0x00, 0xFF, 0x13});
        // mov esi, f; call esi; push eax; call g; mov esi, end; jmp esi; hlt; hlt
        m.code(code + 0x14, {0xBE, 0x30, 0x00, 0x02, 0x00, 0xFF, 0xD6, 0x50, 0xE8, 0x17, 0x00,
                             0x00, 0x00, 0xBE, 0x2A, 0x00, 0x02, 0x00, 0xFF, 0xE6, 0xF4, 0xF4});
        // end: dec ecx; jnz again; hlt
        m.code(code + 0x2A, {0x49, 0x75, 0xD3, 0xF4});
        m.code(code + 0x30, {0x83, 0xC0, 0x07, 0xC3});        // f: add eax, 7; ret
        m.code(code + 0x38, {0x01, 0xD0, 0xC2, 0x04, 0x00});  // g: add eax, edx; ret 4
        m.memory.store(Gpa{data}, static_cast<uint32_t>(code + 0x30));
        CpuState s = PagedLongMachine::start(0);
        s.cs.long_mode = false;
        s.cs.default_big = true;
        s.ss.base = stack_base;
        s.gpr[RSP] = PagedLongMachine::stack_top - stack_base;
        s.gpr[RAX] = 0;
        s.gpr[RCX] = 50;
        REQUIRE(m.vcpu->set_state(s));
        REQUIRE(m.run() == Stop::halted);
        CHECK(m.state().rip == code + 0x2E);
        CHECK(m.state().gpr[RAX] == 50 * 20);
        CHECK(m.state().gpr[RSP] == s.gpr[RSP]);
        CHECK(m.memory.load<uint32_t>(Gpa{PagedLongMachine::stack_top - 8}) == code + 0x21);
        // All but the HLT, of which only one has two instructions without its stack or its branch.
        CHECK(m.jit().blocks == (threshold > 0 ? 8 : 0));
        return m.state().gpr;
    };
    CHECK(run(1, 0) == run(0, 0));
    CHECK(run(1, 0x1000) == run(0, 0x1000));
}

TEST_CASE("a run in slices of any length comes to the same as one") {
    const std::vector<uint8_t> code = Programs(7).make(30, 3);
    for (const uint64_t slice : {1, 2, 3, 7, 20}) {
        INFO("slices of " << slice);
        PagedLongMachine interpreted, native;
        interpreted.jit().threshold = 0;
        for (PagedLongMachine* m : {&interpreted, &native}) {
            std::mt19937 random(7);
            load(*m, code, random);
            REQUIRE(m->vcpu->set_state(random_start(random)));
        }
        Stop stop = Stop::budget;
        while (stop == Stop::budget) {
            stop = interpreted.run(slice);
            REQUIRE(native.run(slice) == stop);
            const CpuState expected = interpreted.state(), got = native.state();
            REQUIRE(got.rip == expected.rip);
            REQUIRE(got.gpr == expected.gpr);
            REQUIRE(got.rflags == expected.rflags);
            REQUIRE(native.vcpu->instructions() == interpreted.vcpu->instructions());
        }
    }
}

TEST_CASE("a page fault amid host code leaves everything as of its instruction") {
    PagedLongMachine m;
    m.map(0x60000, 0);
    CpuState s = PagedLongMachine::start(0);
    s.gpr[RBX] = 0x60000;
    s.gpr[RAX] = 0xFFFFFFFFFFFFFFFF;
    // add rax, 1; mov [rbx], rcx; add rax, 1
    m.go(s, {0x48, 0x83, 0xC0, 0x01, 0x48, 0x89, 0x0B, 0x48, 0x83, 0xC0, 0x01});
    CHECK(m.vector_taken() == 14);
    const CpuState after = m.state();
    CHECK(after.gpr[RAX] == 0);
    const uint64_t frame = after.gpr[RSP] + 8;
    CHECK(m.memory.load<uint64_t>(Gpa{frame}) == PagedLongMachine::code_at + 4);
    CHECK((m.memory.load<uint64_t>(Gpa{frame + 16}) & 0x8D5) == 0x55);  // CF, PF, AF and ZF of the addition
    CHECK(m.jit().blocks > 0);
}

TEST_CASE("the interpreter raises the faults of what host code refuses") {
    const auto vector_of = [](std::initializer_list<uint8_t> code) {
        PagedLongMachine m;
        CpuState s = PagedLongMachine::start(0);
        s.gpr[RAX] = 0x1234567812345678;  // not canonical
        m.memory.store(Gpa{PagedLongMachine::data_at}, s.gpr[RAX]);
        m.go(s, code);
        CHECK(m.jit().blocks > 0);
        return m.vector_taken();
    };
    CHECK(vector_of({0xFF, 0xE0}) == 13);                          // jmp rax
    CHECK(vector_of({0xFF, 0xD0}) == 13);                          // call rax
    CHECK(vector_of({0xFF, 0x23}) == 13);                          // jmp [rbx]
    CHECK(vector_of({0x50, 0xC3}) == 13);                          // push rax; ret
    CHECK(vector_of({0x48, 0x8B, 0x00}) == 13);                    // mov rax, [rax]
    CHECK(vector_of({0x48, 0x89, 0xC5, 0x89, 0x45, 0x00}) == 12);  // mov rbp, rax; mov [rbp], eax
}

TEST_CASE("host code that writes to its own block leaves it") {
    PagedLongMachine m;
    CpuState s = PagedLongMachine::start(0);
    s.gpr[RBX] = PagedLongMachine::code_at;
    s.gpr[RAX] = 0x48;
    // mov [rbx+6], al; inc ecx; mov edx, 1, of which the first instruction changes the immediate
    m.go(s, {0x88, 0x43, 0x06, 0xFF, 0xC1, 0xBA, 0x01, 0x00, 0x00, 0x00});
    CHECK(m.stop == Stop::halted);
    CHECK(m.state().gpr[RDX] == 0x48);
    CHECK(m.state().gpr[RCX] == 1);
    CHECK(m.jit().blocks > 0);
}

TEST_CASE("memory for host code that is used up is used again") {
    PagedLongMachine m;
    // Pages of ADD EAX, 1, each with a jump to the next one: more than there is room for.
    constexpr uint64_t first = PagedLongMachine::code_at, pages = 240;
    for (uint64_t page = 0; page < pages; ++page) {
        uint64_t at = first + page * 0x1000;
        for (unsigned n = 0; n < 0xFF0 / 3; ++n) {
            m.memory.store(Gpa{at}, uint16_t{0xC083});
            m.memory.store(Gpa{at + 2}, uint8_t{1});
            at += 3;
        }
        const uint64_t next = first + (page + 1) * 0x1000;
        m.memory.store(Gpa{at}, uint8_t{0xE9});
        m.memory.store(Gpa{at + 1}, static_cast<uint32_t>(next - at - 5));
    }
    m.memory.store(Gpa{first + pages * 0x1000}, uint8_t{0xF4});
    CpuState s = PagedLongMachine::start(0);
    s.gpr[RAX] = 0;
    for (unsigned round = 0; round < 3; ++round) {
        REQUIRE(m.vcpu->set_state(s));
        REQUIRE(m.run(10'000'000) == Stop::halted);
        CHECK(m.state().gpr[RAX] == pages * (0xFF0 / 3));
    }
    // Each round after the first one forgot what was there.
    CHECK(m.jit().blocks > pages * (0xFF0 / 3) / 64 * 2);
}

TEST_CASE("a branch over a page's end is followed until its second page is another one") {
    constexpr uint64_t code = 0x61000, other = 0x64000, far = 0x71000;
    PagedLongMachine m;
    // jmp code+2, of which the upper half of the distance is on the second page: with another one it goes to far+2
    m.code(code + 0xFFD, {0xE9, 0x00, 0xF0, 0xFF, 0xFF});
    m.code(other, {0x00, 0x00});
    m.code(code + 2, {0x83, 0xC0, 0x01, 0xC3});  // add eax, 1; ret
    m.code(far + 2, {0x83, 0xC2, 0x01, 0xC3});   // add edx, 1; ret
    CpuState s = PagedLongMachine::start(0);
    s.gpr[RAX] = s.gpr[RDX] = 0;
    s.gpr[RCX] = 200;
    s.gpr[RBX] = PagedLongMachine::page_table + (code + 0x1000) / 0x1000 * 8;
    s.gpr[RSI] = other | PagedLongMachine::present | PagedLongMachine::writable;
    s.gpr[RBP] = code + 0xFFD;
    s.gpr[RDI] = code + 0x1000;
    // again: call rbp; dec ecx; jnz again; call rbp; mov [rbx], rsi; invlpg [rdi]; call rbp
    m.go(s, {0xFF, 0xD5, 0xFF, 0xC9, 0x75, 0xFA, 0xFF, 0xD5, 0x48, 0x89, 0x33, 0x0F, 0x01, 0x3F, 0xFF, 0xD5});
    REQUIRE(m.stop == Stop::halted);
    CHECK(m.state().gpr[RAX] == 201);
    CHECK(m.state().gpr[RDX] == 1);
    // Nobody was looked for in each round.
    CHECK(static_cast<soft::SoftVcpu&>(*m.vcpu).cpu().counters.block_lookups < 100);
}

TEST_CASE("host code of a page that is mapped twice stays at the address where it is") {
    constexpr uint64_t code = 0x61000, alias = 0x63000;
    PagedLongMachine m;
    m.map_to(alias, code, PagedLongMachine::present | PagedLongMachine::writable);
    // jmp +1; hlt; lea rdx, [rip]; add rax, rdx; ret
    m.code(code, {0xEB, 0x01, 0xF4, 0x48, 0x8D, 0x15, 0, 0, 0, 0, 0x48, 0x01, 0xD0, 0xC3});
    CpuState s = PagedLongMachine::start(0);
    s.gpr[RAX] = 0;
    s.gpr[RCX] = 200;
    s.gpr[RSI] = code;
    s.gpr[RDI] = alias;
    // again: call rsi; call rdi; call rdi; dec ecx; jnz again
    m.go(s, {0xFF, 0xD6, 0xFF, 0xD7, 0xFF, 0xD7, 0xFF, 0xC9, 0x75, 0xF6});
    REQUIRE(m.stop == Stop::halted);
    CHECK(m.state().gpr[RAX] == 200 * (code + 10 + 2 * (alias + 10)));
    CHECK(m.jit().blocks > 0);
}

TEST_CASE("STI goes on with its block when no interrupt waits") {
    PagedLongMachine m;
    // sti; inc eax; cli; sti; inc eax
    m.go(PagedLongMachine::start(0), {0xFB, 0xFF, 0xC0, 0xFA, 0xFB, 0xFF, 0xC0});
    REQUIRE(m.stop == Stop::halted);
    CHECK((m.state().rflags & 0x200) != 0);
    CHECK_FALSE(m.state().interrupt_shadow);
    CHECK(static_cast<soft::SoftVcpu&>(*m.vcpu).cpu().counters.block_lookups == 1);
}

TEST_CASE("host code that is made anew is not entered by the way into its predecessor") {
    constexpr uint64_t code = 0x61000;
    PagedLongMachine m;
    m.code(code, {0x83, 0xC0, 0x00, 0xC3});  // add eax, 0; ret
    CpuState s = PagedLongMachine::start(0);
    s.gpr[RAX] = 0;
    s.gpr[RCX] = 100;
    s.gpr[RSI] = code;
    // again: mov [rsi+2], cl; mov edx, 3; then three times: call code; dec edx; jnz there; dec ecx; jnz again
    m.code(PagedLongMachine::code_at, {0x88, 0x4E, 0x02, 0xBA, 0x03, 0x00, 0x00, 0x00, 0xE8});
    m.memory.store(Gpa{PagedLongMachine::code_at + 9}, static_cast<uint32_t>(code - PagedLongMachine::code_at - 13));
    m.code(PagedLongMachine::code_at + 13, {0xFF, 0xCA, 0x75, 0xF7, 0xFF, 0xC9, 0x75, 0xEB, 0xF4});
    REQUIRE(m.vcpu->set_state(s));
    // The memory of blocks that are gone is used again between slices.
    Stop stop = Stop::budget;
    while (stop == Stop::budget) stop = m.run(10);
    REQUIRE(stop == Stop::halted);
    CHECK(m.state().gpr[RAX] == 3 * 100 * 101 / 2);
}
