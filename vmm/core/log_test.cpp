#include "vmm/core/log.hpp"

#include <string>
#include <vector>

#include "vmm/core/catch.hpp"

using namespace viv;

TEST_CASE("A repeated message is told the first, tenth and hundredth time, and always counted") {
    std::vector<std::string> lines;
    auto previous = set_log_sink([&](std::string_view line) { lines.emplace_back(line); });
    RepeatedLog log;
    for (int i = 0; i < 150; ++i) log.say("disk full");
    set_log_sink(std::move(previous));
    CHECK(log.count() == 150);
    CHECK(lines ==
          std::vector<std::string>{"disk full", "disk full (for the 10th time)", "disk full (for the 100th time)"});
}
