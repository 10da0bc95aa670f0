#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "devices/input/keyboard_port.hpp"
#include "vmm/cli/display/terminal_keys.hpp"

namespace viv {

/// Plays strokes on the guest's keyboard. A terminal tells of no releases, so a key is held for a moment, which
/// programs that look at the keyboard now and then can see, or until the next stroke. Keys wait while the keyboard has
/// no room. Use it under the machine lock.
class KeyFeeder {
  public:
    using Time = std::chrono::steady_clock::time_point;
    static constexpr std::chrono::milliseconds hold_time{50};
    static constexpr size_t queue_limit = 256;

    explicit KeyFeeder(KeyboardPort& keyboard) : keyboard_(keyboard) {}

    /// Appends a stroke; false, and the stroke is lost, when the guest has not taken many before.
    bool push(const KeyStroke& stroke);
    /// Does what is due. Call it after push(), and every few milliseconds while busy().
    void run(Time now);
    [[nodiscard]] bool busy() const { return !steps_.empty() || !held_.empty(); }

  private:
    struct Step {
        enum class Kind { press, release, hold };
        Kind kind;
        Key key;
    };

    KeyboardPort& keyboard_;
    std::deque<Step> steps_;
    size_t strokes_ = 0;  // holds among the steps
    std::vector<Key> held_;
    std::optional<Time> hold_until_;
};

}  // namespace viv
