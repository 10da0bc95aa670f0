#pragma once

#include <memory>

#include "devices/network/link/link.hpp"
#include "devices/network/link/link_options.hpp"
#include "devices/network/link/queued_link.hpp"

namespace viv {

// What open_network_link chooses from.

/// Every frame comes back, in a handler of the event loop.
std::unique_ptr<QueuedLink> make_loopback_link(const LinkSetup& setup);
/// libslirp's network 10.0.2.0/24: restrict=on|off, tftp=DIR, bootfile=NAME, hostname=NAME.
Result<std::unique_ptr<QueuedLink>> open_user_link(const LinkOptions& options, const LinkSetup& setup);

/// The network NAME of all machines of this user.
Result<std::unique_ptr<QueuedLink>> open_switch_link(const LinkOptions& options, const LinkSetup& setup);
/// passt, which is started with the ports tcp= and udp= of the host, or one that listens at socket=PATH.
Result<std::unique_ptr<QueuedLink>> open_passt_link(const LinkOptions& options, const LinkSetup& setup);
/// The host's interface NAME, a port of bridge=NAME if that is given.
Result<std::unique_ptr<QueuedLink>> open_tap_link(const LinkOptions& options, const LinkSetup& setup);

}  // namespace viv
