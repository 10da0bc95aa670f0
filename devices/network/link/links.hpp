#pragma once

#include <memory>
#include <string_view>

#include "devices/network/link/link.hpp"

namespace viv {

// What open_network_link chooses from.

/// Every frame comes back, in a handler of the event loop.
std::unique_ptr<NetworkLink> make_loopback_link(EventLoop& loop);

}  // namespace viv
