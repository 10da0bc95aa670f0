#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "vmm/core/result.hpp"

namespace viv {

/// A link's spec: "KIND[:NAME][,KEY=VALUE...]". Two commas are one of a value.
struct LinkOptions {
    std::string kind;
    std::string name;
    std::map<std::string, std::string> values;

    /// What parse_link_options() makes these of.
    [[nodiscard]] std::string spec() const;
    /// The value of a key, or what it is without one.
    [[nodiscard]] std::string value(const std::string& key, std::string_view otherwise = {}) const;
    /// A value that is on or off (off when it is not there).
    [[nodiscard]] Result<bool> flag(const std::string& key) const;
    /// Refuses keys that are none of these.
    [[nodiscard]] Result<void> only(const std::set<std::string>& keys) const;
};

/// Errors are of kind usage: no "=", a key twice.
Result<LinkOptions> parse_link_options(std::string_view spec);

}  // namespace viv
