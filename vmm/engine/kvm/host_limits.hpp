#pragma once

#include <string>
#include <vector>

#include "vmm/core/result.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"

namespace viv::kvm {

/// What this host's KVM cannot do, as tiny guests found out. All false on an ordinary VT-x or AMD-V host. See
/// docs/engines.md.
struct HostLimits {
    /// Everything but 64-bit code at CPL 3 is interpreted by the host's kernel, at some million instructions a second
    /// and with gaps.
    bool emulates_kernel_code = false;
    /// Code at CPL 0 runs slower than the software CPU runs it, whatever the reason.
    bool slow_kernel_code = false;
    uint64_t kernel_speed = 0;  // instructions a second that a loop at CPL 0 was seen to run
    /// Paging without EFER.LME (32-bit and PAE) does not exist.
    bool no_legacy_paging = false;
    /// A pending interrupt is not seen when the guest enables interrupts for a few instructions only.
    bool late_interrupt_windows = false;
    /// INT 80h to FFh in real mode makes no progress and no exit.
    bool hangs_on_high_interrupts = false;
    /// SYSCALL at CPL 3 goes to LSTAR and stays at CPL 3.
    bool syscall_stays = false;
    /// The time stamp counter of guests is the host's; writes are taken and forgotten.
    bool fixed_tsc = false;
    uint64_t tsc_hertz = 0;  // of guests

    [[nodiscard]] bool any() const {
        return emulates_kernel_code || no_legacy_paging || late_interrupt_windows || hangs_on_high_interrupts ||
               syscall_stays || fixed_tsc;
    }
    /// Guests can meet what ends with Stop::unsupported.
    [[nodiscard]] bool hands_off() const { return no_legacy_paging || syscall_stays; }
    /// One line each, for the user.
    [[nodiscard]] std::vector<std::string> lines() const;
};

/// Runs the probes, at the first call in a process; under a millisecond on a full host, some on a limited one.
/// `kvm` is /dev/kvm.
Result<HostLimits> probe_host_limits(int kvm);

}  // namespace viv::kvm
