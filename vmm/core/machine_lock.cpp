#include "vmm/core/machine_lock.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace viv {

std::unique_lock<std::mutex> hold_machine(std::mutex& lock) {
    std::unique_lock hold(lock, std::try_to_lock);
    if (hold) return hold;
    // Else the host makes 70 microseconds of 20.
    thread_local const int wakes_in_time = prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    static_cast<void>(wakes_in_time);
    // First some microseconds awake: as long as most accesses of devices take. No sched_yield(): on a busy host that
    // gives away the rest of the thread's time, which is milliseconds.
    constexpr unsigned pauses_between = 4, later_tries = 10;
    constexpr auto longest_nap = std::chrono::microseconds(80);
    unsigned tries = 100;
    for (auto nap = std::chrono::microseconds(20);; nap = std::min(2 * nap, longest_nap)) {
        for (; tries > 0; --tries) {
            if (hold.try_lock()) return hold;
            for (unsigned i = 0; i < pauses_between; ++i) __builtin_ia32_pause();
        }
        std::this_thread::sleep_for(nap);
        tries = later_tries;
    }
}

}  // namespace viv
