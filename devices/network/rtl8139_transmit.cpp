// Transmission: the four descriptors, and the ring of C+ mode with checksums, segments and tags.

#include <algorithm>
#include <array>
#include <cstddef>

#include "devices/network/ethernet.hpp"
#include "devices/network/rtl8139.hpp"
#include "devices/network/rtl8139_registers.hpp"

namespace viv {
namespace {

using namespace rtl8139;

constexpr size_t longest_classic = 1792, mac_header = 14, tag_size = 4;
constexpr uint8_t tcp = 6, udp = 17;

/// Where the parts of an IPv4 packet in a frame are; none when it is no whole one.
struct Parts {
    size_t header = 0;  // of IP, in bytes
    size_t end = 0;     // of the packet, in the frame
    uint8_t protocol = 0;
    [[nodiscard]] size_t data() const { return mac_header + header; }
};
std::optional<Parts> parts_of(std::span<const uint8_t> frame) {
    if (frame.size() < mac_header + 20 || load_big16(frame, 12) != 0x0800 || frame[mac_header] >> 4 != 4) return {};
    const Parts parts{(frame[mac_header] & 0xFu) * 4, mac_header + load_big16(frame, mac_header + 2),
                      frame[mac_header + 9]};
    if (parts.header < 20 || parts.data() > parts.end || parts.end > frame.size()) return {};
    return parts;
}

void put_ip_checksum(std::span<uint8_t> frame, const Parts& parts) {
    const auto header = frame.subspan(mac_header, parts.header);
    store_big16(header, 10, 0);
    store_big16(header, 10, static_cast<uint16_t>(~internet_sum(header)));
}

void put_transport_checksum(std::span<uint8_t> frame, const Parts& parts) {
    const auto data = frame.subspan(parts.data(), parts.end - parts.data());
    const size_t at = parts.protocol == tcp ? 16 : 6;
    if (data.size() < at + 2) return;
    store_big16(data, at, 0);
    const uint32_t pseudo =
        internet_sum(frame.subspan(mac_header + 12, 8)) + parts.protocol + static_cast<uint32_t>(data.size());
    const auto sum = static_cast<uint16_t>(~internet_sum(data, pseudo));
    store_big16(data, at, sum == 0 && parts.protocol == udp ? 0xFFFF : sum);
}

}  // namespace

/// The descriptors take turns: one whose turn has not come waits.
void Rtl8139::transmit() {
    GuestMemory* memory = pci_.dma();
    if (!memory || !transmits() || plus_transmits()) return;
    while (state_.pending >> state_.next & 1) {
        const unsigned index = state_.next;
        state_.pending = static_cast<uint8_t>(state_.pending & ~(1u << index));
        state_.next = static_cast<uint8_t>((index + 1) % 4);
        uint32_t& status = state_.transmit_status[index];
        std::vector<uint8_t> frame(status & TSD_SIZE);
        if (frame.size() > longest_classic) {
            status |= TSD_OWN | TSD_TABT;
            cause(ISR_TER);
            continue;
        }
        memory->read(Gpa{state_.transmit_address[index]}, std::as_writable_bytes(std::span(frame)));
        status |= TSD_OWN | TSD_TOK;
        send_frame(frame);
        cause(ISR_TOK);
    }
}

/// Descriptors of C+ mode until one that the driver has, each of the ring once at most.
void Rtl8139::transmit_ring() {
    constexpr size_t descriptor_size = 16;
    GuestMemory* memory = pci_.dma();
    if (!memory || !plus_transmits()) return;
    const uint64_t ring = uint64_t{state_.transmit_address[1]} << 32 | (state_.transmit_address[0] & ~0xFFu);
    Rtl8139Packet& packet = state_.packet;
    for (unsigned done = 0; done < ring_entries; ++done) {
        const Gpa at{ring + state_.transmit_index * descriptor_size};
        const auto words = memory->load<std::array<uint32_t, 4>>(at);
        if (!(words[0] & D_OWN)) break;
        if (words[0] & D_FS) {
            packet = {};
            packet.started = true;
            packet.options = words[0];
            packet.tag = words[1];
        }
        const size_t length = words[0] & 0xFFFF;
        packet.too_long = packet.too_long || !packet.started || length > most_bytes - packet.bytes.size();
        if (!packet.too_long) {
            const size_t before = packet.bytes.size();
            packet.bytes.resize(before + length);
            memory->read(Gpa{uint64_t{words[3]} << 32 | words[2]},
                         std::as_writable_bytes(std::span(packet.bytes).subspan(before)));
        }
        memory->store(at, words[0] & ~(D_OWN | TD_status));
        const bool last = words[0] & D_EOR || state_.transmit_index + 1u == ring_entries;
        state_.transmit_index = last ? uint8_t{0} : static_cast<uint8_t>(state_.transmit_index + 1);
        if (words[0] & D_LS) {
            if (!packet.too_long) send_packet();
            packet = {};
            cause(ISR_TOK);
        }
    }
    cause(ISR_TDU);
}

void Rtl8139::send_packet() {
    Rtl8139Packet& packet = state_.packet;
    const uint32_t options = packet.options;
    if (options & TD_LGSEN) return send_segments(options >> 16 & 0x7FF);
    if (const auto parts = parts_of(packet.bytes)) {
        if (options & TD_IPCS) put_ip_checksum(packet.bytes, *parts);
        if ((options & TD_TCPCS && parts->protocol == tcp) || (options & TD_UDPCS && parts->protocol == udp))
            put_transport_checksum(packet.bytes, *parts);
    }
    send_frame(packet.bytes);
}

/// TCP over IPv4 in pieces of so many bytes; lengths, identification, sequence number, flags and checksums are each
/// piece's own. What is none goes nowhere.
void Rtl8139::send_segments(size_t segment) {
    const std::vector<uint8_t> whole = std::move(state_.packet.bytes);
    const auto parts = parts_of(whole);
    constexpr size_t tcp_least = 20;
    if (segment == 0 || !parts || parts->protocol != tcp || parts->end < parts->data() + tcp_least) return;
    const size_t header = parts->data() + (whole[parts->data() + 12] >> 4) * 4u;
    if (header < parts->data() + tcp_least || header > parts->end) return;
    if (parts->end - header > segment * most_segments) return;
    const size_t tcp_at = parts->data();
    uint32_t number = 0;
    for (size_t at = header; at < parts->end; at += segment, ++number) {
        const size_t size = std::min(segment, parts->end - at);
        std::vector<uint8_t> frame(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(header));
        frame.insert(frame.end(), whole.begin() + static_cast<std::ptrdiff_t>(at),
                     whole.begin() + static_cast<std::ptrdiff_t>(at + size));
        store_big16(frame, mac_header + 2, static_cast<uint32_t>(frame.size() - mac_header));
        store_big16(frame, mac_header + 4, load_big16(whole, mac_header + 4) + number);
        store_big32(frame, tcp_at + 4, load_big32(whole, tcp_at + 4) + static_cast<uint32_t>(at - header));
        constexpr uint8_t FIN = 0x01, PSH = 0x08;
        if (at + size < parts->end) frame[tcp_at + 13] &= static_cast<uint8_t>(~(FIN | PSH));
        const Parts own{parts->header, frame.size(), tcp};
        put_ip_checksum(frame, own);
        put_transport_checksum(frame, own);
        send_frame(frame);
    }
}

void Rtl8139::send_frame(std::span<const uint8_t> frame) {
    std::vector<uint8_t> tagged;
    if ((state_.packet.tag & TD_TAGC) && frame.size() >= 12) {
        // The descriptor has the tag's bytes in the order of the wire.
        const std::array<uint8_t, tag_size> tag{0x81, 0x00, static_cast<uint8_t>(state_.packet.tag),
                                                static_cast<uint8_t>(state_.packet.tag >> 8)};
        tagged.assign(frame.begin(), frame.end());
        tagged.insert(tagged.begin() + 12, tag.begin(), tag.end());
        frame = tagged;
    }
    // With TCR.CRC the driver has put the checksum at the end itself.
    constexpr size_t crc = 4;
    if ((state_.transmit_control & TCR_CRC) && frame.size() > crc) frame = frame.first(frame.size() - crc);
    if (frame.size() < NetworkLink::least_frame) return;
    ++state_.sent;
    if ((state_.transmit_control & TCR_LBK) == TCR_LBK) {
        if (accepts(frame)) receive_frame(frame);
    } else {
        port_.link->send(frame);
    }
}

/// The counters of C+ mode to where DTCCR says (6.4).
void Rtl8139::dump_counters() {
    GuestMemory* memory = pci_.dma();
    if (!memory) return;
    std::array<uint32_t, 16> words{};
    const auto put = [&words](size_t at, uint64_t value) {
        words[at] = static_cast<uint32_t>(value);
        words[at + 1] = static_cast<uint32_t>(value >> 32);
    };
    put(0, state_.sent);
    put(2, state_.received);
    put(10, state_.received - state_.received_broadcasts - state_.received_groups);
    put(12, state_.received_broadcasts);
    words[14] = static_cast<uint32_t>(state_.received_groups);
    const uint64_t to = uint64_t{state_.transmit_status[1]} << 32 | (state_.transmit_status[0] & ~0x3Fu);
    memory->write(Gpa{to}, std::as_bytes(std::span(words)));
}

}  // namespace viv
