#pragma once

#include <sys/types.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "vmm/engine/engine.hpp"
#include "vmm/engine/kvm/exits.hpp"
#include "vmm/engine/kvm/host_limits.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"
#include "vmm/engine/kvm/limited_host.hpp"
#include "vmm/engine/kvm/memory_slots.hpp"
#include "vmm/engine/kvm/rescue.hpp"
#include "vmm/engine/kvm/vcpu_state.hpp"

namespace viv::kvm {

/// Rescues by mnemonic, from all CPUs.
class RescueCounters {
  public:
    /// Counts one, and tells the first.
    void count(std::string_view mnemonic);
    void add_to(EngineCounters& counters) const;

  private:
    mutable std::mutex mutex_;
    std::map<std::string, uint64_t, std::less<>> by_mnemonic_;
};

/// What the CPUs of one machine share.
struct Vm {
    explicit Vm(GuestMemory& guest_memory, FileDescriptor vm)
        : memory(guest_memory), fd(std::move(vm)), slots(fd.get(), guest_memory) {}
    GuestMemory& memory;
    FileDescriptor fd;
    MemorySlots slots;
    StateLayout layout;
    HostLimits limits;
    size_t run_size = 0;  // bytes of kvm_run to map
    VendorRules rules;
    RescuerFactory make_rescuer;
    RescueCounters rescues;
    std::deque<ExitCounters> counters;  // one a CPU; they stay when the CPU goes

    /// Keeps the first failure of a change that cannot be reported to whoever made it; the next run() ends with it.
    /// Under the machine lock.
    void note(const Result<void>& outcome);
    /// The failure, or nullptr. From any thread.
    [[nodiscard]] const std::string* failure() const {
        return failed_.load(std::memory_order_acquire) ? &failure_ : nullptr;
    }

  private:
    std::string failure_;  // written before failed_ is set
    std::atomic<bool> failed_ = false;
};

class KvmVcpu final : public Vcpu {
  public:
    /// `fd` is a CPU whose CPUID is set.
    static Result<std::unique_ptr<KvmVcpu>> create(std::shared_ptr<Vm> vm, VcpuId id, FileDescriptor fd);
    ~KvmVcpu() override;

    Stop run(VcpuHost& host, uint64_t budget) override;
    void kick() override;
    void set_intr(bool level) override;
    void inject_nmi() override;
    Result<CpuState> state() override;
    Result<void> set_state(const CpuState& state) override;
    /// Those of the runs with a budget, which step one instruction at a time; a string instruction counts for each of
    /// its repetitions. KVM counts no others.
    [[nodiscard]] uint64_t instructions() const override { return instructions_; }
    [[nodiscard]] std::string failure() const override { return failure_; }

  private:
    KvmVcpu(std::shared_ptr<Vm> vm, VcpuId id, FileDescriptor fd, kvm_run* run)
        : vm_owner_(std::move(vm)),
          vm_(*vm_owner_),
          id_(id),
          fd_(std::move(fd)),
          run_(run),
          counters_(vm_.counters.emplace_back()) {}

    void interrupt_thread();
    Stop run_until_stop(VcpuHost& host, uint64_t last_instruction);
    void count_instructions(bool wanted);
    void prepare_entry(VcpuHost& host);
    void deliver_intr(VcpuHost& host);
    int enter();
    void settle_in_flight(int run_error);
    bool serve_from_slots();
    /// Has the instruction executed that KVM does not; without a value, it was.
    std::optional<Stop> rescue(VcpuHost& host, uint64_t limit, Rescue::Cause cause);
    void set_shared_registers();
    Result<kvm_lapic_state> settled_local_apic();
    Stop stop(Next next);
    Stop give_up(std::string reason);
    void set_immediate_exit(bool wanted);

    std::shared_ptr<Vm> vm_owner_;
    Vm& vm_;
    VcpuId id_;
    FileDescriptor fd_;
    kvm_run* run_;
    std::atomic<pid_t> thread_ = 0;
    // Whoever changes kick_, intr_ or nmis_ while this is set sends the signal; see prepare_entry().
    std::atomic<bool> entering_ = false;
    std::atomic<bool> kick_ = false;
    std::atomic<bool> intr_ = false;
    std::atomic<uint32_t> nmis_ = 0;
    bool leaving_ = false;  // the next entry only completes an instruction, then another engine must go on
    // A vector that the 8259A has handed out and KVM has not taken yet.
    std::optional<uint8_t> acknowledged_;
    // A vector that KVM has taken, until the guest is known to have got it, and the stack pointer at that time.
    std::optional<uint8_t> in_flight_;
    uint64_t in_flight_rsp_ = 0;
    uint64_t slots_generation_ = 0;  // at the last entry
    bool counting_ = false;
    bool completing_ = false;  // the next entry only ends the instruction of a port or memory access
    uint64_t instructions_ = 0;
    ExitCounters& counters_;
    ExitLog log_;
    std::optional<LimitedHost> limited_;  // only where the host needs it
    std::optional<Rescue> rescue_;        // from the first one on
    std::string failure_;
};

}  // namespace viv::kvm
