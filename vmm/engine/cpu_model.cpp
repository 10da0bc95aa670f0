#include "vmm/engine/cpu_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace viv {
namespace {

using enum CpuFeature;
using enum CpuidRegister;

// Intel SDM 2A, CPUID; 8000_xxxxh also AMD APM 3, appendix E.
constexpr std::array<CpuFeatureBit, cpu_feature_count> feature_bits = {{
    {fpu, "fpu", 1, 0, edx, 0},
    {vme, "vme", 1, 0, edx, 1},
    {de, "de", 1, 0, edx, 2},
    {pse, "pse", 1, 0, edx, 3},
    {tsc, "tsc", 1, 0, edx, 4},
    {msr, "msr", 1, 0, edx, 5},
    {pae, "pae", 1, 0, edx, 6},
    {mce, "mce", 1, 0, edx, 7},
    {cx8, "cx8", 1, 0, edx, 8},
    {apic, "apic", 1, 0, edx, 9},
    {sep, "sep", 1, 0, edx, 11},
    {mtrr, "mtrr", 1, 0, edx, 12},
    {pge, "pge", 1, 0, edx, 13},
    {mca, "mca", 1, 0, edx, 14},
    {cmov, "cmov", 1, 0, edx, 15},
    {pat, "pat", 1, 0, edx, 16},
    {pse36, "pse36", 1, 0, edx, 17},
    {clflush, "clflush", 1, 0, edx, 19},
    {mmx, "mmx", 1, 0, edx, 23},
    {fxsr, "fxsr", 1, 0, edx, 24},
    {sse, "sse", 1, 0, edx, 25},
    {sse2, "sse2", 1, 0, edx, 26},
    {ss, "ss", 1, 0, edx, 27},
    {ht, "ht", 1, 0, edx, 28},
    {sse3, "sse3", 1, 0, ecx, 0},
    {pclmulqdq, "pclmulqdq", 1, 0, ecx, 1},
    {monitor, "monitor", 1, 0, ecx, 3},
    {ssse3, "ssse3", 1, 0, ecx, 9},
    {fma, "fma", 1, 0, ecx, 12},
    {cx16, "cx16", 1, 0, ecx, 13},
    {pcid, "pcid", 1, 0, ecx, 17},
    {sse4_1, "sse4_1", 1, 0, ecx, 19},
    {sse4_2, "sse4_2", 1, 0, ecx, 20},
    {x2apic, "x2apic", 1, 0, ecx, 21},
    {movbe, "movbe", 1, 0, ecx, 22},
    {popcnt, "popcnt", 1, 0, ecx, 23},
    {tsc_deadline, "tsc_deadline", 1, 0, ecx, 24},
    {aes, "aes", 1, 0, ecx, 25},
    {xsave, "xsave", 1, 0, ecx, 26},
    {avx, "avx", 1, 0, ecx, 28},
    {f16c, "f16c", 1, 0, ecx, 29},
    {rdrand, "rdrand", 1, 0, ecx, 30},
    {hypervisor, "hypervisor", 1, 0, ecx, 31},
    {arat, "arat", 6, 0, eax, 2},
    {fsgsbase, "fsgsbase", 7, 0, ebx, 0},
    {tsc_adjust, "tsc_adjust", 7, 0, ebx, 1},
    {bmi1, "bmi1", 7, 0, ebx, 3},
    {avx2, "avx2", 7, 0, ebx, 5},
    {smep, "smep", 7, 0, ebx, 7},
    {bmi2, "bmi2", 7, 0, ebx, 8},
    {erms, "erms", 7, 0, ebx, 9},
    {invpcid, "invpcid", 7, 0, ebx, 10},
    {avx512f, "avx512f", 7, 0, ebx, 16},
    {avx512dq, "avx512dq", 7, 0, ebx, 17},
    {rdseed, "rdseed", 7, 0, ebx, 18},
    {adx, "adx", 7, 0, ebx, 19},
    {smap, "smap", 7, 0, ebx, 20},
    {avx512ifma, "avx512ifma", 7, 0, ebx, 21},
    {clflushopt, "clflushopt", 7, 0, ebx, 23},
    {clwb, "clwb", 7, 0, ebx, 24},
    {avx512cd, "avx512cd", 7, 0, ebx, 28},
    {sha, "sha", 7, 0, ebx, 29},
    {avx512bw, "avx512bw", 7, 0, ebx, 30},
    {avx512vl, "avx512vl", 7, 0, ebx, 31},
    {avx512vbmi, "avx512vbmi", 7, 0, ecx, 1},
    {umip, "umip", 7, 0, ecx, 2},
    {pku, "pku", 7, 0, ecx, 3},
    {avx512vbmi2, "avx512vbmi2", 7, 0, ecx, 6},
    {gfni, "gfni", 7, 0, ecx, 8},
    {vaes, "vaes", 7, 0, ecx, 9},
    {vpclmulqdq, "vpclmulqdq", 7, 0, ecx, 10},
    {avx512vnni, "avx512vnni", 7, 0, ecx, 11},
    {avx512bitalg, "avx512bitalg", 7, 0, ecx, 12},
    {avx512vpopcntdq, "avx512vpopcntdq", 7, 0, ecx, 14},
    {rdpid, "rdpid", 7, 0, ecx, 22},
    {pks, "pks", 7, 0, ecx, 31},
    {fsrm, "fsrm", 7, 0, edx, 4},
    {md_clear, "md_clear", 7, 0, edx, 10},
    {spec_ctrl, "spec_ctrl", 7, 0, edx, 26},
    {stibp, "stibp", 7, 0, edx, 27},
    {arch_capabilities, "arch_capabilities", 7, 0, edx, 29},
    {ssbd, "ssbd", 7, 0, edx, 31},
    {xsaveopt, "xsaveopt", 0xD, 1, eax, 0},
    {xsavec, "xsavec", 0xD, 1, eax, 1},
    {xgetbv1, "xgetbv1", 0xD, 1, eax, 2},
    {xsaves, "xsaves", 0xD, 1, eax, 3},
    {syscall, "syscall", 0x80000001, 0, edx, 11},
    {nx, "nx", 0x80000001, 0, edx, 20},
    {pdpe1gb, "pdpe1gb", 0x80000001, 0, edx, 26},
    {rdtscp, "rdtscp", 0x80000001, 0, edx, 27},
    {lm, "lm", 0x80000001, 0, edx, 29},
    {lahf_lm, "lahf_lm", 0x80000001, 0, ecx, 0},
    {abm, "abm", 0x80000001, 0, ecx, 5},
    {prefetchw, "prefetchw", 0x80000001, 0, ecx, 8},
    {invtsc, "invtsc", 0x80000007, 0, edx, 8},
    {kvmclock, "kvmclock", 0x40000001, 0, eax, 3},
}};
static_assert([] {
    for (size_t i = 0; i < feature_bits.size(); ++i) {
        if (static_cast<size_t>(feature_bits[i].feature) != i) return false;
    }
    return true;
}());

/// What cannot be used without something else is not shown without it; in an order that needs one pass.
struct Dependence {
    CpuFeature feature;
    CpuFeature needs;
};
constexpr Dependence dependences[] = {
    {sse, fxsr},
    {sse2, sse},
    {sse3, sse2},
    {ssse3, sse3},
    {sse4_1, ssse3},
    {sse4_2, sse4_1},
    {pclmulqdq, sse2},
    {aes, sse2},
    {sha, sse2},
    {gfni, sse2},
    {xsaveopt, xsave},
    {xsavec, xsave},
    {xgetbv1, xsave},
    {xsaves, xsavec},
    {avx, xsave},
    {avx, sse2},
    {f16c, avx},
    {fma, avx},
    {avx2, avx},
    {vaes, avx},
    {vpclmulqdq, avx},
    {avx512f, avx2},
    {avx512dq, avx512f},
    {avx512ifma, avx512f},
    {avx512cd, avx512f},
    {avx512bw, avx512f},
    {avx512vl, avx512f},
    {avx512vbmi, avx512f},
    {avx512vbmi2, avx512f},
    {avx512vnni, avx512f},
    {avx512bitalg, avx512f},
    {avx512vpopcntdq, avx512f},
    {lm, pae},
    {nx, pae},
    {pse36, pse},
    {cx16, lm},
    {lahf_lm, lm},
    {pdpe1gb, lm},
    {fsgsbase, lm},
    {pcid, lm},
    {pku, lm},
    {pku, xsave},
    {pks, lm},
    {syscall, lm},
    {x2apic, apic},
    {tsc_deadline, apic},
    {rdtscp, tsc},
    {tsc_adjust, tsc},
    {tsc_deadline, tsc},
    {invtsc, tsc},
};

uint32_t& register_of(CpuidLeaf& leaf, CpuidRegister where) {
    switch (where) {
        case eax: return leaf.eax;
        case ebx: return leaf.ebx;
        case ecx: return leaf.ecx;
        case edx: return leaf.edx;
    }
    return leaf.eax;
}

/// Processors of a vendor from this family and model on.
struct Vendor {
    std::string_view name;
    uint32_t family;
    uint32_t model;
    VendorRules rules;
};
/// Performance counters, which do not count; SYSCFG; HWCR; the northbridge's configuration; the microcode loader; the
/// interrupt pending message; MMIO configuration space; the memory of SMM; VM_CR and IGNNE; OSVW.
constexpr MsrRange amd_msrs[] = {{0xC0010000, 0xC0010007}, {0xC0010010, 0xC0010010}, {0xC0010015, 0xC0010015},
                                 {0xC001001F, 0xC0010020}, {0xC0010055, 0xC0010055}, {0xC0010058, 0xC0010058},
                                 {0xC0010111, 0xC0010117}, {0xC0010140, 0xC0010141}};
/// These, and the counters of family 15h; the configuration of load and store, instruction cache, data cache, floating
/// point, decoder and level 2.
constexpr MsrRange amd_zen_msrs[] = {{0xC0010000, 0xC0010007}, {0xC0010010, 0xC0010010}, {0xC0010015, 0xC0010015},
                                     {0xC001001F, 0xC0010020}, {0xC0010055, 0xC0010055}, {0xC0010058, 0xC0010058},
                                     {0xC0010111, 0xC0010117}, {0xC0010140, 0xC0010141}, {0xC0010200, 0xC001020B},
                                     {0xC0011020, 0xC0011022}, {0xC0011028, 0xC001102D}};
constexpr uint32_t zen_family = 0x17, zen2_model = 0x30;
// The uncore's MSR_UNCORE_PERF_GLOBAL_CTRL: Linux writes it without a look at anything but the model number.
constexpr MsrRange intel_msrs[] = {{0x391, 0x391}};
// SDM 2, SYSCALL, SYSRET, SYSENTER; AMD APM 3, the same and appendix E.
constexpr VendorRules amd_rules(std::span<const MsrRange> msrs, bool null_selector_keeps_base) {
    return {.syscall_outside_64_bit = true,
            .sysenter_in_long_mode = false,
            .sysret_checks_target = false,
            .sysret_loads_stack_segment = false,
            .repeats_basic_features = true,
            .repeats_last_leaf = false,
            .null_selector_keeps_base = null_selector_keeps_base,
            .silent_msrs = msrs};
}
/// Ascending for each vendor.
constexpr Vendor vendors[] = {{"GenuineIntel", 0, 0, {.silent_msrs = intel_msrs}},
                              {"AuthenticAMD", 0, 0, amd_rules(amd_msrs, true)},
                              {"AuthenticAMD", zen_family, 0, amd_rules(amd_zen_msrs, true)},
                              {"AuthenticAMD", zen_family, zen2_model, amd_rules(amd_zen_msrs, false)}};

std::vector<CpuModel> make_models() {
    using Type = CpuCache::Type;
    using Sharing = CpuCache::Sharing;
    const CpuFeatureSet f486 = {fpu, vme, pse};
    const CpuFeatureSet f_pentium = f486 | CpuFeatureSet{de, tsc, msr, mce, cx8, apic, mmx};
    const CpuFeatureSet f_pentium3 = f_pentium | CpuFeatureSet{pae, sep, mtrr, pge, mca, cmov, pat, pse36, fxsr, sse};
    const CpuFeatureSet f_core2 =
        f_pentium3 | CpuFeatureSet{clflush, sse2, sse3, ssse3, cx16, syscall, nx, lm, lahf_lm, arat};
    const CpuFeatureSet f_opteron = f_pentium3 | CpuFeatureSet{clflush, sse2, sse3, syscall, nx, lm, prefetchw};
    const CpuFeatureSet f_v2 = f_core2 | CpuFeatureSet{sse4_1, sse4_2, popcnt, x2apic, tsc_deadline, rdtscp};
    const CpuFeatureSet f_v3 =
        f_v2 | CpuFeatureSet{xsave, xsaveopt, avx,    avx2, f16c,      fma,  bmi1,     bmi2, abm,
                             movbe, aes,      rdrand, smep, pclmulqdq, erms, fsgsbase, pcid, invpcid};
    CpuFeatureSet f_max = CpuFeatureSet::all();
    f_max.set(hypervisor, false);
    f_max.set(kvmclock, false);
    f_max.set(monitor, false);  // waiting by HLT is cheaper on every engine
    const std::vector<CpuCache> small = {
        {1, Type::data, 16, 4}, {1, Type::instruction, 16, 4}, {2, Type::unified, 256, 8}};
    const std::vector<CpuCache> core2_caches = {
        {1, Type::data, 32, 8}, {1, Type::instruction, 32, 8}, {2, Type::unified, 4096, 16, Sharing::package}};
    const std::vector<CpuCache> opteron_caches = {
        {1, Type::data, 64, 2}, {1, Type::instruction, 64, 2}, {2, Type::unified, 1024, 16}};
    const std::vector<CpuCache> modern = {{1, Type::data, 32, 8},
                                          {1, Type::instruction, 32, 8},
                                          {2, Type::unified, 1024, 16},
                                          {3, Type::unified, 8192, 16, Sharing::package}};
    return {
        {"486", {.family = 4, .model = 8, .stepping = 0}, 1, 0, f486, {}},
        {"pentium", {.family = 5, .model = 4, .stepping = 3}, 1, 0, f_pentium, {}},
        {"pentium3", {.family = 6, .model = 8, .stepping = 6}, 2, 0, f_pentium3, small},
        {"core2",
         {.family = 6, .model = 15, .stepping = 11, .brand = "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz"},
         10,
         0x80000008,
         f_core2,
         core2_caches},
        {"opteron",
         {.vendor = "AuthenticAMD", .family = 15, .model = 37, .stepping = 1, .brand = "AMD Opteron(tm) Processor 252"},
         1,
         0x80000008,
         f_opteron,
         opteron_caches},
        {"x86-64-v2",
         {.family = 6, .model = 44, .stepping = 2, .brand = "Vivarium x86-64-v2"},
         0xB,
         0x80000008,
         f_v2,
         modern},
        {"x86-64-v3",
         {.family = 6, .model = 60, .stepping = 3, .brand = "Vivarium x86-64-v3"},
         0xD,
         0x80000008,
         f_v3,
         modern},
        {"max",
         {.family = 6, .model = 60, .stepping = 3, .brand = "Vivarium max"},
         0xD,
         0x80000008,
         f_max,
         modern,
         true},
    };
}

/// How many letters must be added, taken away or changed to make one word the other.
size_t distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = std::exchange(row[0], i);
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t changed = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row.back();
}

/// "; did you mean a, b?", or nothing.
template <class Range>
std::string near_names(std::string_view word, const Range& things) {
    std::string near;
    for (const auto& thing : things) {
        const bool is_near = distance(word, thing.name) <= 2 ||
                             (word.size() >= 3 && (thing.name.starts_with(word) || word.starts_with(thing.name)));
        if (is_near) near += fmt::format("{}{}", near.empty() ? "" : ", ", thing.name);
    }
    return near.empty() ? near : fmt::format("; did you mean {}?", near);
}

/// Leaf 1 EAX: family and model are split into base and extended parts (SDM 2A, figure 3-6).
uint32_t signature_of(const CpuIdentity& identity) {
    const uint32_t family = std::min<uint32_t>(identity.family, 15);
    return identity.stepping | (identity.model & 15) << 4 | family << 8 | (identity.model >> 4) << 16 |
           (identity.family - family) << 20;
}

std::array<uint32_t, 3> vendor_registers(const CpuIdentity& identity) {
    std::array<char, 12> text{};
    std::copy_n(identity.vendor.begin(), std::min<size_t>(identity.vendor.size(), text.size()), text.begin());
    return std::bit_cast<std::array<uint32_t, 3>>(text);  // EBX, EDX, ECX
}

/// Leaf 4, or an empty one after the last cache.
CpuidLeaf cache_leaf(const CpuModel& model, uint32_t index, uint32_t cpus) {
    CpuidLeaf leaf{.leaf = 4, .subleaf = index, .indexed = true};
    if (index >= model.caches.size()) return leaf;
    constexpr uint32_t line = 64;
    const CpuCache& cache = model.caches[index];
    const uint32_t ids = std::bit_ceil(cpus);
    const uint32_t sharing = cache.sharing == CpuCache::Sharing::package ? ids : 1;
    leaf.eax = static_cast<uint32_t>(cache.type) | uint32_t{cache.level} << 5 | 1u << 8 | (sharing - 1) << 14 |
               (ids - 1) << 26;
    leaf.ebx = (cache.ways - 1) << 22 | (line - 1);
    leaf.ecx = cache.kib * 1024 / (cache.ways * line) - 1;
    return leaf;
}

/// Leaf 0Bh: no threads, `cpus` cores.
CpuidLeaf topology_leaf(uint32_t level, uint32_t number, uint32_t cpus) {
    CpuidLeaf leaf{.leaf = 0xB, .subleaf = level, .indexed = true, .ecx = level, .edx = number};
    if (level == 0) {
        leaf.ebx = 1;
        leaf.ecx |= 1u << 8;
    } else if (level == 1) {
        leaf.eax = static_cast<uint32_t>(std::countr_zero(std::bit_ceil(cpus)));
        leaf.ebx = cpus;
        leaf.ecx |= 2u << 8;
    }
    return leaf;
}

std::vector<CpuidLeaf> xsave_leaves(const CpuFeatureSet& features, const CpuidBase& base) {
    constexpr uint32_t legacy_size = 576;
    std::vector<CpuidLeaf> host = base.xsave;
    if (host.empty()) {
        host = {{.leaf = 0xD, .subleaf = 0, .indexed = true, .eax = 0x207, .ebx = 832, .ecx = 832},
                {.leaf = 0xD, .subleaf = 1, .indexed = true},
                {.leaf = 0xD, .subleaf = 2, .indexed = true, .eax = 256, .ebx = legacy_size},
                {.leaf = 0xD, .subleaf = 9, .indexed = true, .eax = 8, .ebx = base.pkru_offset}};
    }
    uint32_t components = 3;
    if (features.has(avx)) components |= 4;
    if (features.has(avx512f)) components |= 0xE0;
    if (features.has(pku)) components |= 0x200;
    if (!features.has(xsave)) components = 0;
    std::vector<CpuidLeaf> leaves;
    uint32_t size = components ? legacy_size : 0;
    for (CpuidLeaf leaf : host) {
        if (leaf.subleaf == 0) components &= leaf.eax;
        if (leaf.subleaf < 2) continue;
        if (leaf.subleaf >= 32 || !(components >> leaf.subleaf & 1)) continue;
        size = std::max(size, leaf.eax + leaf.ebx);
        leaves.push_back(leaf);
    }
    // EBX of subleaf 0 is the size for XCR0, which the engine keeps up to date; after RESET it is the legacy part.
    leaves.insert(leaves.begin(), {{.leaf = 0xD,
                                    .subleaf = 0,
                                    .indexed = true,
                                    .eax = components,
                                    .ebx = components ? legacy_size : 0,
                                    .ecx = size},
                                   {.leaf = 0xD, .subleaf = 1, .indexed = true}});
    return leaves;
}

/// Leaves 15h and 16h: a guest need not measure the time stamp counter.
void add_frequencies(std::vector<CpuidLeaf>& table, uint64_t hertz) {
    const auto megahertz = static_cast<uint32_t>(hertz / 1'000'000);
    const auto kilohertz = static_cast<uint32_t>(hertz / 1'000);
    const uint32_t divisor = kilohertz == megahertz * 1'000 ? 1 : 1'000;  // of a crystal of 1 MHz
    table.push_back({.leaf = 0x15, .eax = divisor, .ebx = divisor == 1 ? megahertz : kilohertz, .ecx = 1'000'000});
    table.push_back({.leaf = 0x16, .eax = megahertz, .ebx = megahertz, .ecx = 100});
}

void add_extended(std::vector<CpuidLeaf>& table, const CpuModel& model, const CpuIdentity& identity,
                  const CpuidBase& base, uint32_t cpus) {
    table.push_back({.leaf = 0x80000000, .eax = model.max_extended_leaf});
    table.push_back({.leaf = 0x80000001});
    std::array<char, 48> text{};
    std::copy_n(identity.brand.begin(), std::min<size_t>(identity.brand.size(), 47), text.begin());
    const auto brand = std::bit_cast<std::array<uint32_t, 12>>(text);
    for (uint32_t i = 0; i < 3; ++i) {
        table.push_back({0x80000002 + i, 0, false, brand[i * 4], brand[i * 4 + 1], brand[i * 4 + 2], brand[i * 4 + 3]});
    }
    const auto l2 = std::ranges::find(model.caches, 2, &CpuCache::level);
    constexpr uint32_t sixteen_ways = 8u << 12;
    table.push_back({.leaf = 0x80000006, .ecx = l2 == model.caches.end() ? 0 : l2->kib << 16 | sixteen_ways | 64});
    table.push_back({.leaf = 0x80000007});
    table.push_back({.leaf = 0x80000008,
                     .eax = base.physical_address_bits | base.linear_address_bits << 8,
                     .ecx = identity.vendor == "AuthenticAMD" ? cpus - 1 : 0});
}

}  // namespace

std::string CpuFeatureSet::names() const {
    std::string text;
    for (const CpuFeatureBit& bit : feature_bits) {
        if (has(bit.feature)) text += fmt::format("{}{}", text.empty() ? "" : ", ", bit.name);
    }
    return text;
}

std::span<const CpuFeatureBit> cpu_features() {
    return feature_bits;
}

CpuFeatureSet features_of(std::span<const CpuidLeaf> table) {
    CpuFeatureSet found;
    for (CpuidLeaf leaf : table) {
        for (const CpuFeatureBit& bit : feature_bits) {
            if (bit.leaf != leaf.leaf || bit.subleaf != leaf.subleaf) continue;
            if (register_of(leaf, bit.where) >> bit.bit & 1) found.set(bit.feature);
        }
    }
    return found;
}

std::span<const CpuModel> cpu_models() {
    static const std::vector<CpuModel> models = make_models();
    return models;
}

Result<CpuSelection> parse_cpu(std::string_view text) {
    CpuSelection selection;
    size_t at = text.find(',');
    const std::string_view name = text.substr(0, at);
    const auto model = std::ranges::find(cpu_models(), name, &CpuModel::name);
    if (model == cpu_models().end()) {
        std::string all;
        for (const CpuModel& one : cpu_models()) all += fmt::format("{}{}", all.empty() ? "" : ", ", one.name);
        return fail_usage(fmt::format("unknown CPU model '{}'; there are {}", name, all));
    }
    selection.model = &*model;
    selection.features = model->features;
    while (at != text.npos) {
        const size_t end = text.find(',', at + 1);
        const std::string_view word = text.substr(at + 1, end == text.npos ? end : end - at - 1);
        at = end;
        if (word.size() < 2 || (word[0] != '+' && word[0] != '-')) {
            return fail_usage(fmt::format("CPU '{}': '{}' is not +feature or -feature", text, word));
        }
        const auto bit = std::ranges::find(feature_bits, word.substr(1), &CpuFeatureBit::name);
        if (bit == feature_bits.end()) {
            return fail_usage(
                fmt::format("unknown CPU feature '{}'{}", word.substr(1), near_names(word.substr(1), feature_bits)));
        }
        const bool extended = bit->leaf >= 0x80000000;
        const bool paravirtual = !extended && bit->leaf >= 0x40000000;
        if (word[0] == '+' && !paravirtual && bit->leaf > (extended ? model->max_extended_leaf : model->max_leaf)) {
            return fail_usage(fmt::format("CPU model '{}' is too old to show the feature '{}'", name, bit->name));
        }
        selection.features.set(bit->feature, word[0] == '+');
        selection.required.set(bit->feature, word[0] == '+');
    }
    return selection;
}

const VendorRules& vendor_rules(const CpuIdentity& identity) {
    const VendorRules* found = &vendors[0].rules;
    for (const Vendor& vendor : vendors) {
        const bool old_enough = std::pair(vendor.family, vendor.model) <= std::pair(identity.family, identity.model);
        if (vendor.name == identity.vendor && old_enough) found = &vendor.rules;
    }
    return *found;
}

CpuidBase base_of(std::span<const CpuidLeaf> table) {
    CpuidBase base;
    base.supported = features_of(table);
    CpuIdentity& identity = base.identity;
    std::string brand(48, '\0');
    for (const CpuidLeaf& leaf : table) {
        const uint32_t registers[] = {leaf.eax, leaf.ebx, leaf.ecx, leaf.edx};
        if (leaf.leaf == 0) {
            const uint32_t text[] = {leaf.ebx, leaf.edx, leaf.ecx};
            identity.vendor.assign(reinterpret_cast<const char*>(text), sizeof text);
        } else if (leaf.leaf == 1) {
            identity.stepping = leaf.eax & 15;
            identity.family = (leaf.eax >> 8 & 15) + ((leaf.eax >> 8 & 15) == 15 ? leaf.eax >> 20 & 255 : 0);
            identity.model = (leaf.eax >> 4 & 15) | (leaf.eax >> 12 & 0xF0);
        } else if (leaf.leaf == 0xD) {
            base.xsave.push_back(leaf);
        } else if (leaf.leaf == 0x15 && leaf.eax) {
            base.shown_hertz = uint64_t{leaf.ecx} * leaf.ebx / leaf.eax;
        } else if (leaf.leaf >= 0x80000002 && leaf.leaf <= 0x80000004) {
            std::memcpy(brand.data() + (leaf.leaf - 0x80000002) * sizeof registers, registers, sizeof registers);
        } else if (leaf.leaf == 0x80000008 && leaf.eax) {
            base.physical_address_bits = leaf.eax & 255;
            base.linear_address_bits = leaf.eax >> 8 & 255;
        }
    }
    identity.brand = brand.c_str();
    return base;
}

const CpuIdentity& shown_identity(const CpuSelection& selection, const CpuidBase& base) {
    return selection.model->host_identity && !base.identity.vendor.empty() ? base.identity : selection.model->identity;
}

std::vector<CpuidLeaf> make_cpuid(const CpuSelection& selection, const CpuidBase& base, uint32_t number,
                                  uint32_t cpus) {
    const CpuModel& model = *selection.model;
    const CpuIdentity& identity = shown_identity(selection, base);
    CpuFeatureSet features = selection.features & base.supported;
    features.set(ht, cpus > 1);
    for (const Dependence& d : dependences) {
        if (!features.has(d.needs)) features.set(d.feature, false);
    }

    std::vector<CpuidLeaf> table;
    const auto vendor = vendor_registers(identity);
    const bool frequencies = model.host_identity && base.shown_hertz != 0;
    table.push_back({0, 0, false, frequencies ? 0x16 : model.max_leaf, vendor[0], vendor[2], vendor[1]});
    table.push_back({.leaf = 1, .eax = signature_of(identity)});
    table.back().ebx = number << 24 | (features.has(clflush) ? 8u << 8 : 0);
    if (cpus > 1) table.back().ebx |= std::bit_ceil(cpus) << 16;
    if (model.max_leaf >= 2) {
        // One descriptor byte says "see leaf 4"; before leaf 4 the caches are those of a Pentium III (SDM 2A, table
        // 3-12).
        table.push_back(model.max_leaf >= 4 ? CpuidLeaf{.leaf = 2, .eax = 0x00FF0001}
                                            : CpuidLeaf{.leaf = 2, .eax = 0x03020101, .edx = 0x0C040882});
    }
    if (model.max_leaf >= 4) {
        for (uint32_t i = 0; i <= model.caches.size(); ++i) table.push_back(cache_leaf(model, i, cpus));
    }
    if (model.max_leaf >= 5 && features.has(monitor)) {
        table.push_back({.leaf = 5, .eax = 64, .ebx = 64, .edx = 0x10});  // lines of 64 bytes, one kind of C1
    }
    if (model.max_leaf >= 6) table.push_back({.leaf = 6});
    if (model.max_leaf >= 7) table.push_back({.leaf = 7, .indexed = true});
    if (model.max_leaf >= 0xB) {
        for (uint32_t level = 0; level < 3; ++level) table.push_back(topology_leaf(level, number, cpus));
    }
    if (model.max_leaf >= 0xD) {
        for (const CpuidLeaf& leaf : xsave_leaves(features, base)) table.push_back(leaf);
    }
    if (frequencies) add_frequencies(table, base.shown_hertz);
    if (features.has(kvmclock)) {
        table.push_back({0x40000000, 0, false, 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D});  // "KVMKVMKVM"
        table.push_back({.leaf = 0x40000001, .eax = 1u << 24});  // the clock is the same on all CPUs
    }
    if (model.max_extended_leaf) add_extended(table, model, identity, base, cpus);
    for (CpuidLeaf& leaf : table) {
        for (const CpuFeatureBit& bit : feature_bits) {
            if (bit.leaf == leaf.leaf && bit.subleaf == leaf.subleaf && features.has(bit.feature)) {
                register_of(leaf, bit.where) |= 1u << bit.bit;
            }
        }
    }
    const auto extended = std::ranges::find(table, 0x80000001u, &CpuidLeaf::leaf);
    if (extended != table.end() && vendor_rules(identity).repeats_basic_features) {
        constexpr uint32_t repeated = 0x0183F3FF;
        extended->edx |= std::ranges::find(table, 1u, &CpuidLeaf::leaf)->edx & repeated;
    }
    return table;
}

}  // namespace viv
