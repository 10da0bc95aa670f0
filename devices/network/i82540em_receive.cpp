// Reception: filters, checksums, descriptors.

#include <algorithm>
#include <array>

#include "devices/network/ethernet.hpp"
#include "devices/network/i82540em.hpp"

namespace viv {
namespace {

using namespace i82540em;

constexpr size_t descriptor_size = 16;
constexpr size_t crc_size = 4, tag_size = 4, type_at = 12;
constexpr size_t longest_ordinary = 1518;  // without a tag, without the checksum

size_t buffer_size(uint32_t control) {
    const uint32_t code = control >> 16 & 3;
    if (control & RCTL_BSEX) return code == 0 ? 2048 : size_t{32768} >> code;
    return size_t{2048} >> code;
}

/// What a look at the checksums of IPv4, TCP and UDP says: status and errors of a descriptor.
struct Verdict {
    uint8_t status = 0;
    uint8_t errors = 0;
};

Verdict look_at_checksums(std::span<const uint8_t> frame, uint32_t wanted) {
    constexpr uint16_t ipv4 = 0x0800;
    constexpr uint8_t tcp = 6, udp = 17;
    Verdict verdict;
    if (!(wanted & (RXCSUM_IPOFL | RXCSUM_TUOFL))) return {RX_IXSM, 0};
    if (frame.size() < 34 || load_big16(frame, type_at) != ipv4 || frame[14] >> 4 != 4) return {RX_IXSM, 0};
    const auto packet = frame.subspan(14);
    const size_t header = (packet[0] & 0xFu) * 4, total = load_big16(packet, 2);
    if (header < 20 || total < header || total > packet.size()) return {RX_IXSM, 0};
    if (wanted & RXCSUM_IPOFL) {
        verdict.status |= RX_IPCS;
        if (internet_sum(packet.first(header)) != 0xFFFF) verdict.errors |= RX_IPE;
    }
    const bool fragment = load_big16(packet, 6) & 0x3FFF;
    const uint8_t protocol = packet[9];
    const auto data = packet.subspan(header, total - header);
    if (!(wanted & RXCSUM_TUOFL) || fragment || (protocol != tcp && protocol != udp)) return verdict;
    if (data.size() < (protocol == tcp ? 20u : 8u)) return verdict;
    if (protocol == udp && load_big16(data, 6) == 0) return verdict;  // it has none
    verdict.status |= RX_TCPCS;
    const uint32_t pseudo = internet_sum(packet.subspan(12, 8)) + protocol + static_cast<uint32_t>(data.size());
    if (internet_sum(data, pseudo) != 0xFFFF) verdict.errors |= RX_TCPE;
    return verdict;
}

}  // namespace

/// Takes what the link has; what there are no descriptors for stays there.
void I82540em::receive() {
    NetworkLink& link = *port_.link;
    if (link.front().empty()) return;
    while (!link.front().empty()) {
        const auto frame = link.front();
        if ((state_.receive_control & RCTL_EN) && accepts(frame)) {
            GuestMemory* memory = pci_.dma();
            if (!memory || !receive_frame(frame, *memory)) return;
        }
        link.pop();
    }
}

bool I82540em::accepts(std::span<const uint8_t> frame) const {
    const uint32_t control = state_.receive_control;
    const bool tagged = frame.size() >= type_at + tag_size && load_big16(frame, type_at) == 0x8100;
    if (frame.size() > longest_ordinary - crc_size + (tagged ? tag_size : 0) && !(control & RCTL_LPE)) return false;
    if (tagged && (control & RCTL_VFE)) {
        const uint32_t number = load_big16(frame, type_at + 2) & 0xFFFu;
        if (!(state_.vlans[number / 32] >> (number % 32) & 1)) return false;
    }
    const bool group = frame[0] & 1;
    if (control & (group ? RCTL_MPE : RCTL_UPE)) return true;
    if (is_broadcast(frame)) return control & RCTL_BAM;
    const uint32_t low = frame[0] | frame[1] << 8 | frame[2] << 16 | uint32_t{frame[3]} << 24;
    const uint32_t high = frame[4] | frame[5] << 8;
    for (size_t i = 0; i < state_.addresses.size(); i += 2) {
        if (state_.addresses[i] == low && (state_.addresses[i + 1] & (RAH_AV | 0xFFFF)) == (RAH_AV | high)) return true;
    }
    if (!group) return false;
    constexpr std::array<unsigned, 4> shifts{4, 3, 2, 0};
    const uint32_t index = high >> shifts[control >> 12 & 3] & 0xFFF;
    return state_.multicast[index / 32] >> (index % 32) & 1;
}

bool I82540em::receive_frame(std::span<const uint8_t> frame, GuestMemory& memory) {
    I82540emRing& ring = state_.receive;
    const uint32_t count_of_ring = ring.count();
    std::vector<uint8_t> bytes(frame.begin(), frame.end());
    uint16_t tag = 0;
    uint8_t status = 0;
    const bool tagged = bytes.size() >= type_at + tag_size && load_big16(bytes, type_at) == read_register(VET);
    if (tagged && (state_.control & CTRL_VME)) {
        tag = load_big16(bytes, type_at + 2);
        bytes.erase(bytes.begin() + type_at, bytes.begin() + type_at + tag_size);
        status = RX_VP;
    }
    const Verdict verdict = look_at_checksums(bytes, state_.receive_checksum);
    bytes.resize(std::max(bytes.size(), ethernet_least));
    const size_t on_wire = bytes.size() + crc_size;
    const size_t sum_from = state_.receive_checksum & 0xFF;
    const uint16_t sum = sum_from < bytes.size() ? internet_sum(std::span(bytes).subspan(sum_from)) : uint16_t{0};
    if (!(state_.receive_control & RCTL_SECRC)) {
        const uint32_t crc = ethernet_crc(bytes);
        for (unsigned i = 0; i < crc_size; ++i) bytes.push_back(static_cast<uint8_t>(crc >> (8 * i)));
    }

    const size_t piece = buffer_size(state_.receive_control);
    const size_t needed = (bytes.size() + piece - 1) / piece;
    const bool plausible = count_of_ring > 0 && ring.head < count_of_ring && ring.tail < count_of_ring;
    if (!plausible || needed >= count_of_ring) {
        // It could never be taken.
        count(MPC);
        cause(ICR_RXO);
        return true;
    }
    const auto free = [&] { return (ring.tail + count_of_ring - ring.head) % count_of_ring; };
    if (free() < needed) return false;
    for (size_t at = 0; at < bytes.size(); at += piece) {
        const auto part = std::span(bytes).subspan(at, std::min(piece, bytes.size() - at));
        const bool last = at + part.size() == bytes.size();
        const Gpa place{ring.base + ring.head * descriptor_size};
        memory.write(Gpa{memory.load<uint64_t>(place)}, std::as_bytes(part));
        const auto state_byte = static_cast<uint8_t>(RX_DD | status | (last ? RX_EOP | verdict.status : 0));
        const std::array<uint32_t, 2> words{
            static_cast<uint32_t>(part.size()) | uint32_t{sum} << 16,
            state_byte | uint32_t{last ? verdict.errors : uint8_t{0}} << 8 | uint32_t{tag} << 16};
        memory.write(place + 8, std::as_bytes(std::span(words)));
        if (++ring.head == count_of_ring) ring.head = 0;
    }
    count_frame({TPR, GPRC, TORL, GORCL, PRC64, BPRC, MPRC}, frame, on_wire);
    cause(ICR_RXT0);
    if (free() <= count_of_ring >> ((state_.receive_control >> 8 & 3) + 1)) cause(ICR_RXDMT0);
    return true;
}

}  // namespace viv
