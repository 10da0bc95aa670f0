#include "devices/network/tcp_merge.hpp"

#include <algorithm>

#include "devices/network/ethernet.hpp"

namespace viv {
namespace {

constexpr size_t type_at = 12, ip = 14, tcp = ip + 20, data_at = tcp + 20;
constexpr uint16_t type_ipv4 = 0x0800;
constexpr uint8_t version_and_length = 0x45, protocol_tcp = 6;
constexpr size_t length_at = ip + 2, fragment_at = ip + 6, protocol_at = ip + 9, ip_checksum_at = ip + 10,
                 addresses_at = ip + 12;
constexpr size_t sequence_at = tcp + 4, offset_at = tcp + 12, flags_at = tcp + 13, checksum_at = tcp + 16;
constexpr uint8_t ACK = 0x10, PSH = 0x08;
constexpr uint16_t more_or_offset = 0x3FFF;

/// The data of a frame that may be part of a larger packet; empty when it may not.
std::span<const uint8_t> data_of(std::span<const uint8_t> frame) {
    if (frame.size() <= data_at || load_big16(frame, type_at) != type_ipv4 || frame[ip] != version_and_length)
        return {};
    const size_t length = load_big16(frame, length_at);
    const bool plain = frame[protocol_at] == protocol_tcp && !(load_big16(frame, fragment_at) & more_or_offset) &&
                       frame[offset_at] == 0x50 && (frame[flags_at] & ~PSH) == ACK;
    if (!plain || length <= data_at - ip || length > frame.size() - ip) return {};
    // What is behind it is what short frames are padded with.
    return frame.subspan(data_at, length - (data_at - ip));
}

bool equal(std::span<const uint8_t> one, std::span<const uint8_t> other, size_t from, size_t to) {
    return std::equal(one.begin() + static_cast<ptrdiff_t>(from), one.begin() + static_cast<ptrdiff_t>(to),
                      other.begin() + static_cast<ptrdiff_t>(from));
}

}  // namespace

void TcpMerger::begin(std::span<const uint8_t> frame) {
    const auto data = data_of(frame);
    packet_.assign(frame.begin(), frame.end());
    frames_ = 1;
    grows_ = !data.empty() && !(frame[flags_at] & PSH);
    if (!grows_) return;
    packet_.resize(data_at + data.size());
    segment_ = static_cast<uint16_t>(data.size());
    next_ = load_big32(frame, sequence_at) + segment_;
}

bool TcpMerger::add(std::span<const uint8_t> frame) {
    if (packet_.empty() || !grows_) return false;
    const auto data = data_of(frame);
    constexpr size_t most_ip = 65'535;
    if (data.empty() || data.size() > segment_ || load_big32(frame, sequence_at) != next_ ||
        packet_.size() - ip + data.size() > most_ip)
        return false;
    // All but lengths, numbers and checksums is the same: the type of service, flags and time to live, the addresses
    // and ports, the acknowledgement, the window.
    const bool same =
        equal(frame, packet_, 0, length_at) && equal(frame, packet_, fragment_at, ip_checksum_at) &&
        equal(frame, packet_, addresses_at, sequence_at) && equal(frame, packet_, sequence_at + 4, flags_at) &&
        equal(frame, packet_, flags_at + 1, checksum_at) && equal(frame, packet_, checksum_at + 2, data_at);
    if (!same) return false;
    packet_.insert(packet_.end(), data.begin(), data.end());
    packet_[flags_at] = static_cast<uint8_t>(packet_[flags_at] | (frame[flags_at] & PSH));
    next_ += static_cast<uint32_t>(data.size());
    ++frames_;
    // Only the last is shorter, and only the last says that the data are to be passed on.
    grows_ = data.size() == segment_ && !(frame[flags_at] & PSH);
    return true;
}

std::span<const uint8_t> TcpMerger::finish(FrameOffload& offload) {
    offload = {.checked = true};
    if (frames_ > 1) {
        const auto bytes = std::span(packet_);
        const auto header = bytes.subspan(ip, tcp - ip);
        store_big16(bytes, length_at, static_cast<uint32_t>(bytes.size() - ip));
        store_big16(bytes, ip_checksum_at, 0);
        store_big16(bytes, ip_checksum_at, ~uint32_t{internet_sum(header)});
        const auto addresses = bytes.subspan(addresses_at, tcp - addresses_at);
        store_big16(bytes, checksum_at,
                    internet_sum(addresses, protocol_tcp + static_cast<uint32_t>(bytes.size() - tcp)));
        offload = {.packet = FrameOffload::Packet::tcp4,
                   .checksum_open = true,
                   .checked = true,
                   .checksum_start = tcp,
                   .checksum_offset = checksum_at - tcp,
                   .segment = segment_};
        grows_ = false;
    }
    return packet_;
}

}  // namespace viv
