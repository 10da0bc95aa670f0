#include "vmm/engine/kvm/cpuid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace viv::kvm {
namespace {

CpuidLeaf from_kvm(const kvm_cpuid_entry2& entry) {
    return {entry.function, entry.index, (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0, entry.eax, entry.ebx,
            entry.ecx,      entry.edx};
}

std::vector<CpuidLeaf> from_kvm(const CpuidTable& table) {
    std::vector<CpuidLeaf> leaves;
    for (uint32_t i = 0; i < table.count; ++i) leaves.push_back(from_kvm(table.entries[i]));
    return leaves;
}

}  // namespace

Result<CpuidBase> read_cpuid_base(int kvm) {
    auto table = std::make_unique<CpuidTable>();
    table->count = static_cast<uint32_t>(table->entries.size());
    if (call(kvm, KVM_GET_SUPPORTED_CPUID, table.get()) < 0) return fail_errno("cannot read KVM's CPUID", errno);
    const auto leaves = from_kvm(*table);
    CpuidBase base = base_of(leaves);
    // KVM's list leaves these to whoever provides the local APIC, the topology and the signature.
    base.supported.set(CpuFeature::ht);
    base.supported.set(CpuFeature::hypervisor);
    base.supported.set(CpuFeature::tsc_deadline, call(kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
    base.shown_hertz = 0;  // the host's
    return base;
}

Result<std::vector<CpuidLeaf>> set_cpuid(int vcpu, const std::vector<CpuidLeaf>& leaves) {
    auto table = std::make_unique<CpuidTable>();
    VIV_ASSERT(leaves.size() <= table->entries.size());
    table->count = static_cast<uint32_t>(leaves.size());
    std::ranges::transform(leaves, table->entries.begin(), [](const CpuidLeaf& leaf) {
        kvm_cpuid_entry2 entry{};
        entry.function = leaf.leaf;
        entry.index = leaf.subleaf;
        entry.flags = leaf.indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
        entry.eax = leaf.eax;
        entry.ebx = leaf.ebx;
        entry.ecx = leaf.ecx;
        entry.edx = leaf.edx;
        return entry;
    });
    if (call(vcpu, KVM_SET_CPUID2, table.get()) < 0) return fail_errno("cannot set a CPU's CPUID", errno);
    table->count = static_cast<uint32_t>(table->entries.size());
    if (call(vcpu, KVM_GET_CPUID2, table.get()) < 0) return fail_errno("cannot read a CPU's CPUID", errno);
    return from_kvm(*table);
}

Result<void> check_selection(const CpuSelection& selection, const CpuidBase& base) {
    const CpuFeatureSet missing = selection.required - base.supported;
    if (missing.empty()) return {};
    return fail_usage(fmt::format("this host's KVM cannot show the CPU features asked for: {}", missing.names()));
}

std::vector<std::string> cpuid_limits(const CpuSelection& selection, const std::vector<CpuidLeaf>& wanted,
                                      const std::vector<CpuidLeaf>& got) {
    std::vector<std::string> lines;
    const CpuFeatureSet shown = features_of(got);
    const CpuFeatureSet missing = selection.model->features - shown;
    if (!selection.model->host_identity && !missing.empty()) {
        lines.push_back(fmt::format("CPU model '{}' lacks on this host: {}", selection.model->name, missing.names()));
    }
    const CpuFeatureSet forced = shown - features_of(wanted) - CpuFeatureSet{CpuFeature::ht};
    if (!forced.empty()) {
        std::string names = forced.names();
        constexpr size_t enough = 60;
        if (names.size() > enough) names = names.substr(0, names.rfind(',', enough)) + ", ...";
        lines.push_back(fmt::format("this host's KVM shows CPU features that cannot be hidden: {}", names));
    }
    return lines;
}

}  // namespace viv::kvm
