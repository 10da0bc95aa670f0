#include "devices/network/link/link_options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

namespace viv {

Result<LinkOptions> parse_link_options(std::string_view spec) {
    std::vector<std::string> parts(1);
    for (size_t i = 0; i < spec.size(); ++i) {
        if (spec[i] != ',') {
            parts.back() += spec[i];
        } else if (spec.substr(i, 2) == ",,") {
            parts.back() += spec[i++];
        } else {
            parts.emplace_back();
        }
    }
    LinkOptions options;
    options.kind = parts[0].substr(0, parts[0].find(':'));
    if (options.kind.size() < parts[0].size()) options.name = parts[0].substr(options.kind.size() + 1);
    for (size_t i = 1; i < parts.size(); ++i) {
        const size_t equals = parts[i].find('=');
        if (equals == std::string::npos || equals == 0) {
            return fail_usage(fmt::format("network '{}': '{}' is not KEY=VALUE", spec, parts[i]));
        }
        const std::string key = parts[i].substr(0, equals);
        if (!options.values.emplace(key, parts[i].substr(equals + 1)).second) {
            return fail_usage(fmt::format("network '{}': {} is given twice", spec, key));
        }
    }
    return options;
}

std::string LinkOptions::spec() const {
    std::string text;
    const auto add = [&text](const std::string& part) {
        for (const char c : part) text.append(c == ',' ? 2 : 1, c);
    };
    add(name.empty() ? kind : kind + ":" + name);
    for (const auto& [key, given] : values) {
        text += ',';
        add(key + "=" + given);
    }
    return text;
}

std::string LinkOptions::value(const std::string& key, std::string_view otherwise) const {
    const auto at = values.find(key);
    return at == values.end() ? std::string(otherwise) : at->second;
}

Result<bool> LinkOptions::flag(const std::string& key) const {
    const std::string text = value(key, "off");
    if (text == "on" || text == "off") return text == "on";
    return fail_usage(fmt::format("network {}: {} is on or off, not '{}'", kind, key, text));
}

Result<void> LinkOptions::only(const std::set<std::string>& keys) const {
    for (const auto& [key, ignored] : values) {
        if (keys.contains(key)) continue;
        if (keys.empty()) return fail_usage(fmt::format("network {}: it takes no '{}'", kind, key));
        return fail_usage(fmt::format("network {}: there is no '{}'; use {}", kind, key, fmt::join(keys, ", ")));
    }
    return {};
}

}  // namespace viv
