#include "vmm/core/clock.hpp"

#include <algorithm>
#include <ctime>

#include "vmm/core/result.hpp"

namespace viv {
namespace {
int64_t host_monotonic_ns() {
    timespec ts{};
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}
}  // namespace

std::optional<VirtualTime> Clock::next_deadline() const {
    if (queue_.empty()) return std::nullopt;
    return queue_.begin()->first.first;
}

bool Clock::run_due(unsigned limit) {
    while (!queue_.empty() && queue_.begin()->first.first <= now()) {
        if (limit-- == 0) return false;
        Timer& timer = *queue_.begin()->second;
        queue_.erase(queue_.begin());
        timer.armed_ = false;
        timer.callback_(timer.deadline_);
    }
    return true;
}

void Clock::insert(Timer& timer, VirtualTime deadline) {
    const auto before = next_deadline();
    timer.deadline_ = deadline;
    timer.sequence_ = sequence_++;
    timer.armed_ = true;
    queue_.emplace(Key{deadline, timer.sequence_}, &timer);
    if (listener_ && (!before || deadline < *before)) listener_();
}

void Clock::erase(Timer& timer) {
    queue_.erase(Key{timer.deadline_, timer.sequence_});
    timer.armed_ = false;
}

void Timer::arm(VirtualTime deadline) {
    cancel();
    clock_.insert(*this, deadline);
}

void Timer::cancel() {
    if (armed_) clock_.erase(*this);
}

std::optional<VirtualTime> Timer::deadline() const {
    if (!armed_) return std::nullopt;
    return deadline_;
}

void ManualClock::advance(Duration duration) {
    const VirtualTime end = now_ + duration;
    while (const auto deadline = next_deadline()) {
        if (*deadline > end) break;
        now_ = std::max(now_, *deadline);
        run_due();
    }
    now_ = end;
}

VirtualClock::VirtualClock(uint64_t instructions_per_microsecond)
    : mips_(std::max<uint64_t>(1, instructions_per_microsecond)) {}

void VirtualClock::retire(uint64_t instructions) {
    const uint64_t units = remainder_ + instructions * 1000;
    now_ = now_ + Duration{static_cast<int64_t>(units / mips_)};
    remainder_ = units % mips_;
}

uint64_t VirtualClock::instructions_until(VirtualTime deadline) const {
    if (deadline <= now_) return 0;
    const auto units = static_cast<uint64_t>((deadline - now_).count()) * mips_ - remainder_;
    return (units + 999) / 1000;
}

void VirtualClock::skip_to(VirtualTime deadline) {
    if (deadline <= now_) return;
    now_ = deadline;
    remainder_ = 0;
}

HostClock::HostClock() : origin_ns_(host_monotonic_ns()) {}

VirtualTime HostClock::now() const {
    const int64_t paused = paused_at_.load();
    if (paused != not_paused) return {paused};
    return {host_monotonic_ns() - origin_ns_.load()};
}

void HostClock::pause() {
    if (paused_at_ == not_paused) paused_at_ = now().ns;
}

void HostClock::resume() {
    if (paused_at_ == not_paused) return;
    origin_ns_ = host_monotonic_ns() - paused_at_;
    paused_at_ = not_paused;
}

void HostClock::set(VirtualTime time) {
    VIV_ASSERT(paused_at_ != not_paused);
    paused_at_ = time.ns;
}

std::optional<int64_t> HostClock::host_time_of(VirtualTime time) const {
    if (paused_at_ != not_paused) return std::nullopt;
    return origin_ns_ + time.ns;
}

}  // namespace viv
