// Models: what a NIC does with a TCP packet that is larger than a frame: frames with headers and checksums of their own
// Not modelled: UDP, tunnels
// Ignored bits: none
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.1.6.2; RFC 9293, 791, 8200, 3168
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace viv {

/// A packet as a driver leaves it: one IP and one TCP header, and in the place of the checksum the sum of the pseudo
/// header.
struct TcpPacket {
    std::span<const uint8_t> frame;
    enum class Version : uint8_t { ipv4 = 4, ipv6 = 6 } version = Version::ipv4;
    size_t tcp = 0;      // where its header begins
    size_t segment = 0;  // bytes of data that go into a frame
};

/// Frames that one packet may become.
constexpr size_t most_tcp_segments = 256;

/// Whether it is such a packet, and does not make too many frames.
bool is_tcp_packet(const TcpPacket& packet);
/// How long its headers are, Ethernet's and all; the TCP header is there.
size_t tcp_headers_size(const TcpPacket& packet);
/// Calls `send` with each frame in turn. False, and nothing is sent, when it is no such packet.
/// `frame` is scratch.
bool send_tcp_segments(const TcpPacket& packet, std::vector<uint8_t>& frame,
                       const std::function<void(std::span<const uint8_t>)>& send);

}  // namespace viv
