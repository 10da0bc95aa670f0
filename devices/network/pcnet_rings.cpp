// Descriptors: transmission, filters and reception.

#include <algorithm>
#include <array>
#include <cstddef>

#include "devices/network/ethernet.hpp"
#include "devices/network/pcnet.hpp"
#include "devices/network/pcnet_registers.hpp"

namespace viv {
namespace {

using namespace pcnet;

constexpr size_t crc_size = 4;
constexpr Duration moment = std::chrono::microseconds(10), poll_time = std::chrono::milliseconds(1);
constexpr uint16_t by_promiscuity = 0x0001;

/// What a count says that is kept as minus it, in twelve bits.
uint32_t size_of(uint32_t field) {
    return (0x1000u - (field & 0xFFF)) & 0xFFF;
}

}  // namespace

uint32_t Pcnet::descriptor_at(const PcnetRing& ring, uint32_t index) const {
    return ring.base + index * (wide_structures() ? 16 : 8);
}

Pcnet::Descriptor Pcnet::load(const GuestMemory& memory, uint32_t at) const {
    const Gpa place{at};
    if (!wide_structures()) {
        const auto words = memory.load<std::array<uint16_t, 4>>(place);
        return {upper_address() | uint32_t{words[1] & 0xFFu} << 16 | words[0], static_cast<uint16_t>(words[1] & 0xFF00),
                size_of(words[2])};
    }
    const auto words = memory.load<std::array<uint32_t, 4>>(place);
    const bool third = (state_.software_style & BCR20_SWSTYLE) == 3;
    return {words[third ? 2 : 0], static_cast<uint16_t>(words[1] >> 16), size_of(words[1])};
}

/// Gives a descriptor back: its count, and then its flags, with which it is the driver's.
void Pcnet::finish(GuestMemory& memory, uint32_t at, uint16_t flags, uint32_t count) const {
    const Gpa place{at};
    if (!wide_structures()) {
        memory.store(place + 6, static_cast<uint16_t>(count));
        memory.store(place + 3, static_cast<uint8_t>(flags >> 8));
        return;
    }
    const bool third = (state_.software_style & BCR20_SWSTYLE) == 3;
    memory.store(place + (third ? 0 : 8), count);
    memory.store(place + 6, flags);
}

// ---- Transmission --------------------------------------------------------------------------------------------------

void Pcnet::transmit() {
    GuestMemory* memory = pci_.dma();
    if (!memory || !(state_.status & CSR0_TXON) || (state_.extended & CSR5_SPND)) return;
    for (unsigned done = 0; done < descriptors_at_once; ++done) {
        const uint32_t at = descriptor_at(state_.transmit, state_.transmit.next);
        const Descriptor descriptor = load(*memory, at);
        if (!(descriptor.flags & D_OWN)) return;
        if (descriptor.flags & D_STP) {
            state_.packet.clear();
            state_.started = true;
            state_.too_long = false;
        }
        const size_t before = state_.packet.size();
        state_.too_long = state_.too_long || !state_.started || before + descriptor.size > most_bytes;
        if (!state_.too_long) {
            state_.packet.resize(before + descriptor.size);
            memory->read(Gpa{descriptor.buffer}, std::as_writable_bytes(std::span(state_.packet).subspan(before)));
        }
        constexpr uint16_t errors = 0x5C00;  // ERR, MORE, ONE, DEF
        finish(*memory, at, static_cast<uint16_t>(descriptor.flags & ~(D_OWN | errors)), 0);
        state_.transmit.next = (state_.transmit.next + 1) % state_.transmit.count();
        if (!(descriptor.flags & D_ENP)) continue;
        if (!state_.too_long) send_frame();
        state_.packet.clear();
        state_.started = false;
        // With LTINTEN only the descriptors that ask for it tell.
        const bool quiet =
            (state_.extended & CSR5_TOKINTD) || ((state_.extended & CSR5_LTINTEN) && !(descriptor.flags & TD_LTINT));
        if (!quiet) state_.status |= CSR0_TINT;
    }
    // A ring that never ends, as one in ROM, may not hold up the rest.
    look_again(moment);
}

void Pcnet::send_frame() {
    std::vector<uint8_t>& frame = state_.packet;
    if (frame.size() < NetworkLink::least_frame) return;
    if ((state_.features & CSR4_APAD_XMT) && frame.size() < ethernet_least) frame.resize(ethernet_least);
    if (!(state_.mode & MODE_LOOP)) return port_.link->send(frame);
    GuestMemory* memory = pci_.dma();
    const uint16_t matched = match(frame);
    if (!memory || !(state_.status & CSR0_RXON) || !matched) return;
    if (!receive_frame(frame, matched, *memory)) {
        ++state_.missed;
        state_.status |= CSR0_MISS;
    }
}

// ---- Reception -----------------------------------------------------------------------------------------------------

/// Takes what the link has; what there are no descriptors for stays there, and the ring is looked at again: drivers
/// give them without telling.
void Pcnet::receive() {
    NetworkLink& link = *port_.link;
    while (!link.front().empty()) {
        const auto frame = link.front();
        const bool runs = (state_.status & CSR0_RXON) && !(state_.mode & MODE_LOOP);
        if (runs) {
            if (state_.extended & CSR5_SPND) return;
            if (const uint16_t matched = match(frame)) {
                GuestMemory* memory = pci_.dma();
                if (!memory) return;
                if (!receive_frame(frame, matched, *memory)) return look_again(poll_time);
            }
        }
        link.pop();
    }
}

uint16_t Pcnet::match(std::span<const uint8_t> frame) const {
    constexpr size_t longest = 1522;
    if (frame.size() > longest) return 0;
    if (is_broadcast(frame)) {
        if (!(state_.mode & MODE_DRCVBC)) return RD_BAM;
    } else if (frame[0] & 1) {
        const uint32_t index = ~ethernet_crc(frame.first(6)) >> 26;
        if (state_.filter[index / 8] >> (index % 8) & 1) return RD_LAFM;
    } else if (!(state_.mode & MODE_DRCVPA) && std::ranges::equal(frame.first(6), state_.physical)) {
        return RD_PAM;
    }
    return state_.mode & MODE_PROM ? by_promiscuity : uint16_t{0};
}

bool Pcnet::receive_frame(std::span<const uint8_t> frame, uint16_t matched, GuestMemory& memory) {
    std::vector<uint8_t> bytes(frame.begin(), frame.end());
    bytes.resize(std::max(bytes.size(), ethernet_least));
    // With ASTRP_RCV, frames of 802.3 lose the padding and the checksum.
    const size_t said = load_big16(bytes, 12);
    if ((state_.features & CSR4_ASTRP_RCV) && said < 46) {
        bytes.resize(14 + said);
    } else {
        const uint32_t crc = ethernet_crc(bytes);
        for (unsigned i = 0; i < crc_size; ++i) bytes.push_back(static_cast<uint8_t>(crc >> (8 * i)));
    }
    struct Piece {
        uint32_t at;
        Descriptor descriptor;
        size_t size;
    };
    std::vector<Piece> pieces;
    const uint32_t count = state_.receive.count();
    uint32_t index = state_.receive.next;
    for (size_t have = 0; have < bytes.size(); index = (index + 1) % count) {
        const uint32_t at = descriptor_at(state_.receive, index);
        const Descriptor descriptor = load(memory, at);
        if (pieces.size() == std::min<size_t>(count, descriptors_at_once)) {
            // No ring of these can hold it.
            ++state_.missed;
            state_.status |= CSR0_MISS;
            return true;
        }
        if (!(descriptor.flags & D_OWN)) return false;
        pieces.push_back({at, descriptor, std::min<size_t>(descriptor.size, bytes.size() - have)});
        have += pieces.back().size;
    }
    size_t done = 0;
    for (const Piece& piece : pieces) {
        memory.write(Gpa{piece.descriptor.buffer}, std::as_bytes(std::span(bytes).subspan(done, piece.size)));
        done += piece.size;
        const bool first = &piece == &pieces.front(), last = &piece == &pieces.back();
        unsigned flags = (first ? D_STP : 0u) | (last ? D_ENP : 0u);
        if (wide_structures()) flags |= matched & (RD_PAM | RD_LAFM | RD_BAM);
        finish(memory, piece.at, static_cast<uint16_t>(flags), last ? static_cast<uint32_t>(bytes.size()) : 0);
    }
    state_.receive.next = index;
    state_.status |= CSR0_RINT;
    return true;
}

}  // namespace viv
