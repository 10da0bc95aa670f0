#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "vmm/core/types.hpp"

namespace viv {

class Timer;

/// Guest time and what is due at it. Devices know only this class; which of the three clocks it is they cannot tell.
class Clock {
  public:
    Clock() = default;
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;
    virtual ~Clock() = default;

    [[nodiscard]] virtual VirtualTime now() const = 0;
    /// The earliest armed deadline, if a timer is armed.
    [[nodiscard]] std::optional<VirtualTime> next_deadline() const;
    /// Calls every timer whose deadline is not after now(), earliest first, equal ones in the order they were armed;
    /// also those that callbacks arm meanwhile. Gives up after `limit` callbacks so that a guest's silly period cannot
    /// hold the machine; returns whether all that was due has run.
    bool run_due(unsigned limit = 10'000);
    /// `listener` is called when the earliest deadline becomes an earlier one.
    void on_earlier_deadline(std::move_only_function<void()> listener) { listener_ = std::move(listener); }

  private:
    friend class Timer;
    using Key = std::pair<VirtualTime, uint64_t>;
    void insert(Timer& timer, VirtualTime deadline);
    void erase(Timer& timer);

    std::map<Key, Timer*> queue_;
    uint64_t sequence_ = 0;
    std::move_only_function<void()> listener_;
};

/// A one-shot alarm on a Clock. A periodic device arms it again in its callback, counting from the deadline it is
/// given, so that no time is lost when the callback is late.
class Timer {
  public:
    using Callback = std::move_only_function<void(VirtualTime deadline)>;
    Timer(Clock& clock, Callback callback) : clock_(clock), callback_(std::move(callback)) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer() { cancel(); }

    /// Calls back at `deadline`, or at once on the next run when it has passed. Replaces an earlier arm().
    void arm(VirtualTime deadline);
    void cancel();
    [[nodiscard]] bool armed() const { return armed_; }
    /// The deadline while armed.
    [[nodiscard]] std::optional<VirtualTime> deadline() const;

  private:
    friend class Clock;
    Clock& clock_;
    Callback callback_;
    VirtualTime deadline_;
    uint64_t sequence_ = 0;
    bool armed_ = false;
};

/// Time moved by hand, for unit tests.
class ManualClock final : public Clock {
  public:
    [[nodiscard]] VirtualTime now() const override {
        const VirtualTime seen = now_;
        now_ = seen + pace_;
        return seen;
    }
    /// Moves time forward and runs what falls due, each callback at its own deadline.
    void advance(Duration duration);
    /// From now on time moves by `pace` with each look, as a host's clock does between two.
    void move_when_looked_at(Duration pace) { pace_ = pace; }

  private:
    mutable VirtualTime now_;
    Duration pace_{};
};

/// Time made from retired instructions: the clock of deterministic runs.
class VirtualClock final : public Clock {
  public:
    /// `instructions_per_microsecond` is the speed in MIPS that the guest seems to have (at least 1).
    explicit VirtualClock(uint64_t instructions_per_microsecond);
    [[nodiscard]] VirtualTime now() const override { return now_; }
    /// Adds the time of `instructions` retired instructions. Runs nothing: the machine calls run_due() between slices.
    void retire(uint64_t instructions);
    /// How many instructions until `deadline` (at least 1 when it is ahead, 0 when it has come).
    [[nodiscard]] uint64_t instructions_until(VirtualTime deadline) const;
    /// Jumps to a deadline while every CPU is halted. Never moves backwards.
    void skip_to(VirtualTime deadline);

  private:
    uint64_t mips_;
    uint64_t remainder_ = 0;  // thousandths of instructions' time not yet in now_, in units of ns*mips
    VirtualTime now_;
};

/// The host's monotonic clock since power-on, minus the time spent paused. now() may be called from any thread.
class HostClock final : public Clock {
  public:
    HostClock();
    [[nodiscard]] VirtualTime now() const override;
    void pause();
    void resume();
    /// Continues at `time`, for a restored machine. Only while paused.
    void set(VirtualTime time);
    /// The host's monotonic time in ns at which `time` will be reached, for the event loop's sleep; nothing while
    /// paused, when it will not be reached.
    [[nodiscard]] std::optional<int64_t> host_time_of(VirtualTime time) const;

  private:
    static constexpr int64_t not_paused = std::numeric_limits<int64_t>::min();
    std::atomic<int64_t> origin_ns_;  // host time of guest time zero
    std::atomic<int64_t> paused_at_{not_paused};
};

}  // namespace viv
