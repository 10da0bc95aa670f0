#include "vmm/core/log.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <limits>
#include <mutex>
#include <utility>

namespace viv {
namespace {

struct Sink {
    std::mutex mutex;
    std::move_only_function<void(std::string_view)> function;
};

Sink& sink() {
    static Sink instance;
    return instance;
}

}  // namespace

void log_line(std::string_view message) {
    const std::lock_guard hold(sink().mutex);
    if (sink().function) return sink().function(message);
    // Not fmt::print, which throws when stderr is closed or full.
    std::fputs(fmt::format("viv: {}\n", message).c_str(), stderr);
}

std::move_only_function<void(std::string_view)> set_log_sink(std::move_only_function<void(std::string_view)> function) {
    const std::lock_guard hold(sink().mutex);
    return std::exchange(sink().function, std::move(function));
}

void RepeatedLog::say(std::string_view message) {
    ++count_;
    if (count_ < next_) return;
    next_ = next_ > std::numeric_limits<uint64_t>::max() / 10 ? std::numeric_limits<uint64_t>::max() : next_ * 10;
    if (count_ == 1) return log_line(message);
    log_line(fmt::format("{} (for the {}th time)", message, count_));
}

}  // namespace viv
