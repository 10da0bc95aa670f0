#include "devices/network/tcp_merge.hpp"

#include "devices/network/tcp_packet_rig_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

using Frame = std::vector<uint8_t>;
using Packet = FrameOffload::Packet;
constexpr uint8_t ACK = 0x10, PSH = 0x08;

/// The frames of a packet, as libslirp sends them: without options.
struct Stream {
    TcpPacketRig rig{.flags = ACK, .size = 10'000, .options = 0};
    Frame packet = rig.packet();
    std::vector<Frame> frames;
    explicit Stream(uint16_t segment = 1000, uint8_t flags = ACK) {
        rig.flags = flags;
        packet = rig.packet();
        store_big16(packet, 20, 0x4000);  // no fragment
        Frame copy = packet, scratch;
        const FrameOffload offload = rig.offload(segment);
        REQUIRE(finish_frame(copy, offload, scratch, [this](std::span<const uint8_t> frame) {
            frames.emplace_back(frame.begin(), frame.end());
        }));
    }
    /// How many frames become one packet.
    [[nodiscard]] size_t merged() const {
        TcpMerger merger;
        merger.begin(frames[0]);
        size_t count = 1;
        while (count < frames.size() && merger.add(frames[count])) ++count;
        return count;
    }
};

}  // namespace

TEST_CASE("The frames of a connection become the packet that they were") {
    const Stream stream(1000, ACK | PSH);
    REQUIRE(stream.frames.size() == 10);
    TcpMerger merger;
    CHECK(merger.empty());
    merger.begin(stream.frames[0]);
    for (size_t i = 1; i < 10; ++i) CHECK(merger.add(stream.frames[i]));
    FrameOffload offload;
    const auto packet = merger.finish(offload);
    CHECK(offload == FrameOffload{.packet = Packet::tcp4,
                                  .checksum_open = true,
                                  .checked = true,
                                  .checksum_start = 34,
                                  .checksum_offset = 16,
                                  .segment = 1000});
    Frame expected = stream.packet;
    store_big16(expected, 24, load_big16(packet, 24));  // the IP header's, which the packet did not have
    CHECK(Frame(packet.begin(), packet.end()) == expected);
    CHECK(internet_sum(packet.subspan(14, 20)) == 0xFFFF);
    // And the same frames again.
    Frame copy(packet.begin(), packet.end()), scratch;
    std::vector<Frame> again;
    REQUIRE(finish_frame(copy, offload, scratch,
                         [&again](std::span<const uint8_t> frame) { again.emplace_back(frame.begin(), frame.end()); }));
    CHECK(again == stream.frames);
    merger.clear();
    CHECK(merger.empty());
}

TEST_CASE("A frame alone stays as it is, whatever it is") {
    TcpMerger merger;
    FrameOffload offload;
    const Stream stream;
    for (const Frame& frame : {stream.frames[0], Frame(60), Frame(14), Stream(9000, ACK | PSH).frames.back()}) {
        merger.begin(frame);
        const auto packet = merger.finish(offload);
        CHECK(Frame(packet.begin(), packet.end()) == frame);
        CHECK(offload == FrameOffload{.checked = true});
    }
}

TEST_CASE("What does not follow, or is not alike, is no part of a packet") {
    CHECK(Stream().merged() == 10);
    const auto broken = [](size_t frame, size_t at, uint8_t value) {
        Stream stream;
        stream.frames[frame][at] = value;
        return stream.merged();
    };
    CHECK(broken(4, 0, 0x77) == 4);        // another address
    CHECK(broken(4, 13, 0x06) == 4);       // no IP
    CHECK(broken(4, 14, 0x46) == 4);       // options
    CHECK(broken(4, 15, 0x77) == 4);       // type of service
    CHECK(broken(4, 17, 0) == 5);          // shorter
    CHECK(broken(4, 16, 0xFF) == 4);       // longer than the frame
    CHECK(broken(4, 20, 0x20) == 4);       // a fragment
    CHECK(broken(4, 22, 0x77) == 4);       // time to live
    CHECK(broken(4, 23, 17) == 4);         // UDP
    CHECK(broken(4, 26, 0x77) == 4);       // another host
    CHECK(broken(4, 34, 0x77) == 4);       // another port
    CHECK(broken(4, 41, 0x77) == 4);       // not the next
    CHECK(broken(4, 45, 0x77) == 4);       // another acknowledgement
    CHECK(broken(4, 46, 0x60) == 4);       // options of TCP
    CHECK(broken(4, 47, ACK | PSH) == 5);  // the last
    CHECK(broken(4, 47, ACK | 1) == 4);    // FIN
    CHECK(broken(4, 49, 0x77) == 4);       // another window
    CHECK(broken(0, 47, ACK | PSH) == 1);
    Stream stream;
    stream.frames[4].resize(30);
    CHECK(stream.merged() == 4);
    // Padding is no data, and a packet is as long as IP can say.
    stream = Stream();
    stream.frames[9].resize(stream.frames[9].size() + 6);
    CHECK(stream.merged() == 10);
    TcpMerger merger;
    Frame frame = stream.frames[0];
    merger.begin(frame);
    size_t count = 1;
    for (;; ++count) {
        store_big32(frame, 38, load_big32(frame, 38) + 1000);
        if (!merger.add(frame)) break;
    }
    CHECK(count == 65);
}
