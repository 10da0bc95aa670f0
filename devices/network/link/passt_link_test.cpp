#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "devices/network/ethernet.hpp"
#include "devices/network/link/queued_link.hpp"
#include "devices/network/test_link_test.hpp"
#include "devices/test_board.hpp"
#include "vmm/core/temporary_folder_test.hpp"
#include "vmm/core/unix_address.hpp"

using namespace viv;

namespace {

using Frame = std::vector<uint8_t>;

/// As passt has them on its socket.
Frame on_the_wire(const Frame& frame) {
    Frame bytes(4);
    store_big32(bytes, 0, static_cast<uint32_t>(frame.size()));
    bytes.insert(bytes.end(), frame.begin(), frame.end());
    return bytes;
}

/// A link, and a program at the other end of its socket.
struct Peer {
    Peer() {
        const std::string path = folder.of("socket");
        const sockaddr_un address = unix_address(path).value();
        const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
        REQUIRE(listen(listener, 1) == 0);
        auto opened = open_network_link("passt,socket=" + path, {loop, clock, {}});
        if (!opened) FAIL(opened.error().message);
        link = std::move(*opened);
        link->on_state([this] { ++changes; });
        fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        REQUIRE(fd >= 0);
        close(listener);
    }
    ~Peer() { hang_up(); }
    void hang_up() {
        if (fd >= 0) close(std::exchange(fd, -1));
    }
    void say(std::span<const uint8_t> bytes) {
        REQUIRE(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
        loop.poll();
    }
    std::vector<Frame> taken() {
        std::vector<Frame> frames;
        for (; !link->front().empty(); link->pop()) frames.emplace_back(link->front().begin(), link->front().end());
        return frames;
    }
    /// All that has come from the link.
    Frame heard() {
        Frame all;
        std::array<uint8_t, 4096> piece{};
        for (ssize_t got = 0; (got = ::read(fd, piece.data(), piece.size())) > 0;)
            all.insert(all.end(), piece.begin(), piece.begin() + got);
        return all;
    }
    const TemporaryFolder folder;
    std::mutex lock;
    EventLoop loop{lock};
    ManualClock clock;
    std::unique_ptr<NetworkLink> link;
    int fd = -1;
    unsigned changes = 0;
};

std::string refusal(std::string_view spec) {
    std::mutex lock;
    EventLoop loop(lock);
    ManualClock clock;
    const auto opened = open_network_link(spec, {loop, clock, {}});
    REQUIRE(!opened);
    return opened.error().message;
}

}  // namespace

TEST_CASE("Frames go to passt and come from it behind their lengths") {
    Peer peer;
    CHECK(peer.link->up());
    CHECK(peer.link->description() == "passt at " + peer.folder.of("socket"));
    peer.link->send(test_frame(60));
    peer.link->send(test_frame(1514));
    Frame wanted = on_the_wire(test_frame(60));
    const Frame second = on_the_wire(test_frame(1514));
    wanted.insert(wanted.end(), second.begin(), second.end());
    CHECK(peer.heard() == wanted);
    peer.say(wanted);
    CHECK(peer.taken() == std::vector<Frame>{test_frame(60), test_frame(1514)});
}

TEST_CASE("A frame of passt may come in pieces of any size") {
    Peer peer;
    const Frame bytes = on_the_wire(test_frame(64));
    for (const uint8_t byte : bytes) {
        CHECK(peer.link->front().empty());
        peer.say(std::span(&byte, 1));
    }
    CHECK(peer.taken() == std::vector<Frame>{test_frame(64)});
    peer.say(on_the_wire(test_frame(NetworkLink::most_frame)));
    peer.loop.poll();
    CHECK(peer.taken() == std::vector<Frame>{test_frame(NetworkLink::most_frame)});
}

TEST_CASE("What is too short for a frame is dropped, and what is behind it is not") {
    Peer peer;
    peer.say(on_the_wire({}));
    peer.say(on_the_wire(Frame(13)));
    peer.say(on_the_wire(test_frame(60)));
    CHECK(peer.taken() == std::vector<Frame>{test_frame(60)});
    CHECK(peer.link->up());
}

TEST_CASE("A peer that makes no sense, or has gone, is a cable without carrier") {
    for (const bool goes : {false, true}) {
        Peer peer;
        if (goes) {
            peer.hang_up();
            peer.loop.poll();
        } else {
            Frame length(4);
            store_big32(length, 0, NetworkLink::most_frame + 1);
            peer.say(length);
        }
        peer.loop.poll();
        CHECK_FALSE(peer.link->up());
        CHECK(peer.changes == 1);
        peer.link->send(test_frame(60));
        peer.link->set_up(true);
        peer.link->send(test_frame(60));
        peer.loop.poll();
        CHECK(peer.taken().empty());
    }
}

TEST_CASE("What passt does not take is bounded, and no frame is cut") {
    Peer peer;
    constexpr unsigned many = 2000;
    for (unsigned i = 0; i < many; ++i) peer.link->send(test_frame(100 + i));
    Frame all = peer.heard();
    for (unsigned round = 0; round < 100; ++round) {
        peer.loop.poll();
        const Frame more = peer.heard();
        all.insert(all.end(), more.begin(), more.end());
    }
    size_t at = 0;
    unsigned count = 0;
    size_t last = 0;
    while (at + 4 <= all.size()) {
        const size_t size = load_big32(all, at);
        REQUIRE(at + 4 + size <= all.size());
        CHECK(Frame(all.begin() + static_cast<ptrdiff_t>(at + 4),
                    all.begin() + static_cast<ptrdiff_t>(at + 4 + size)) == test_frame(size));
        CHECK(size > last);
        last = size;
        at += 4 + size;
        ++count;
    }
    CHECK(at == all.size());
    CHECK(count >= QueuedLink::queue_limit);
    CHECK(count < many);
    peer.link->send(test_frame(77));
    CHECK(peer.heard() == on_the_wire(test_frame(77)));
}

TEST_CASE("While the NIC takes none, passt's frames wait in the socket") {
    Peer peer;
    fcntl(peer.fd, F_SETFL, O_NONBLOCK);
    const Frame bytes = on_the_wire(test_frame(1000));
    unsigned said = 0;
    for (unsigned idle = 0; idle < 3; ++idle) {
        while (::send(peer.fd, bytes.data(), bytes.size(), MSG_DONTWAIT) == static_cast<ssize_t>(bytes.size())) {
            ++said;
            idle = 0;
            REQUIRE(said < 10'000);
        }
        peer.loop.poll();
    }
    CHECK(said > QueuedLink::queue_limit);
    unsigned got = 0;
    for (unsigned round = 0; round < 10'000 && got < said; ++round) {
        got += static_cast<unsigned>(peer.taken().size());
        peer.loop.poll();
    }
    CHECK(got == said);
    CHECK(peer.link->up());
}

TEST_CASE("passt is started with its socket and the ports that are asked for, and ends with the link") {
    const TemporaryFolder folder;
    {
        // It returns what it gets, as a link with an echo.
        std::ofstream program(folder.of("passt"));
        program << "#!/bin/sh\necho \"$@\" > " << folder.of("asked") << "\nexec cat <&3 >&3\n";
    }
    REQUIRE(chmod(folder.of("passt").c_str(), 0700) == 0);
    const std::string path = getenv("PATH");
    setenv("PATH", (folder.path().string() + ":" + path).c_str(), 1);
    {
        std::mutex lock;
        EventLoop loop(lock);
        ManualClock clock;
        auto link = open_network_link("passt,tcp=2222:22,,8080,udp=53", {loop, clock, {}});
        setenv("PATH", path.c_str(), 1);
        REQUIRE(link);
        CHECK((*link)->description() == "passt");
        (*link)->send(test_frame(60));
        while ((*link)->up() && (*link)->front().empty()) loop.wait();
        CHECK(Frame((*link)->front().begin(), (*link)->front().end()) == test_frame(60));
    }
    std::string asked;
    std::getline(std::ifstream(folder.of("asked")), asked);
    CHECK(asked == "--foreground --quiet --fd 3 --tcp-ports 2222:22,8080 --udp-ports 53");
}

TEST_CASE("A passt that cannot be is refused in words") {
    const TemporaryFolder folder;
    CHECK(refusal("passt,socket=" + folder.of("none")).find("nobody answers") != std::string::npos);
    CHECK(refusal("passt,socket=" + std::string(200, 'x')).find("too long") != std::string::npos);
    CHECK(refusal("passt,socket=x,tcp=22").find("tcp and udp") != std::string::npos);
    CHECK(refusal("passt,port=22").find("there is no 'port'") != std::string::npos);
    const std::string path = getenv("PATH");
    setenv("PATH", folder.path().c_str(), 1);
    CHECK(refusal("passt").find("no program 'passt'") != std::string::npos);
    setenv("PATH", path.c_str(), 1);
}
