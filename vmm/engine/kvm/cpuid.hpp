#pragma once

#include <string>
#include <vector>

#include "vmm/engine/cpu_model.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"

namespace viv::kvm {

/// Which processors this host's KVM can show. `kvm` is /dev/kvm.
Result<CpuidBase> read_cpuid_base(int kvm);

/// Gives a CPU its CPUID table and returns the one it then really has.
Result<std::vector<CpuidLeaf>> set_cpuid(int vcpu, const std::vector<CpuidLeaf>& table);

/// Refuses a selection that names, with '+', what the host does not have.
Result<void> check_selection(const CpuSelection& selection, const CpuidBase& base);
/// One line for what the model has and the host lacks, and one for what the host forces on; empty when it is all as
/// asked for.
std::vector<std::string> cpuid_limits(const CpuSelection& selection, const std::vector<CpuidLeaf>& wanted,
                                      const std::vector<CpuidLeaf>& got);

}  // namespace viv::kvm
