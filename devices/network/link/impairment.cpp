#include "devices/network/link/impairment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

namespace viv {
namespace {

struct Unit {
    std::string_view name;
    double factor;
};

/// "NUMBER UNIT" without the blank; nothing when it is none of 0 to `most` (in the smallest unit).
std::optional<double> parse_amount(std::string_view text, std::initializer_list<Unit> units, double most) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const std::string_view name(end, static_cast<size_t>(text.data() + text.size() - end));
    const auto* unit = std::ranges::find(units, name, &Unit::name);
    if (error != std::errc() || unit == units.end()) return {};
    number *= unit->factor;
    if (!(number >= 0 && number <= most)) return {};
    return number;
}

}  // namespace

Result<Impairment::Choice> Impairment::extract(LinkOptions& options) {
    Choice choice;
    const auto take = [&options](const char* key) {
        const auto node = options.values.extract(key);
        return node.empty() ? std::optional<std::string>() : std::optional(node.mapped());
    };
    const auto refuse = [&options](const char* key, const std::string& text, const char* example) {
        return fail_usage(
            fmt::format("network {}: {}={} cannot be (try {}={})", options.kind, key, text, key, example));
    };
    if (const auto text = take("loss")) {
        const auto amount = parse_amount(*text, {{"%", 10'000}}, 1e6);
        if (!amount) return refuse("loss", *text, "1%");
        choice.lost_in_a_million = static_cast<uint32_t>(*amount);
    }
    if (const auto text = take("delay")) {
        constexpr double hour = 3600e9;
        const auto amount = parse_amount(*text, {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}, hour);
        if (!amount) return refuse("delay", *text, "10ms");
        choice.delay = Duration{static_cast<int64_t>(*amount)};
    }
    if (const auto text = take("rate")) {
        const auto amount = parse_amount(*text, {{"", 1}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}}, 1e12);
        if (!amount || *amount < 1000) return refuse("rate", *text, "10M");
        choice.bits_per_second = static_cast<uint64_t>(*amount);
    }
    if (const auto text = take("seed")) {
        const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), choice.seed);
        if (error != std::errc() || end != text->data() + text->size()) return refuse("seed", *text, "1");
    }
    return choice;
}

/// splitmix64
uint64_t Impairment::next_random() {
    uint64_t value = random_ += 0x9E3779B97F4A7C15;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9;
    value = (value ^ value >> 27) * 0x94D049BB133111EB;
    return value ^ value >> 31;
}

void Impairment::send(std::span<const uint8_t> frame) {
    if (next_random() % 1'000'000 < choice_.lost_in_a_million || frames_.size() >= most_frames) return;
    const VirtualTime now = clock_.now();
    free_at_ = std::max(free_at_, now);
    if (choice_.bits_per_second != 0) {
        constexpr uint64_t around = 24;  // preamble, checksum and gap
        free_at_ = free_at_ + Duration{ns_of_ticks((frame.size() + around) * 8, choice_.bits_per_second)};
    }
    frames_.push_back({free_at_ + choice_.delay, {frame.begin(), frame.end()}});
    if (frames_.size() == 1) timer_.arm(frames_.front().due);
}

void Impairment::clear() {
    frames_.clear();
    timer_.cancel();
}

void Impairment::arrived() {
    while (!frames_.empty() && frames_.front().due <= clock_.now()) {
        const auto frame = std::move(frames_.front().frame);
        frames_.pop_front();
        arrive_(frame);
    }
    if (!frames_.empty()) timer_.arm(frames_.front().due);
}

}  // namespace viv
