#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/network/ethernet.hpp"
#include "devices/network/test_link_test.hpp"

namespace viv {

/// An IPv4 packet with TCP (protocol 6) or UDP (17) in a frame; its checksums are right.
inline std::vector<uint8_t> ip_frame(uint8_t protocol, size_t payload) {
    const size_t header = protocol == 6 ? 20 : 8;
    std::vector<uint8_t> frame = test_frame(14 + 20 + header + payload);
    store_big16(frame, 12, 0x0800);
    const std::span<uint8_t> ip = std::span(frame).subspan(14);
    std::fill(ip.begin(), ip.begin() + static_cast<std::ptrdiff_t>(20 + header), uint8_t{0});
    ip[0] = 0x45;
    store_big16(ip, 2, static_cast<uint32_t>(ip.size()));
    store_big16(ip, 4, 0x1000);
    ip[8] = 64;
    ip[9] = protocol;
    store_big32(ip, 12, 0x0A00020F);
    store_big32(ip, 16, 0x0A000202);
    store_big16(ip, 10, static_cast<uint16_t>(~internet_sum(ip.first(20))));
    const auto transport = ip.subspan(20);
    store_big16(transport, 0, 1000);
    store_big16(transport, 2, 80);
    if (protocol == 6) {
        store_big32(transport, 4, 0x01020304);
        transport[12] = 0x50;
        transport[13] = 0x19;  // FIN, PSH, ACK
    } else {
        store_big16(transport, 4, static_cast<uint32_t>(transport.size()));
    }
    const uint32_t pseudo = internet_sum(ip.subspan(12, 8)) + protocol + static_cast<uint32_t>(transport.size());
    store_big16(transport, protocol == 6 ? 16 : 6, static_cast<uint16_t>(~internet_sum(transport, pseudo)));
    return frame;
}

/// The same before a card has made its checksums.
inline std::vector<uint8_t> ip_frame_without_sums(uint8_t protocol, size_t payload) {
    std::vector<uint8_t> frame = ip_frame(protocol, payload);
    store_big16(frame, 14 + 10, 0);
    store_big16(frame, 34 + (protocol == 6 ? 16 : 6), 0);
    return frame;
}

/// Whether both checksums of such a packet are right.
inline bool sums_are_right(std::span<const uint8_t> frame) {
    const auto ip = frame.subspan(14);
    const auto transport = ip.subspan(20);
    const uint32_t pseudo = internet_sum(ip.subspan(12, 8)) + ip[9] + static_cast<uint32_t>(transport.size());
    return internet_sum(ip.first(20)) == 0xFFFF && internet_sum(transport, pseudo) == 0xFFFF;
}

}  // namespace viv
