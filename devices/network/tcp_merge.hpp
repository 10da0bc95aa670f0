// Models: what a NIC does with frames of one TCP connection that follow each other: one packet that its driver takes
// Not modelled: IPv6, VLANs, IP or TCP options, UDP
// Ignored bits: none
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.1.6; RFC 9293, 791
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "devices/network/frame_offload.hpp"

namespace viv {

/// One packet, which grows by the frames that continue it.
class TcpMerger {
  public:
    [[nodiscard]] bool empty() const { return packet_.empty(); }
    /// Begins with a frame, whose checksums are right.
    void begin(std::span<const uint8_t> frame);
    /// Whether the frame, whose checksums are right, is the next of the same connection, and no more than data; then it
    /// is part of the packet.
    bool add(std::span<const uint8_t> frame);
    /// The packet; `offload` says what it has undone. Valid until begin().
    [[nodiscard]] std::span<const uint8_t> finish(FrameOffload& offload);
    void clear() { packet_.clear(); }

  private:
    std::vector<uint8_t> packet_;
    bool grows_ = false;
    unsigned frames_ = 0;
    uint16_t segment_ = 0;  // bytes of data of each frame but the last
    uint32_t next_ = 0;     // the sequence number behind it
};

}  // namespace viv
