#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>

namespace viv::soft {

struct Cpu;

/// Lets one thread have guest memory and the CPUs' translations to itself, when each CPU has a thread of its own. A CPU
/// is inside while it runs guest code, and outside while it sleeps, waits or calls the host.
class Standstill {
  public:
    /// `each` calls its argument for all CPUs.
    using Each = std::function<void(const std::function<void(Cpu&)>&)>;
    explicit Standstill(Each each) : each_(std::move(each)) {}

    /// The CPU goes inside, once nobody has the machine to himself.
    void enter(Cpu& cpu);
    void leave(Cpu& cpu);
    /// Whether CPUs that are inside shall come out. They have Cpu::attention set, too.
    [[nodiscard]] bool wanted() const { return wanted_.load(); }

    /// Waits until all CPUs are outside, where they stay until end(). For a thread whose own CPU is outside. Between
    /// the two a CPU's thread makes no call of the host: another one may hold the machine lock and wait here.
    void begin();
    void end();

  private:
    Each each_;
    std::mutex owner_;  // held from begin() to end()
    std::mutex lock_;   // for the condition variables
    std::condition_variable came_out_, may_enter_;
    std::atomic<bool> wanted_{false};
};

}  // namespace viv::soft
