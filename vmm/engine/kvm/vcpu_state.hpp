#pragma once

#include <cstdint>
#include <vector>

#include "vmm/engine/cpu_state.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"

namespace viv::kvm {

/// What the kernel and the CPU model say about the state of a virtual CPU; the same for all CPUs of a machine.
struct StateLayout {
    size_t xsave_size = 4096;  // bytes of KVM_GET_XSAVE(2)
    bool has_xcrs = false;
    bool has_debug_registers = false;
    bool has_local_apic = false;
    bool has_legacy_paging = true;
    bool fixed_tsc = false;
    uint64_t tsc_hertz = 0;
    /// The MSRs that can be read, with their values after power-on, ascending. Without EFER and APIC_BASE.
    std::vector<Msr> msrs;
};

/// The MSRs of `indices` that this CPU lets be read, with their values.
std::vector<Msr> readable_msrs(int vcpu, const std::vector<uint32_t>& indices);

/// The whole state of a CPU that is between two instructions.
Result<CpuState> read_state(int vcpu, const StateLayout& layout);
/// Replaces it. MSRs that `state` does not list get their power-on values, but the time stamp counter goes on.
Result<void> write_state(int vcpu, const StateLayout& layout, const CpuState& state, uint32_t apic_id);

/// Whether a local APIC's timer counts to an interrupt that is not there yet, or has just done so.
bool timer_may_wait(const kvm_lapic_state& lapic);
/// Whether it may have run out between two looks.
bool timer_ran_out(const kvm_lapic_state& before, const kvm_lapic_state& after);

/// Single parts of it.
Result<std::vector<Msr>> read_msrs(int vcpu, const std::vector<Msr>& wanted);
Result<void> read_xsave(int vcpu, const StateLayout& layout, std::vector<uint8_t>& image);
Result<uint64_t> read_xcr0(int vcpu, const StateLayout& layout);

/// Conversions of single parts.
SegmentRegister from_kvm(const kvm_segment& segment);
kvm_segment to_kvm(const SegmentRegister& segment);
void from_kvm(const kvm_regs& regs, CpuState& state);
kvm_regs to_kvm(const CpuState& state);

}  // namespace viv::kvm
