#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "vmm/core/result.hpp"
#include "vmm/engine/cpu_model.hpp"

namespace viv::soft {

struct Cpu;

/// What the CPU model offers. CPUID reports it, and the decoder refuses what it lacks.
struct Features {
    CpuFeatureSet set;
    VendorRules rules;
    std::vector<std::vector<CpuidLeaf>> tables;  // one a CPU
    unsigned physical_bits = 40;
    uint32_t pkru_offset = 0;  // in the standard format of XSAVE
    uint64_t tsc_hertz = 1'000'000'000;

    [[nodiscard]] bool has(CpuFeature feature) const { return set.has(feature); }
    /// XCR0 bits that XSETBV takes.
    [[nodiscard]] uint64_t xcr0_mask() const {
        if (!has(CpuFeature::xsave)) return 1;
        return 3 | (has(CpuFeature::avx) ? 4u : 0u) | (has(CpuFeature::pku) ? 0x200u : 0u);
    }
    /// How long an XSAVE area for these components is.
    [[nodiscard]] uint32_t xsave_size(uint64_t components) const {
        if (components & 0x200) return pkru_offset + 8;
        return components & 4 ? 832 : 576;
    }
    [[nodiscard]] static uint32_t compact_xsave_size(uint64_t components) {
        return 576 + (components & 4 ? 256u : 0u) + (components & 0x200 ? 8u : 0u);
    }
};

/// The features of a model, as `text` names it (cpu_model.hpp), cut down to what this engine on this host executes. An
/// error names what was asked for with '+' and cannot be had. `tsc_hertz`: the rate of the time stamp counter, 0 for 1
/// GHz. `processor`: what another engine showed the guest as this model; null for what is our own.
Result<Features> make_features(std::string_view text, uint32_t cpus, uint64_t tsc_hertz = 0,
                               const CpuidBase* processor = nullptr);
/// All that this engine on this host executes.
CpuFeatureSet executable_features();

struct CpuidResult {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};
CpuidResult cpuid(const Cpu& cpu, uint32_t leaf, uint32_t subleaf);

}  // namespace viv::soft
