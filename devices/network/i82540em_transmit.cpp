// Transmission: descriptors, checksums, segments.

#include <algorithm>
#include <array>
#include <utility>

#include "devices/network/ethernet.hpp"
#include "devices/network/i82540em.hpp"

namespace viv {
namespace {

using namespace i82540em;

constexpr size_t descriptor_size = 16;
constexpr Duration moment = std::chrono::microseconds(10);

using Descriptor = std::array<uint32_t, 4>;

uint8_t byte_of(uint32_t word, unsigned index) {
    return static_cast<uint8_t>(word >> (8 * index));
}

I82540emContext context_of(const Descriptor& words) {
    return {.ip_start = byte_of(words[0], 0),
            .ip_offset = byte_of(words[0], 1),
            .ip_end = static_cast<uint16_t>(words[0] >> 16),
            .start = byte_of(words[1], 0),
            .offset = byte_of(words[1], 1),
            .end = static_cast<uint16_t>(words[1] >> 16),
            .command = byte_of(words[2], 3),
            .header_length = byte_of(words[3], 1),
            .segment_size = static_cast<uint16_t>(words[3] >> 16)};
}

/// Puts the checksum of bytes `start` to `end` (inclusive; 0: the last) at `offset`, where its first value is.
void put_checksum(std::span<uint8_t> frame, size_t start, size_t offset, size_t end) {
    const size_t stop = end != 0 && end < frame.size() ? end + 1 : frame.size();
    if (start >= stop || offset + 2 > frame.size()) return;
    const auto sum = static_cast<uint16_t>(~internet_sum(frame.subspan(start, stop - start)));
    store_big16(frame, offset, sum);
}

}  // namespace

/// Carries out descriptors up to the tail; what would hold the machine for too long goes on a moment later.
void I82540em::transmit() {
    I82540emRing& ring = state_.transmit;
    GuestMemory* memory = pci_.dma();
    if (!memory || !(state_.transmit_control & TCTL_EN) || ring.count() == 0) return;
    size_t bytes = 0, done = 0;
    while (ring.head != ring.tail && ring.tail < ring.count()) {
        if (bytes >= bytes_at_once || done >= descriptors_at_once) {
            state_.resume = clock_.now() + moment;
            return;
        }
        const Work work = transmit_descriptor(*memory);
        bytes += work.bytes;
        done += std::max<size_t>(work.frames, 1);
        if (++ring.head >= ring.count()) ring.head = 0;
    }
    if (done > 0) cause(ICR_TXQE);
}

I82540em::Work I82540em::transmit_descriptor(GuestMemory& memory) {
    const Gpa at{state_.transmit.base + state_.transmit.head * descriptor_size};
    const auto words = memory.load<Descriptor>(at);
    const uint8_t command = byte_of(words[2], 3);
    const bool extended = command & TX_DEXT;
    const uint32_t type = words[2] >> 20 & 0xF;
    Work work;
    if (extended && type == 0) {
        (command & TX_TSE ? state_.segment_context : state_.checksum_context) = context_of(words);
        if (command & TX_TSE) count(TSCTC);
    } else if (!extended || type == 1) {
        I82540emPacket& packet = state_.packet;
        if (!std::exchange(packet.started, true)) {
            packet.segmented = extended && (command & TX_TSE);
            packet.options = extended ? byte_of(words[3], 1) : uint8_t{0};
        }
        const size_t length = words[2] & (extended ? 0xFFFFF : 0xFFFF);
        packet.too_long = packet.too_long || length > most_bytes - packet.bytes.size();
        if (!packet.too_long) {
            const size_t before = packet.bytes.size();
            packet.bytes.resize(before + length);
            memory.read(Gpa{uint64_t{words[1]} << 32 | words[0]},
                        std::as_writable_bytes(std::span(packet.bytes).subspan(before)));
            work.bytes = length;
        }
        if (command & TX_EOP) {
            if (!extended && (command & TX_IC) && !packet.too_long) {
                put_checksum(packet.bytes, byte_of(words[3], 1), byte_of(words[2], 2), 0);
            }
            const bool tagged = (command & TX_VLE) && (state_.control & CTRL_VME);
            if (!packet.too_long) work.frames = send_packet(static_cast<uint16_t>(words[3] >> 16), tagged);
            packet.bytes.clear();
            packet.started = packet.too_long = packet.segmented = false;
            packet.options = 0;
        }
    }
    if (command & (TX_RS | TX_RPS)) {
        memory.store(at + 12, words[3] | TX_DD);
        cause(ICR_TXDW);
    }
    return work;
}

size_t I82540em::send_packet(uint16_t tag_value, bool tagged) {
    const std::optional<uint16_t> tag = tagged ? std::optional(tag_value) : std::nullopt;
    I82540emPacket& packet = state_.packet;
    if (packet.segmented) return send_segments(tag);
    const I82540emContext& context = state_.checksum_context;
    if (packet.options & POPTS_IXSM) {
        // The field counts as zero.
        if (context.ip_offset + 2u <= packet.bytes.size()) store_big16(packet.bytes, context.ip_offset, 0);
        put_checksum(packet.bytes, context.ip_start, context.ip_offset, context.ip_end);
    }
    if (packet.options & POPTS_TXSM) put_checksum(packet.bytes, context.start, context.offset, context.end);
    send_frame(packet.bytes, tag);
    return 1;
}

/// TCP and UDP segmentation (3.5): the header goes before each piece of the payload, with lengths, identification,
/// sequence number, flags and checksums of its own.
size_t I82540em::send_segments(const std::optional<uint16_t>& tag) {
    const I82540emPacket& packet = state_.packet;
    const I82540emContext& context = state_.segment_context;
    const size_t header = context.header_length, piece = context.segment_size;
    const bool tcp = context.command & TUCMD_TCP, ipv4 = context.command & TUCMD_IP;
    // Every field of the header that is changed must be in it.
    const size_t ip_needs = context.ip_start + 6u, needs = context.start + (tcp ? 14u : 6u);
    if (header < std::max(ip_needs, needs) || packet.bytes.size() <= header ||
        packet.bytes.size() - header > piece * most_segments) {
        count(TSCTC + 1);
        return 0;
    }
    const std::span<const uint8_t> whole(packet.bytes);
    const auto payload = whole.subspan(header);
    uint32_t number = 0;
    for (size_t at = 0; at < payload.size(); at += piece, ++number) {
        const auto part = payload.subspan(at, std::min(piece, payload.size() - at));
        const bool last = at + part.size() == payload.size();
        scratch_.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(header));
        scratch_.insert(scratch_.end(), part.begin(), part.end());
        const std::span<uint8_t> frame(scratch_);
        const size_t ip_length = frame.size() - context.ip_start;
        if (ipv4) {
            store_big16(frame, context.ip_start + 2u, static_cast<uint32_t>(ip_length));
            store_big16(frame, context.ip_start + 4u, load_big16(frame, context.ip_start + 4u) + number);
        } else {
            constexpr size_t ipv6_header = 40;
            store_big16(frame, context.ip_start + 4u,
                        static_cast<uint32_t>(ip_length - std::min(ip_length, ipv6_header)));
        }
        const auto length = static_cast<uint32_t>(frame.size() - context.start);
        if (tcp) {
            constexpr uint8_t FIN = 0x01, PSH = 0x08;
            store_big32(frame, context.start + 4u, load_big32(frame, context.start + 4u) + static_cast<uint32_t>(at));
            if (!last) frame[context.start + 13u] &= static_cast<uint8_t>(~(FIN | PSH));
        } else {
            store_big16(frame, context.start + 4u, length);
        }
        if (packet.options & POPTS_TXSM && context.offset + 2u <= frame.size()) {
            // The pseudo header's sum is there, without the length.
            uint32_t sum = load_big16(frame, context.offset) + length;
            while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
            store_big16(frame, context.offset, sum);
            put_checksum(frame, context.start, context.offset, context.end);
        }
        if (packet.options & POPTS_IXSM) {
            if (context.ip_offset + 2u <= frame.size()) store_big16(frame, context.ip_offset, 0);
            put_checksum(frame, context.ip_start, context.ip_offset, context.ip_end);
        }
        send_frame(frame, tag);
    }
    return number;
}

void I82540em::send_frame(std::span<uint8_t> frame, const std::optional<uint16_t>& tag) {
    if (frame.size() < NetworkLink::least_frame) return;
    std::vector<uint8_t> tagged;
    if (tag) {
        const auto vet = read_register(VET);
        const std::array<uint8_t, 4> inserted{static_cast<uint8_t>(vet >> 8), static_cast<uint8_t>(vet),
                                              static_cast<uint8_t>(*tag >> 8), static_cast<uint8_t>(*tag)};
        tagged.assign(frame.begin(), frame.end());
        tagged.insert(tagged.begin() + 12, inserted.begin(), inserted.end());
        frame = tagged;
    }
    constexpr size_t crc = 4;
    count_frame({TPT, GPTC, TOTL, GOTCL, PTC64, BPTC, MPTC}, frame, std::max(frame.size(), ethernet_least) + crc);
    if (state_.receive_control & RCTL_LBM) {
        GuestMemory* memory = pci_.dma();
        if (memory && (state_.receive_control & RCTL_EN) && accepts(frame) && !receive_frame(frame, *memory))
            count(MPC);
        return;
    }
    port_.link->send(frame);
}

}  // namespace viv
