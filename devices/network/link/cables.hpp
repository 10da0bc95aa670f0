#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "devices/network/link/link.hpp"

namespace viv {

/// The cables of all NICs of a machine, for a person who plugs them in and out while it runs. The machine provides one
/// before it makes devices; each NIC's is added as it is made. All calls are made under the machine lock.
class Cables {
  public:
    /// The NIC's number, or else the first that is free. False when another NIC has it. The link outlives all changes.
    bool add(NetworkLink& link, std::optional<uint32_t> number);

    /// "nic0=down", "nic1=up", or "down" and "up" for the NIC with the lowest number. The answer is for the person.
    /// Errors are of kind usage: there is no such NIC, the state is neither.
    Result<std::string> change(std::string_view what);
    /// What change() would refuse.
    [[nodiscard]] Result<void> check(std::string_view what) const;

  private:
    struct Order {
        uint32_t number = 0;
        NetworkLink* link = nullptr;
        bool up = false;
    };
    [[nodiscard]] Result<Order> parse(std::string_view what) const;

    std::map<uint32_t, NetworkLink*> links_;
};

}  // namespace viv
