#include "devices/network/frame_offload.hpp"

#include "devices/network/ethernet.hpp"
#include "devices/network/tcp_segments.hpp"

namespace viv {
namespace {

// struct virtio_net_hdr (5.1.6)
constexpr uint8_t NEEDS_CSUM = 1, DATA_VALID = 2;
constexpr uint8_t GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80;
constexpr size_t flags_at = 0, gso_type_at = 1, hdr_len_at = 2, gso_size_at = 4, csum_start_at = 6, csum_offset_at = 8;

constexpr uint16_t checksum_of_tcp = 16;

uint16_t number_at(std::span<const uint8_t> bytes, size_t at) {
    return static_cast<uint16_t>(bytes[at] | bytes[at + 1] << 8);
}

void put_number(std::span<uint8_t> bytes, size_t at, size_t value) {
    bytes[at] = static_cast<uint8_t>(value);
    bytes[at + 1] = static_cast<uint8_t>(value >> 8);
}

TcpPacket packet_of(std::span<const uint8_t> frame, const FrameOffload& offload) {
    const auto version =
        offload.packet == FrameOffload::Packet::tcp4 ? TcpPacket::Version::ipv4 : TcpPacket::Version::ipv6;
    return {frame, version, offload.checksum_start, offload.segment};
}

/// The sum of everything from the checksum's start on.
void put_checksum(std::span<uint8_t> frame, const FrameOffload& offload) {
    const auto checksum = static_cast<uint16_t>(~internet_sum(frame.subspan(offload.checksum_start)));
    // Zero would say that there is none (UDP); TCP takes either.
    store_big16(frame, size_t{offload.checksum_start} + offload.checksum_offset, checksum == 0 ? 0xFFFF : checksum);
}

}  // namespace

bool Offloads::take(const FrameOffload& offload) const {
    if (offload.checksum_open && !checksum) return false;
    switch (offload.packet) {
        case FrameOffload::Packet::whole: return true;
        case FrameOffload::Packet::tcp4: return tcp4 && (marks || !offload.marks);
        case FrameOffload::Packet::tcp6: return tcp6 && (marks || !offload.marks);
    }
    return false;
}

bool can_finish(std::span<const uint8_t> frame, const FrameOffload& offload) {
    if (offload.packet != FrameOffload::Packet::whole) {
        return offload.checksum_open && offload.checksum_offset == checksum_of_tcp && frame.size() <= most_packet &&
               is_tcp_packet(packet_of(frame, offload));
    }
    return !offload.checksum_open || (offload.checksum_start < frame.size() &&
                                      offload.checksum_offset + size_t{2} <= frame.size() - offload.checksum_start);
}

bool finish_frame(std::span<uint8_t> frame, const FrameOffload& offload, std::vector<uint8_t>& scratch,
                  const std::function<void(std::span<const uint8_t>)>& send) {
    if (!can_finish(frame, offload)) return false;
    if (offload.packet != FrameOffload::Packet::whole)
        return send_tcp_segments(packet_of(frame, offload), scratch, send);
    if (offload.checksum_open) put_checksum(frame, offload);
    send(frame);
    return true;
}

std::optional<FrameOffload> read_offload(std::span<const uint8_t, offload_header_size> header) {
    FrameOffload offload;
    offload.checksum_open = header[flags_at] & NEEDS_CSUM;
    offload.checked = header[flags_at] & DATA_VALID;
    if (offload.checksum_open) {
        offload.checksum_start = number_at(header, csum_start_at);
        offload.checksum_offset = number_at(header, csum_offset_at);
    }
    if (header[gso_type_at] == GSO_NONE) return offload;
    offload.marks = header[gso_type_at] & GSO_ECN;
    offload.segment = number_at(header, gso_size_at);
    switch (header[gso_type_at] & ~GSO_ECN) {
        case GSO_TCPV4: offload.packet = FrameOffload::Packet::tcp4; return offload;
        case GSO_TCPV6: offload.packet = FrameOffload::Packet::tcp6; return offload;
        default: return std::nullopt;
    }
}

OffloadHeader write_offload(const FrameOffload& offload, std::span<const uint8_t> frame) {
    OffloadHeader header{};
    if (offload.checked) header[flags_at] = DATA_VALID;
    if (offload.checksum_open) {
        header[flags_at] = NEEDS_CSUM;
        put_number(header, csum_start_at, offload.checksum_start);
        put_number(header, csum_offset_at, offload.checksum_offset);
    }
    if (offload.packet == FrameOffload::Packet::whole) return header;
    header[gso_type_at] = static_cast<uint8_t>((offload.packet == FrameOffload::Packet::tcp4 ? GSO_TCPV4 : GSO_TCPV6) |
                                               (offload.marks ? GSO_ECN : 0));
    put_number(header, hdr_len_at, tcp_headers_size(packet_of(frame, offload)));
    put_number(header, gso_size_at, offload.segment);
    return header;
}

}  // namespace viv
