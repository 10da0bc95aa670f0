// Reception: filters, the ring of bytes, and the ring of descriptors of C+ mode.

#include <algorithm>
#include <array>
#include <cstddef>

#include "devices/network/ethernet.hpp"
#include "devices/network/rtl8139.hpp"
#include "devices/network/rtl8139_registers.hpp"

namespace viv {
namespace {

using namespace rtl8139;

constexpr size_t crc_size = 4, header_size = 4, longest = 1518;

/// A frame as a chip sees it: padded, with its checksum.
std::vector<uint8_t> from_wire(std::span<const uint8_t> frame) {
    std::vector<uint8_t> bytes(frame.begin(), frame.end());
    bytes.resize(std::max(bytes.size(), ethernet_least));
    const uint32_t crc = ethernet_crc(bytes);
    for (unsigned i = 0; i < crc_size; ++i) bytes.push_back(static_cast<uint8_t>(crc >> (8 * i)));
    return bytes;
}

/// What C+ mode says of the checksums of a packet: its protocol, and which of them fail.
uint32_t look_at_checksums(std::span<const uint8_t> frame) {
    constexpr uint16_t ipv4 = 0x0800;
    constexpr uint8_t tcp = 6, udp = 17;
    if (frame.size() < 34 || load_big16(frame, 12) != ipv4 || frame[14] >> 4 != 4) return 0;
    const auto packet = frame.subspan(14);
    const size_t header = (packet[0] & 0xFu) * 4, total = load_big16(packet, 2);
    if (header < 20 || total < header || total > packet.size()) return RD_IP | RD_IPF;
    const uint32_t ip = internet_sum(packet.first(header)) != 0xFFFF ? RD_IPF : 0;
    const auto data = packet.subspan(header, total - header);
    const uint8_t protocol = packet[9];
    const bool fragment = load_big16(packet, 6) & 0x3FFF;
    if (fragment || (protocol != tcp && protocol != udp) || data.size() < (protocol == tcp ? 20u : 8u)) {
        return RD_IP | ip;
    }
    const uint32_t pseudo = internet_sum(packet.subspan(12, 8)) + protocol + static_cast<uint32_t>(data.size());
    const bool without = protocol == udp && load_big16(data, 6) == 0;
    const bool good = without || internet_sum(data, pseudo) == 0xFFFF;
    if (protocol == tcp) return RD_TCP | ip | (good ? 0 : RD_TCPF);
    return RD_UDP | ip | (good ? 0 : RD_UDPF);
}

}  // namespace

uint32_t Rtl8139::buffer_size() const {
    return 0x2000u << ((state_.receive_control & RCR_RBLEN) >> 11);
}

/// Takes what the link has; what there is no room for stays there.
void Rtl8139::receive() {
    NetworkLink& link = *port_.link;
    while (!link.front().empty()) {
        const auto frame = link.front();
        const bool loops = (state_.transmit_control & TCR_LBK) == TCR_LBK;
        if (receives() && !loops && accepts(frame) && !receive_frame(frame)) return;
        link.pop();
    }
}

bool Rtl8139::accepts(std::span<const uint8_t> frame) const {
    const uint32_t control = state_.receive_control;
    if (is_broadcast(frame)) return control & RCR_AB;
    if (frame[0] & 1) {
        const uint32_t index = multicast_hash(frame.first<6>()) >> 26;
        return (control & RCR_AM) && (state_.multicast[index / 8] >> (index % 8) & 1);
    }
    return (control & RCR_AAP) || ((control & RCR_APM) && std::ranges::equal(frame.first(6), state_.id));
}

bool Rtl8139::receive_frame(std::span<const uint8_t> frame) {
    GuestMemory* memory = pci_.dma();
    if (!memory || !receives()) return false;
    constexpr size_t tag_size = 4;
    if (frame.size() > longest + tag_size) {
        ++state_.missed;
        return true;
    }
    if (!(plus_receives() ? receive_into_ring(frame, *memory) : receive_into_buffer(frame, *memory))) return false;
    ++state_.received;
    if (is_broadcast(frame)) {
        ++state_.received_broadcasts;
    } else if (frame[0] & 1) {
        ++state_.received_groups;
    }
    cause(ISR_ROK);
    return true;
}

/// Behind a header of four bytes at CBR, on multiples of four; with RCR.WRAP a frame at the end goes on behind it.
bool Rtl8139::receive_into_buffer(std::span<const uint8_t> frame, GuestMemory& memory) {
    const std::vector<uint8_t> bytes = from_wire(frame);
    const uint32_t size = buffer_size();
    const uint32_t at = state_.receive_write % size;
    const uint32_t read = (state_.receive_read + 16u) % size;
    const auto needed = static_cast<uint32_t>(header_size + bytes.size() + 3) & ~3u;
    const uint32_t room = read == at ? size : (read + size - at) % size;
    // A ring that is full to the last byte would look empty.
    if (needed >= room) return false;
    const bool physical = !(frame[0] & 1);
    const uint32_t status = RX_ROK | (physical ? RX_PAM : is_broadcast(frame) ? RX_BAR : RX_MAR);
    const Gpa start{state_.receive_start};
    memory.store(start + at, static_cast<uint32_t>(status | (bytes.size() << 16)));
    const std::span<const uint8_t> all(bytes);
    const uint32_t first = at + header_size;
    // The header fits: positions are multiples of four.
    const size_t before_end =
        state_.receive_control & RCR_WRAP && size < 0x10000 ? all.size() : std::min<size_t>(all.size(), size - first);
    memory.write(start + first, std::as_bytes(all.first(before_end)));
    memory.write(start, std::as_bytes(all.subspan(before_end)));
    state_.receive_write = static_cast<uint16_t>((at + needed) % size);
    return true;
}

/// Into buffers of descriptors that the driver gave. Without enough of them, the ring is looked at again: no register
/// tells that it has more.
bool Rtl8139::receive_into_ring(std::span<const uint8_t> frame, GuestMemory& memory) {
    constexpr size_t descriptor_size = 16;
    std::vector<uint8_t> plain(frame.begin(), frame.end());
    uint32_t tag = 0;
    if ((state_.plus_command & CPCR_RxVLAN) && plain.size() >= 18 && load_big16(plain, 12) == 0x8100) {
        tag = RD_TAVA | uint32_t{plain[15]} << 8 | plain[14];
        plain.erase(plain.begin() + 12, plain.begin() + 16);
    }
    const std::vector<uint8_t> bytes = from_wire(plain);
    struct Piece {
        Gpa descriptor;
        Gpa buffer;
        uint32_t first_word;
        size_t size;
    };
    std::vector<Piece> pieces;
    uint8_t index = state_.receive_index;
    for (size_t have = 0; have < bytes.size();) {
        const Gpa at{state_.receive_ring + index * descriptor_size};
        const auto words = memory.load<std::array<uint32_t, 4>>(at);
        if (!(words[0] & D_OWN) || pieces.size() == ring_entries) {
            cause(ISR_RDU);
            look_again();
            return false;
        }
        const size_t size = std::min<size_t>(words[0] & RD_SIZE, bytes.size() - have);
        pieces.push_back({at, Gpa{uint64_t{words[3]} << 32 | words[2]}, words[0], size});
        have += size;
        index = words[0] & D_EOR || index + 1u == ring_entries ? uint8_t{0} : static_cast<uint8_t>(index + 1);
    }
    const uint32_t kind = !(frame[0] & 1) ? RD_PAM : is_broadcast(frame) ? RD_BAR : RD_MAR;
    const uint32_t sums = state_.plus_command & CPCR_RxChkSum ? look_at_checksums(plain) : 0;
    size_t done = 0;
    for (const Piece& piece : pieces) {
        memory.write(piece.buffer, std::as_bytes(std::span(bytes).subspan(done, piece.size)));
        done += piece.size;
        const bool first = &piece == &pieces.front(), last = &piece == &pieces.back();
        memory.store(piece.descriptor + 4, tag);
        memory.store(piece.descriptor, (piece.first_word & D_EOR) | (first ? D_FS : 0) | (last ? D_LS : 0) | kind |
                                           sums | static_cast<uint32_t>(last ? bytes.size() : piece.size));
    }
    state_.receive_index = index;
    return true;
}

}  // namespace viv
