#include "vmm/engine/soft/feature_table.hpp"

namespace viv::soft {

bool has_instruction(const CpuFeatureSet& features, const ZydisDecodedInstruction& z) {
    using enum CpuFeature;
    const auto has = [&](CpuFeature feature) { return features.has(feature); };
    const bool code64 = z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    switch (z.meta.isa_set) {
        case ZYDIS_ISA_SET_I86:
        case ZYDIS_ISA_SET_I186:
        case ZYDIS_ISA_SET_I286PROTECTED:
        case ZYDIS_ISA_SET_I286REAL:
        case ZYDIS_ISA_SET_I386:
        case ZYDIS_ISA_SET_I486:
        case ZYDIS_ISA_SET_I486REAL:
        case ZYDIS_ISA_SET_PENTIUMREAL:
        case ZYDIS_ISA_SET_FAT_NOP:
        case ZYDIS_ISA_SET_PAUSE:
        case ZYDIS_ISA_SET_PREFETCH_NOP:
        case ZYDIS_ISA_SET_PREFETCHWT1:
        case ZYDIS_ISA_SET_RDPMC: return true;
        case ZYDIS_ISA_SET_CET:  // without it they are NOPs of two operands
        case ZYDIS_ISA_SET_MPX:
        case ZYDIS_ISA_SET_CLDEMOTE: return true;
        case ZYDIS_ISA_SET_PPRO:
            if (z.mnemonic == ZYDIS_MNEMONIC_SYSENTER || z.mnemonic == ZYDIS_MNEMONIC_SYSEXIT) return has(sep);
            return true;
        case ZYDIS_ISA_SET_LAHF: return !code64 || has(lahf_lm);
        case ZYDIS_ISA_SET_AMD: return has(syscall);
        case ZYDIS_ISA_SET_LONGMODE:
            if (z.mnemonic == ZYDIS_MNEMONIC_SYSCALL || z.mnemonic == ZYDIS_MNEMONIC_SYSRET) return has(syscall);
            return has(lm);
        case ZYDIS_ISA_SET_CMOV: return has(cmov);
        case ZYDIS_ISA_SET_FCMOV: return has(cmov) && has(fpu);
        case ZYDIS_ISA_SET_X87: return has(fpu);
        case ZYDIS_ISA_SET_PENTIUMMMX: return has(mmx);
        case ZYDIS_ISA_SET_FXSAVE:
        case ZYDIS_ISA_SET_FXSAVE64: return has(fxsr);
        case ZYDIS_ISA_SET_SSE:
        case ZYDIS_ISA_SET_SSEMXCSR:
        case ZYDIS_ISA_SET_SSE_PREFETCH: return has(sse);
        case ZYDIS_ISA_SET_SSE2:
        case ZYDIS_ISA_SET_SSE2MMX: return has(sse2);
        case ZYDIS_ISA_SET_CLFSH: return has(clflush);
        case ZYDIS_ISA_SET_SSE3:
        case ZYDIS_ISA_SET_SSE3X87: return has(sse3);
        case ZYDIS_ISA_SET_PCLMULQDQ: return has(pclmulqdq);
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
        case ZYDIS_ISA_SET_AVX: return has(avx);
        case ZYDIS_ISA_SET_AVXAES: return has(avx) && has(aes);
        case ZYDIS_ISA_SET_F16C: return has(f16c);
        case ZYDIS_ISA_SET_RDRAND: return has(rdrand);
        case ZYDIS_ISA_SET_RDWRFSGS: return has(fsgsbase);
        case ZYDIS_ISA_SET_BMI1: return has(bmi1);
        case ZYDIS_ISA_SET_AVX2:
        case ZYDIS_ISA_SET_AVX2GATHER: return has(avx2);
        case ZYDIS_ISA_SET_BMI2: return has(bmi2);
        case ZYDIS_ISA_SET_INVPCID: return has(invpcid);
        case ZYDIS_ISA_SET_RDSEED: return has(rdseed);
        case ZYDIS_ISA_SET_ADOX_ADCX: return has(adx);
        case ZYDIS_ISA_SET_SMAP: return has(smap);
        case ZYDIS_ISA_SET_CLFLUSHOPT: return has(clflushopt);
        case ZYDIS_ISA_SET_SHA: return has(sha);
        case ZYDIS_ISA_SET_RDPID: return has(rdpid);
        case ZYDIS_ISA_SET_LZCNT: return has(abm);
        case ZYDIS_ISA_SET_RDTSCP: return has(rdtscp);
        default: return false;
    }
}

}  // namespace viv::soft
