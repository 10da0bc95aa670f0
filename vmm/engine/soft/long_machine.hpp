#pragma once

#include "vmm/engine/soft/test_machine.hpp"

/// A machine in 64-bit mode whose first 2 MiB are mapped to themselves with pages of 4 KiB that tests change.
namespace viv::soft_test {

class PagedLongMachine : public TestMachine {
  public:
    static constexpr uint64_t gdt = 0x5000, idt = 0x6000, tss = 0x7000, handlers = 0xA000, tables = 0x10000,
                              page_table = 0x13000, stack_top = 0x9000, code_at = 0x20000, data_at = 0x40000;
    static constexpr uint16_t code0 = 0x08, data0 = 0x10, data3 = 0x1B, code3 = 0x23;
    static constexpr uint64_t present = 1, writable = 2, user = 4, global = 0x100;
    static constexpr uint64_t key(unsigned number) { return uint64_t{number} << 59; }

    explicit PagedLongMachine(const std::string& model = "max") : TestMachine(0x400000, 1, model) {
        memory.store(Gpa{gdt + code0}, uint64_t{0x00AF9B000000FFFF});
        memory.store(Gpa{gdt + data0}, uint64_t{0x00CF93000000FFFF});
        memory.store(Gpa{gdt + (data3 & ~7u)}, uint64_t{0x00CFF3000000FFFF});
        memory.store(Gpa{gdt + (code3 & ~7u)}, uint64_t{0x00AFFB000000FFFF});
        memory.store(Gpa{tss + 4}, stack_top);  // RSP0
        for (uint64_t vector = 0; vector < 32; ++vector) {
            const uint64_t target = handlers + 16 * vector;
            memory.store(Gpa{idt + vector * 16}, (target & 0xFFFF) | uint64_t{code0} << 16 | uint64_t{0x8E00} << 32);
            memory.store(Gpa{target}, uint8_t{0xF4});
        }
        make_tables(tables);
    }
    /// Four tables from `root` on: everything present, writable and for the supervisor, user pages from code_at on.
    void make_tables(uint64_t root) {
        for (uint64_t level = 0; level < 3; ++level) {
            memory.store(Gpa{root + level * 0x1000}, root + (level + 1) * 0x1000 + 7);
        }
        for (uint64_t n = 0; n < 512; ++n) {
            const bool for_user = n >= code_at / 0x1000;
            memory.store(Gpa{root + 0x3000 + n * 8}, n << 12 | present | writable | (for_user ? user : 0));
        }
    }
    /// The entry of the page at `linear` below `root`: the page itself with these bits, or the page at `to`.
    void map(uint64_t linear, uint64_t bits, uint64_t root = tables) { map_to(linear, linear, bits, root); }
    void map_to(uint64_t linear, uint64_t to, uint64_t bits, uint64_t root = tables) {
        memory.store(Gpa{root + 0x3000 + (linear >> 12) * 8}, to | bits);
    }
    static CpuState start(unsigned cpl) {
        CpuState s = reset_state(true);
        s.cr0 = 0x80010033;
        s.cr3 = tables;
        s.cr4 = 0x406A0;  // PAE, PGE, FXSR, SSE, XSAVE
        s.efer = 0xD01;
        s.xcr0 = 7;
        const auto dpl = static_cast<uint8_t>(cpl);
        s.cs = {.selector = cpl ? code3 : code0, .limit = 0xFFFFFFFF, .type = 11, .dpl = dpl, .long_mode = true};
        s.ss = {.selector = cpl ? data3 : data0, .limit = 0xFFFFFFFF, .type = 3, .dpl = dpl, .default_big = true};
        s.ds = s.es = s.ss;
        s.tr = {.selector = 0x28, .base = tss, .limit = 0x67, .type = 11, .code_or_data = false};
        s.gdtr = {gdt, 0xFF};
        s.idtr = {idt, 0xFFF};
        s.gpr[RSP] = cpl ? 0x30000 : stack_top;
        s.gpr[RBX] = data_at;
        s.rip = code_at;
        return s;
    }
    /// Runs `bytes` and a HLT, or at ring 3 a UD2, from there.
    void go(const CpuState& s, std::initializer_list<uint8_t> bytes) {
        code(code_at, bytes);
        const uint64_t end = code_at + bytes.size();
        s.cs.dpl == 0 ? code(end, {0xF4}) : code(end, {0x0F, 0x0B});
        const auto set = vcpu->set_state(s);
        INFO((set ? std::string() : set.error().message));
        REQUIRE(set);
        stop = run(100'000);
    }
    /// The vector whose handler halted; -1 when none did.
    int vector_taken() {
        const uint64_t at = state().rip - 1;
        if (stop != Stop::halted || at < handlers || at >= handlers + 512) return -1;
        return static_cast<int>((at - handlers) / 16);
    }
    uint64_t error_code() { return memory.load<uint64_t>(Gpa{state().gpr[RSP]}); }

    Stop stop = Stop::budget;
};

}  // namespace viv::soft_test
