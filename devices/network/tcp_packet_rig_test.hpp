#pragma once

#include <cstdint>
#include <vector>

#include "devices/network/ethernet.hpp"
#include "devices/network/frame_offload.hpp"

namespace viv {

/// A TCP packet with its checksum left open, as drivers leave it to a card.
struct TcpPacketRig {
    bool six = false;
    bool tagged = false;
    uint8_t flags = 0x98;  // CWR, ACK, PSH
    size_t size = 2500;    // of the data
    size_t options = 12;   // of TCP

    [[nodiscard]] size_t ip() const { return tagged ? 18 : 14; }
    [[nodiscard]] size_t tcp() const { return ip() + (six ? 40 : 20); }
    [[nodiscard]] size_t data() const { return tcp() + 20 + options; }

    /// What its driver left of it, for frames with so many bytes of data.
    [[nodiscard]] FrameOffload offload(uint16_t segment) const {
        return {.packet = six ? FrameOffload::Packet::tcp6 : FrameOffload::Packet::tcp4,
                .checksum_open = true,
                .checksum_start = static_cast<uint16_t>(tcp()),
                .checksum_offset = 16,
                .segment = segment};
    }
    /// The sum of the pseudo header for so many bytes of TCP.
    [[nodiscard]] uint16_t pseudo(const std::vector<uint8_t>& frame, size_t length) const {
        const auto addresses = std::span(frame).subspan(ip() + (six ? 8 : 12), six ? 32 : 8);
        return internet_sum(addresses, 6 + static_cast<uint32_t>(length));
    }
    [[nodiscard]] std::vector<uint8_t> packet() const {
        std::vector<uint8_t> frame(data() + size);
        for (size_t i = 0; i < frame.size(); ++i) frame[i] = static_cast<uint8_t>(i * 31 + i / 256);
        const auto bytes = std::span(frame);
        if (tagged) store_big16(bytes, 12, 0x8100);
        store_big16(bytes, ip() - 2, six ? 0x86DD : 0x0800);
        const size_t length = frame.size() - tcp();
        if (six) {
            frame[ip()] = 0x60;
            frame[ip() + 6] = 6;
        } else {
            frame[ip()] = 0x45;
            store_big16(bytes, ip() + 2, static_cast<uint32_t>(frame.size() - ip()));
            store_big16(bytes, ip() + 4, 0xFFFF);
            frame[ip() + 9] = 6;
        }
        store_big32(bytes, tcp() + 4, 0xFFFFFF00);
        frame[tcp() + 12] = static_cast<uint8_t>((20 + options) / 4 << 4);
        frame[tcp() + 13] = flags;
        store_big16(bytes, tcp() + 16, pseudo(frame, length));
        return frame;
    }
    /// Whether the checksums of a frame are right.
    [[nodiscard]] bool is_sound(const std::vector<uint8_t>& frame) const {
        const auto bytes = std::span(frame);
        if (!six && internet_sum(bytes.subspan(ip(), 20)) != 0xFFFF) return false;
        const size_t said = six ? load_big16(bytes, ip() + 4) + 40u : load_big16(bytes, ip() + 2);
        const auto segment = bytes.subspan(tcp());
        return said == frame.size() - ip() && internet_sum(segment, pseudo(frame, segment.size())) == 0xFFFF;
    }
};

}  // namespace viv
