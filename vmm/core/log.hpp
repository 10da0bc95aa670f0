#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace viv {

/// Prints "viv: <message>" as one line on stderr.
void log_line(std::string_view message);

/// Sends the lines elsewhere (a terminal display, a test); an empty function is stderr again. Returns the previous one.
std::move_only_function<void(std::string_view)> set_log_sink(std::move_only_function<void(std::string_view)> sink);

/// Something that can happen again and again, because a guest or the host makes it. Every time is counted; the 1st,
/// 10th, 100th... is told. That needs no clock, so that a run with the same inputs says the same.
class RepeatedLog {
  public:
    /// Counts, and prints `message` with the count when it is due.
    void say(std::string_view message);
    [[nodiscard]] uint64_t count() const { return count_; }

  private:
    uint64_t count_ = 0;
    uint64_t next_ = 1;
};

}  // namespace viv
