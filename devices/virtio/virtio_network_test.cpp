#include "devices/virtio/virtio_network.hpp"

#include <algorithm>

#include "devices/network/tcp_packet_rig_test.hpp"
#include "devices/virtio/test_link_test.hpp"
#include "devices/virtio/virtio_device.hpp"
#include "devices/virtio/virtio_rig_test.hpp"

using namespace viv;
using namespace viv::virtio;

namespace {

constexpr uint64_t GUEST_CSUM = feature(1), CTRL_GUEST_OFFLOADS = feature(2), GUEST_TSO4 = feature(7),
                   GUEST_TSO6 = feature(8), GUEST_ECN = feature(9), GUEST_ANNOUNCE = feature(21);
constexpr uint64_t CSUM = feature(0), MTU = feature(3), MRG_RXBUF = feature(15), CTRL_VQ = feature(17),
                   CTRL_RX = feature(18), CTRL_RX_EXTRA = feature(20), CTRL_MAC_ADDR = feature(23),
                   HOST_TSO4 = feature(11), HOST_TSO6 = feature(12), HOST_ECN = feature(13), CTRL_VLAN = feature(19),
                   MQ = feature(22), SPEED_DUPLEX = feature(63);
constexpr MacAddress own{0x52, 0x54, 0, 0x12, 0x34, 0x56};
constexpr uint64_t buffer = VirtioBoard::buffer, answer = 0x8000;
using Frame = TestLink::Frame;

struct Cable {
    TestLink* link = nullptr;
};

struct Board : Cable, VirtioBoard {
    explicit Board(unsigned pairs = 1)
        : VirtioBoard([this, pairs] {
              auto made = std::make_unique<TestLink>();
              link = made.get();
              return std::make_unique<VirtioNetwork>(NetworkPort{own, std::move(made)}, clock, uint16_t{1400}, pairs);
          }),
          control_queue(2 * pairs) {}
    unsigned control_queue;

    static Frame frame(MacAddress to, size_t size) {
        Frame bytes(to.begin(), to.end());
        while (bytes.size() < size) bytes.push_back(static_cast<uint8_t>(bytes.size() * 7));
        return bytes;
    }
    bool control(uint8_t kind, uint8_t command, std::vector<uint8_t> data) {
        data.insert(data.begin(), {kind, command});
        put(buffer, data);
        const auto used = run(control_queue, {{buffer, static_cast<uint32_t>(data.size()), false}, {answer, 1, true}});
        REQUIRE(used);
        return memory.load<uint8_t>(Gpa{answer}) == 0;
    }
    /// Whether the device takes exactly these.
    bool takes(uint64_t wanted) {
        set_status(0);
        set_status(ACKNOWLEDGE | DRIVER);
        accept(wanted | VERSION_1);
        set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        return status() & FEATURES_OK;
    }
    /// Whether a frame to this address gets to the driver.
    bool passes(MacAddress to) {
        rings.at(0).add({{buffer, 2000, true}});
        tell(0);
        link->arrive(frame(to, 60));
        const bool came = rings.at(0).take().has_value();
        CHECK(link->waiting.empty());
        return came;
    }
};

struct FourPairs : Board {
    FourPairs() : Board(4) {}
};

}  // namespace

TEST_CASE("The virtio network card keeps the device contract") {
    check_device_contract(VirtioBoard::closed<Board>);
}

TEST_CASE("The configuration of the network card has its address, link and MTU") {
    Board board;
    CHECK(board.configuration(0, 4) == 0x12005452);
    CHECK(board.configuration(6, 2) == 1);
    CHECK(board.configuration(10, 2) == 1400);
    CHECK(board.configuration(8, 2) == 0);
    CHECK(board.configuration(12, 4) == 10'000);
    CHECK(board.configuration(16, 1) == 1);
    CHECK((board.offered() & (MTU | MQ | SPEED_DUPLEX)) == (MTU | SPEED_DUPLEX));
    board.start(CTRL_VQ);
    board.isr();
    board.link->set_up(false);
    CHECK(board.isr() == ISR_CONFIGURATION);
    CHECK(board.configuration(6, 2) == 0);
}

TEST_CASE("Frames are sent without their header") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        Board board;
        board.start(layout | MRG_RXBUF);
        const Frame frame = Board::frame({1, 2, 3, 4, 5, 6}, 100);
        board.put(buffer, std::vector<uint8_t>(12));
        board.put(buffer + 0x100, frame);
        CHECK(board.run(1, {{buffer, 12, false}, {buffer + 0x100, 40, false}, {buffer + 0x128, 60, false}})->written ==
              0);
        CHECK(board.link->sent == std::vector<Frame>{frame});
        // What is no frame is not sent.
        CHECK(board.run(1, {{buffer, 12, false}, {buffer + 0x100, 13, false}}));
        CHECK(board.run(1, {{buffer, 5, false}}));
        CHECK(board.run(1, {{buffer, 0x20000, false}}));
        board.memory.store(Gpa{buffer + 1}, uint8_t{1});
        CHECK(board.run(1, {{buffer, 12, false}, {buffer + 0x100, 100, false}}));
        CHECK(board.link->sent.size() == 1);
    }
}

TEST_CASE("A checksum that the driver left open is filled in") {
    Board board;
    board.start(CSUM);
    Frame frame = Board::frame({1, 2, 3, 4, 5, 6}, 61);
    // From byte 34 on, at 40: the sum of what is there, with a part that the driver put into the field.
    frame[40] = 0x12;
    frame[41] = 0x34;
    uint32_t sum = 0;
    for (size_t i = 34; i < frame.size(); ++i) sum += i % 2 == 0 ? frame[i] << 8 : frame[i];
    while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
    const auto send = [&](uint16_t start, uint16_t offset) {
        std::vector<uint8_t> header(12);
        header[0] = 1;
        header[6] = static_cast<uint8_t>(start);
        header[7] = static_cast<uint8_t>(start >> 8);
        header[8] = static_cast<uint8_t>(offset);
        header[9] = static_cast<uint8_t>(offset >> 8);
        board.put(buffer, header);
        board.put(buffer + 12, frame);
        REQUIRE(board.run(1, {{buffer, static_cast<uint32_t>(12 + frame.size()), false}}));
    };
    send(34, 6);
    REQUIRE(board.link->sent.size() == 1);
    CHECK((uint32_t{board.link->sent[0][40]} << 8 | board.link->sent[0][41]) == (~sum & 0xFFFF));
    frame[40] = board.link->sent[0][40];
    frame[41] = board.link->sent[0][41];
    CHECK(board.link->sent[0] == frame);
    send(61, 0);
    send(34, 26);
    send(0xFFFF, 0xFFFF);
    CHECK(board.link->sent.size() == 1);
}

TEST_CASE("A packet that is too large for a frame is sent as several") {
    const auto send = [](Board& board, const TcpPacketRig& rig, uint8_t kind, uint16_t segment,
                         uint16_t checksum = 16) {
        const auto packet = rig.packet();
        std::vector<uint8_t> bytes(12);
        bytes[0] = 1;
        bytes[1] = kind;
        bytes[4] = static_cast<uint8_t>(segment);
        bytes[5] = static_cast<uint8_t>(segment >> 8);
        bytes[6] = static_cast<uint8_t>(rig.tcp());
        bytes[8] = static_cast<uint8_t>(checksum);
        bytes.insert(bytes.end(), packet.begin(), packet.end());
        board.put(buffer, bytes);
        board.link->sent.clear();
        REQUIRE(board.run(1, {{buffer, static_cast<uint32_t>(bytes.size()), false}}));
        for (const auto& frame : board.link->sent) CHECK(rig.is_sound(frame));
        return board.link->sent.size();
    };
    Board board;
    board.start(CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN);
    CHECK(send(board, {.size = 60'000}, 1, 1448) == 42);
    CHECK(send(board, {.six = true}, 4, 1000) == 3);
    CHECK(send(board, {}, 0x81, 1000) == 3);
    CHECK(send(board, {}, 4, 1000) == 0);     // not IPv6
    CHECK(send(board, {}, 3, 1000) == 0);     // UDP
    CHECK(send(board, {}, 1, 1000, 6) == 0);  // not where TCP has its checksum
    CHECK(send(board, {}, 1, 0) == 0);
    CHECK(send(board, {.size = 66'000}, 1, 1448) == 0);
    // Only what was taken, which has to make sense.
    board.start(CSUM | HOST_TSO4);
    CHECK(send(board, {}, 1, 1000) == 3);
    CHECK(send(board, {.six = true}, 4, 1000) == 0);
    CHECK(send(board, {}, 0x81, 1000) == 0);
    for (const uint64_t wrong : {HOST_TSO4, HOST_TSO6, CSUM | HOST_ECN}) {
        board.set_status(0);
        board.set_status(ACKNOWLEDGE | DRIVER);
        board.accept(wrong | VERSION_1);
        board.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        CHECK_FALSE((board.status() & FEATURES_OK));
    }
}

TEST_CASE("With filters of VLANs only frames of those that were added come") {
    const auto comes = [](Board& board, uint16_t tag) {
        board.rings.at(0).add({{buffer, 2000, true}});
        board.tell(0);
        Frame frame = Board::frame(own, 60);
        store_big16(frame, 12, 0x8100);
        store_big16(frame, 14, tag);
        board.link->arrive(frame);
        return board.rings.at(0).take().has_value();
    };
    Board board;
    board.start(CTRL_VQ | CTRL_VLAN);
    CHECK_FALSE(comes(board, 5));
    CHECK(comes(board, 0xE000));  // a priority
    CHECK(board.passes(own));
    CHECK(board.control(2, 0, {5, 0}));
    CHECK(board.control(2, 0, {0xFF, 0x0F}));
    board.save_and_load();
    CHECK(comes(board, 0x6005));
    CHECK(comes(board, 4095));
    CHECK_FALSE(comes(board, 6));
    CHECK(board.control(2, 1, {5, 0}));
    CHECK_FALSE(comes(board, 5));
    CHECK_FALSE(board.control(2, 0, {0, 0x10}));
    CHECK_FALSE(board.control(2, 2, {5, 0}));
    CHECK_FALSE(board.control(2, 0, {5}));
    board.start(CTRL_VQ);
    CHECK(comes(board, 5));
    CHECK_FALSE(board.control(2, 0, {5, 0}));
}

TEST_CASE("A frame waits for a buffer, and comes behind a header") {
    Board board;
    board.start(0);
    const Frame frame = Board::frame(own, 200);
    board.link->arrive(frame);
    CHECK(board.link->waiting.size() == 1);
    board.rings.at(0).add({{buffer, 12, true}, {buffer + 0x100, 1500, true}});
    board.tell(0);
    CHECK(board.link->waiting.empty());
    CHECK(board.rings.at(0).take()->written == 212);
    CHECK(board.bytes_at(buffer, 12) == std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0});
    CHECK(board.bytes_at(buffer + 0x100, 200) == frame);
    // One that is larger than the buffer is lost, the buffer is not.
    board.rings.at(0).add({{buffer, 100, true}});
    board.tell(0);
    board.link->arrive(frame);
    CHECK(board.link->waiting.empty());
    CHECK_FALSE(board.rings.at(0).take());
    board.link->arrive(Board::frame(own, 60));
    CHECK(board.rings.at(0).take()->written == 72);
}

TEST_CASE("No frame is longer than the MTU that the driver knows") {
    Board board;
    const auto comes = [&board](const Frame& frame, const FrameOffload& undone = {}) {
        board.rings.at(0).add({{buffer, 4000, true}});
        board.tell(0);
        board.link->left = undone;
        board.link->arrive(frame);
        CHECK(board.link->waiting.empty());
        return board.rings.at(0).take().has_value();
    };
    Frame tagged = Board::frame(own, 18 + 1400);
    tagged[12] = 0x81;
    tagged[13] = 0;
    board.start(MTU | GUEST_CSUM | GUEST_TSO4);
    CHECK(comes(Board::frame(own, 14 + 1400)));
    CHECK(comes(tagged));
    const auto packet = TcpPacketRig{.size = 3000}.packet();
    CHECK(comes(packet, {.packet = FrameOffload::Packet::tcp4, .checksum_open = true, .segment = 1000}));
    CHECK_FALSE(comes(Board::frame(own, 14 + 1401)));
    tagged.push_back(0);
    board.start(MTU);
    CHECK_FALSE(comes(tagged));
    board.start(0);
    CHECK(comes(Board::frame(own, 14 + 1401)));
}

TEST_CASE("With merged buffers a frame is spread over as many as it needs, all at once") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED, RING_PACKED | EVENT_IDX}) {
        Board board;
        board.start(layout | MRG_RXBUF);
        const Frame frame = Board::frame(own, 250);
        for (uint32_t turn = 0; turn < 15; ++turn) {
            board.rings.at(0).add({{buffer, 100, true}});
            board.rings.at(0).add({{buffer + 0x100, 100, true}});
            board.tell(0);
            board.link->arrive(frame);
            CHECK(board.link->waiting.size() == 1);
            CHECK_FALSE(board.rings.at(0).take());
            board.rings.at(0).add({{buffer + 0x200, 100, true}});
            board.tell(0);
            CHECK(board.link->waiting.empty());
            CHECK(board.bytes_at(buffer + 10, 2) == std::vector<uint8_t>{3, 0});
            for (const uint32_t size : {100u, 100u, 62u}) {
                const auto used = board.rings.at(0).take();
                REQUIRE(used);
                CHECK(used->written == size);
            }
            auto got = board.bytes_at(buffer + 12, 88);
            for (const auto& [at, size] : {std::pair{0x100, 100}, {0x200, 62}}) {
                const auto more = board.bytes_at(buffer + static_cast<uint64_t>(at), static_cast<size_t>(size));
                got.insert(got.end(), more.begin(), more.end());
            }
            CHECK(got == frame);
        }
    }
}

TEST_CASE("A driver of before version 1.0 has a shorter header, and may set the address") {
    Board board;
    board.ports.write(VirtioBoard::legacy + 18, 1, ACKNOWLEDGE | DRIVER);
    board.ports.write(VirtioBoard::legacy + 4, 4, 0);
    board.ports.write(VirtioBoard::legacy + 20, 1, 0x02);
    CHECK(board.ports.read(VirtioBoard::legacy + 20, 2) == 0x5402);
    constexpr uint64_t ring = 0x30000;
    board.ports.write(VirtioBoard::legacy + 14, 2, 1);
    board.ports.write(VirtioBoard::legacy + 8, 4, ring >> 12);
    board.ports.write(VirtioBoard::legacy + 18, 1, ACKNOWLEDGE | DRIVER | DRIVER_OK);
    const Frame frame = Board::frame({1, 2, 3, 4, 5, 6}, 60);
    board.put(buffer + 10, frame);
    board.memory.store(Gpa{ring}, buffer);
    board.memory.store(Gpa{ring + 8}, uint32_t{70});
    board.memory.store(Gpa{ring + 0x1002}, uint16_t{1});
    board.ports.write(VirtioBoard::legacy + 16, 2, 1);
    CHECK(board.link->sent == std::vector<Frame>{frame});
}

TEST_CASE("The driver says which addresses it wants") {
    Board board;
    board.start(CTRL_VQ | CTRL_RX | CTRL_RX_EXTRA | CTRL_MAC_ADDR);
    constexpr MacAddress other{2, 0, 0, 0, 0, 1}, group{1, 0, 0x5E, 0, 0, 1}, all{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    CHECK(board.passes(other));
    CHECK(board.control(0, 0, {0}));
    CHECK(board.passes(own));
    CHECK(board.passes(all));
    CHECK_FALSE(board.passes(other));
    board.rings.at(0).take();
    CHECK_FALSE(board.passes(group));
    std::vector<uint8_t> tables{1, 0, 0, 0};
    tables.insert(tables.end(), other.begin(), other.end());
    tables.insert(tables.end(), {1, 0, 0, 0});
    tables.insert(tables.end(), group.begin(), group.end());
    CHECK(board.control(1, 0, tables));
    CHECK(board.passes(other));
    CHECK(board.passes(group));
    CHECK_FALSE(board.passes({1, 0, 0x5E, 0, 0, 2}));
    CHECK(board.control(0, 1, {1}));
    CHECK(board.passes({1, 0, 0x5E, 0, 0, 2}));
    CHECK(board.control(0, 3, {1}));
    CHECK_FALSE(board.passes(group));
    CHECK(board.control(0, 5, {1}));
    CHECK_FALSE(board.passes(all));
    CHECK(board.control(1, 1, {2, 0, 0, 0, 0, 9}));
    CHECK(board.passes({2, 0, 0, 0, 0, 9}));
    CHECK_FALSE(board.passes(own));
    CHECK(board.configuration(5, 1) == 9);
    // Without any, whatever else is wanted of them.
    CHECK(board.control(0, 4, {1}));
    CHECK_FALSE(board.passes({2, 0, 0, 0, 0, 9}));
    CHECK(board.control(0, 2, {1}));
    CHECK_FALSE(board.passes({2, 0, 0, 0, 0, 9}));
    CHECK(board.control(0, 4, {0}));
    CHECK(board.passes({2, 0, 0, 0, 0, 8}));
    CHECK_FALSE(board.passes(group));
    CHECK(board.control(0, 2, {0}));
    CHECK_FALSE(board.passes({2, 0, 0, 0, 0, 8}));
    // Too many: all come.
    std::vector<uint8_t> many{65, 0, 0, 0};
    many.resize(4 + 65 * 6);
    many.insert(many.end(), {0, 0, 0, 0});
    CHECK(board.control(1, 0, many));
    CHECK(board.passes(own));
    board.save_and_load();
    CHECK(board.passes(own));
    // Everything, whatever else was said.
    CHECK(board.control(0, 0, {1}));
    CHECK(board.passes(all));
    CHECK(board.passes(group));
}

TEST_CASE("Control commands that are not are refused") {
    Board board;
    board.start(CTRL_VQ | CTRL_RX);
    CHECK_FALSE(board.control(0, 0, {}));
    CHECK_FALSE(board.control(0, 6, {1}));
    CHECK_FALSE(board.control(0, 2, {1}));
    CHECK_FALSE(board.control(7, 0, {1}));
    CHECK_FALSE(board.control(1, 1, {2, 0, 0, 0, 0, 9}));
    CHECK_FALSE(board.control(1, 0, {1, 0, 0, 0, 2, 0, 0, 0, 0, 1}));
    CHECK_FALSE(board.control(1, 0, {0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0}));
    CHECK(board.run(2, {{buffer, 3, false}})->written == 0);
    // A driver that wants to say what it has no queue for.
    board.set_status(0);
    board.set_status(ACKNOWLEDGE | DRIVER);
    board.accept(VERSION_1 | CTRL_RX);
    board.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    CHECK_FALSE((board.status() & FEATURES_OK));
}

TEST_CASE("A network card's node has its address and its link") {
    PciBoard board;
    board.node.set_cells("reg", std::array<uint32_t, 2>{5, 0});
    board.node.set_string("viv,function", "network");
    board.node.set("local-mac-address", std::vector<std::byte>(6, std::byte{2}));
    board.node.set_string("viv,link", "loopback");
    board.node.set_u32("viv,mtu", 60);
    CHECK_FALSE(board.try_make(make_virtio_pci, {}));
    board.node.set_u32("viv,mtu", 1500);
    CHECK(board.try_make(make_virtio_pci, {}));
}

TEST_CASE("A virtio network card with several pairs of queues keeps the device contract") {
    check_device_contract(VirtioBoard::closed<FourPairs>);
}

TEST_CASE("A card with several pairs of queues answers where it was sent from") {
    FourPairs board;
    CHECK((board.offered() & MQ));
    CHECK(board.configuration(8, 2) == 4);
    board.start(MQ | CTRL_VQ);
    for (const unsigned pairs : {0u, 5u, 0x100u}) {
        CHECK_FALSE(board.control(4, 0, {static_cast<uint8_t>(pairs), static_cast<uint8_t>(pairs >> 8)}));
    }
    CHECK_FALSE(board.control(4, 0, {2}));
    CHECK_FALSE(board.control(4, 1, {2, 0}));
    const TcpPacketRig rig{.size = 100};
    auto packet = rig.packet();
    std::copy(own.begin(), own.end(), packet.begin());
    constexpr uint64_t received = buffer + 0x10000;
    for (unsigned pair = 0; pair < 4; ++pair) board.rings.at(2 * pair).add({{received + 0x1000 * pair, 2000, true}});
    const auto answered_by = [&] {
        board.link->arrive(packet);
        for (unsigned pair = 0; pair < 4; ++pair) {
            if (!board.rings.at(2 * pair).take()) continue;
            board.rings.at(2 * pair).add({{received + 0x1000 * pair, 2000, true}});
            return pair;
        }
        return 99u;
    };
    const auto send_by = [&](unsigned pair) {
        board.put(buffer, std::vector<uint8_t>(12));
        board.put(buffer + 12, packet);
        REQUIRE(board.run(2 * pair + 1, {{buffer, static_cast<uint32_t>(12 + packet.size()), false}}));
    };
    // One pair until the driver says that there are more.
    send_by(3);
    CHECK(answered_by() == 0);
    REQUIRE(board.control(4, 0, {4, 0}));
    for (const unsigned pair : {3u, 1u, 2u, 0u}) {
        send_by(pair);
        CHECK(board.link->sent.back() == packet);
        CHECK(answered_by() == pair);
        board.save_and_load();
        CHECK(answered_by() == pair);
    }
    // Fewer again: none goes where nobody looks.
    send_by(3);
    REQUIRE(board.control(4, 0, {2, 0}));
    CHECK(answered_by() < 2);
    send_by(3);
    CHECK(answered_by() < 2);
    // A reset is the end of it.
    board.start(CTRL_VQ);
    CHECK_FALSE(board.run(8, {{buffer, 3, false}, {answer, 1, true}}));
    board.put(buffer, std::vector<uint8_t>{4, 0, 2, 0});
    REQUIRE(board.run(2, {{buffer, 4, false}, {answer, 1, true}}));
    CHECK(board.memory.load<uint8_t>(Gpa{answer}) == 1);
}

TEST_CASE("Features for receiving need each other, and can be switched off") {
    Board board;
    constexpr uint64_t all = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN;
    CHECK((board.offered() & (all | CTRL_GUEST_OFFLOADS | GUEST_ANNOUNCE)) ==
          (all | CTRL_GUEST_OFFLOADS | GUEST_ANNOUNCE));
    for (const uint64_t wrong : {GUEST_TSO4, GUEST_TSO6, GUEST_CSUM | GUEST_ECN, GUEST_ANNOUNCE})
        CHECK_FALSE(board.takes(wrong));
    // Allowed, and nobody is there to be told.
    board.start(CTRL_GUEST_OFFLOADS | CTRL_RX_EXTRA);
    CHECK_FALSE(board.run(2, {{buffer, 3, false}, {answer, 1, true}}));
    board.start(CTRL_VQ | CTRL_GUEST_OFFLOADS | all);
    board.tell(0);
    CHECK(board.link->taken == Offloads{true, true, true, true});
    const auto set = [&board](uint64_t wanted) {
        std::vector<uint8_t> bytes(8);
        for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(wanted >> 8 * i);
        return board.control(5, 0, bytes);
    };
    CHECK(set(GUEST_CSUM | GUEST_TSO6));
    CHECK(board.link->taken == Offloads{.checksum = true, .tcp6 = true});
    board.save_and_load();
    board.tell(0);
    CHECK(board.link->taken == Offloads{.checksum = true, .tcp6 = true});
    CHECK_FALSE(set(CSUM));
    CHECK_FALSE(board.control(5, 1, std::vector<uint8_t>(8)));
    CHECK_FALSE(board.control(5, 0, std::vector<uint8_t>(7)));
    CHECK(board.link->taken == Offloads{.checksum = true, .tcp6 = true});
    CHECK(set(0));
    CHECK(board.link->taken == Offloads{});
    CHECK(set(all));
    board.set_status(0);
    CHECK(board.link->taken == Offloads{});
    board.start(CTRL_VQ | CTRL_GUEST_OFFLOADS | GUEST_CSUM);
    board.tell(0);
    CHECK(board.link->taken == Offloads{.checksum = true});
    CHECK_FALSE(set(GUEST_TSO4));
    board.start(CTRL_VQ | GUEST_CSUM);
    CHECK_FALSE(set(0));
}

TEST_CASE("What is undone of a frame is in front of it") {
    for (const uint64_t layout : {uint64_t{0}, RING_PACKED}) {
        Board board;
        board.start(layout | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN);
        const auto header_of = [&board](const Frame& frame, const FrameOffload& offload) {
            board.link->left = offload;
            board.rings.at(0).add({{buffer, 70'000, true}});
            board.tell(0);
            board.link->arrive(frame);
            REQUIRE(board.rings.at(0).take()->written == 12 + frame.size());
            CHECK(board.bytes_at(buffer + 12, frame.size()) == frame);
            return board.bytes_at(buffer, 12);
        };
        const Frame frame = Board::frame(own, 100);
        using Bytes = std::vector<uint8_t>;
        CHECK(header_of(frame, {}) == Bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0});
        CHECK(header_of(frame, {.checked = true}) == Bytes{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0});
        CHECK(header_of(frame, {.checksum_open = true, .checksum_start = 0x122, .checksum_offset = 6}) ==
              Bytes{1, 0, 0, 0, 0, 0, 0x22, 1, 6, 0, 1, 0});
        const TcpPacketRig rig{.size = 60'000}, six{.six = true};
        FrameOffload offload{.packet = FrameOffload::Packet::tcp4,
                             .checksum_open = true,
                             .checked = true,
                             .checksum_start = static_cast<uint16_t>(rig.tcp()),
                             .checksum_offset = 16,
                             .segment = 1448};
        CHECK(header_of(rig.packet(), offload) == Bytes{1, 1, 66, 0, 0xA8, 5, 34, 0, 16, 0, 1, 0});
        offload.marks = true;
        CHECK(header_of(rig.packet(), offload)[1] == 0x81);
        offload = {.packet = FrameOffload::Packet::tcp6,
                   .checksum_open = true,
                   .checksum_start = static_cast<uint16_t>(six.tcp()),
                   .checksum_offset = 16,
                   .segment = 1000};
        CHECK(header_of(six.packet(), offload) == Bytes{1, 4, 86, 0, 0xE8, 3, 54, 0, 16, 0, 1, 0});
        // Of a driver that did not take checksums nothing is said to be right.
        board.start(layout);
        CHECK(header_of(frame, {.checked = true})[0] == 0);
        CHECK(board.link->taken == Offloads{});
    }
}

TEST_CASE("What the link takes undone is sent so") {
    Board board;
    board.start(CSUM | HOST_TSO4 | HOST_TSO6);
    const TcpPacketRig rig{.size = 9000};
    const auto packet = rig.packet();
    Frame bytes{1, 1, 0, 0, 0xE8, 3, static_cast<uint8_t>(rig.tcp()), 0, 16, 0, 0, 0};
    bytes.insert(bytes.end(), packet.begin(), packet.end());
    const auto send = [&] {
        board.link->sent.clear();
        board.link->undone.clear();
        board.put(buffer, bytes);
        REQUIRE(board.run(1, {{buffer, static_cast<uint32_t>(bytes.size()), false}}));
        return board.link->sent.size();
    };
    CHECK(send() == 9);
    board.link->takes = {.checksum = true, .tcp4 = true};
    CHECK(send() == 1);
    CHECK(board.link->sent[0] == packet);
    CHECK(board.link->undone == std::vector{FrameOffload{.packet = FrameOffload::Packet::tcp4,
                                                         .checksum_open = true,
                                                         .checksum_start = static_cast<uint16_t>(rig.tcp()),
                                                         .checksum_offset = 16,
                                                         .segment = 1000}});
    board.link->takes.tcp4 = false;
    CHECK(send() == 9);
    CHECK(board.link->undone.empty());
    // A frame with a checksum alone.
    bytes[1] = 0;
    CHECK(send() == 1);
    CHECK(board.link->undone.size() == 1);
    // Those that cannot be are no more sent than otherwise.
    bytes[6] = 0xFF;
    bytes[7] = 0xFF;
    CHECK(send() == 0);
    board.link->takes.tcp4 = true;
    bytes[1] = 1;
    CHECK(send() == 0);
}

TEST_CASE("A driver is asked to announce itself after a load and when the cable is in again") {
    Board board;
    board.start(CTRL_VQ | GUEST_ANNOUNCE);
    constexpr uint64_t up = 1, announce = 2;
    CHECK(board.configuration(6, 2) == up);
    board.save_and_load();
    board.isr();
    board.clock.advance(std::chrono::milliseconds(1));
    CHECK(board.isr() == ISR_CONFIGURATION);
    CHECK(board.configuration(6, 2) == (up | announce));
    CHECK_FALSE(board.control(3, 1, {}));
    CHECK_FALSE(board.control(3, 0, {0}));
    CHECK(board.configuration(6, 2) == (up | announce));
    CHECK(board.control(3, 0, {}));
    CHECK(board.configuration(6, 2) == up);
    board.link->set_up(false);
    CHECK(board.configuration(6, 2) == 0);
    board.link->set_up(true);
    CHECK(board.configuration(6, 2) == (up | announce));
    // One that does not know of it is not asked.
    board.start(CTRL_VQ);
    CHECK(board.configuration(6, 2) == up);
    board.link->set_up(false);
    board.link->set_up(true);
    CHECK(board.configuration(6, 2) == up);
    CHECK_FALSE(board.control(3, 0, {}));
}
