// Models: how a NIC with several queues tells flows apart: addresses and ports of TCP and UDP, addresses of IP
// Not modelled: extension headers of IPv6, tunnels; such packets count by their addresses
// Ignored bits: none
// Reference: RFC 791, 8200, 9293, 768; IEEE 802.1Q
#pragma once

#include <cstdint>
#include <span>

namespace viv {

/// A number that both directions of a flow share; 0 for what is no IP.
[[nodiscard]] uint8_t flow_hash(std::span<const uint8_t> frame);

}  // namespace viv
