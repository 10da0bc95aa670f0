#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "devices/network/link/impairment.hpp"
#include "devices/network/link/queued_link.hpp"
#include "devices/network/tcp_packet_rig_test.hpp"
#include "devices/network/test_link_test.hpp"
#include "devices/test_board.hpp"
#include "vmm/core/temporary_folder_test.hpp"
#include "vmm/core/unix_address.hpp"

using namespace viv;

namespace {

using Frame = std::vector<uint8_t>;

/// Where the sockets are.
struct RuntimeFolder {
    RuntimeFolder() { setenv("XDG_RUNTIME_DIR", folder.path().c_str(), 1); }
    ~RuntimeFolder() { unsetenv("XDG_RUNTIME_DIR"); }
    [[nodiscard]] std::string of(const std::string& name) const { return folder.of("vivarium/switch-" + name); }
    TemporaryFolder folder;
};

struct Network {
    std::unique_ptr<NetworkLink> open(std::string_view spec) {
        auto opened = open_network_link(spec, {loop, clock, {}});
        if (!opened) FAIL(opened.error().message);
        return std::move(*opened);
    }
    std::string refusal(std::string_view spec, ErrorKind kind = ErrorKind::usage) {
        const auto opened = open_network_link(spec, {loop, clock, {}});
        REQUIRE(!opened);
        CHECK(opened.error().kind == kind);
        return opened.error().message;
    }
    std::vector<Frame> take(NetworkLink& link) {
        std::vector<Frame> got;
        loop.poll();
        for (; !link.front().empty(); link.pop()) got.emplace_back(link.front().begin(), link.front().end());
        return got;
    }
    std::mutex lock;
    EventLoop loop{lock};
    ManualClock clock;
};

Frame frame_between(uint8_t to, uint8_t from, size_t size = 60) {
    Frame frame = test_frame(size, {2, 0, 0, 0, 0, to});
    const MacAddress sender{2, 0, 0, 0, 0, from};
    std::copy(sender.begin(), sender.end(), frame.begin() + 6);
    if (to == 0xFF) std::fill_n(frame.begin(), 6, uint8_t{0xFF});
    return frame;
}

}  // namespace

TEST_CASE("Links of one switch reach each other, and learn who is where") {
    const RuntimeFolder folder;
    Network network;
    const auto first = network.open("switch:lab"), second = network.open("switch:lab"),
               third = network.open("switch:lab"), elsewhere = network.open("switch:other");
    CHECK(first->up());
    CHECK(first->description() == "switch lab");
    first->send(frame_between(0xFF, 1));
    CHECK(network.take(*first).empty());
    CHECK(network.take(*second) == std::vector<Frame>{frame_between(0xFF, 1)});
    CHECK(network.take(*third) == std::vector<Frame>{frame_between(0xFF, 1)});
    second->send(frame_between(1, 2, 1514));
    CHECK(network.take(*first) == std::vector<Frame>{frame_between(1, 2, 1514)});
    CHECK(network.take(*third).empty());
    third->send(frame_between(2, 3));  // not seen by it yet: to all
    CHECK(network.take(*first).size() == 1);
    CHECK(network.take(*second).size() == 1);
    CHECK(network.take(*elsewhere).empty());
}

TEST_CASE("A machine that leaves a switch or comes back is noticed") {
    const RuntimeFolder folder;
    Network network;
    const auto first = network.open("switch:lab");
    auto second = network.open("switch:lab");
    second->send(frame_between(0xFF, 2));
    CHECK(network.take(*first).size() == 1);
    first->send(frame_between(2, 1));
    CHECK(network.take(*second).size() == 1);
    second.reset();
    first->send(frame_between(2, 1));
    first->send(frame_between(2, 1));
    second = network.open("switch:lab");
    first->send(frame_between(2, 1));
    CHECK(network.take(*second).size() == 1);
    // What a machine left that came to a bad end is removed.
    const std::string left = folder.of("lab") + "/1-0";
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    const sockaddr_un address = unix_address(left).value();
    REQUIRE(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    close(fd);
    CHECK(access(left.c_str(), F_OK) == 0);
    first->send(frame_between(0xFF, 1));
    CHECK(access(left.c_str(), F_OK) != 0);
    CHECK(network.take(*second).size() == 1);
}

TEST_CASE("A machine that reads nothing holds up nobody and is sent what it can take") {
    const RuntimeFolder folder;
    Network network;
    const auto first = network.open("switch:lab"), second = network.open("switch:lab");
    second->send(frame_between(0xFF, 2));
    CHECK(network.take(*first).size() == 1);
    for (unsigned i = 0; i < 3 * QueuedLink::queue_limit; ++i) first->send(frame_between(2, 1, 60 + i % 1000));
    size_t got = 0;
    for (unsigned round = 0; round < 1000; ++round) {
        const auto frames = network.take(*second);
        for (const Frame& frame : frames) CHECK(frame.size() == 60 + got++ % 1000);
        if (frames.empty() && got >= QueuedLink::queue_limit) break;
    }
    CHECK(got >= QueuedLink::queue_limit);
    first->send(frame_between(2, 1));
    CHECK(network.take(*second).size() == 1);
}

TEST_CASE("A packet goes whole to a machine that takes it so, and as frames to one that does not") {
    const RuntimeFolder folder;
    Network network;
    const auto first = network.open("switch:lab"), second = network.open("switch:lab");
    const TcpPacketRig rig{.size = 60'000};
    const auto packet = rig.packet();
    const FrameOffload offload = rig.offload(1000);
    REQUIRE(first->offloads().take(offload));
    first->send_undone(packet, offload);
    const auto frames = network.take(*second);
    CHECK(frames.size() == 60);
    for (const Frame& frame : frames) CHECK(rig.is_sound(frame));
    second->take_undone({.checksum = true, .tcp4 = true});
    first->send_undone(packet, offload);
    network.loop.poll();
    CHECK(second->front_offload() == offload);
    CHECK(Frame(second->front().begin(), second->front().end()) == packet);
    // One that waits when the NIC's driver goes.
    second->take_undone({});
    CHECK(network.take(*second) == frames);
    // What a cable does is done to frames.
    CHECK(network.open("switch:lab,loss=1%")->offloads() == Offloads{});
}

TEST_CASE("A packet of which one frame would be longer than frames are is lost where it is to be finished") {
    const RuntimeFolder folder;
    Network network;
    const auto first = network.open("switch:lab"), second = network.open("switch:lab");
    const TcpPacketRig rig{.six = true, .size = 65'500};
    const FrameOffload offload = rig.offload(65'535);
    REQUIRE(can_finish(rig.packet(), offload));
    first->send_undone(rig.packet(), offload);
    for (const Frame& frame : network.take(*second)) CHECK(frame.size() <= NetworkLink::most_frame);
    second->take_undone({.checksum = true, .tcp6 = true});
    first->send_undone(rig.packet(), offload);
    CHECK(network.take(*second) == std::vector<Frame>{rig.packet()});
}

TEST_CASE("What is no frame of a switch is not taken from its socket") {
    const RuntimeFolder folder;
    Network network;
    const auto link = network.open("switch:lab");
    const std::string path = folder.of("lab") + "/" + std::to_string(getpid()) + "-0";
    const sockaddr_un address = unix_address(path).value();
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    const auto send = [&](std::string head, size_t size) {
        head.append(size, 'x');
        CHECK(sendto(fd, head.data(), head.size(), 0, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) >=
              0);
    };
    const std::string own = "VS\x02\x03", name = "1-7", nothing_undone(offload_header_size, '\0');
    send("", 0);
    send("VS\x02", 0);
    send("VS\x02\xFF", 80);
    send("VS\x01\x03" + name + nothing_undone, 60);
    send(own + "1/7" + nothing_undone, 60);
    send(own + name + nothing_undone, NetworkLink::least_frame - 1);
    // What is undone cannot be done: not known, a checksum that is not within, a packet that is none.
    send(own + name, 80);
    send(own + name + std::string("\x01\0\0\0\0\0\x3C\0\0\0", offload_header_size), 60);
    send(own + name + std::string("\x01\x01\0\0\xE8\x03\x22\0\x10\0", offload_header_size), 2000);
    // Who says to be this machine is not: its frames would come back to it.
    const std::string itself = std::to_string(getpid()) + "-0";
    send("VS\x02" + std::string(1, static_cast<char>(itself.size())) + itself + nothing_undone, 60);
    CHECK(network.take(*link).empty());
    send(own + name + nothing_undone, NetworkLink::least_frame);
    send(own + name + std::string("\x01\0\0\0\0\0\x22\0\x10\0", offload_header_size), 60);
    CHECK(network.take(*link).size() == 2);
    close(fd);
}

TEST_CASE("Wrong switches and taps are refused by what is wrong") {
    const RuntimeFolder folder;
    Network network;
    CHECK(network.refusal("switch").find("try switch:lab") != std::string::npos);
    CHECK(network.refusal("switch:../x").find("../x") != std::string::npos);
    CHECK(network.refusal("switch:lab,speed=1").find("speed") != std::string::npos);
    CHECK(network.refusal("tap").find("try tap:tap0") != std::string::npos);
    CHECK(network.refusal("tap:aVeryLongNameOfAnInterface").find("aVeryLong") != std::string::npos);
    static_cast<void>(network.open("switch:lab"));
    REQUIRE(chmod(folder.of("lab").c_str(), 0755) == 0);
    CHECK(network.refusal("switch:lab", ErrorKind::failure).find("0700") != std::string::npos);
}

TEST_CASE("A cable with a delay and a rate takes its time by the machine's clock") {
    Network network;
    const auto link = network.open("loopback,delay=10ms,rate=1M");
    // 976 bytes and the 24 around them are 8 ms at 1 Mb/s.
    link->send(test_frame(976));
    link->send(test_frame(976));
    CHECK(network.take(*link).empty());
    network.clock.advance(std::chrono::microseconds(17'999));
    CHECK(network.take(*link).empty());
    network.clock.advance(std::chrono::microseconds(1));
    CHECK(network.take(*link).size() == 1);
    network.clock.advance(std::chrono::microseconds(7'999));
    CHECK(network.take(*link).empty());
    network.clock.advance(std::chrono::microseconds(1));
    CHECK(network.take(*link).size() == 1);
    // What is on its way when the cable is pulled out is lost, and what is too much.
    link->send(test_frame(100));
    link->set_up(false);
    link->set_up(true);
    for (unsigned i = 0; i < Impairment::most_frames + 100; ++i) link->send(test_frame(14));
    size_t got = 0;
    for (unsigned i = 0; i < 2000; ++i) {
        network.clock.advance(std::chrono::milliseconds(1));
        got += network.take(*link).size();
    }
    CHECK(got == Impairment::most_frames);
}

TEST_CASE("A cable that loses frames loses the same ones with the same seed") {
    const auto run = [](const char* spec) {
        Network network;
        const auto link = network.open(spec);
        std::vector<size_t> arrived;
        for (size_t i = 0; i < 1000; ++i) {
            link->send(test_frame(60 + i));
            network.clock.advance(Duration{1});
            for (const Frame& frame : network.take(*link)) arrived.push_back(frame.size());
        }
        return arrived;
    };
    const auto one = run("loopback,loss=10%,seed=1");
    CHECK(one.size() > 850);
    CHECK(one.size() < 950);
    CHECK(one == run("loopback,loss=10%,seed=1"));
    CHECK(one != run("loopback,loss=10%,seed=2"));
    CHECK(run("loopback,loss=0.0%").size() == 1000);
    CHECK(run("loopback,loss=100%").empty());
    Network network;
    for (const char* wrong : {"loss=1", "loss=101%", "loss=-1%", "delay=10", "delay=2000h", "delay=7200s", "rate=10X",
                              "rate=1", "seed=x", "loss=%"}) {
        const std::string why = network.refusal("loopback," + std::string(wrong));
        CHECK(why.find(std::string(wrong).substr(0, 4)) != std::string::npos);
    }
}
