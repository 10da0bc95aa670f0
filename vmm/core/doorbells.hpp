#pragma once

#include <cstdint>
#include <utility>

namespace viv {

/// An eventfd: a number that any thread, or the host's kernel, adds to.
class HostEvent {
  public:
    HostEvent();
    HostEvent(HostEvent&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    HostEvent& operator=(HostEvent&&) = delete;
    ~HostEvent();
    /// -1 when the host has none left. Readable once it is more than 0.
    [[nodiscard]] int descriptor() const { return fd_; }
    /// Makes it 0; whether it was more.
    bool take();

  private:
    int fd_;
};

/// Turns guests' writes to a place of the memory bus into events, so that the CPU goes on at once. An engine that can
/// do that is one.
class Doorbells {
  public:
    virtual ~Doorbells() = default;
    /// From now on a write of `size` bytes at `address`, whatever the value, adds 1 to the eventfd `event` instead of
    /// reaching the bus. Other writes there reach it. False: all do, as before. Under the machine lock.
    virtual bool add_doorbell(uint64_t address, uint8_t size, int event) = 0;
    virtual void remove_doorbell(uint64_t address, uint8_t size, int event) = 0;
};

}  // namespace viv
