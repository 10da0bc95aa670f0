#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>

#include "devices/network/link/link.hpp"
#include "devices/network/link/link_activity.hpp"
#include "devices/test_board.hpp"
#include "vmm/core/log.hpp"
#include "vmm/core/temporary_folder_test.hpp"

using namespace viv;

namespace {

using Bytes = std::vector<uint8_t>;

void put16(Bytes& bytes, uint32_t value) {
    bytes.push_back(static_cast<uint8_t>(value >> 8));
    bytes.push_back(static_cast<uint8_t>(value));
}

void put32(Bytes& bytes, uint32_t value) {
    put16(bytes, value >> 16);
    put16(bytes, value & 0xFFFF);
}

uint32_t get32(const Bytes& bytes, size_t at) {
    return uint32_t{bytes[at]} << 24 | uint32_t{bytes[at + 1]} << 16 | uint32_t{bytes[at + 2]} << 8 | bytes[at + 3];
}

uint32_t get16(const Bytes& bytes, size_t at) {
    return uint32_t{bytes[at]} << 8 | bytes[at + 1];
}

/// Sum of 16-bit words, for the checksums of IP (RFC 1071).
uint32_t sum(const Bytes& bytes, size_t from, uint32_t total = 0) {
    for (size_t i = from; i < bytes.size(); ++i) total += i % 2 == from % 2 ? uint32_t{bytes[i]} << 8 : bytes[i];
    while (total >> 16) total = (total & 0xFFFF) + (total >> 16);
    return total;
}

constexpr MacAddress mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr uint32_t guest = 0x0A00020F, router = 0x0A000202;

/// A guest of few words on a user link.
struct Guest {
    explicit Guest(std::string_view spec = "user", std::vector<std::string> published = {}) {
        auto opened = open_network_link(spec, {loop, clock, mac, std::move(published), &activity});
        if (!opened) FAIL(opened.error().message);
        link = std::move(*opened);
        loop.poll();
    }
    static Bytes ethernet(uint32_t type) {
        Bytes frame(6, 0xFF);
        frame.insert(frame.end(), mac.begin(), mac.end());
        put16(frame, type);
        return frame;
    }
    static Bytes ip(uint8_t protocol, uint32_t from, uint32_t to, const Bytes& data) {
        Bytes header{0x45, 0};
        put16(header, static_cast<uint32_t>(20 + data.size()));
        put32(header, 0);
        header.insert(header.end(), {64, protocol, 0, 0});
        put32(header, from);
        put32(header, to);
        const uint32_t check = ~sum(header, 0) & 0xFFFF;
        header[10] = static_cast<uint8_t>(check >> 8);
        header[11] = static_cast<uint8_t>(check);
        Bytes frame = ethernet(0x0800);
        frame.insert(frame.end(), header.begin(), header.end());
        frame.insert(frame.end(), data.begin(), data.end());
        return frame;
    }
    static Bytes udp(uint32_t from, uint32_t from_port, uint32_t to, uint32_t to_port, const Bytes& data) {
        Bytes datagram;
        put16(datagram, from_port);
        put16(datagram, to_port);
        put16(datagram, static_cast<uint32_t>(8 + data.size()));
        put16(datagram, 0);  // no checksum
        datagram.insert(datagram.end(), data.begin(), data.end());
        return ip(17, from, to, datagram);
    }
    static Bytes dhcp(uint8_t kind) {
        Bytes message{1, 1, 6, 0};
        put32(message, 0x12345678);
        message.resize(28);
        message.insert(message.end(), mac.begin(), mac.end());
        message.resize(236);
        put32(message, 0x63825363);
        message.insert(message.end(), {53, 1, kind});
        if (kind == 3) {
            message.insert(message.end(), {50, 4});
            put32(message, guest);
        }
        message.push_back(255);
        return udp(0, 68, 0xFFFFFFFF, 67, message);
    }
    static Bytes arp_reply() {
        Bytes frame = ethernet(0x0806);
        put32(frame, 0x00010800);
        put32(frame, 0x06040002);
        frame.insert(frame.end(), mac.begin(), mac.end());
        put32(frame, guest);
        frame.insert(frame.end(), {0x52, 0x55, 10, 0, 2, 2});
        put32(frame, router);
        return frame;
    }
    /// Sends, and takes the frames that come back at once. What asks for our address is answered.
    std::vector<Bytes> ask(const Bytes& frame) {
        link->send(frame);
        return take();
    }
    std::vector<Bytes> take() {
        std::vector<Bytes> got;
        loop.poll();
        while (!link->front().empty()) {
            const Bytes frame(link->front().begin(), link->front().end());
            link->pop();
            if (get16(frame, 12) == 0x0806 && get16(frame, 20) == 1) {
                link->send(arp_reply());
                loop.poll();
            } else {
                got.push_back(frame);
            }
        }
        return got;
    }
    /// As take(), once the host has something.
    std::vector<Bytes> wait_and_take() {
        for (unsigned i = 0; i < 100; ++i) {
            if (auto got = take(); !got.empty()) return got;
            static_cast<void>(activity.wait(std::chrono::milliseconds(100)));
        }
        FAIL("nothing came from the host");
        return {};
    }

    std::mutex lock;
    EventLoop loop{lock};
    ManualClock clock;
    LinkActivity activity;
    std::unique_ptr<NetworkLink> link;
};

/// A socket of the host on 127.0.0.1.
struct HostSocket {
    explicit HostSocket(int kind) : fd(socket(AF_INET, kind, 0)) {
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(name);
        REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&name), size) == 0);
        REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
        port = ntohs(name.sin_port);
    }
    ~HostSocket() { close(fd); }
    int fd;
    uint16_t port = 0;
};

constexpr size_t udp_data = 14 + 20 + 8;

}  // namespace

TEST_CASE("A user link leases 10.0.2.15 with a router and a name server") {
    Guest board;
    const auto offers = board.ask(Guest::dhcp(1));
    REQUIRE(offers.size() == 1);
    CHECK(get32(offers[0], udp_data + 16) == guest);
    const auto answers = board.ask(Guest::dhcp(3));
    REQUIRE(answers.size() == 1);
    const Bytes& answer = answers[0];
    CHECK(get32(answer, udp_data + 16) == guest);
    std::map<uint8_t, uint32_t> options;
    for (size_t at = udp_data + 240; at + 6 <= answer.size() && answer[at] != 255; at += 2u + answer[at + 1]) {
        options[answer[at]] = answer[at + 1] == 4 ? get32(answer, at + 2) : answer[at + 2];
    }
    CHECK(options[53] == 5);
    CHECK(options[1] == 0xFFFFFF00);
    CHECK(options[3] == router);
    CHECK(options[6] == 0x0A000203);
    // Nothing of the host was asked, so the guest's time may jump.
    CHECK(!board.activity.expected());
    CHECK(!board.clock.next_deadline());
}

TEST_CASE("The router answers a ping") {
    Guest board;
    static_cast<void>(board.ask(Guest::arp_reply()));
    Bytes echo{8, 0, 0, 0, 0x12, 0x34, 0, 1, 'p', 'i', 'n', 'g'};
    const uint32_t check = ~sum(echo, 0) & 0xFFFF;
    echo[2] = static_cast<uint8_t>(check >> 8);
    echo[3] = static_cast<uint8_t>(check);
    const auto answers = board.ask(Guest::ip(1, guest, router, echo));
    REQUIRE(answers.size() == 1);
    CHECK(answers[0][34] == 0);
    CHECK(get16(answers[0], 38) == 0x1234);
    CHECK(std::equal(echo.begin() + 8, echo.end(), answers[0].begin() + 42));
}

TEST_CASE("10.0.2.2 is the host, unless the link is restricted") {
    const HostSocket server(SOCK_DGRAM);
    for (const bool restricted : {false, true}) {
        Guest board(restricted ? "user,restrict=on" : "user");
        static_cast<void>(board.ask(Guest::arp_reply()));
        static_cast<void>(board.ask(Guest::udp(guest, 4000, router, server.port, {'h', 'i'})));
        char text[8] = {};
        sockaddr_in peer{};
        socklen_t size = sizeof(peer);
        const auto got = recvfrom(server.fd, text, sizeof(text), restricted ? MSG_DONTWAIT : 0,
                                  reinterpret_cast<sockaddr*>(&peer), &size);
        CHECK(board.activity.expected() == !restricted);
        if (restricted) {
            CHECK(got < 0);
            continue;
        }
        CHECK(std::string(text) == "hi");
        REQUIRE(sendto(server.fd, "yes", 3, 0, reinterpret_cast<sockaddr*>(&peer), size) == 3);
        const auto answers = board.wait_and_take();
        REQUIRE(answers.size() == 1);
        CHECK(get16(answers[0], 36) == 4000);
        CHECK(Bytes(answers[0].begin() + udp_data, answers[0].end()) == Bytes{'y', 'e', 's'});
    }
}

TEST_CASE("A published port of the host leads to the guest") {
    uint16_t port = 0;
    {
        const HostSocket free(SOCK_DGRAM);
        port = free.port;
    }
    Guest board("user", {std::to_string(port) + ":7/udp"});
    CHECK(board.link->description() == "user, 127.0.0.1:" + std::to_string(port) + " to port 7 (UDP)");
    static_cast<void>(board.ask(Guest::dhcp(1)));
    static_cast<void>(board.ask(Guest::dhcp(3)));
    const HostSocket client(SOCK_DGRAM);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(port);
    REQUIRE(sendto(client.fd, "hello", 5, 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 5);
    const auto frames = board.wait_and_take();
    REQUIRE(frames.size() == 1);
    CHECK(get16(frames[0], 36) == 7);
    CHECK(Bytes(frames[0].begin() + udp_data, frames[0].end()) == Bytes{'h', 'e', 'l', 'l', 'o'});
}

TEST_CASE("A free port is found for a published one, and told") {
    std::vector<std::string> told;
    auto before = set_log_sink([&told](std::string_view line) { told.emplace_back(line); });
    const Guest first("user", {"free:22"});
    const Guest second("user", {"free:22", "free:80", "127.0.0.2:free:53/udp"});
    set_log_sink(std::move(before));
    const auto port_of = [](const std::string& text, const std::string& behind) {
        const size_t at = text.find(behind);
        REQUIRE(at != std::string::npos);
        return std::stoi(text.substr(at + behind.size()));
    };
    const int port = port_of(first.link->description(), "user, 127.0.0.1:");
    const int other = port_of(second.link->description(), "user, 127.0.0.1:");
    CHECK(port >= 2222);
    CHECK(other > port);
    REQUIRE(told.size() == 4);
    CHECK(port_of(told[0], "ssh -p ") == port);
    CHECK(port_of(told[1], "ssh -p ") == other);
    CHECK(port_of(told[2], "port 80 of the guest is 127.0.0.1:") > other);
    CHECK(port_of(told[3], "port 53 of the guest is 127.0.0.2:") >= 2222);
    // Somebody listens there: who connects waits for the guest.
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(port));
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(client, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0);
    close(client);
}

TEST_CASE("A file of the TFTP folder is served, and the lease names it") {
    const TemporaryFolder folder;
    std::ofstream(folder.of("boot.bin")) << "the boot file";
    Guest board("user,tftp=" + folder.path().string() + ",bootfile=boot.bin");
    const auto offers = board.ask(Guest::dhcp(1));
    REQUIRE(offers.size() == 1);
    CHECK(std::strcmp(reinterpret_cast<const char*>(&offers[0][udp_data + 108]), "boot.bin") == 0);
    CHECK(get32(offers[0], udp_data + 20) == router);
    static_cast<void>(board.ask(Guest::arp_reply()));
    Bytes request{0, 1};
    for (const char* text : {"boot.bin", "octet"}) request.insert(request.end(), text, text + std::strlen(text) + 1);
    const auto answers = board.ask(Guest::udp(guest, 2000, router, 69, request));
    REQUIRE(answers.size() == 1);
    const std::string data(answers[0].begin() + udp_data + 4, answers[0].end());
    CHECK(get32(answers[0], udp_data) == 0x00030001);
    CHECK(data == "the boot file");
}

TEST_CASE("Wrong user links are refused by what is wrong") {
    std::mutex lock;
    EventLoop loop(lock);
    ManualClock clock;
    const auto refused = [&](std::string_view spec, std::vector<std::string> published, std::string_view why) {
        const auto opened = open_network_link(spec, {loop, clock, mac, std::move(published)});
        REQUIRE(!opened);
        INFO(opened.error().message);
        CHECK(opened.error().kind == ErrorKind::usage);
        CHECK(opened.error().message.find(why) != std::string::npos);
    };
    refused("user,restrict=maybe", {}, "maybe");
    refused("user,speed=9", {}, "speed");
    refused("user,restrict", {}, "KEY=VALUE");
    refused("user,restrict=on,restrict=on", {}, "twice");
    refused("user:name", {}, "name");
    refused("user,tftp=/there/is/none", {}, "/there/is/none");
    refused("user", {"22"}, "[ADDR:]HOST:GUEST");
    refused("user", {"0:22"}, "port");
    refused("user", {"2222:65536"}, "65536");
    refused("user", {"localhost:2222:22"}, "localhost");
    refused("loopback", {"2222:22"}, "loopback");
    const HostSocket taken(SOCK_STREAM);
    REQUIRE(listen(taken.fd, 1) == 0);
    const auto opened = open_network_link("user", {loop, clock, mac, {std::to_string(taken.port) + ":22"}});
    REQUIRE(!opened);
    CHECK(opened.error().kind == ErrorKind::failure);
    CHECK(opened.error().message.find(std::to_string(taken.port)) != std::string::npos);
}
