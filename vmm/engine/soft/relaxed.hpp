#pragma once

#include <atomic>

namespace viv::soft {

/// A value that one thread changes and others may look at any time. It costs its thread what a plain one costs.
template <class T>
class Relaxed {
  public:
    Relaxed(T value = {}) : value_(value) {}
    Relaxed(const Relaxed&) = delete;
    operator T() const { return value_.load(std::memory_order_relaxed); }
    Relaxed& operator=(T value) {
        value_.store(value, std::memory_order_relaxed);
        return *this;
    }
    Relaxed& operator=(const Relaxed& other) { return *this = static_cast<T>(other); }
    Relaxed& operator+=(T by) { return *this = static_cast<T>(*this + by); }
    Relaxed& operator++() { return *this += 1; }

  private:
    std::atomic<T> value_;
};

}  // namespace viv::soft
