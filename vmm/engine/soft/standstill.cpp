#include "vmm/engine/soft/standstill.hpp"

#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {

// `inside` and `wanted_` are each written before the other is read, in one order for all threads: either the CPU sees
// that it is not to enter, or begin() sees that it is inside.
void Standstill::enter(Cpu& cpu) {
    while (true) {
        cpu.inside.store(true);
        if (!wanted_.load()) return;
        leave(cpu);
        std::unique_lock hold(lock_);
        may_enter_.wait(hold, [this] { return !wanted_.load(); });
    }
}

void Standstill::leave(Cpu& cpu) {
    cpu.inside.store(false);
    if (!wanted_.load()) return;
    const std::lock_guard hold(lock_);
    came_out_.notify_all();
}

void Standstill::begin() {
    owner_.lock();
    wanted_.store(true);
    each_([](Cpu& cpu) { cpu.attention.store(true); });
    std::unique_lock hold(lock_);
    came_out_.wait(hold, [this] {
        bool all_out = true;
        each_([&all_out](Cpu& cpu) { all_out = all_out && !cpu.inside.load(); });
        return all_out;
    });
}

void Standstill::end() {
    {
        const std::lock_guard hold(lock_);
        wanted_.store(false);
    }
    may_enter_.notify_all();
    owner_.unlock();
}

}  // namespace viv::soft
