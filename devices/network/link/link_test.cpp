#include "devices/network/link/link.hpp"

#include <numeric>

#include "devices/network/ethernet.hpp"
#include "devices/network/link/queued_link.hpp"
#include "devices/test_board.hpp"

using namespace viv;

namespace {

std::vector<uint8_t> frame_of(size_t size, uint8_t first = 0) {
    std::vector<uint8_t> frame(size);
    std::iota(frame.begin(), frame.end(), first);
    return frame;
}

struct Linked {
    explicit Linked(std::string_view spec) {
        auto opened = open_network_link(spec, {loop, clock, {0x52, 0x54, 0, 0x12, 0x34, 0x56}});
        if (!opened) FAIL(opened.error().message);
        link = std::move(*opened);
        link->on_receive([this] { ++received; });
        link->on_state([this] { ++changes; });
    }
    std::vector<uint8_t> front() const { return {link->front().begin(), link->front().end()}; }
    std::mutex lock;
    EventLoop loop{lock};
    ManualClock clock;
    std::unique_ptr<NetworkLink> link;
    unsigned received = 0;
    unsigned changes = 0;
};

}  // namespace

TEST_CASE("Addresses of NICs are six bytes that are not a group's") {
    CHECK(parse_mac_address("52:54:00:12:ab:FF") == MacAddress{0x52, 0x54, 0x00, 0x12, 0xAB, 0xFF});
    CHECK(to_string(MacAddress{0x52, 0x54, 0x00, 0x12, 0xAB, 0xFF}) == "52:54:00:12:ab:ff");
    for (const char* wrong :
         {"", "52:54:00:12:34", "52:54:00:12:34:5g", "52-54-00-12-34-56", "53:54:00:12:34:56", "52:54:00:12:34:56:"}) {
        CHECK(parse_mac_address(wrong).error().kind == ErrorKind::usage);
    }
}

TEST_CASE("A loopback link returns frames in the order sent, and only in handlers of the loop") {
    Linked board("loopback");
    CHECK(board.link->up());
    board.link->send(frame_of(60));
    board.link->send(frame_of(1514, 7));
    CHECK(board.link->front().empty());
    CHECK(board.received == 0);
    board.loop.poll();
    CHECK(board.received == 2);
    CHECK(board.front() == frame_of(60));
    CHECK(board.front() == frame_of(60));
    board.link->pop();
    CHECK(board.front() == frame_of(1514, 7));
    board.link->pop();
    CHECK(board.link->front().empty());
}

TEST_CASE("A frame with an open checksum comes finished to a NIC that does not take it") {
    Linked board("loopback");
    const FrameOffload offload{.checksum_open = true, .checksum_start = 34, .checksum_offset = 6};
    board.link->send_undone(frame_of(60), offload);
    board.loop.poll();
    CHECK(board.link->front_offload() == FrameOffload{.checked = true});
    auto finished = frame_of(60);
    const auto sum = static_cast<uint16_t>(~internet_sum(std::span(finished).subspan(34)));
    store_big16(finished, 40, sum);
    CHECK(board.front() == finished);
    board.link->pop();
    board.link->take_undone({.checksum = true});
    board.link->send_undone(frame_of(60), offload);
    board.loop.poll();
    CHECK(board.link->front_offload() == offload);
    CHECK(board.front() == frame_of(60));
    board.link->pop();
    // What cannot be done is lost, and nobody is told of nothing.
    board.link->take_undone({});
    board.link->send_undone(frame_of(30), offload);
    board.loop.poll();
    CHECK(board.received == 2);
    CHECK(board.link->front().empty());
    board.link->set_up(false);
    board.link->send_undone(frame_of(60), offload);
    board.loop.poll();
    CHECK(board.link->front().empty());
}

TEST_CASE("A frame that cannot be is dropped") {
    Linked board("loopback");
    board.link->send(frame_of(NetworkLink::least_frame - 1));
    board.link->send(frame_of(NetworkLink::most_frame + 1));
    board.loop.poll();
    CHECK(board.link->front().empty());
    board.link->send(frame_of(NetworkLink::least_frame));
    board.link->send(frame_of(NetworkLink::most_frame));
    board.loop.poll();
    CHECK(board.received == 2);
}

TEST_CASE("What a NIC does not take is bounded") {
    Linked board("loopback");
    for (unsigned i = 0; i < 3 * QueuedLink::queue_limit; ++i) board.link->send(frame_of(64));
    board.loop.poll();
    for (unsigned i = 0; i < QueuedLink::queue_limit; ++i) board.link->send(frame_of(64));
    board.loop.poll();
    size_t waiting = 0;
    for (; !board.link->front().empty(); ++waiting) board.link->pop();
    CHECK(waiting == QueuedLink::queue_limit);
}

TEST_CASE("A cable that is pulled out loses what is on it") {
    Linked board("loopback");
    board.link->send(frame_of(64));
    board.loop.poll();
    board.link->set_up(false);
    board.link->set_up(false);
    CHECK(board.changes == 0);
    board.link->send(frame_of(65));
    board.loop.poll();
    CHECK(board.changes == 1);
    CHECK(!board.link->up());
    CHECK(board.link->front().empty());
    board.link->set_up(true);
    board.link->send(frame_of(66));
    board.loop.poll();
    CHECK(board.changes == 2);
    CHECK(board.front() == frame_of(66));
}

TEST_CASE("A cable that was out holds nothing back afterwards") {
    struct Held final : QueuedLink {
        using QueuedLink::deliver;
        using QueuedLink::QueuedLink;
        void transmit(std::span<const uint8_t> /*frame*/, const FrameOffload& /*offload*/) override {}
        void room_again() override { ++told; }
        [[nodiscard]] std::string description() const override { return {}; }
        unsigned told = 0;
    };
    std::mutex lock;
    EventLoop loop(lock);
    ManualClock clock;
    const LinkSetup setup{loop, clock, {}};
    Held link(setup);
    for (unsigned i = 0; i < QueuedLink::queue_limit; ++i) link.deliver(frame_of(64));
    link.set_up(false);
    CHECK(link.told == 1);
    link.set_up(true);
    CHECK(link.told == 1);
    for (unsigned i = 0; i < QueuedLink::queue_limit; ++i) link.deliver(frame_of(64));
    link.pop();
    CHECK(link.told == 2);
    link.pop();
    CHECK(link.told == 2);
}

TEST_CASE("A link can go while frames are on their way") {
    Linked board("loopback");
    board.link->send(frame_of(64));
    board.link.reset();
    board.loop.poll();
    CHECK(board.received == 0);
}

TEST_CASE("A link that is not there is refused by name") {
    std::mutex lock;
    EventLoop loop(lock);
    ManualClock clock;
    const auto opened = open_network_link("bridge:br0", {loop, clock, {}});
    REQUIRE(!opened);
    CHECK(opened.error().kind == ErrorKind::usage);
    CHECK(opened.error().message.find("bridge:br0") != std::string::npos);
}

TEST_CASE("A NIC's node says its address and its link") {
    TestBoard board;
    const auto open = [&board] {
        DeviceContext context{board.node,  "/pci/ethernet@3", {},           {},
                              board.ports, board.memory_bus,  board.memory, board.clock,
                              board.loop,  board.services,    board.system, 0};
        return open_network_port(context);
    };
    CHECK(open().error().message.find("local-mac-address") != std::string::npos);
    const auto set_address = [&board](uint8_t first) {
        board.node.set("local-mac-address",
                       {std::byte{first}, std::byte{0x54}, std::byte{0}, std::byte{1}, std::byte{2}, std::byte{3}});
    };
    set_address(0x53);
    CHECK(open().error().message.find("group") != std::string::npos);
    set_address(0x52);
    {
        const auto port = open();
        REQUIRE(port);
        CHECK(port->mac == MacAddress{0x52, 0x54, 0, 1, 2, 3});
        CHECK(!port->link->up());
        board.loop.poll();
    }
    board.node.set_string("viv,link", "loopback");
    CHECK(open()->link->up());
    board.node.set_string("viv,link", "wireless");
    CHECK(open().error().message.find("/pci/ethernet@3") != std::string::npos);
}
