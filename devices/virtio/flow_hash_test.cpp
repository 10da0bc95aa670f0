#include "devices/virtio/flow_hash.hpp"

#include <algorithm>
#include <set>
#include <span>
#include <vector>

#include "devices/network/tcp_packet_rig_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

/// The packet of the other direction.
std::vector<uint8_t> turned(const TcpPacketRig& rig, std::vector<uint8_t> frame) {
    const size_t addresses = rig.ip() + (rig.six ? 8u : 12u), length = rig.six ? 16 : 4;
    const auto at = [&](size_t place) { return frame.begin() + static_cast<ptrdiff_t>(place); };
    std::swap_ranges(at(addresses), at(addresses + length), at(addresses + length));
    std::swap_ranges(at(rig.tcp()), at(rig.tcp() + 2), at(rig.tcp() + 2));
    return frame;
}

}  // namespace

TEST_CASE("Both directions of a flow have one hash, and other ports another") {
    for (const bool six : {false, true}) {
        for (const bool tagged : {false, true}) {
            const TcpPacketRig rig{.six = six, .tagged = tagged, .size = 10};
            auto packet = rig.packet();
            if (!six) store_big16(packet, rig.ip() + 6, 0x4000);  // no fragment
            CHECK(flow_hash(packet) == flow_hash(turned(rig, packet)));
            std::set<uint8_t> hashes;
            for (unsigned port = 0; port < 64; ++port) {
                store_big16(packet, rig.tcp(), 40'000 + port);
                hashes.insert(flow_hash(packet));
            }
            CHECK(hashes.size() > 40);
            // Not of ports that are none.
            packet[rig.ip() + (six ? 6 : 9)] = 1;
            const uint8_t before = flow_hash(packet);
            store_big16(packet, rig.tcp(), 1);
            CHECK(flow_hash(packet) == before);
        }
    }
}

TEST_CASE("Fragments of a packet stay together") {
    const TcpPacketRig rig{.size = 10};
    auto packet = rig.packet();
    store_big16(packet, rig.ip() + 6, 0x2000);  // the first of several
    const uint8_t first = flow_hash(packet);
    store_big16(packet, rig.ip() + 6, 100);
    store_big16(packet, rig.tcp(), 1);
    CHECK(flow_hash(packet) == first);
}

TEST_CASE("What is cut short, or no IP, is one flow at most") {
    const TcpPacketRig rig{.tagged = true, .size = 10};
    const auto packet = rig.packet();
    for (size_t size = 0; size < rig.ip() + 20; ++size) CHECK(flow_hash(std::span(packet).first(size)) == 0);
    auto other = packet;
    store_big16(other, 16, 0x0806);
    CHECK(flow_hash(other) == 0);
    other = packet;
    other[rig.ip()] = 0x4F;  // a header longer than the packet
    other.resize(rig.ip() + 24);
    static_cast<void>(flow_hash(other));
}
