#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "vmm/core/clock.hpp"

namespace viv {

/// The machine's I/O loop: host file descriptors, posted work, and (under host time) the clock's timers.
/// Every handler runs under the machine lock, so devices need none. Either one thread run()s it, or, in deterministic
/// runs, the machine calls poll() between slices.
class EventLoop {
  public:
    enum class Ready { read, write };

    /// A standing interest in a file descriptor; ends with the object. Destroy it under the machine lock.
    class Watch {
      public:
        virtual ~Watch() = default;
        /// Pauses and continues calling back, so that a full receiver does not spin.
        virtual void enable(bool enabled) = 0;
    };

    explicit EventLoop(std::mutex& machine_lock);
    ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    /// Runs `work` soon, under the machine lock. From any thread.
    void post(std::move_only_function<void()> work);
    /// Calls `handler` under the machine lock whenever `fd` is ready, until the Watch goes. The descriptor stays the
    /// caller's.
    [[nodiscard]] std::unique_ptr<Watch> watch(int fd, Ready ready, std::move_only_function<void()> handler);
    /// Runs the clock's timers when host time reaches them. Call once, before run().
    void drive(HostClock& clock);
    /// Looks at the clock's next deadline again: after a pause, a resume or a set().
    void clock_changed();

    /// Serves until stop(); for the I/O thread.
    void run();
    /// Serves what is ready now and returns; for machines that run in one loop. Not with the lock held.
    void poll();
    /// Sleeps until something is ready, serves it and returns. Not with the lock held.
    void wait();
    void stop();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace viv
