#include "devices/virtio/socket/unix_sockets.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "vmm/core/catch.hpp"
#include "vmm/core/temporary_folder_test.hpp"
#include "vmm/core/unix_address.hpp"

using namespace viv;

namespace {

struct Rig {
    Rig() {
        auto made = UnixSockets::listen(path(), loop);
        REQUIRE(made.has_value());
        sockets = std::move(*made);
        sockets->on_call(
            [this](uint32_t port, std::unique_ptr<HostSocket> socket) { calls.emplace_back(port, std::move(socket)); });
    }
    std::string path() const { return folder.of("guest"); }

    /// A program's connection to the guest's sockets.
    OwnedFd caller(std::string_view says = {}) const {
        OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const sockaddr_un address = unix_address(path()).value();
        REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        if (!says.empty()) REQUIRE(::write(fd.get(), says.data(), says.size()) == static_cast<ssize_t>(says.size()));
        return fd;
    }
    template <class Condition>
    bool serve_until(Condition condition) {
        for (int i = 0; i < 5000; ++i) {
            loop.poll();
            if (condition()) return true;
            ::poll(nullptr, 0, 1);
        }
        return false;
    }
    /// What a program reads now; "<end>" when its end is closed.
    static std::string read(const OwnedFd& fd) {
        std::array<char, 100> bytes{};
        const ssize_t got = ::recv(fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
        return got == 0 ? "<end>" : std::string(bytes.data(), got > 0 ? static_cast<size_t>(got) : 0);
    }
    static bool is_closed(const OwnedFd& fd) {
        std::array<char, 1> byte{};
        return ::recv(fd.get(), byte.data(), 1, MSG_DONTWAIT) == 0 || (errno == ECONNRESET);
    }

    TemporaryFolder folder;
    std::mutex lock;
    EventLoop loop{lock};
    std::unique_ptr<UnixSockets> sockets;
    std::vector<std::pair<uint32_t, std::unique_ptr<HostSocket>>> calls;
};

std::string text_of(HostSocket& socket) {
    std::array<std::byte, 100> bytes{};
    const auto moved = socket.read(bytes);
    return moved.ended ? "<end>" : std::string(reinterpret_cast<const char*>(bytes.data()), moved.size);
}

}  // namespace

TEST_CASE("A program says which port of the guest it wants, and is told when it has it") {
    Rig rig;
    struct stat about {};
    REQUIRE(::lstat(rig.path().c_str(), &about) == 0);
    CHECK((about.st_mode & 0777) == 0600);
    const OwnedFd program = rig.caller("CONNECT 1234\nand more\n");
    REQUIRE(rig.serve_until([&] { return rig.calls.size() == 1; }));
    CHECK(rig.calls[0].first == 1234);
    HostSocket& socket = *rig.calls[0].second;
    socket.accepted(0x40000000);
    CHECK(Rig::read(program) == "OK 1073741824\n");
    // Nothing behind the line is lost.
    CHECK(text_of(socket) == "and more\n");
    CHECK(text_of(socket).empty());
    const std::string answer = "answer";
    CHECK(socket.write(std::as_bytes(std::span(answer))).size == 6);
    CHECK(Rig::read(program) == "answer");
    socket.end_writing();
    CHECK(Rig::read(program) == "<end>");
    CHECK_FALSE(socket.gone());
    bool told = false;
    socket.when_readable([&] { told = true; });
    REQUIRE(::shutdown(program.get(), SHUT_WR) == 0);
    CHECK(rig.serve_until([&] { return told; }));
    CHECK(text_of(socket) == "<end>");
    CHECK(socket.gone());
}

TEST_CASE("The wish may come in pieces") {
    Rig rig;
    const OwnedFd program = rig.caller("CONN");
    rig.loop.poll();
    CHECK(rig.calls.empty());
    REQUIRE(::write(program.get(), "ECT 4294967295\r\n", 16) == 16);
    REQUIRE(rig.serve_until([&] { return rig.calls.size() == 1; }));
    CHECK(rig.calls[0].first == 4294967295u);
}

TEST_CASE("Who wants something else is shown the door") {
    Rig rig;
    for (const char* wish : {"GET / HTTP/1.1\n", "CONNECT\n", "CONNECT x\n", "CONNECT 1 2\n", "CONNECT -1\n", "\n",
                             "CONNECT 4294967296\n", "CONNECT 00000000000000000000001\n", "CONNECT 99999999999999"}) {
        const OwnedFd program = rig.caller(wish);
        INFO(wish);
        CHECK(rig.serve_until([&] { return Rig::is_closed(program); }));
    }
    CHECK(rig.calls.empty());
    // Who says nothing gives way to others.
    std::vector<OwnedFd> silent;
    for (size_t i = 0; i <= UnixSockets::most_callers; ++i) {
        silent.push_back(rig.caller());
        REQUIRE(rig.serve_until([] { return true; }));
    }
    CHECK(rig.serve_until([&] { return Rig::is_closed(silent.front()); }));
    CHECK_FALSE(Rig::is_closed(silent.back()));
    // And when the guest does not take it.
    const OwnedFd program = rig.caller("CONNECT 5\n");
    REQUIRE(rig.serve_until([&] { return rig.calls.size() == 1; }));
    rig.calls.clear();
    CHECK(rig.serve_until([&] { return Rig::is_closed(program); }));
}

TEST_CASE("The guest reaches the program behind the path with the port's number") {
    Rig rig;
    CHECK_FALSE(rig.sockets->connect(80));
    const std::string path = rig.path() + "_80";
    OwnedFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = unix_address(path).value();
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener.get(), 1) == 0);
    const auto socket = rig.sockets->connect(80);
    REQUIRE(socket);
    CHECK_FALSE(rig.sockets->connect(8));
    OwnedFd program(::accept(listener.get(), nullptr, nullptr));
    // A program that reads slowly, until it reads again.
    const std::string much(1 << 20, 'x');
    const auto moved = socket->write(std::as_bytes(std::span(much)));
    CHECK(moved.size < much.size());
    CHECK_FALSE(moved.ended);
    unsigned told = 0;
    socket->when_writable([&] { ++told; });
    rig.loop.poll();
    CHECK(told == 0);
    for (size_t got = 0; got < moved.size;) got += Rig::read(program).size();
    CHECK(rig.serve_until([&] { return told == 1; }));
    rig.loop.poll();
    CHECK(told == 1);
    // And one that is gone.
    program.reset();
    CHECK(socket->gone());
    CHECK(socket->write(std::as_bytes(std::span(much))).ended);
}

TEST_CASE("A callback may destroy its socket") {
    Rig rig;
    const OwnedFd program = rig.caller("CONNECT 1\n");
    REQUIRE(rig.serve_until([&] { return rig.calls.size() == 1; }));
    rig.calls[0].second->when_readable([&rig] { rig.calls.clear(); });
    REQUIRE(::write(program.get(), "x", 1) == 1);
    CHECK(rig.serve_until([&] { return rig.calls.empty(); }));
    CHECK(rig.serve_until([&] { return Rig::is_closed(program); }));
}

TEST_CASE("The path of a guest's sockets is its own") {
    Rig rig;
    CHECK(UnixSockets::listen(rig.path(), rig.loop).error().message.find("another process listens") !=
          std::string::npos);
    CHECK(UnixSockets::listen(rig.folder.path().string(), rig.loop).error().message.find("no socket") !=
          std::string::npos);
    CHECK(UnixSockets::listen("/" + std::string(96, 'x'), rig.loop).error().message.find("more than 96") !=
          std::string::npos);
    rig.sockets.reset();
    CHECK_FALSE(std::filesystem::exists(rig.path()));
}
