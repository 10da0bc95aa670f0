#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "vmm/engine/kvm/exits.hpp"
#include "vmm/engine/kvm/host_limits.hpp"
#include "vmm/engine/kvm/kick.hpp"
#include "vmm/engine/kvm/memory_slots.hpp"

namespace viv::kvm {

constexpr uint32_t msr_efer = 0xC0000080, msr_lstar = 0xC0000082;

/// What makes one CPU usable on a host of HostLimits::any(); a full host never makes one. It
/// - steps single instructions while an interrupt waits for its window, in bursts, so that code with interrupts
///   disabled loses a ninth of its speed;
/// - looks every millisecond whether the CPU hangs on an instruction, and says so; up to four such places in unpaged
///   memory become breakpoints, so that the next time costs one exit.
class LimitedHost {
  public:
    LimitedHost(const HostLimits& limits, MemorySlots& memory, int vcpu, kvm_run& run, ExitCounters& counters)
        : limits_(limits), memory_(memory), vcpu_(vcpu), run_(run), counters_(counters) {}

    /// At the start and the end of Vcpu::run(), on its thread.
    void start();
    void stop();
    /// Before KVM_RUN. `window_wanted`: an interrupt waits that the CPU cannot take yet.
    void prepare(bool window_wanted);
    /// After KVM_RUN. When such a KVM delivers an interrupt while it steps, it pushes the step's trap flag, which the
    /// guest would take for its own when it returns: clears it in the frame.
    void returned();
    /// Steps every instruction, for whoever counts them.
    void step_always(bool wanted) { step_always_ = wanted; }
    /// KVM_RUN was interrupted by a signal that asked for nothing else. True: the CPU hangs on the instruction that it
    /// is in front of.
    [[nodiscard]] bool interrupted();
    /// KVM_RUN returned for a step or a breakpoint. True: the CPU would hang on the next instruction.
    [[nodiscard]] bool debug_exit();
    /// Any other exit.
    void progressed() {
        ++exits_;
        suspicion_.reset();
        unfinished_step_ = stepping_ == Stepping::on;
    }
    /// Why a triple fault is this host's fault, if it is.
    [[nodiscard]] std::optional<std::string> explain_shutdown() const;
    /// KVM_RUN returned for a write of an MSR that is watched. Carries it out; why the guest cannot go on behind it,
    /// if it cannot.
    std::optional<std::string> watched_write();

  private:
    struct Breakpoint {
        uint64_t address = 0;
        uint64_t last_hit = 0;
        bool used = false;
        std::array<uint8_t, 2> code{};  // what hangs
        bool operator==(const Breakpoint&) const = default;
    };
    /// The CPU was twice at the same place with the same registers. A loop can do that, too, but it can be stepped.
    struct Suspicion {
        kvm_regs regs{};
        bool step = false;
        std::chrono::nanoseconds since{};  // of the thread's time
    };
    struct StepStart {
        uint64_t rip = 0, rsp = 0;
        uint16_t cs = 0;
    };
    enum class Stepping { off, on };

    [[nodiscard]] bool hangs_here();
    [[nodiscard]] bool stands_still();
    [[nodiscard]] bool runs() const;
    [[nodiscard]] bool branches_here() const;
    [[nodiscard]] std::optional<uint8_t> opcode_at(uint64_t address) const;
    [[nodiscard]] std::array<uint8_t, 2> code_here() const;
    [[nodiscard]] uint64_t address_here() const;
    [[nodiscard]] std::optional<uint64_t> physical(uint64_t linear) const;
    void learn();
    void set_debugging(Stepping stepping);
    void set_idle(bool idle);

    const HostLimits limits_;
    MemorySlots& memory_;
    int vcpu_;
    kvm_run& run_;
    ExitCounters& counters_;
    std::optional<KickTimer> timer_;
    std::optional<pid_t> timer_thread_;
    std::array<Breakpoint, 4> breakpoints_;
    uint64_t hits_ = 0;
    bool debugging_stale_ = false;  // breakpoints_ are not what KVM has
    Stepping stepping_ = Stepping::off;
    bool unfinished_step_ = false;  // the next entry ends the instruction; without stepping it would trap the guest
    int steps_left_ = 0;
    int burst_ = 0;             // steps of the last burst
    int free_periods_ = 0;      // of the timer until the next burst
    bool guest_steps_ = false;  // by its own trap flag, when last seen without ours
    StepStart step_start_;
    uint64_t step_from_ = 0;  // linear address of the instruction that a step executes
    std::optional<Suspicion> suspicion_;
    uint64_t exits_ = 0;       // since the timer's last signal
    int trusted_periods_ = 0;  // of the timer until the next suspicion
    bool lint0_open_ = false;
    bool window_wanted_ = false;
    bool step_always_ = false;
};

}  // namespace viv::kvm
