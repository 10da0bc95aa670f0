#include "devices/network/frame_offload.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "devices/fuzz_board_test.hpp"
#include "devices/network/link/link.hpp"
#include "devices/network/tcp_merge.hpp"
#include "devices/network/tcp_packet_rig_test.hpp"
#include "devices/network/tcp_segments.hpp"

using namespace viv;

namespace {

/// A packet of TCP, mostly, with bytes changed anywhere in its headers.
std::vector<uint8_t> packet_of(FuzzInput& input) {
    const uint8_t kind = input.byte();
    const TcpPacketRig rig{.six = (kind & 1) != 0,
                           .tagged = (kind & 2) != 0,
                           .flags = input.byte(),
                           .size = input.number(2),
                           .options = (kind >> 2 & 7) * size_t{4}};
    std::vector<uint8_t> packet = rig.packet();
    packet.resize(std::min(packet.size(), most_packet));
    for (unsigned changes = kind >> 5; changes > 0; --changes) {
        const uint8_t at = input.byte();
        packet[at % packet.size()] = input.byte();
    }
    return packet;
}

/// Frames one behind the other, as a link has them for a driver that takes packets.
void merge(const std::vector<std::vector<uint8_t>>& frames) {
    TcpMerger merger;
    for (const auto& frame : frames) {
        if (merger.add(frame)) continue;
        if (!merger.empty()) {
            FrameOffload offload;
            const auto packet = merger.finish(offload);
            VIV_ASSERT(packet.size() <= most_packet && can_finish(packet, offload));
        }
        merger.begin(frame);
    }
}

}  // namespace

// The input is packets, what is left undone of them, and what their frames are.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    std::vector<std::vector<uint8_t>> frames;
    std::vector<uint8_t> scratch;
    for (unsigned steps = 0; steps < 4 && !input.empty(); ++steps) {
        std::vector<uint8_t> packet = packet_of(input);
        OffloadHeader header{};
        input.bytes(header.data(), header.size());
        const auto offload = read_offload(header);
        if (!offload) continue;
        const bool good = can_finish(packet, *offload);
        // What goes on to somebody else is what came.
        FrameOffload same = *offload;
        same.checked = same.checked && !same.checksum_open;
        if (good) VIV_ASSERT(read_offload(write_offload(*offload, packet)) == same);
        const size_t before = frames.size();
        const bool done = finish_frame(packet, *offload, scratch, [&frames](std::span<const uint8_t> frame) {
            frames.emplace_back(frame.begin(), frame.end());
        });
        VIV_ASSERT(done == good && frames.size() - before <= most_tcp_segments && (frames.size() > before) == good);
    }
    merge(frames);
    return 0;
}
