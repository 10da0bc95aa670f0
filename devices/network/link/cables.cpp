#include "devices/network/link/cables.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

namespace viv {

bool Cables::add(NetworkLink& link, std::optional<uint32_t> number) {
    uint32_t free = 0;
    while (links_.contains(free)) ++free;
    return links_.emplace(number.value_or(free), &link).second;
}

Result<Cables::Order> Cables::parse(std::string_view what) const {
    if (links_.empty()) return fail_usage("this machine has no NIC");
    const size_t equals = what.find('=');
    const std::string_view state = equals == std::string_view::npos ? what : what.substr(equals + 1);
    if (state != "up" && state != "down")
        return fail_usage(fmt::format("'{}' does not say up or down (try nic0=down)", what));
    auto nic = links_.begin();
    if (equals != std::string_view::npos) {
        const auto has_name = [name = what.substr(0, equals)](const auto& entry) {
            return fmt::format("nic{}", entry.first) == name;
        };
        nic = std::ranges::find_if(links_, has_name);
    }
    if (nic == links_.end()) {
        std::vector<std::string> names;
        for (const auto& [number, ignored] : links_) names.push_back(fmt::format("nic{}", number));
        return fail_usage(
            fmt::format("there is no NIC '{}'; this machine has {}", what.substr(0, equals), fmt::join(names, ", ")));
    }
    return Order{nic->first, nic->second, state == "up"};
}

Result<void> Cables::check(std::string_view what) const {
    TRY(parse(what));
    return {};
}

Result<std::string> Cables::change(std::string_view what) {
    const Order order = TRY(parse(what));
    order.link->set_up(order.up);
    return fmt::format("nic{}: the cable is {}", order.number, order.up ? "in" : "out");
}

}  // namespace viv
