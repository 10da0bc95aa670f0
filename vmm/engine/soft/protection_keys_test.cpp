#include <algorithm>

#include "vmm/engine/soft/long_machine.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

using Machine = PagedLongMachine;
constexpr uint64_t pke = 0x400000, pks = 0x1000000, write_protect = 0x10000;
constexpr uint64_t access_disable = 0x10, write_disable = 0x20;  // for key 2
constexpr uint64_t user_page = Machine::present | Machine::writable | Machine::user | Machine::key(2);
constexpr uint64_t supervisor_page = Machine::present | Machine::writable | Machine::key(2);

/// With PKRU, by way of WRPKRU: mov ecx and edx 0 are in the state already.
CpuState with_keys(unsigned cpl, uint64_t rights) {
    CpuState s = Machine::start(cpl);
    s.cr4 |= pke;
    s.gpr[RAX] = rights;
    return s;
}
constexpr std::initializer_list<uint8_t> read_it = {0x0F, 0x01, 0xEF, 0x8B, 0x03};   // wrpkru; mov eax, [rbx]
constexpr std::initializer_list<uint8_t> write_it = {0x0F, 0x01, 0xEF, 0x89, 0x03};  // wrpkru; mov [rbx], eax

}  // namespace

TEST_CASE("A protection key keeps data of user pages from all, and writes from the supervisor only with CR0.WP") {
    Machine m;
    m.map(Machine::data_at, user_page);
    for (const unsigned cpl : {0u, 3u}) {
        INFO("ring " << cpl);
        const uint64_t user = cpl == 3 ? 4 : 0;
        const int none = cpl == 0 ? -1 : 6;
        m.go(with_keys(cpl, access_disable), read_it);
        CHECK(m.vector_taken() == 14);
        CHECK(m.error_code() == (0x21 | user));
        CHECK(m.state().cr2 == Machine::data_at);
        m.go(with_keys(cpl, access_disable), write_it);
        CHECK(m.error_code() == (0x23 | user));
        m.go(with_keys(cpl, write_disable), read_it);
        CHECK(m.vector_taken() == none);
        m.go(with_keys(cpl, write_disable), write_it);
        CHECK(m.vector_taken() == 14);
        CHECK(m.error_code() == (0x23 | user));
        CpuState s = with_keys(cpl, write_disable);
        s.cr0 &= ~write_protect;
        m.go(s, write_it);
        CHECK(m.vector_taken() == (cpl == 0 ? -1 : 14));
        m.go(with_keys(cpl, ~(access_disable | write_disable) & 0xFFFFFFFC), write_it);  // of the other keys but 0
        CHECK(m.vector_taken() == none);
    }
}

TEST_CASE("Protection keys do not forbid execution, and tell of themselves with other reasons, too") {
    Machine m;
    m.map(Machine::data_at, user_page);
    m.code(Machine::data_at, {0x0F, 0x0B});
    m.go(with_keys(3, access_disable), {0x0F, 0x01, 0xEF, 0xFF, 0xE3});  // wrpkru; jmp rbx
    CHECK(m.vector_taken() == 6);
    // What was fetched is still not to be read: wrpkru; call rbx; mov eax, [rbx]
    m.code(Machine::data_at, {0xC3});
    m.go(with_keys(3, access_disable), {0x0F, 0x01, 0xEF, 0xFF, 0xD3, 0x8B, 0x03});
    CHECK(m.vector_taken() == 14);
    m.map(Machine::data_at, user_page & ~Machine::writable);
    m.go(with_keys(3, write_disable), write_it);
    CHECK(m.error_code() == 0x27);
    m.map(Machine::data_at, 0);
    m.go(with_keys(3, access_disable), read_it);
    CHECK(m.error_code() == 4);
}

TEST_CASE("WRPKRU counts for translations that are known already") {
    Machine m;
    m.map(Machine::data_at, user_page);
    // mov [rbx], eax; wrpkru; mov [rbx], eax
    m.go(with_keys(3, write_disable), {0x89, 0x03, 0x0F, 0x01, 0xEF, 0x89, 0x03});
    CHECK(m.vector_taken() == 14);
    CHECK(m.memory.load<uint64_t>(Gpa{m.state().gpr[RSP] + 8}) == Machine::code_at + 5);
    // Both ways: wrpkru; xor eax, eax; wrpkru; mov [rbx], eax
    m.go(with_keys(3, write_disable), {0x0F, 0x01, 0xEF, 0x31, 0xC0, 0x0F, 0x01, 0xEF, 0x89, 0x03});
    CHECK(m.vector_taken() == 6);
}

TEST_CASE("IA32_PKRS is PKRU for pages of the supervisor") {
    Machine m;
    m.map(Machine::data_at, supervisor_page);
    const auto go = [&m](uint64_t rights, bool protect, bool writes) {
        CpuState s = Machine::start(0);
        s.cr4 |= pks | pke;
        if (!protect) s.cr0 &= ~write_protect;
        s.gpr[RAX] = rights;
        s.gpr[RCX] = 0x6E1;
        // mov edx, [rbx]; xor edx, edx; wrmsr; mov [rbx], eax or mov eax, [rbx]
        const auto opcode = static_cast<uint8_t>(writes ? 0x89 : 0x8B);
        m.go(s, {0x8B, 0x13, 0x31, 0xD2, 0x0F, 0x30, opcode, 0x03});
    };
    go(access_disable, true, false);
    CHECK(m.vector_taken() == 14);
    CHECK(m.error_code() == 0x21);
    go(write_disable, true, true);
    CHECK(m.error_code() == 0x23);
    go(write_disable, false, true);
    CHECK(m.vector_taken() == -1);
    m.map(Machine::data_at, user_page);
    go(access_disable, true, true);
    CHECK(m.vector_taken() == -1);
}

TEST_CASE("RDPKRU and WRPKRU need CR4.PKE and zeros, and CPUID tells of the former") {
    Machine m;
    CpuState s = Machine::start(3);
    m.go(s, {0x0F, 0x01, 0xEE});
    CHECK(m.vector_taken() == 6);
    CHECK(m.memory.load<uint64_t>(Gpa{m.state().gpr[RSP]}) == Machine::code_at);
    s.cr4 |= pke;
    m.go(s, {0x0F, 0x01, 0xEE});
    CHECK(m.memory.load<uint64_t>(Gpa{m.state().gpr[RSP]}) == Machine::code_at + 3);
    s.gpr[RCX] = 1;
    m.go(s, {0x0F, 0x01, 0xEE});
    CHECK(m.vector_taken() == 13);
    s.gpr[RCX] = 0;
    s.gpr[RDX] = 1;
    m.go(s, {0x0F, 0x01, 0xEF});
    CHECK(m.vector_taken() == 13);
    s = Machine::start(0);
    for (const uint64_t bit : {uint64_t{0}, pke}) {
        s.cr4 |= bit;
        s.gpr[RAX] = 7;
        m.go(s, {0x0F, 0xA2});
        CHECK((m.state().gpr[RCX] >> 4 & 1) == (bit ? 1 : 0));
    }
}

TEST_CASE("PKRU is component 9 of XSAVE, where CPUID says and in the compact format behind AVX") {
    Machine m;
    CpuState s = with_keys(0, 0x1234);
    s.xcr0 = 0x207;
    const auto zero = [&m] {
        for (uint64_t n = 0; n < 0x1000; n += 8) m.memory.store(Gpa{Machine::data_at + n}, uint64_t{0});
    };
    s.gpr[RSI] = 0x207;
    // wrpkru; push rbx; mov eax, 0Dh; mov ecx, 9; cpuid; mov edi, ebx; pop rbx; xor edx, edx; mov eax, esi; xsave [rbx]
    m.go(s, {0x0F, 0x01, 0xEF, 0x53, 0xB8, 0x0D, 0,    0,    0,    0xB9, 9,    0,    0,
             0,    0x0F, 0xA2, 0x89, 0xDF, 0x5B, 0x31, 0xD2, 0x89, 0xF0, 0x0F, 0xAE, 0x23});
    const uint64_t offset = m.state().gpr[RDI];
    CHECK(offset >= 832);
    CHECK(m.memory.load<uint64_t>(Gpa{Machine::data_at + offset}) == 0x1234);
    CHECK((m.memory.load<uint64_t>(Gpa{Machine::data_at + 512}) & 0x200) != 0);
    // It comes back: xrstor [rbx]; xor ecx, ecx; rdpkru
    s.gpr[RAX] = 0x207;
    m.go(s, {0x0F, 0xAE, 0x2B, 0x31, 0xC9, 0x0F, 0x01, 0xEE});
    CHECK(m.state().gpr[RAX] == 0x1234);
    zero();
    s.gpr[RAX] = 0x1230;
    m.go(s, {0x0F, 0x01, 0xEF, 0xB8, 0x07, 2, 0, 0, 0x0F, 0xAE, 0x2B, 0x0F, 0x01, 0xEE});  // without: 0
    CHECK(m.state().gpr[RAX] == 0);
    s.gpr[RAX] = 0x5678;
    // wrpkru; mov eax, 207h; xsavec [rbx]
    m.go(s, {0x0F, 0x01, 0xEF, 0xB8, 0x07, 2, 0, 0, 0x0F, 0xC7, 0x23});
    CHECK(m.memory.load<uint64_t>(Gpa{Machine::data_at + 832}) == 0x5678);
    s.gpr[RAX] = 0x207;
    m.go(s, {0x0F, 0xAE, 0x2B, 0x0F, 0x01, 0xEE});
    CHECK(m.state().gpr[RAX] == 0x5678);
    // Without AVX it follows the header.
    zero();
    s.gpr[RAX] = 0x1230;
    m.go(s, {0x0F, 0x01, 0xEF, 0xB8, 0x03, 2, 0, 0, 0x0F, 0xC7, 0x23});
    CHECK(m.memory.load<uint64_t>(Gpa{Machine::data_at + 576}) == 0x1230);
}

TEST_CASE("A state keeps the rights of protection keys") {
    Machine m;
    CpuState s = with_keys(0, 0xC0);
    s.cr4 |= pks;
    s.gpr[RSI] = 0x30;
    // wrpkru; mov eax, esi; mov ecx, 6E1h; wrmsr
    m.go(s, {0x0F, 0x01, 0xEF, 0x89, 0xF0, 0xB9, 0xE1, 6, 0, 0, 0x0F, 0x30});
    CpuState saved = m.state();
    m.go(Machine::start(0), {});
    saved.rip = Machine::code_at;
    saved.activity = Activity::running;
    // rdmsr; mov esi, eax; xor ecx, ecx; rdpkru
    m.go(saved, {0x0F, 0x32, 0x89, 0xC6, 0x31, 0xC9, 0x0F, 0x01, 0xEE});
    CHECK(m.state().gpr[RAX] == 0xC0);
    CHECK(m.state().gpr[RSI] == 0x30);
    const CpuState reset = [&m] {
        m.go(Machine::start(0), {});
        return m.state();
    }();
    CHECK(std::ranges::find(reset.msrs, uint32_t{0x6E1}, &Msr::index) == reset.msrs.end());
}

TEST_CASE("SMAP hides a user page from the supervisor who has executed it, too") {
    Machine m;
    m.map(Machine::data_at, Machine::present | Machine::user);
    m.code(Machine::data_at, {0xC3});
    CpuState s = Machine::start(0);
    s.cr4 |= 0x200000;
    for (uint64_t page = 0; page < Machine::data_at; page += 0x1000) m.map(page, Machine::present | Machine::writable);
    m.go(s, {0xFF, 0xD3, 0x8B, 0x03});  // call rbx; mov eax, [rbx]
    CHECK(m.vector_taken() == 14);
    CHECK(m.error_code() == 1);
}
