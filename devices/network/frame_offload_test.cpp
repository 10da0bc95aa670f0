#include "devices/network/frame_offload.hpp"

#include "devices/network/tcp_packet_rig_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

using Packet = FrameOffload::Packet;

FrameOffload tcp(Packet packet, uint16_t segment, size_t start) {
    return {.packet = packet,
            .checksum_open = true,
            .checksum_start = static_cast<uint16_t>(start),
            .checksum_offset = 16,
            .segment = segment};
}

}  // namespace

TEST_CASE("What is undone of a frame is what its header says, and the other way round") {
    const TcpPacketRig rig;
    const auto packet = rig.packet();
    std::vector<FrameOffload> all{
        {}, {.checked = true}, {.checksum_open = true, .checksum_start = 0x1234, .checksum_offset = 0x56}};
    all.push_back(tcp(Packet::tcp4, 1448, rig.tcp()));
    all.push_back(tcp(Packet::tcp6, 9000, rig.tcp()));
    all.push_back(tcp(Packet::tcp4, 1448, rig.tcp()));
    all.back().marks = true;
    for (const FrameOffload& offload : all) CHECK(read_offload(write_offload(offload, packet)) == offload);
    CHECK_FALSE(read_offload(OffloadHeader{1, 3}));  // UDP
    CHECK_FALSE(read_offload(OffloadHeader{1, 5}));
    CHECK_FALSE(read_offload(OffloadHeader{1, 0x80}));
}

TEST_CASE("Only what was taken is left undone") {
    CHECK(Offloads{}.take({}));
    CHECK(Offloads{}.take({.checked = true}));
    CHECK_FALSE(Offloads{}.take({.checksum_open = true}));
    CHECK(Offloads{.checksum = true}.take({.checksum_open = true}));
    CHECK_FALSE(Offloads{.checksum = true, .tcp6 = true, .marks = true}.take(tcp(Packet::tcp4, 1, 34)));
    CHECK_FALSE(Offloads{.checksum = true, .tcp4 = true, .marks = true}.take(tcp(Packet::tcp6, 1, 34)));
    CHECK_FALSE(Offloads{.tcp4 = true}.take(tcp(Packet::tcp4, 1, 34)));
    FrameOffload marked = tcp(Packet::tcp4, 1, 34);
    CHECK(Offloads{.checksum = true, .tcp4 = true}.take(marked));
    marked.marks = true;
    CHECK_FALSE(Offloads{.checksum = true, .tcp4 = true}.take(marked));
}

TEST_CASE("A checksum that is not in the frame, and a packet that is none, cannot be finished") {
    std::vector<uint8_t> frame(60), scratch;
    unsigned sent = 0;
    const auto finish = [&](const FrameOffload& offload) {
        return finish_frame(frame, offload, scratch, [&](std::span<const uint8_t>) { ++sent; });
    };
    for (const auto& [start, offset] : {std::pair{60, 0}, {34, 25}, {0xFFFF, 0xFFFF}, {58, 1}}) {
        CHECK_FALSE(finish({.checksum_open = true,
                            .checksum_start = static_cast<uint16_t>(start),
                            .checksum_offset = static_cast<uint16_t>(offset)}));
    }
    CHECK_FALSE(finish(tcp(Packet::tcp4, 1000, 34)));
    CHECK(sent == 0);
    CHECK(finish({.checksum_open = true, .checksum_start = 58, .checksum_offset = 0}));
    CHECK(frame[58] == 0xFF);
    const TcpPacketRig rig;
    frame = rig.packet();
    FrameOffload offload = tcp(Packet::tcp4, 1000, rig.tcp());
    offload.checksum_offset = 6;
    CHECK_FALSE(finish(offload));
    offload.checksum_offset = 16;
    offload.checksum_open = false;
    CHECK_FALSE(finish(offload));
    sent = 0;
    CHECK(finish(tcp(Packet::tcp4, 1000, rig.tcp())));
    CHECK(sent == 3);
}
