#include "devices/network/tcp_segments.hpp"

#include <algorithm>
#include <optional>

#include "devices/network/ethernet.hpp"

namespace viv {
namespace {

constexpr size_t type_at = 12, tag_size = 4;
constexpr uint16_t type_ipv4 = 0x0800, type_ipv6 = 0x86DD, type_vlan = 0x8100;
constexpr size_t ipv4_least = 20, ipv6_size = 40, tcp_least = 20;
constexpr uint8_t protocol_tcp = 6;
constexpr uint8_t FIN = 0x01, PSH = 0x08, CWR = 0x80;
constexpr size_t sequence_at = 4, length_at = 12, flags_at = 13, checksum_at = 16;

/// Where the IP header begins, if the packet is what it says and its TCP header is in it.
std::optional<size_t> find_ip(const TcpPacket& packet) {
    const auto frame = packet.frame;
    if (packet.tcp + tcp_least > frame.size() || frame.size() < type_at + 2 + tag_size + 2) return std::nullopt;
    const bool tagged = load_big16(frame, type_at) == type_vlan;
    const uint16_t type = load_big16(frame, type_at + (tagged ? tag_size : 0));
    const size_t ip = type_at + 2 + (tagged ? tag_size : 0);
    if (packet.version == TcpPacket::Version::ipv4) {
        if (type != type_ipv4 || ip + ipv4_least > packet.tcp || frame[ip] >> 4 != 4) return std::nullopt;
        if (ip + size_t{4} * (frame[ip] & 0xF) != packet.tcp || frame[ip + 9] != protocol_tcp) return std::nullopt;
    } else if (type != type_ipv6 || ip + ipv6_size > packet.tcp || frame[ip] >> 4 != 6) {
        return std::nullopt;
    }
    return ip;
}

}  // namespace

size_t tcp_headers_size(const TcpPacket& packet) {
    return packet.tcp + size_t{4} * (packet.frame[packet.tcp + length_at] >> 4);
}

bool is_tcp_packet(const TcpPacket& packet) {
    const auto ip = find_ip(packet);
    if (!ip || packet.segment == 0) return false;
    // What IP says of its length does not count its own header in version 6.
    constexpr size_t most_ip = 65'535;
    const size_t uncounted = packet.version == TcpPacket::Version::ipv6 ? ipv6_size : 0;
    if (packet.frame.size() - *ip - uncounted > most_ip) return false;
    const size_t headers = tcp_headers_size(packet);
    return headers >= packet.tcp + tcp_least && headers <= packet.frame.size() &&
           packet.frame.size() - headers <= packet.segment * most_tcp_segments;
}

bool send_tcp_segments(const TcpPacket& packet, std::vector<uint8_t>& frame,
                       const std::function<void(std::span<const uint8_t>)>& send) {
    if (!is_tcp_packet(packet)) return false;
    const auto ip = find_ip(packet);
    const size_t tcp = packet.tcp;
    const size_t headers = tcp_headers_size(packet);
    const auto data = packet.frame.subspan(headers);
    const auto whole = static_cast<uint32_t>(packet.frame.size() - tcp);
    const uint32_t sequence = load_big32(packet.frame, tcp + sequence_at);
    const uint32_t pseudo = load_big16(packet.frame, tcp + checksum_at);
    size_t at = 0;
    for (uint32_t number = 0; number == 0 || at < data.size(); ++number) {
        const auto piece = data.subspan(at, std::min(packet.segment, data.size() - at));
        const bool last = at + piece.size() == data.size();
        frame.assign(packet.frame.begin(), packet.frame.begin() + static_cast<ptrdiff_t>(headers));
        frame.insert(frame.end(), piece.begin(), piece.end());
        const auto segment = std::span(frame).subspan(tcp);
        const auto ip_header = std::span(frame).subspan(*ip, tcp - *ip);
        if (packet.version == TcpPacket::Version::ipv4) {
            store_big16(ip_header, 2, static_cast<uint32_t>(frame.size() - *ip));
            store_big16(ip_header, 4, load_big16(ip_header, 4) + number);
            store_big16(ip_header, 10, 0);
            store_big16(ip_header, 10, ~uint32_t{internet_sum(ip_header)});
        } else {
            store_big16(ip_header, 4, static_cast<uint32_t>(frame.size() - *ip - ipv6_size));
        }
        store_big32(segment, sequence_at, sequence + static_cast<uint32_t>(at));
        if (!last) segment[flags_at] = static_cast<uint8_t>(segment[flags_at] & ~(FIN | PSH));
        if (number > 0) segment[flags_at] = static_cast<uint8_t>(segment[flags_at] & ~CWR);
        // The pseudo header has the length of this one instead of that of all: taken away in ones' complement.
        const uint32_t whole_sum = (whole & 0xFFFF) + (whole >> 16);
        store_big16(segment, checksum_at, 0);
        const auto length = static_cast<uint32_t>(segment.size());
        store_big16(segment, checksum_at, ~uint32_t{internet_sum(segment, pseudo + (~whole_sum & 0xFFFF) + length)});
        send(frame);
        at += piece.size();
    }
    return true;
}

}  // namespace viv
