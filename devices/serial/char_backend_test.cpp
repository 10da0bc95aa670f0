#include "devices/serial/char_backend.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>
#include <mutex>
#include <string>

#include "devices/serial/backend/stream_backend.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/temporary_folder_test.hpp"
#include "vmm/core/unix_address.hpp"

using namespace viv;

namespace {

struct Rig {
    void open(const std::string& spec) {
        auto opened = open_char_backend(spec, loop);
        REQUIRE(opened.has_value());
        backend = std::move(*opened);
    }
    std::string refusal(const std::string& spec) {
        auto opened = open_char_backend(spec, loop);
        REQUIRE_FALSE(opened.has_value());
        return opened.error().message;
    }
    std::string path(const std::string& name) const { return folder.of(name); }

    /// Serves the loop until `condition` holds, at most for some seconds.
    template <class Condition>
    bool serve_until(Condition condition) {
        for (int i = 0; i < 5000; ++i) {
            loop.poll();
            if (condition()) return true;
            ::poll(nullptr, 0, 1);
        }
        return false;
    }
    void send(std::string_view text) {
        for (const char c : text) REQUIRE(backend->write(static_cast<uint8_t>(c)));
        loop.poll();
    }
    std::string receive(size_t size) {
        std::string got;
        serve_until([&] {
            while (auto byte = backend->read()) got.push_back(static_cast<char>(*byte));
            return got.size() >= size;
        });
        return got;
    }

    TemporaryFolder folder;
    std::mutex lock;
    EventLoop loop{lock};
    std::unique_ptr<CharBackend> backend;
};

std::string read_some(int fd, size_t size) {
    std::string got;
    std::array<char, 4096> bytes;
    pollfd wait{fd, POLLIN, 0};
    while (got.size() < size && ::poll(&wait, 1, 3000) > 0) {
        const ssize_t n = ::read(fd, bytes.data(), std::min(bytes.size(), size - got.size()));
        if (n <= 0) break;
        got.append(bytes.data(), static_cast<size_t>(n));
    }
    return got;
}

std::string contents(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

int unix_client(const std::string& path) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = unix_address(path).value();
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        ::close(fd);
        return -1;
    }
    return fd;
}

int tcp_client(uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        ::close(fd);
        return -1;
    }
    return fd;
}

/// Writes until the backend refuses; how many bytes it took.
size_t fill_up(Rig& rig, size_t limit) {
    size_t taken = 0;
    while (taken < limit && rig.backend->write('x')) {
        if (++taken % 4096 == 0) rig.loop.poll();
    }
    return taken;
}

}  // namespace

TEST_CASE("a null backend swallows output and has no input") {
    Rig rig;
    rig.open("null");
    CHECK(rig.backend->write('x'));
    CHECK_FALSE(rig.backend->readable());
    CHECK(rig.backend->description().empty());
}

TEST_CASE("an unknown backend is refused with the list of those there are") {
    Rig rig;
    for (const char* spec : {"", "serial", "file:", "unix:", "tcp:", "null:x", "stdio:"}) {
        CHECK(rig.refusal(spec).find("tcp:HOST:PORT") != std::string::npos);
    }
}

TEST_CASE("a file backend empties the file and writes the output to it") {
    Rig rig;
    std::ofstream(rig.path("log")) << "old";
    rig.open("file:" + rig.path("log"));
    CHECK(contents(rig.path("log")).empty());
    rig.send("hello\n");
    CHECK(contents(rig.path("log")) == "hello\n");
    rig.backend->write('!');
    rig.backend.reset();
    CHECK(contents(rig.path("log")) == "hello\n!");
}

TEST_CASE("a file that cannot be opened is named with the reason") {
    Rig rig;
    const std::string message = rig.refusal("file:" + rig.path("missing/log"));
    CHECK(message.find(rig.path("missing/log")) != std::string::npos);
    CHECK(message.find("No such file") != std::string::npos);
}

TEST_CASE("a file backend whose disk is full drops the rest and goes on") {
    Rig rig;
    if (::access("/dev/full", W_OK) != 0) VIV_SKIP("no /dev/full on this host");
    std::string told;
    auto before = set_log_sink([&](std::string_view line) { told += line; });
    rig.open("file:/dev/full");
    CHECK(rig.backend->write('x'));
    rig.loop.poll();
    CHECK(rig.backend->write('y'));
    rig.loop.poll();
    set_log_sink(std::move(before));
    CHECK(told.find("No space left") != std::string::npos);
}

TEST_CASE("a pipe nobody reads is refused with what to do") {
    Rig rig;
    REQUIRE(::mkfifo(rig.path("pipe").c_str(), 0600) == 0);
    CHECK(rig.refusal("file:" + rig.path("pipe")).find("start its reader") != std::string::npos);
}

TEST_CASE("a reader of a pipe that is slow holds the guest back, and nothing is lost or kept without bound") {
    Rig rig;
    REQUIRE(::mkfifo(rig.path("pipe").c_str(), 0600) == 0);
    const int reader = ::open(rig.path("pipe").c_str(), O_RDONLY | O_NONBLOCK);
    rig.open("file:" + rig.path("pipe"));
    bool writable = false;
    rig.backend->on_writable([&] { writable = true; });
    const size_t taken = fill_up(rig, 10'000'000);
    CHECK(taken >= StreamBackend::output_limit);
    CHECK(taken < 2'000'000);
    CHECK_FALSE(writable);
    size_t got = 0;
    CHECK(rig.serve_until([&] {
        std::array<char, 65536> bytes;
        const ssize_t n = ::read(reader, bytes.data(), bytes.size());
        if (n > 0) got += static_cast<size_t>(n);
        return got >= taken;
    }));
    CHECK(got == taken);
    CHECK(writable);
    CHECK(rig.backend->write('x'));
    // The reader goes: what follows is dropped.
    ::close(reader);
    rig.loop.poll();
    CHECK(fill_up(rig, 500'000) == 500'000);
}

TEST_CASE("a unix server serves one caller after the other") {
    Rig rig;
    rig.open("unix:" + rig.path("sock") + ",server");
    CHECK(rig.backend->description() == "unix:" + rig.path("sock") + ",server");
    struct stat about {};
    REQUIRE(::stat(rig.path("sock").c_str(), &about) == 0);
    CHECK((about.st_mode & 0777) == 0600);
    rig.send("nobody hears this");
    for (int round = 0; round < 3; ++round) {
        const int fd = unix_client(rig.path("sock"));
        REQUIRE(fd >= 0);
        REQUIRE(::write(fd, "hi", 2) == 2);
        CHECK(rig.receive(2) == "hi");
        rig.send("hello");
        CHECK(read_some(fd, 5) == "hello");
        ::close(fd);
    }
    rig.backend.reset();
    CHECK_FALSE(std::filesystem::exists(rig.path("sock")));
}

TEST_CASE("a second caller waits until the first hangs up") {
    Rig rig;
    rig.open("unix:" + rig.path("sock") + ",server");
    const int first = unix_client(rig.path("sock"));
    REQUIRE(::write(first, "1", 1) == 1);
    CHECK(rig.receive(1) == "1");
    const int second = unix_client(rig.path("sock"));
    REQUIRE(second >= 0);
    REQUIRE(::write(second, "2", 1) == 1);
    for (int i = 0; i < 20; ++i) rig.loop.poll();
    CHECK_FALSE(rig.backend->readable());
    ::close(first);
    CHECK(rig.receive(1) == "2");
    ::close(second);
}

TEST_CASE("a caller that does not read holds the guest back, and one that goes frees it") {
    Rig rig;
    rig.open("unix:" + rig.path("sock") + ",server");
    const int fd = unix_client(rig.path("sock"));
    REQUIRE(::write(fd, "1", 1) == 1);
    CHECK(rig.receive(1) == "1");
    bool writable = false;
    rig.backend->on_writable([&] { writable = true; });
    CHECK(fill_up(rig, 10'000'000) < 10'000'000);
    ::close(fd);
    CHECK(rig.serve_until([&] { return writable; }));
    CHECK(fill_up(rig, 500'000) == 500'000);
}

TEST_CASE("input waits at the peer while the guest does not read") {
    Rig rig;
    rig.open("unix:" + rig.path("sock") + ",server");
    const int fd = unix_client(rig.path("sock"));
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
    std::string sent;
    const std::string block(1000, 'q');
    for (int idle = 0; idle < 50;) {
        const ssize_t n = ::write(fd, block.data(), block.size());
        if (n > 0) {
            sent.append(block, 0, static_cast<size_t>(n));
        } else {
            ++idle;
        }
        rig.loop.poll();
    }
    CHECK(sent.size() < 5'000'000);  // the kernel's buffer and ours, no more
    CHECK(rig.receive(sent.size()) == sent);
    ::close(fd);
}

TEST_CASE("a stale unix socket is replaced, other files are not") {
    Rig rig;
    {
        const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const sockaddr_un address = unix_address(rig.path("sock")).value();
        REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        ::close(fd);  // as a killed process leaves it
    }
    rig.open("unix:" + rig.path("sock") + ",server");
    const std::string in_use = rig.refusal("unix:" + rig.path("sock") + ",server");
    CHECK(in_use.find("another process listens") != std::string::npos);
    std::ofstream(rig.path("file")) << "keep me";
    const std::string message = rig.refusal("unix:" + rig.path("file") + ",server");
    CHECK(message.find("no socket") != std::string::npos);
    CHECK(contents(rig.path("file")) == "keep me");
}

TEST_CASE("a unix client talks to a server and survives its end") {
    Rig rig;
    CHECK(rig.refusal("unix:" + rig.path("sock")).find("start its server first") != std::string::npos);
    auto server = open_char_backend("unix:" + rig.path("sock") + ",server", rig.loop);
    REQUIRE(server.has_value());
    rig.open("unix:" + rig.path("sock"));
    rig.send("ping");
    std::string got;
    CHECK(rig.serve_until([&] {
        while (auto byte = (*server)->read()) got.push_back(static_cast<char>(*byte));
        return got == "ping";
    }));
    std::string told;
    auto before = set_log_sink([&](std::string_view line) { told += line; });
    server->reset();
    CHECK(rig.serve_until([&] { return !told.empty(); }));
    set_log_sink(std::move(before));
    CHECK(fill_up(rig, 500'000) == 500'000);
}

TEST_CASE("a unix path that is too long is refused") {
    Rig rig;
    CHECK(rig.refusal("unix:" + std::string(200, 'a') + ",server").find("characters") != std::string::npos);
}

TEST_CASE("a tcp server listens on the loopback address unless told otherwise") {
    Rig rig;
    for (const char* spec : {"tcp:0,server", "tcp::0,server", "tcp:localhost:0,server", "tcp:127.0.0.1:0,server"}) {
        rig.open(spec);
        const std::string description = rig.backend->description();
        CHECK(description.ends_with(",server"));
        const auto port = static_cast<uint16_t>(std::stoi(description.substr(description.rfind(':') + 1)));
        REQUIRE(port != 0);
        if (description.starts_with("tcp:127.0.0.1:")) {
            const int fd = tcp_client(port);
            REQUIRE(fd >= 0);
            REQUIRE(::write(fd, "a", 1) == 1);
            CHECK(rig.receive(1) == "a");
            rig.send("b");
            CHECK(read_some(fd, 1) == "b");
            ::close(fd);
        }
    }
}

TEST_CASE("a tcp client that nobody answers is refused, as are wrong ports") {
    Rig rig;
    rig.open("tcp:0,server");
    const std::string description = rig.backend->description();
    const std::string port = description.substr(14, description.find(',') - 14);
    rig.backend.reset();
    CHECK(rig.refusal("tcp:127.0.0.1:" + port).find("refused") != std::string::npos);
    for (const char* spec : {"tcp:127.0.0.1:", "tcp:127.0.0.1:70000", "tcp:127.0.0.1:x1"}) {
        CHECK(rig.refusal(spec).find("no port number") != std::string::npos);
    }
}

TEST_CASE("a pty passes bytes unchanged to whoever has its slave open") {
    Rig rig;
    rig.open("pty");
    const std::string description = rig.backend->description();
    REQUIRE(description.starts_with("pty /dev/pts/"));
    const std::string slave = description.substr(4);
    CHECK(fill_up(rig, 500'000) == 500'000);  // nobody there: dropped
    rig.loop.poll();
    for (int round = 0; round < 2; ++round) {
        const int fd = ::open(slave.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        REQUIRE(::write(fd, "\r\x03\xff", 3) == 3);
        CHECK(rig.receive(3) == "\r\x03\xff");
        rig.send("\n\x1b[0m");
        CHECK(read_some(fd, 5) == "\n\x1b[0m");
        ::close(fd);
        CHECK(rig.serve_until([&] { return fill_up(rig, 100'000) == 100'000; }));
    }
}

TEST_CASE("stdio reads from a pipe and writes to one without changing how others see them") {
    Rig rig;
    int in[2];
    int out[2];
    REQUIRE(::pipe2(in, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    const int saved_in = ::dup(STDIN_FILENO);
    const int saved_out = ::dup(STDOUT_FILENO);
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    auto opened = open_char_backend("stdio", rig.loop);
    const int flags = ::fcntl(STDOUT_FILENO, F_GETFL);
    ::dup2(saved_in, STDIN_FILENO);
    ::dup2(saved_out, STDOUT_FILENO);
    ::close(saved_in);
    ::close(saved_out);
    REQUIRE(opened.has_value());
    rig.backend = std::move(*opened);
    CHECK((flags & O_NONBLOCK) == 0);
    rig.send("out");
    CHECK(read_some(out[0], 3) == "out");
    REQUIRE(::write(in[1], "in", 2) == 2);
    CHECK(rig.receive(2) == "in");
    // The end of the input leaves the output alone.
    ::close(in[1]);
    ::close(in[0]);
    for (int i = 0; i < 20; ++i) rig.loop.poll();
    rig.send("more");
    CHECK(read_some(out[0], 4) == "more");
    ::close(out[0]);
    ::close(out[1]);
    rig.send("no reader");
    CHECK(fill_up(rig, 500'000) == 500'000);
}
