// What CPUID shows executes, and what it does not show is #UD or #GP: every feature, on every model.
#include "vmm/engine/soft/features.hpp"

#include <algorithm>
#include <vector>

#include "vmm/engine/soft/test_machine.hpp"

using namespace viv;
using namespace viv::soft_test;

namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t idt = 0x6000, gdt = 0x5000, handlers = 0xA000, tables = 0x10000, code_at = 0x1000, data_at = 0x3000;

/// Flat code of 32 or 64 bits at ring 0, with a handler for each vector that halts.
class ModelMachine : public TestMachine {
  public:
    explicit ModelMachine(const std::string& model) : TestMachine(0x400000, 1, model) {
        memory.store(Gpa{gdt + 8}, uint64_t{0x00CF9B000000FFFF});
        memory.store(Gpa{gdt + 16}, uint64_t{0x00CF93000000FFFF});
        memory.store(Gpa{gdt + 24}, uint64_t{0x00AF9B000000FFFF});
        memory.store(Gpa{tables}, tables + 0x1000 + 3);
        memory.store(Gpa{tables + 0x1000}, tables + 0x2003);
        memory.store(Gpa{tables + 0x2000}, uint64_t{0x83});
        memory.store(Gpa{tables + 0x2008}, uint64_t{0x200083});
        for (uint64_t vector = 0; vector < 32; ++vector) memory.store(Gpa{handlers + 16 * vector}, uint8_t{0xF4});
        const auto shown = [&](uint32_t leaf, uint32_t subleaf, CpuidRegister where, unsigned bit) {
            const CpuState s = execute({0x0F, 0xA2}, false, [&](CpuState& in) {
                in.gpr[RAX] = leaf;
                in.gpr[RCX] = subleaf;
            });
            const Gpr reg = where == CpuidRegister::eax   ? RAX
                            : where == CpuidRegister::ebx ? RBX
                            : where == CpuidRegister::ecx ? RCX
                                                          : RDX;
            return (s.gpr[reg] >> bit) & 1;
        };
        for (const CpuFeatureBit& bit : cpu_features()) {
            const uint32_t base = bit.leaf & 0xF0000000;
            const CpuState last = execute({0x0F, 0xA2}, false, [&](CpuState& in) { in.gpr[RAX] = base; });
            if (last.gpr[RAX] < bit.leaf || last.gpr[RAX] < base || base == 0x40000000) continue;
            // SYSCALL shows in 64-bit code only.
            if (bit.feature == CpuFeature::syscall) continue;
            features.set(bit.feature, shown(bit.leaf, bit.subleaf, bit.where, bit.bit));
        }
        if (features.has(CpuFeature::lm) && features.has(CpuFeature::pae)) {
            const CpuState s = execute({0x0F, 0xA2}, true, [](CpuState& in) { in.gpr[RAX] = 0x80000001; });
            features.set(CpuFeature::syscall, (s.gpr[RDX] >> 11) & 1);
        }
    }

    template <class Prepare>
    CpuState execute(const Bytes& bytes, bool bits64, Prepare prepare) {
        uint64_t at = code_at;
        for (const uint8_t byte : bytes) memory.store(Gpa{at++}, byte);
        memory.store(Gpa{at}, uint8_t{0xF4});
        for (uint64_t vector = 0; vector < 32; ++vector) {
            const uint64_t target = handlers + 16 * vector;
            const uint64_t gate = (target & 0xFFFF) | (bits64 ? 24ull : 8ull) << 16 | uint64_t{0x8E00} << 32;
            memory.store(Gpa{idt + vector * (bits64 ? 16 : 8)}, gate);
            if (bits64) memory.store(Gpa{idt + vector * 16 + 8}, uint64_t{0});
        }
        CpuState s = reset_state(true);
        s.cr0 = 0x33;
        // All that lets instructions run.
        s.cr4 = (features.has(CpuFeature::fxsr) ? 0x200u : 0u) | (features.has(CpuFeature::sse) ? 0x400u : 0u) |
                (features.has(CpuFeature::fsgsbase) ? 0x10000u : 0u) |
                (features.has(CpuFeature::xsave) ? 0x40000u : 0u) | (features.has(CpuFeature::pku) ? 0x400000u : 0u);
        s.xcr0 = !features.has(CpuFeature::xsave) ? 1 : features.has(CpuFeature::avx) ? 7 : 3;
        s.cs = {.selector = static_cast<uint16_t>(bits64 ? 24 : 8),
                .limit = 0xFFFFFFFF,
                .type = 11,
                .long_mode = bits64,
                .default_big = !bits64,
                .granularity = true};
        s.ss = {.selector = 16, .limit = 0xFFFFFFFF, .type = 3, .default_big = true, .granularity = true};
        s.ds = s.es = s.ss;
        s.gdtr = {gdt, 0xFF};
        s.idtr = {idt, 0xFFF};
        if (bits64) {
            s.cr0 |= 0x80000000;
            s.cr3 = tables;
            s.cr4 |= 0x20;
            s.efer = 0xD01;
        }
        s.rip = code_at;
        s.gpr[RSP] = 0x8000;
        s.gpr[RBX] = data_at;
        prepare(s);
        const auto set = vcpu->set_state(s);
        INFO((set ? std::string() : set.error().message));
        REQUIRE(set);
        REQUIRE(run(1000) == Stop::halted);
        return state();
    }
    /// The exception that the instruction raises; -1 for none.
    int vector_of(const Bytes& bytes, bool bits64 = false) {
        const CpuState s = execute(bytes, bits64, [](CpuState&) {});
        if (s.rip < handlers || s.rip >= handlers + 512) return -1;
        return static_cast<int>((s.rip - 1 - handlers) / 16);
    }

    CpuFeatureSet features;
};

struct Row {
    std::vector<CpuFeature> needs;  // all of them
    Bytes code;
    bool bits64 = false;
};

using enum CpuFeature;
// The memory operand is [ebx] (3000h), RAX, RCX and RDX are 0.
const std::vector<Row> rows = {
    {{fpu}, {0xD9, 0xE8}},                                     // fld1
    {{tsc}, {0x0F, 0x31}},                                     // rdtsc
    {{cx8}, {0x0F, 0xC7, 0x0B}},                               // cmpxchg8b [ebx]
    {{cmov}, {0x0F, 0x44, 0xC1}},                              // cmovz eax, ecx
    {{cmov, fpu}, {0xDA, 0xC1}},                               // fcmovb st0, st1
    {{cmov, fpu}, {0xDB, 0xF1}},                               // fcomi st0, st1
    {{cmov}, {0x0F, 0x1F, 0x03}},                              // nop [ebx]
    {{cmov}, {0xF3, 0x0F, 0x1E, 0xFB}},                        // endbr32
    {{clflush}, {0x0F, 0xAE, 0x3B}},                           // clflush [ebx]
    {{mmx}, {0x0F, 0xEF, 0xC1}},                               // pxor mm0, mm1
    {{mmx}, {0x0F, 0x77}},                                     // emms
    {{fxsr}, {0x0F, 0xAE, 0x03}},                              // fxsave [ebx]
    {{sse}, {0x0F, 0x57, 0xC1}},                               // xorps xmm0, xmm1
    {{sse}, {0x0F, 0xE0, 0xC1}},                               // pavgb mm0, mm1
    {{sse}, {0x0F, 0xAE, 0x1B}},                               // stmxcsr [ebx]
    {{sse}, {0x0F, 0xAE, 0xF8}},                               // sfence
    {{sse2}, {0x66, 0x0F, 0xEF, 0xC1}},                        // pxor xmm0, xmm1
    {{sse2}, {0x0F, 0xD4, 0xC1}},                              // paddq mm0, mm1
    {{sse2}, {0x0F, 0xAE, 0xF0}},                              // mfence
    {{sse2}, {0x0F, 0xC3, 0x03}},                              // movnti [ebx], eax
    {{sse3}, {0xF2, 0x0F, 0x7C, 0xC1}},                        // haddps xmm0, xmm1
    {{sse3}, {0xDB, 0x0B}},                                    // fisttp [ebx]
    {{pclmulqdq}, {0x66, 0x0F, 0x3A, 0x44, 0xC1, 0x00}},       // pclmulqdq xmm0, xmm1, 0
    {{monitor}, {0x89, 0xD8, 0x0F, 0x01, 0xC8}},               // mov eax, ebx; monitor
    {{monitor}, {0x0F, 0x01, 0xC9}},                           // mwait
    {{ssse3}, {0x66, 0x0F, 0x38, 0x00, 0xC1}},                 // pshufb xmm0, xmm1
    {{ssse3}, {0x0F, 0x38, 0x1C, 0xC1}},                       // pabsb mm0, mm1
    {{fma}, {0xC4, 0xE2, 0x71, 0x98, 0xC2}},                   // vfmadd132ps xmm0, xmm1, xmm2
    {{cx16}, {0x48, 0x0F, 0xC7, 0x0B}, true},                  // cmpxchg16b [rbx]
    {{sse4_1}, {0x66, 0x0F, 0x38, 0x40, 0xC1}},                // pmulld xmm0, xmm1
    {{sse4_2}, {0xF2, 0x0F, 0x38, 0xF1, 0xC1}},                // crc32 eax, ecx
    {{sse4_2}, {0x66, 0x0F, 0x38, 0x37, 0xC1}},                // pcmpgtq xmm0, xmm1
    {{movbe}, {0x0F, 0x38, 0xF0, 0x03}},                       // movbe eax, [ebx]
    {{popcnt}, {0xF3, 0x0F, 0xB8, 0xC1}},                      // popcnt eax, ecx
    {{aes}, {0x66, 0x0F, 0x38, 0xDC, 0xC1}},                   // aesenc xmm0, xmm1
    {{xsave}, {0x0F, 0xAE, 0x23}},                             // xsave [ebx]
    {{xsave}, {0x0F, 0x01, 0xD0}},                             // xgetbv
    {{xsaveopt}, {0x0F, 0xAE, 0x33}},                          // xsaveopt [ebx]
    {{xsavec}, {0x0F, 0xC7, 0x23}},                            // xsavec [ebx]
    {{xsaves}, {0x0F, 0xC7, 0x2B}},                            // xsaves [ebx]
    {{avx}, {0xC5, 0xF0, 0x57, 0xC2}},                         // vxorps xmm0, xmm1, xmm2
    {{avx, aes}, {0xC4, 0xE2, 0x71, 0xDC, 0xC2}},              // vaesenc xmm0, xmm1, xmm2
    {{avx, pclmulqdq}, {0xC4, 0xE3, 0x71, 0x44, 0xC2, 0x00}},  // vpclmulqdq xmm0, xmm1, xmm2, 0
    {{f16c}, {0xC4, 0xE2, 0x79, 0x13, 0xC1}},                  // vcvtph2ps xmm0, xmm1
    {{avx2}, {0xC5, 0xF5, 0xEF, 0xC2}},                        // vpxor ymm0, ymm1, ymm2
    {{avx2}, {0xC4, 0xE2, 0x69, 0x90, 0x04, 0x0B}},            // vpgatherdd xmm0, [ebx + xmm1], xmm2
    {{rdrand}, {0x0F, 0xC7, 0xF0}},                            // rdrand eax
    {{rdseed}, {0x0F, 0xC7, 0xF8}},                            // rdseed eax
    {{fsgsbase}, {0xF3, 0x48, 0x0F, 0xAE, 0xC0}, true},        // rdfsbase rax
    {{bmi1}, {0xC4, 0xE2, 0x70, 0xF2, 0xC2}},                  // andn eax, ecx, edx
    {{bmi2}, {0xC4, 0xE2, 0x73, 0xF5, 0xC2}},                  // pdep eax, ecx, edx
    {{adx}, {0x66, 0x0F, 0x38, 0xF6, 0xC1}},                   // adcx eax, ecx
    {{invpcid}, {0x66, 0x0F, 0x38, 0x82, 0x03}},               // invpcid eax, [ebx]
    {{smap}, {0x0F, 0x01, 0xCB}},                              // stac
    {{clflushopt}, {0x66, 0x0F, 0xAE, 0x3B}},                  // clflushopt [ebx]
    {{clwb}, {0x66, 0x0F, 0xAE, 0x33}},                        // clwb [ebx]
    {{sha}, {0x0F, 0x38, 0xC9, 0xC1}},                         // sha1msg1 xmm0, xmm1
    {{pku}, {0x0F, 0x01, 0xEE}},                               // rdpkru
    {{rdpid}, {0xF3, 0x0F, 0xC7, 0xF8}},                       // rdpid eax
    {{rdtscp}, {0x0F, 0x01, 0xF9}},                            // rdtscp
    {{lahf_lm}, {0x9F}, true},                                 // lahf
    {{gfni}, {0x66, 0x0F, 0x38, 0xCF, 0xC1}},                  // gf2p8mulb xmm0, xmm1
    {{avx512f}, {0x62, 0xF1, 0x74, 0x48, 0x57, 0xC2}},         // vxorps zmm0, zmm1, zmm2 (also DQ)
};

/// MSRs that belong to a feature; reading them is #GP without.
struct MsrRow {
    CpuFeature needs;
    uint32_t index;
};
const std::vector<MsrRow> msr_rows = {{tsc, 0x10},           {mtrr, 0xFE},       {mtrr, 0x250},
                                      {sep, 0x174},          {mca, 0x179},       {pat, 0x277},
                                      {syscall, 0xC0000081}, {lm, 0xC0000100},   {rdtscp, 0xC0000103},
                                      {xsaves, 0xDA0},       {tsc_adjust, 0x3B}, {arch_capabilities, 0x10A},
                                      {pks, 0x6E1},          {spec_ctrl, 0x48}};
/// Bits of CR4; setting them is #GP without.
struct Cr4Row {
    CpuFeature needs;
    unsigned bit;
};
const std::vector<Cr4Row> cr4_rows = {{vme, 0},   {tsc, 2},   {de, 3},   {pse, 4},   {pae, 5},       {mce, 6},
                                      {pge, 7},   {fxsr, 9},  {sse, 10}, {umip, 11}, {fsgsbase, 16}, {xsave, 18},
                                      {smep, 20}, {smap, 21}, {pku, 22}, {pks, 24}};

bool needs_xcr0(const Row& row) {
    return row.needs[0] != bmi1 && row.needs[0] != bmi2;
}

std::vector<std::string> selections() {
    std::vector<std::string> all;
    for (const CpuModel& model : cpu_models()) all.emplace_back(model.name);
    // Each feature taken away alone, and what no model has added.
    for (const CpuFeatureBit& bit : cpu_features()) all.push_back("max,-" + std::string(bit.name));
    all.emplace_back("max,+monitor");
    return all;
}

}  // namespace

TEST_CASE("An instruction runs exactly where CPUID shows its feature") {
    for (const std::string& selection : selections()) {
        INFO(selection);
        ModelMachine m(selection);
        for (size_t n = 0; n < rows.size(); ++n) {
            const Row& row = rows[n];
            if (row.bits64 && !(m.features.has(lm) && m.features.has(pae))) continue;
            bool has = std::ranges::all_of(row.needs, [&](CpuFeature f) { return m.features.has(f); });
            // VEX instructions with vector registers need XCR0, which is XSAVE's.
            if (row.code[0] >= 0xC4 && row.code[0] <= 0xC5 && needs_xcr0(row)) has = has && m.features.has(xsave);
            INFO(selection << ", row " << n);
            CHECK((m.vector_of(row.code, row.bits64) == 6) == !has);
        }
    }
}

TEST_CASE("Prefixes of features that a model lacks mean nothing") {
    for (const CpuModel& model : cpu_models()) {
        ModelMachine m{std::string(model.name)};
        const auto bits = [&](Bytes code) {
            return m.execute(code, false, [](CpuState& s) { s.gpr[RDX] = 0x00010000; }).gpr[RAX];
        };
        CHECK(bits({0xF3, 0x0F, 0xBD, 0xC2}) == (m.features.has(abm) ? 15 : 16));  // lzcnt or bsr
        CHECK(bits({0xF3, 0x0F, 0xBC, 0xC2}) == 16);                               // tzcnt or bsf
        const CpuState zero = m.execute({0xF3, 0x0F, 0xBC, 0xC1}, false, [](CpuState& s) { s.gpr[RAX] = 77; });
        CHECK(zero.gpr[RAX] == (m.features.has(bmi1) ? 32 : 77));
    }
}

TEST_CASE("MSRs and bits of CR4 are there exactly where CPUID shows their feature") {
    for (const std::string& selection : selections()) {
        INFO(selection);
        ModelMachine m(selection);
        if (!m.features.has(msr)) {
            CHECK(m.vector_of({0x0F, 0x32}) == 6);
        } else {
            for (const MsrRow& row : msr_rows) {
                const auto index = [&](unsigned byte) { return static_cast<uint8_t>(row.index >> (8 * byte)); };
                const Bytes code = {0xB9, index(0), index(1), index(2), index(3), 0x0F, 0x32};  // mov ecx, index; rdmsr
                INFO(selection << ", MSR " << row.index);
                if (row.needs == rdtscp && m.features.has(rdpid)) continue;  // either is enough
                CHECK((m.vector_of(code) == 13) == !m.features.has(row.needs));
            }
        }
        for (const Cr4Row& row : cr4_rows) {
            const uint32_t value = 1u << row.bit;
            const auto byte = [&](unsigned n) { return static_cast<uint8_t>(value >> (8 * n)); };
            const Bytes code = {0xB8,    byte(0), byte(1), byte(2),
                                byte(3), 0x0F,    0x22,    0xE0};  // mov eax, bit; mov cr4, eax
            INFO(selection << ", CR4 bit " << row.bit);
            CHECK((m.vector_of(code) == 13) == !m.features.has(row.needs));
        }
    }
}

TEST_CASE("The uncore's control register is there, and does nothing") {
    ModelMachine m("max");
    // mov ecx,391h; mov eax,2000000Fh; wrmsr; rdmsr
    const Bytes code = {0xB9, 0x91, 3, 0, 0, 0xB8, 0x0F, 0, 0, 0x20, 0x0F, 0x30, 0x0F, 0x32};
    CHECK(m.execute(code, false, [](CpuState& s) { s.gpr[RDX] = 0; }).gpr[RAX] == 0);
    CHECK(m.vector_of({0xB9, 0x92, 3, 0, 0, 0x0F, 0x32}) == 13);  // mov ecx,392h; rdmsr
}

TEST_CASE("IBRS can stay on, and a command to forget predictions does nothing") {
    const auto write = [](uint8_t index, uint8_t value) {  // mov ecx, index; mov eax, value; xor edx, edx; wrmsr
        return Bytes{0xB9, index, 0, 0, 0, 0xB8, value, 0, 0, 0, 0x31, 0xD2, 0x0F, 0x30};
    };
    ModelMachine m("max");
    const auto state = m.execute(write(0x48, 3), false, [](CpuState&) {});
    CHECK(std::ranges::find(state.msrs, Msr{0x48, 3}) != state.msrs.end());
    CHECK(m.vector_of(write(0x48, 4)) == 13);  // SSBD, which is not offered
    CHECK(m.vector_of(write(0x49, 1)) != 13);
    CHECK(m.vector_of(write(0x49, 2)) == 13);
    CHECK(m.vector_of({0xB9, 0x49, 0, 0, 0, 0x0F, 0x32}) == 13);
    const Bytes capabilities = {0xB9, 0x0A, 1, 0, 0, 0x0F, 0x32};  // mov ecx,10Ah; rdmsr
    CHECK((m.execute(capabilities, false, [](CpuState&) {}).gpr[RAX] & 2) != 0);
    ModelMachine without("max,-spec_ctrl");
    CHECK((without.execute(capabilities, false, [](CpuState&) {}).gpr[RAX] & 2) == 0);
}

TEST_CASE("RDPMC is refused, and unknown to processors before the Pentium with MMX") {
    CHECK(ModelMachine("486").vector_of({0x0F, 0x33}) == 6);
    CHECK(ModelMachine("pentium").vector_of({0x0F, 0x33}) == 13);
    CHECK(ModelMachine("max").vector_of({0x0F, 0x33}) == 13);
}

TEST_CASE("MWAIT waits until its line changes") {
    ModelMachine m("max,+monitor");
    // mov eax, ebx; monitor; mwait; hlt
    m.code(code_at, {0x89, 0xD8, 0x0F, 0x01, 0xC8, 0x0F, 0x01, 0xC9, 0xF4});
    m.execute({0x89, 0xD8, 0x0F, 0x01, 0xC8, 0x0F, 0x01, 0xC9}, false, [](CpuState&) {});
    CHECK(m.state().rip == code_at + 8);
    CHECK(m.run(100) == Stop::halted);
    CHECK(m.state().rip == code_at + 8);
    m.memory.store(Gpa{data_at + 63}, uint8_t{1});
    CHECK(m.run(100) == Stop::halted);
    CHECK(m.state().rip == code_at + 9);
}
