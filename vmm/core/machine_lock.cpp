#include "vmm/core/machine_lock.hpp"

#include <sys/prctl.h>

#include <chrono>
#include <thread>

namespace viv {

std::unique_lock<std::mutex> hold_machine(std::mutex& lock) {
    // Some microseconds: as long as most accesses of devices take. No sched_yield(): on a busy host that gives away the
    // rest of the thread's time, which is milliseconds.
    constexpr unsigned awake_tries = 100, pauses_between = 4;
    std::unique_lock hold(lock, std::try_to_lock);
    if (hold) return hold;
    // Else the host makes 70 microseconds of 20.
    thread_local const int wakes_in_time = prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    static_cast<void>(wakes_in_time);
    while (!hold) {
        for (unsigned tries = 0; tries < awake_tries && !hold.try_lock(); ++tries) {
            for (unsigned i = 0; i < pauses_between; ++i) __builtin_ia32_pause();
        }
        if (!hold) std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return hold;
}

}  // namespace viv
