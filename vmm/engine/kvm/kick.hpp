#pragma once

#include <sys/types.h>
#include <time.h>

#include <chrono>

#include "vmm/core/result.hpp"
#include "vmm/engine/kvm/kvm_api.hpp"

namespace viv::kvm {

/// Makes this thread ready to run the CPU of `run`: from now on the kick signal, sent to it, makes KVM_RUN return even
/// when it has not started yet. Returns the thread's id for send_kick().
pid_t bind_kick(kvm_run* run);
/// After this the signal does nothing in this thread.
void unbind_kick();
void send_kick(pid_t thread);

/// Has KVM do what it does between two instructions, and no instruction: a signal waits when it looks whether to enter
/// the guest. From any thread, while the CPU does not run.
void run_nothing(int vcpu);

/// Kicks the thread that made it, again and again, while a period is set.
class KickTimer {
  public:
    static Result<KickTimer> create();
    KickTimer(KickTimer&& other) noexcept;
    KickTimer& operator=(KickTimer&&) = delete;
    ~KickTimer();
    /// Zero stops it.
    void set_period(std::chrono::microseconds period);

  private:
    KickTimer() = default;
    timer_t timer_{};
    bool exists_ = false;
    std::chrono::microseconds period_{0};
};

}  // namespace viv::kvm
