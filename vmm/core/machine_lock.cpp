#include "vmm/core/machine_lock.hpp"

#include <chrono>
#include <thread>

namespace viv {

std::unique_lock<std::mutex> hold_machine(std::mutex& lock) {
    constexpr unsigned awake_tries = 1000;
    std::unique_lock hold(lock, std::try_to_lock);
    for (unsigned tries = 0; !hold && !hold.try_lock(); ++tries) {
        if (tries < awake_tries) {
            std::this_thread::yield();
        } else {
            std::this_thread::sleep_for(std::chrono::microseconds(20));
        }
    }
    return hold;
}

}  // namespace viv
