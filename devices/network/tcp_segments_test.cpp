#include "devices/network/tcp_segments.hpp"

#include "devices/network/tcp_packet_rig_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

using Frames = std::vector<std::vector<uint8_t>>;

bool split(const TcpPacketRig& rig, const std::vector<uint8_t>& packet, size_t segment, Frames& frames) {
    std::vector<uint8_t> scratch;
    const auto version = rig.six ? TcpPacket::Version::ipv6 : TcpPacket::Version::ipv4;
    return send_tcp_segments({packet, version, rig.tcp(), segment}, scratch,
                             [&](std::span<const uint8_t> frame) { frames.emplace_back(frame.begin(), frame.end()); });
}

}  // namespace

TEST_CASE("A large packet becomes frames whose headers and checksums are right") {
    for (const bool six : {false, true}) {
        for (const bool tagged : {false, true}) {
            const TcpPacketRig rig{.six = six, .tagged = tagged, .flags = 0x99};
            const auto packet = rig.packet();
            Frames frames;
            REQUIRE(split(rig, packet, 1000, frames));
            REQUIRE(frames.size() == 3);
            std::vector<uint8_t> data;
            for (size_t i = 0; i < frames.size(); ++i) {
                const auto& frame = frames[i];
                CHECK(rig.is_sound(frame));
                CHECK(std::equal(frame.begin(), frame.begin() + 14, packet.begin()));
                CHECK(load_big32(frame, rig.tcp() + 4) == static_cast<uint32_t>(0xFFFFFF00 + 1000 * i));
                if (!six) CHECK(load_big16(frame, rig.ip() + 4) == static_cast<uint16_t>(0xFFFF + i));
                // CWR with the first, FIN and PSH with the last, ACK with all.
                CHECK(frame[rig.tcp() + 13] == (i == 0 ? 0x90 : i == 2 ? 0x19 : 0x10));
                data.insert(data.end(), frame.begin() + static_cast<ptrdiff_t>(rig.data()), frame.end());
            }
            CHECK(frames[2].size() == rig.data() + 500);
            CHECK(std::equal(data.begin(), data.end(), packet.begin() + static_cast<ptrdiff_t>(rig.data()),
                             packet.end()));
        }
    }
}

TEST_CASE("The largest packet, and those that fit into one frame") {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{1000}, size_t{65'480}}) {
        const TcpPacketRig rig{.size = size};
        Frames frames;
        REQUIRE(split(rig, rig.packet(), 1000, frames));
        CHECK(frames.size() == std::max<size_t>(1, (size + 999) / 1000));
        for (const auto& frame : frames) CHECK(rig.is_sound(frame));
    }
}

TEST_CASE("What is no packet of TCP, or makes too many frames, is not sent") {
    const TcpPacketRig rig;
    Frames frames;
    const auto refused = [&](size_t at, uint8_t value) {
        auto packet = rig.packet();
        packet[at] = value;
        return !split(rig, packet, 1000, frames);
    };
    CHECK(refused(12, 0x86));              // not IP
    CHECK(refused(rig.ip(), 0x65));        // another version
    CHECK(refused(rig.ip(), 0x46));        // options that are not there
    CHECK(refused(rig.ip() + 9, 17));      // UDP
    CHECK(refused(rig.tcp() + 12, 0x40));  // a header that is too short
    auto packet = rig.packet();
    CHECK_FALSE(split(rig, packet, 0, frames));
    CHECK_FALSE(split(rig, packet, 9, frames));  // 278 frames
    packet.resize(rig.tcp() + 19);
    CHECK_FALSE(split(rig, packet, 1000, frames));
    packet = rig.packet();
    packet.resize(rig.data() - 1);
    CHECK_FALSE(split(rig, packet, 1000, frames));
    CHECK_FALSE(split(TcpPacketRig{.six = true}, rig.packet(), 1000, frames));
    CHECK_FALSE(split(TcpPacketRig{.tagged = true}, rig.packet(), 1000, frames));
    packet.resize(3);
    CHECK_FALSE(split(rig, packet, 1000, frames));
    CHECK(frames.empty());
}

TEST_CASE("A packet that is longer than IP can say is none") {
    for (const bool six : {false, true}) {
        for (const bool tagged : {false, true}) {
            const size_t most = 65'535 - (six ? 0 : 20) - 20;
            const TcpPacketRig longest{.six = six, .tagged = tagged, .size = most, .options = 0},
                too_long{.six = six, .tagged = tagged, .size = most + 1, .options = 0};
            Frames frames;
            CHECK(split(longest, longest.packet(), 1000, frames));
            frames.clear();
            CHECK_FALSE(split(too_long, too_long.packet(), 1000, frames));
            CHECK(frames.empty());
        }
    }
}
