// CPU models and CPUID.
#include "vmm/engine/soft/features.hpp"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>

#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {
namespace {

/// What this engine implements with its own code.
CpuFeatureSet own_features() {
    using enum CpuFeature;
    return {fpu,        vme,
            de,         pse,
            tsc,        msr,
            pae,        mce,
            cx8,        apic,
            sep,        mtrr,
            pge,        mca,
            cmov,       pat,
            pse36,      clflush,
            mmx,        fxsr,
            sse,        sse2,
            cx16,       pcid,
            x2apic,     movbe,
            popcnt,     tsc_deadline,
            xsave,      rdrand,
            arat,       fsgsbase,
            tsc_adjust, smep,
            erms,       invpcid,
            rdseed,     smap,
            clflushopt, clwb,
            umip,       pku,
            pks,        rdpid,
            fsrm,       syscall,
            nx,         pdpe1gb,
            rdtscp,     lm,
            lahf_lm,    abm,
            prefetchw,  invtsc,
            ht,         hypervisor,
            xsaveopt,   xsavec,
            xgetbv1,    xsaves,
            monitor,    arch_capabilities,
            spec_ctrl};
}

/// What it has the host execute.
CpuFeatureSet borrowed_features() {
    using enum CpuFeature;
    return {sse3, pclmulqdq, ssse3, fma, sse4_1, sse4_2, aes, avx, f16c, bmi1, avx2, bmi2, adx, sha};
}

CpuFeatureSet host_features() {
    CpuFeatureSet found;
    for (const CpuFeatureBit& feature : cpu_features()) {
        uint32_t r[4] = {};
        if (!__get_cpuid_count(feature.leaf, feature.subleaf, &r[0], &r[1], &r[2], &r[3])) continue;
        found.set(feature.feature, (r[static_cast<unsigned>(feature.where)] >> feature.bit) & 1);
    }
    return found;
}

/// Where the host has PKRU in its XSAVE areas, so that states can be exchanged with its KVM.
uint32_t host_pkru_offset(uint32_t otherwise) {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(0xD, 9, &eax, &ebx, &ecx, &edx) && eax == 8 ? ebx : otherwise;
}

}  // namespace

CpuFeatureSet executable_features() {
    return own_features() | (borrowed_features() & host_features());
}

Result<Features> make_features(std::string_view text, uint32_t cpus, uint64_t tsc_hertz, const CpuidBase* processor) {
    const CpuSelection selection = TRY(parse_cpu(text));
    const CpuFeatureSet executable = executable_features();
    const CpuFeatureSet missing = selection.required - executable;
    if (!missing.empty()) {
        return fail_usage(fmt::format("--cpu {}: the software CPU cannot offer {} here", text, missing.names()));
    }
    Features f;
    if (tsc_hertz != 0) f.tsc_hertz = tsc_hertz;
    CpuidBase base = processor ? *processor : CpuidBase{.shown_hertz = f.tsc_hertz};
    base.supported = base.supported & executable;
    base.pkru_offset = host_pkru_offset(base.pkru_offset);
    const auto pkru = std::ranges::find(base.xsave, 9u, &CpuidLeaf::subleaf);
    if (pkru != base.xsave.end() && pkru->eax != 0) base.pkru_offset = pkru->ebx;
    base.xsave.clear();  // ours are where the architecture has them, and some hosts' KVM shows no sizes
    f.physical_bits = base.physical_address_bits;
    f.pkru_offset = base.pkru_offset;
    for (uint32_t number = 0; number < cpus; ++number) {
        f.tables.push_back(make_cpuid(selection, base, number, cpus));
    }
    f.rules = vendor_rules(shown_identity(selection, base));
    f.set = features_of(f.tables.front());
    return f;
}

CpuidResult cpuid(const Cpu& cpu, uint32_t leaf, uint32_t subleaf) {
    const auto& table = cpu.features->tables[cpu.id];
    const auto find = [&](uint32_t wanted) {
        return std::ranges::find_if(
            table, [&](const CpuidLeaf& l) { return l.leaf == wanted && (!l.indexed || l.subleaf == subleaf); });
    };
    auto found = find(leaf);
    if (found == table.end()) {
        // A level of the topology that there is not shows its number and the APIC ID.
        if (const auto level = std::ranges::find(table, leaf, &CpuidLeaf::leaf); level != table.end()) {
            return leaf == 0xB ? CpuidResult{.ecx = subleaf & 0xFF, .edx = level->edx} : CpuidResult{};
        }
        const auto last_of = [&](uint32_t first) {
            const auto at = std::ranges::find(table, first, &CpuidLeaf::leaf);
            return at == table.end() ? 0 : at->eax;
        };
        const bool beyond = leaf >= 0x80000000 ? leaf > last_of(0x80000000) : leaf > last_of(0);
        const bool hypervisor = leaf >= 0x40000000 && leaf < 0x50000000;
        // Beyond the last leaf Intel's processors show the last basic one (SDM 2A, CPUID).
        if (!beyond || hypervisor || !cpu.features->rules.repeats_last_leaf) return {};
        leaf = last_of(0);
        found = find(leaf);
        if (found == table.end()) return {};
    }
    CpuidResult r{found->eax, found->ebx, found->ecx, found->edx};
    if (leaf == 1) {
        if (cpu.cr4 & cr4_osxsave) r.ecx |= 1u << 27;
        if (!(cpu.apic_base & 0x800)) r.edx &= ~(1u << 9);
    }
    if (leaf == 7 && subleaf == 0 && (cpu.cr4 & cr4_pke)) r.ecx |= 1u << 4;
    if (leaf == 0xD && subleaf == 0 && r.ecx != 0) r.ebx = cpu.features->xsave_size(cpu.xcr0);
    const bool compact = cpu.features->has(CpuFeature::xsavec) || cpu.features->has(CpuFeature::xsaves);
    if (leaf == 0xD && subleaf == 1 && compact) r.ebx = Features::compact_xsave_size(cpu.xcr0);
    if (leaf == 0x80000001 && !cpu.code64 && !cpu.features->rules.syscall_outside_64_bit) r.edx &= ~(1u << 11);
    return r;
}

}  // namespace viv::soft
