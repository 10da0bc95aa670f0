#include "vmm/cli/display/plain_printer.hpp"

#include <algorithm>
#include <span>

namespace viv {
namespace {

// By how many lines the printed ones have moved up; all of them when they are no longer there.
size_t scroll_distance(const std::vector<std::string>& before, size_t printed, const std::vector<std::string>& now) {
    const auto old = std::span(before).first(printed);
    size_t distance = 0;
    while (distance < printed && !std::ranges::equal(old.subspan(distance), std::span(now).first(printed - distance))) {
        ++distance;
    }
    return distance;
}

}  // namespace

std::string PlainPrinter::update(const TextScreen& screen, size_t finished) {
    std::vector<std::string> now;
    for (unsigned row = 0; row < screen.rows; ++row) now.push_back(screen.line(row));
    finished = std::min<size_t>(finished, screen.rows);
    std::string out;
    if (now.size() != lines_.size()) {
        lines_.assign(now.size(), {});
        printed_ = 0;
    }
    const size_t distance = scroll_distance(lines_, printed_, now);
    if (distance < printed_) {
        printed_ -= distance;
    } else {
        // Painted over: what is still the same above needs no second time.
        size_t same = 0;
        while (same < printed_ && lines_[same] == now[same]) ++same;
        printed_ = same;
    }
    for (; printed_ < finished; ++printed_) out += now[printed_] + "\n";
    lines_ = std::move(now);
    return out;
}

std::string PlainPrinter::update(const TextScreen& screen) {
    if (screen.kind != ScreenKind::text) return {};
    return update(screen, screen.cursor.visible ? screen.cursor.row : 0);
}

std::string PlainPrinter::finish(const TextScreen& screen) {
    if (screen.kind != ScreenKind::text) return {};
    unsigned used = screen.rows;
    while (used > 0 && screen.line(used - 1).empty()) --used;
    return update(screen, used);
}

}  // namespace viv
