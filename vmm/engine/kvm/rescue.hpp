#pragma once

#include <memory>

#include "vmm/engine/kvm/kvm_api.hpp"
#include "vmm/engine/kvm/vcpu_state.hpp"
#include "vmm/engine/rescuer.hpp"

namespace viv::kvm {

/// Has a Rescuer execute what KVM gave up on, by way of the registers that KVM shares with every exit: nothing but
/// what an instruction needs beyond them costs a system call.
class Rescue final : private StrandedCpu {
  public:
    Rescue(int vcpu, kvm_run& run, const StateLayout& layout, const VendorRules& vendor,
           std::unique_ptr<Rescuer> rescuer)
        : vcpu_(vcpu), run_(run), layout_(layout), rescuer_(std::move(rescuer)) {
        rules = vendor;
    }

    /// An exit for an instruction that KVM cannot emulate, which has its bytes, or none at all.
    enum class Cause : uint8_t { failure, hang };
    /// Errors: the rescuer cannot execute it either, or the host failed.
    Result<Rescuer::Report> execute(VcpuHost& host, uint64_t limit, bool a20_enabled, Cause cause);

  private:
    Result<void> load(Part part) override;
    Result<void> take_registers(Cause cause);
    Result<void> give_back();

    int vcpu_;
    kvm_run& run_;
    const StateLayout& layout_;
    std::unique_ptr<Rescuer> rescuer_;
};

}  // namespace viv::kvm
