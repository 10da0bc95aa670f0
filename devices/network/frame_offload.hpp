// Models: what a driver leaves to be done of a frame, or takes undone, as virtio has it; doing it
// Not modelled: UDP segments, tunnels
// Ignored bits: none
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.1.6
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace viv {

/// What is left to be done of a frame.
struct FrameOffload {
    enum class Packet : uint8_t { whole, tcp4, tcp6 };
    /// Not whole: one of TCP over IPv4 or IPv6, of which frames with `segment` bytes of data are to be made.
    Packet packet = Packet::whole;
    bool checksum_open = false;  // in its place is the sum of the pseudo header
    bool checked = false;        // the checksums are known to be right
    bool marks = false;          // of congestion: CWR is for the first frame alone
    uint16_t checksum_start = 0;
    uint16_t checksum_offset = 0;  // from there on
    uint16_t segment = 0;

    [[nodiscard]] bool finished() const { return packet == Packet::whole && !checksum_open; }
    bool operator==(const FrameOffload&) const = default;
};

/// What somebody takes undone.
struct Offloads {
    bool checksum = false;
    bool tcp4 = false;
    bool tcp6 = false;
    bool marks = false;

    [[nodiscard]] bool take(const FrameOffload& offload) const;
    bool operator==(const Offloads&) const = default;
};

/// The longest packet that is not whole: as IP can say, and what is in front of that.
constexpr size_t most_packet = 65'535 + 64;

/// Whether what is to be done can be, in this frame. One that anybody outside made is asked for that first.
bool can_finish(std::span<const uint8_t> frame, const FrameOffload& offload);
/// Does it, and calls `send` with each of the frames. False, and nothing is sent, when it cannot be done. `frame` is
/// changed; `scratch` is room.
bool finish_frame(std::span<uint8_t> frame, const FrameOffload& offload, std::vector<uint8_t>& scratch,
                  const std::function<void(std::span<const uint8_t>)>& send);

/// The same as struct virtio_net_hdr, which the kernel's tun device has as well.
constexpr size_t offload_header_size = 10;
using OffloadHeader = std::array<uint8_t, offload_header_size>;
/// Nothing where that is not known here (UDP).
std::optional<FrameOffload> read_offload(std::span<const uint8_t, offload_header_size> header);
OffloadHeader write_offload(const FrameOffload& offload, std::span<const uint8_t> frame);

}  // namespace viv
