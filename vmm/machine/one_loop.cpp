// The machine on virtual time, as one loop: CPUs in turn, devices' timers and host events between their slices. The run
// depends on nothing but its inputs.

#include <algorithm>

#include "vmm/machine/machine.hpp"

namespace viv {
namespace {
/// Instructions of one turn of a CPU. Long enough that the work between turns does not show.
constexpr uint64_t slice = 20'000;
/// The longest that the machine sleeps without looking at the loop.
constexpr Duration nap = std::chrono::milliseconds(5);
/// What passes when something has come.
constexpr Duration moment = std::chrono::microseconds(10);
}  // namespace

/// Gives each CPU one turn. Returns whether all of them are halted.
bool Machine::run_round(std::unique_lock<std::mutex>& hold) {
    bool all_halted = true;
    for (size_t index = 0; index < cpus_.size(); ++index) {
        Vcpu& cpu = *cpus_[index];
        uint64_t budget = slice;
        virtual_clock_->run_due();
        if (const auto deadline = virtual_clock_->next_deadline()) {
            budget = std::clamp<uint64_t>(virtual_clock_->instructions_until(*deadline), 1, slice);
        }
        parked_ = 0;
        hold.unlock();
        const Stop reason = cpu.run(host_of(index), budget);
        hold.lock();
        parked_ = cpus_.size();
        handle_stop(cpu, reason);
        all_halted = all_halted && reason == Stop::halted;
        if (is_busy() || phase_ != Phase::running) return false;
    }
    return all_halted;
}

/// No CPU has anything to do until then, but a frame may be on its way. While something outside of the machine may
/// answer, time passes no faster than the host's.
void Machine::let_time_pass(VirtualTime deadline, std::unique_lock<std::mutex>& hold) {
    if (links_.works()) return;
    if (!links_.expected()) return virtual_clock_->skip_to(deadline);
    VirtualTime until = std::min(deadline, virtual_clock_->now() + nap);
    const Duration at_most = until - virtual_clock_->now();
    hold.unlock();
    const bool come = links_.wait(at_most);
    hold.lock();
    if (come) until = std::min(until, virtual_clock_->now() + moment);
    virtual_clock_->skip_to(until);
}

/// The thread of all, until the run ends.
void Machine::run_one_loop() {
    std::unique_lock hold(lock_);
    parked_ = cpus_.size();
    while (phase_ != Phase::stopped) {
        if (is_busy()) carry_out_requests();
        bool idle = phase_ == Phase::paused;
        if (phase_ == Phase::running && run_round(hold)) {
            const auto deadline = virtual_clock_->next_deadline();
            idle = !deadline;
            if (!idle) let_time_pass(*deadline, hold);
        }
        if (phase_ == Phase::stopped) break;
        hold.unlock();
        idle ? loop_.wait() : loop_.poll();
        hold.lock();
    }
    parked_ = 0;
}

}  // namespace viv
