#include "devices/network/link/cables.hpp"

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

struct Board {
    std::unique_ptr<NetworkLink> open(std::string_view spec) {
        return open_network_link(spec, {loop, clock, {}}).value();
    }
    std::mutex lock;
    EventLoop loop{lock};
    ManualClock clock;
    Cables cables;
};

}  // namespace

TEST_CASE("A cable is plugged in and out by the number of its NIC") {
    Board board;
    const auto third = board.open("loopback");
    const auto first = board.open("loopback");
    const auto second = board.open("loopback,link=down");
    CHECK(first->up());
    CHECK_FALSE(second->up());
    REQUIRE(board.cables.add(*third, 2));
    REQUIRE(board.cables.add(*first, std::nullopt));
    REQUIRE(board.cables.add(*second, std::nullopt));
    CHECK_FALSE(board.cables.add(*second, 2));
    CHECK(board.cables.change("nic2=down").value() == "nic2: the cable is out");
    CHECK_FALSE(third->up());
    CHECK(first->up());
    CHECK(board.cables.change("nic1=up").value() == "nic1: the cable is in");
    CHECK(second->up());
    CHECK(board.cables.change("down").value() == "nic0: the cable is out");
    CHECK_FALSE(first->up());
    CHECK(board.cables.change("nic0=up"));
    CHECK(first->up());
    CHECK_FALSE(third->up());
}

TEST_CASE("A NIC that is not there, and a state that is none, are refused") {
    Board board;
    CHECK(board.cables.check("nic0=up").error().message == "this machine has no NIC");
    const auto link = board.open("loopback");
    REQUIRE(board.cables.add(*link, 4));
    CHECK(board.cables.check("nic4=down"));
    CHECK(board.cables.check("nic0=down").error().message == "there is no NIC 'nic0'; this machine has nic4");
    for (const char* wrong : {"", "nic4", "nic4=", "nic4=out", "4=up", "nic04=up", "=up", "nic4=up=down"}) {
        CHECK(board.cables.check(wrong).error().kind == ErrorKind::usage);
        CHECK_FALSE(board.cables.change(wrong));
    }
    CHECK(link->up());
    CHECK(open_network_link("loopback,link=out", {board.loop, board.clock, {}}).error().kind == ErrorKind::usage);
}
