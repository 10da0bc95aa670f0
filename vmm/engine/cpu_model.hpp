#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/result.hpp"

namespace viv {

/// What a processor can have, one CPUID bit each, in the order of cpu_features(). Names as Linux spells them.
enum class CpuFeature : uint8_t {
    // 0000_0001h EDX
    fpu,
    vme,
    de,
    pse,
    tsc,
    msr,
    pae,
    mce,
    cx8,
    apic,
    sep,
    mtrr,
    pge,
    mca,
    cmov,
    pat,
    pse36,
    clflush,
    mmx,
    fxsr,
    sse,
    sse2,
    ss,
    ht,
    // 0000_0001h ECX
    sse3,
    pclmulqdq,
    monitor,
    ssse3,
    fma,
    cx16,
    pcid,
    sse4_1,
    sse4_2,
    x2apic,
    movbe,
    popcnt,
    tsc_deadline,
    aes,
    xsave,
    avx,
    f16c,
    rdrand,
    hypervisor,
    // 0000_0006h EAX
    arat,
    // 0000_0007h EBX, ECX, EDX
    fsgsbase,
    tsc_adjust,
    bmi1,
    avx2,
    smep,
    bmi2,
    erms,
    invpcid,
    avx512f,
    avx512dq,
    rdseed,
    adx,
    smap,
    avx512ifma,
    clflushopt,
    clwb,
    avx512cd,
    sha,
    avx512bw,
    avx512vl,
    avx512vbmi,
    umip,
    pku,
    avx512vbmi2,
    gfni,
    vaes,
    vpclmulqdq,
    avx512vnni,
    avx512bitalg,
    avx512vpopcntdq,
    rdpid,
    pks,
    fsrm,
    md_clear,
    spec_ctrl,
    stibp,
    arch_capabilities,
    ssbd,
    // 0000_000Dh, subleaf 1 EAX
    xsaveopt,
    xsavec,
    xgetbv1,
    xsaves,
    // 8000_0001h EDX, ECX
    syscall,
    nx,
    pdpe1gb,
    rdtscp,
    lm,
    lahf_lm,
    abm,
    prefetchw,
    // 8000_0007h EDX
    invtsc,
    // 4000_0001h EAX
    kvmclock,
};
constexpr size_t cpu_feature_count = static_cast<size_t>(CpuFeature::kvmclock) + 1;

class CpuFeatureSet {
  public:
    constexpr CpuFeatureSet() = default;
    CpuFeatureSet(std::initializer_list<CpuFeature> features) {
        for (const CpuFeature feature : features) set(feature);
    }
    [[nodiscard]] bool has(CpuFeature feature) const { return bits_[static_cast<size_t>(feature)]; }
    void set(CpuFeature feature, bool on = true) { bits_[static_cast<size_t>(feature)] = on; }
    CpuFeatureSet operator|(const CpuFeatureSet& other) const { return CpuFeatureSet(bits_ | other.bits_); }
    CpuFeatureSet operator&(const CpuFeatureSet& other) const { return CpuFeatureSet(bits_ & other.bits_); }
    CpuFeatureSet operator-(const CpuFeatureSet& other) const { return CpuFeatureSet(bits_ & ~other.bits_); }
    bool operator==(const CpuFeatureSet&) const = default;
    [[nodiscard]] bool empty() const { return bits_.none(); }
    /// All names, separated by ", ".
    [[nodiscard]] std::string names() const;
    static CpuFeatureSet all() { return CpuFeatureSet(std::bitset<cpu_feature_count>().set()); }

  private:
    explicit CpuFeatureSet(std::bitset<cpu_feature_count> bits) : bits_(bits) {}
    std::bitset<cpu_feature_count> bits_;
};

enum class CpuidRegister : uint8_t { eax, ebx, ecx, edx };

/// Where CPUID shows a feature.
struct CpuFeatureBit {
    CpuFeature feature;
    std::string_view name;
    uint32_t leaf;
    uint32_t subleaf;
    CpuidRegister where;
    uint8_t bit;
};
/// All features, in the order of the enum.
std::span<const CpuFeatureBit> cpu_features();

/// What CPUID returns for one leaf and subleaf.
struct CpuidLeaf {
    uint32_t leaf = 0;
    uint32_t subleaf = 0;
    bool indexed = false;  // ECX selects the subleaf
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    bool operator==(const CpuidLeaf&) const = default;
};
/// The features that a table shows.
CpuFeatureSet features_of(std::span<const CpuidLeaf> table);

/// Vendor, signature and name of a processor.
struct CpuIdentity {
    std::string vendor = "GenuineIntel";  // 12 characters
    uint32_t family = 6;
    uint32_t model = 0;
    uint32_t stepping = 0;
    std::string brand;  // up to 47 characters; empty on processors without brand string
    bool operator==(const CpuIdentity&) const = default;
};

struct MsrRange {
    uint32_t first = 0;
    uint32_t last = 0;
    bool operator==(const MsrRange&) const = default;
};

/// What processors of one vendor do differently from those of others, where software sees it.
struct VendorRules {
    bool syscall_outside_64_bit = false;  // SYSCALL and SYSRET in compatibility and legacy mode
    bool sysenter_in_long_mode = true;
    bool sysret_checks_target = true;        // #GP at ring 0 for an RCX that is not canonical
    bool sysret_loads_stack_segment = true;  // with base, limit and attributes
    bool repeats_basic_features = false;     // CPUID 8000_0001h EDX shows those of leaf 1, too
    bool repeats_last_leaf = true;           // CPUID beyond the last leaf shows the last basic one, not zeros
    bool null_selector_keeps_base = false;   // in DS, ES, FS and GS
    /// MSRs that are always there; they read as 0, and writes to them do nothing.
    std::span<const MsrRange> silent_msrs;
};
/// Those of GenuineIntel for a vendor that is not known.
const VendorRules& vendor_rules(const CpuIdentity& identity);

struct CpuCache {
    enum class Type : uint8_t { data = 1, instruction = 2, unified = 3 };
    uint8_t level;
    Type type;
    uint32_t kib;
    uint32_t ways;
    enum class Sharing : uint8_t { core, package } sharing = Sharing::core;
};

/// A processor by name.
struct CpuModel {
    std::string_view name;
    CpuIdentity identity;
    uint32_t max_leaf;
    uint32_t max_extended_leaf;  // 0: none
    CpuFeatureSet features;
    std::vector<CpuCache> caches;
    /// The identity above is only for engines that have no processor of their own to show.
    bool host_identity = false;
};
/// 486, pentium, pentium3, core2, opteron, x86-64-v2, x86-64-v3, max.
std::span<const CpuModel> cpu_models();

/// A model with features added and taken away.
struct CpuSelection {
    const CpuModel* model = nullptr;
    CpuFeatureSet features;
    CpuFeatureSet required;  // asked for by name with '+'
};
/// Parses "model[,+feature][,-feature]...". Errors name the unknown word and list the ones near it.
Result<CpuSelection> parse_cpu(std::string_view text);

/// What an engine adds to a selection.
struct CpuidBase {
    CpuFeatureSet supported = CpuFeatureSet::all();
    /// Shown for models with host_identity, when it has a vendor.
    CpuIdentity identity{.vendor = "", .brand = ""};
    /// Leaf 0Dh of the engine, all components; empty: x87, SSE and AVX at their architectural places, and PKRU at
    /// `pkru_offset` (Intel's processors have it there).
    std::vector<CpuidLeaf> xsave;
    uint32_t pkru_offset = 0xA80;
    uint32_t physical_address_bits = 40;
    uint32_t linear_address_bits = 48;
    /// The rate of the time stamp counter for leaves 15h and 16h of models with host_identity; 0: they are not there.
    uint64_t shown_hertz = 0;
};
/// What shows a table like this one on another engine.
CpuidBase base_of(std::span<const CpuidLeaf> table);
/// What the table shows as vendor, signature and name.
const CpuIdentity& shown_identity(const CpuSelection& selection, const CpuidBase& base);
/// The CPUID table of CPU `number` of `cpus` (1 to 16 cores of one package; the number is the APIC ID), ascending by
/// leaf.
std::vector<CpuidLeaf> make_cpuid(const CpuSelection& selection, const CpuidBase& base, uint32_t number, uint32_t cpus);

}  // namespace viv
