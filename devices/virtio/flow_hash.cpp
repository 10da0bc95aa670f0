#include "devices/virtio/flow_hash.hpp"

#include <cstddef>

#include "devices/network/ethernet.hpp"

namespace viv {
namespace {

constexpr uint16_t TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86DD, TYPE_VLAN = 0x8100;
constexpr uint8_t TCP = 6, UDP = 17;

/// Both directions alike: the sum of the 16-bit words of both addresses, or of both ports.
uint32_t add_words(std::span<const uint8_t> bytes, size_t at, size_t size) {
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i += 2) sum += load_big16(bytes, at + i);
    return sum;
}

uint8_t mix(uint32_t sum) {
    // Neighbouring ports and addresses are to spread: the top byte of a multiplication (Knuth's).
    return static_cast<uint8_t>(sum * 2'654'435'761u >> 24);
}

}  // namespace

uint8_t flow_hash(std::span<const uint8_t> frame) {
    size_t type_at = 12;
    if (frame.size() >= type_at + 6 && load_big16(frame, type_at) == TYPE_VLAN) type_at += 4;
    if (frame.size() < type_at + 2) return 0;
    const uint16_t type = load_big16(frame, type_at);
    const auto packet = frame.subspan(type_at + 2);
    uint32_t sum = 0;
    size_t header = 0;
    uint8_t protocol = 0;
    if (type == TYPE_IPV4 && packet.size() >= 20) {
        sum = add_words(packet, 12, 8);
        header = size_t{4} * (packet[0] & 0xFu);
        // Only the first fragment has ports, and all are to go one way.
        const bool fragment = load_big16(packet, 6) & 0x3FFFu;
        protocol = fragment ? uint8_t{0} : packet[9];
    } else if (type == TYPE_IPV6 && packet.size() >= 40) {
        sum = add_words(packet, 8, 32);
        header = 40;
        protocol = packet[6];
    } else {
        return 0;
    }
    if ((protocol == TCP || protocol == UDP) && header >= 20 && packet.size() >= header + 4)
        sum += add_words(packet, header, 4);
    return mix(sum);
}

}  // namespace viv
