#include "vmm/core/machine_lock.hpp"

#include <chrono>
#include <thread>

namespace viv {

std::unique_lock<std::mutex> hold_machine(std::mutex& lock) {
    // Some microseconds: as long as most accesses of devices take. No sched_yield(): on a busy host that gives away the
    // rest of the thread's time, which is milliseconds.
    constexpr unsigned awake_tries = 100, pauses_between = 4;
    std::unique_lock hold(lock, std::try_to_lock);
    while (!hold) {
        for (unsigned tries = 0; tries < awake_tries && !hold.try_lock(); ++tries) {
            for (unsigned i = 0; i < pauses_between; ++i) __builtin_ia32_pause();
        }
        if (!hold) std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return hold;
}

}  // namespace viv
