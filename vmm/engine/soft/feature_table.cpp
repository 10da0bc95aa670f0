#include "vmm/engine/soft/feature_table.hpp"

namespace viv::soft {
namespace {

/// MMX instructions that came with SSE.
bool is_mmx_of_sse(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_MASKMOVQ:
        case ZYDIS_MNEMONIC_MOVNTQ:
        case ZYDIS_MNEMONIC_PAVGB:
        case ZYDIS_MNEMONIC_PAVGW:
        case ZYDIS_MNEMONIC_PEXTRW:
        case ZYDIS_MNEMONIC_PINSRW:
        case ZYDIS_MNEMONIC_PMAXSW:
        case ZYDIS_MNEMONIC_PMAXUB:
        case ZYDIS_MNEMONIC_PMINSW:
        case ZYDIS_MNEMONIC_PMINUB:
        case ZYDIS_MNEMONIC_PMOVMSKB:
        case ZYDIS_MNEMONIC_PMULHUW:
        case ZYDIS_MNEMONIC_PSADBW:
        case ZYDIS_MNEMONIC_PSHUFW: return true;
        default: return false;
    }
}

}  // namespace

bool has_instruction(const CpuFeatureSet& features, const ZydisDecodedInstruction& z) {
    using enum CpuFeature;
    const auto has = [&](CpuFeature feature) { return features.has(feature); };
    const bool p6 = has(cmov);  // what has no bit of its own and came with the Pentium Pro
    const bool code64 = z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    switch (z.meta.isa_set) {
        case ZYDIS_ISA_SET_I86:
        case ZYDIS_ISA_SET_I186:
        case ZYDIS_ISA_SET_I286PROTECTED:
        case ZYDIS_ISA_SET_I286REAL:
        case ZYDIS_ISA_SET_I386:
        case ZYDIS_ISA_SET_I486:
        case ZYDIS_ISA_SET_I486REAL:
        case ZYDIS_ISA_SET_PAUSE: return true;
        case ZYDIS_ISA_SET_LZCNT:  // without it BSR
            return true;
        case ZYDIS_ISA_SET_PENTIUMREAL:
            if (z.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B) return has(cx8);
            return has(z.mnemonic == ZYDIS_MNEMONIC_RDTSC ? tsc : msr);
        case ZYDIS_ISA_SET_RDPMC: return p6 || has(mmx);  // the Pentium has it together with MMX
        case ZYDIS_ISA_SET_FAT_NOP: return p6;
        case ZYDIS_ISA_SET_PREFETCH_NOP:
        case ZYDIS_ISA_SET_PREFETCHWT1:
            // 0F 0D is AMD's; Intel's processors with 64-bit code take it as a NOP.
            return z.opcode == 0x0D ? has(prefetchw) || has(lm) : p6;
        case ZYDIS_ISA_SET_CET:  // without it they are NOPs of two operands
        case ZYDIS_ISA_SET_MPX:
        case ZYDIS_ISA_SET_CLDEMOTE: return p6;
        case ZYDIS_ISA_SET_PPRO:
            switch (z.mnemonic) {
                case ZYDIS_MNEMONIC_SYSENTER:
                case ZYDIS_MNEMONIC_SYSEXIT: return has(sep);
                case ZYDIS_MNEMONIC_FCOMI:
                case ZYDIS_MNEMONIC_FCOMIP:
                case ZYDIS_MNEMONIC_FUCOMI:
                case ZYDIS_MNEMONIC_FUCOMIP: return has(cmov) && has(fpu);
                case ZYDIS_MNEMONIC_NOP: return p6;
                default: return true;
            }
        case ZYDIS_ISA_SET_LAHF: return !code64 || has(lahf_lm);
        case ZYDIS_ISA_SET_AMD: return has(syscall);
        case ZYDIS_ISA_SET_LONGMODE:
            if (z.mnemonic == ZYDIS_MNEMONIC_SYSCALL || z.mnemonic == ZYDIS_MNEMONIC_SYSRET) return has(syscall);
            return has(lm);
        case ZYDIS_ISA_SET_CMOV: return has(cmov);
        case ZYDIS_ISA_SET_FCMOV: return has(cmov) && has(fpu);
        case ZYDIS_ISA_SET_X87: return has(fpu);
        case ZYDIS_ISA_SET_PENTIUMMMX: return has(is_mmx_of_sse(z.mnemonic) ? sse : mmx);
        case ZYDIS_ISA_SET_FXSAVE:
        case ZYDIS_ISA_SET_FXSAVE64: return has(fxsr);
        case ZYDIS_ISA_SET_SSE:
        case ZYDIS_ISA_SET_SSEMXCSR: return has(sse);
        case ZYDIS_ISA_SET_SSE_PREFETCH: return p6;
        case ZYDIS_ISA_SET_SSE2:
        case ZYDIS_ISA_SET_SSE2MMX: return has(sse2);
        case ZYDIS_ISA_SET_CLFSH: return has(clflush);
        case ZYDIS_ISA_SET_SSE3:
        case ZYDIS_ISA_SET_SSE3X87: return has(sse3);
        case ZYDIS_ISA_SET_PCLMULQDQ: return has(pclmulqdq);
        case ZYDIS_ISA_SET_MONITOR: return has(monitor);
        case ZYDIS_ISA_SET_SSSE3:
        case ZYDIS_ISA_SET_SSSE3MMX: return has(ssse3);
        case ZYDIS_ISA_SET_FMA: return has(fma);
        case ZYDIS_ISA_SET_CMPXCHG16B: return has(cx16);
        case ZYDIS_ISA_SET_SSE4: return has(sse4_1);
        case ZYDIS_ISA_SET_SSE42: return has(sse4_2);
        case ZYDIS_ISA_SET_MOVBE: return has(movbe);
        case ZYDIS_ISA_SET_POPCNT: return has(popcnt);
        case ZYDIS_ISA_SET_AES: return has(aes);
        case ZYDIS_ISA_SET_XSAVE: return has(xsave);
        case ZYDIS_ISA_SET_XSAVEOPT: return has(xsaveopt);
        case ZYDIS_ISA_SET_XSAVEC: return has(xsavec);
        case ZYDIS_ISA_SET_XSAVES: return has(xsaves);
        case ZYDIS_ISA_SET_AVX: return has(avx) && (z.mnemonic != ZYDIS_MNEMONIC_VPCLMULQDQ || has(pclmulqdq));
        case ZYDIS_ISA_SET_AVXAES: return has(avx) && has(aes);
        case ZYDIS_ISA_SET_F16C: return has(f16c);
        case ZYDIS_ISA_SET_RDRAND: return has(rdrand);
        case ZYDIS_ISA_SET_RDWRFSGS: return has(fsgsbase);
        case ZYDIS_ISA_SET_BMI1: return has(bmi1) || z.mnemonic == ZYDIS_MNEMONIC_TZCNT;  // without it BSF
        case ZYDIS_ISA_SET_AVX2:
        case ZYDIS_ISA_SET_AVX2GATHER: return has(avx2);
        case ZYDIS_ISA_SET_BMI2: return has(bmi2);
        case ZYDIS_ISA_SET_INVPCID: return has(invpcid);
        case ZYDIS_ISA_SET_RDSEED: return has(rdseed);
        case ZYDIS_ISA_SET_ADOX_ADCX: return has(adx);
        case ZYDIS_ISA_SET_SMAP: return has(smap);
        case ZYDIS_ISA_SET_CLFLUSHOPT: return has(clflushopt);
        case ZYDIS_ISA_SET_CLWB: return has(clwb);
        case ZYDIS_ISA_SET_SHA: return has(sha);
        case ZYDIS_ISA_SET_PKU: return has(pku);
        case ZYDIS_ISA_SET_RDPID: return has(rdpid);
        case ZYDIS_ISA_SET_RDTSCP: return has(rdtscp);
        default: return false;
    }
}

}  // namespace viv::soft
