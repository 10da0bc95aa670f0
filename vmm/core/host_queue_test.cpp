#include "vmm/core/host_queue.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

struct File {
    explicit File(int descriptor = memfd_create("test", MFD_CLOEXEC)) : fd(descriptor) { REQUIRE(fd >= 0); }
    ~File() { close(fd); }
    [[nodiscard]] std::string content(size_t size) const {
        std::string text(size, '?');
        const ssize_t got = pread(fd, text.data(), size, 0);
        text.resize(got < 0 ? 0 : static_cast<size_t>(got));
        return text;
    }
    int fd;
};

HostTransfer transfer(HostTransfer::Kind kind, int fd, uint64_t offset, std::vector<iovec> pieces = {}) {
    HostTransfer made;
    made.kind = kind;
    made.fd = fd;
    made.offset = offset;
    made.pieces = std::move(pieces);
    return made;
}

HostTransfer* next(HostQueue& queue) {
    for (;;) {
        if (HostTransfer* done = queue.reap()) return done;
        queue.wait();
    }
}

int run(HostQueue& queue, HostTransfer& one) {
    queue.start(one);
    queue.submit();
    HostTransfer* done = next(queue);
    REQUIRE(done == &one);
    return done->error;
}

/// Each test is for both ways; io_uring may be refused.
void with_queues(const std::function<void(HostQueue&)>& test) {
    auto workers = make_worker_queue(3);
    test(*workers);
    if (auto uring = make_uring_queue(8)) test(*uring);
}

}  // namespace

TEST_CASE("Transfers are scattered, whole and in place") {
    with_queues([](HostQueue& queue) {
        const File file;
        std::string first = "abcd", second = "efghijkl";
        auto write = transfer(HostTransfer::Kind::write, file.fd, 3,
                              {{first.data(), 4}, {nullptr, 0}, {second.data(), second.size()}});
        CHECK(run(queue, write) == 0);
        CHECK(file.content(32) == std::string("\0\0\0abcdefghijkl", 15));
        std::array<char, 6> head{}, tail{};
        auto read = transfer(HostTransfer::Kind::read, file.fd, 3, {{head.data(), 6}, {tail.data(), 6}});
        CHECK(run(queue, read) == 0);
        CHECK(std::string(head.data(), 6) + std::string(tail.data(), 6) == "abcdefghijkl");
        auto durable = transfer(HostTransfer::Kind::write, file.fd, 0, {{first.data(), 3}});
        durable.durable = true;
        CHECK(run(queue, durable) == 0);
        auto sync = transfer(HostTransfer::Kind::sync, file.fd, 0);
        CHECK(run(queue, sync) == 0);
        auto punch = transfer(HostTransfer::Kind::punch, file.fd, 4);
        punch.length = 2;
        CHECK(run(queue, punch) == 0);
        CHECK(file.content(8) == std::string("abca\0\0de", 8));
    });
}

TEST_CASE("What the host refuses, or ends early, comes back with the reason") {
    with_queues([](HostQueue& queue) {
        const File file;
        std::array<char, 8> bytes{'x', 'y'};
        auto write = transfer(HostTransfer::Kind::write, file.fd, 0, {{bytes.data(), 2}});
        CHECK(run(queue, write) == 0);
        auto beyond = transfer(HostTransfer::Kind::read, file.fd, 0, {{bytes.data(), 8}});
        CHECK(run(queue, beyond) == EIO);
        auto closed = transfer(HostTransfer::Kind::read, -1, 0, {{bytes.data(), 8}});
        CHECK(run(queue, closed) == EBADF);
        // A queue goes on after that.
        auto again = transfer(HostTransfer::Kind::read, file.fd, 0, {{bytes.data(), 2}});
        CHECK(run(queue, again) == 0);
    });
}

TEST_CASE("Many transfers are under way at a time, and the descriptor tells of their ends") {
    with_queues([](HostQueue& queue) {
        const File file;
        constexpr size_t count = 40, size = 100;
        std::vector<std::string> texts;
        std::vector<HostTransfer> transfers;
        for (size_t i = 0; i < count; ++i) texts.emplace_back(size, static_cast<char>('0' + i));
        for (size_t i = 0; i < count; ++i) {
            transfers.push_back(
                transfer(HostTransfer::Kind::write, file.fd, i * size, {{texts[i].data(), texts[i].size()}}));
        }
        for (HostTransfer& one : transfers) queue.start(one);
        queue.submit();
        std::vector<bool> seen(count);
        for (size_t i = 0; i < count; ++i) {
            HostTransfer* done = next(queue);
            REQUIRE(done);
            CHECK(done->error == 0);
            const auto index = static_cast<size_t>(done - transfers.data());
            CHECK_FALSE(seen.at(index));
            seen[index] = true;
        }
        CHECK(queue.reap() == nullptr);
        for (size_t i = 0; i < count; ++i) CHECK(file.content(count * size).substr(i * size, size) == texts[i]);
    });
}

TEST_CASE("The descriptor is readable once something has ended later") {
    auto queue = make_worker_queue(1);
    HostTransfer call;
    call.kind = HostTransfer::Kind::call;
    bool ran = false;
    call.work = [&ran] {
        ran = true;
        return EDOM;
    };
    queue->start(call);
    pollfd watched{queue->descriptor(), POLLIN, 0};
    REQUIRE(poll(&watched, 1, -1) == 1);
    REQUIRE(queue->reap() == &call);
    CHECK(ran);
    CHECK(call.error == EDOM);

    auto uring = make_uring_queue(8);
    if (!uring) return;
    // A pipe is read when there is something in it, which is not yet so in submit().
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    char byte = 0;
    auto read = transfer(HostTransfer::Kind::read, ends[0], ~uint64_t{0}, {{&byte, 1}});
    uring->start(read);
    uring->submit();
    CHECK(uring->reap() == nullptr);
    REQUIRE(::write(ends[1], "z", 1) == 1);
    watched.fd = uring->descriptor();
    REQUIRE(poll(&watched, 1, -1) == 1);
    REQUIRE(uring->reap() == &read);
    CHECK(read.error == 0);
    CHECK(byte == 'z');
    close(ends[0]);
    close(ends[1]);
}

TEST_CASE("What the host's cache has is read at once if it may be, and wakes nobody") {
    auto queue = make_uring_queue(8);
    if (!queue) return;
    std::string path = (std::filesystem::temp_directory_path() / "viv-queue-XXXXXX").string();
    const File file(mkstemp(path.data()));
    unlink(path.c_str());
    REQUIRE(pwrite(file.fd, "abcdefgh", 8, 0) == 8);
    std::array<char, 4> first{}, second{};
    const iovec probe{first.data(), 1};
    if (preadv2(file.fd, &probe, 1, 0, RWF_NOWAIT) < 0) return;  // not every file system can tell
    auto early = transfer(HostTransfer::Kind::read, file.fd, 1, {{first.data(), 4}});
    early.at_once = true;
    auto beyond = transfer(HostTransfer::Kind::read, file.fd, 6, {{second.data(), 4}});
    beyond.at_once = true;
    queue->start(early);
    CHECK(std::string(first.data(), 4) == "bcde");
    pollfd watched{queue->descriptor(), POLLIN, 0};
    CHECK(poll(&watched, 1, 0) == 0);
    queue->wait();
    CHECK(queue->reap() == &early);
    CHECK(early.error == 0);
    CHECK(queue->reap() == nullptr);
    // The end of the file comes in between.
    CHECK(run(*queue, beyond) == EIO);
}

TEST_CASE("A short write of whole pages ends at once if it may, and wakes nobody") {
    if (!make_uring_queue(8)) return;
    const File file;  // in memory
    std::string pages(8192, 'p');
    const auto ends_at_once = [&](uint64_t offset, size_t size, bool durable) {
        auto queue = make_uring_queue(8);  // a fresh one: no slow write before
        auto write = transfer(HostTransfer::Kind::write, file.fd, offset, {{pages.data(), size}});
        write.length = size;
        write.at_once = true;
        write.durable = durable;
        queue->start(write);
        const bool early = file.content(3 * 8192).size() >= offset + size;
        pollfd watched{queue->descriptor(), POLLIN, 0};
        if (early) CHECK(poll(&watched, 1, 0) == 0);
        queue->submit();
        CHECK(next(*queue) == &write);
        CHECK(write.error == 0);
        REQUIRE(file.content(3 * 8192) == std::string(offset + size, 'p'));
        return early;
    };
    CHECK(ends_at_once(0, 4096, false));
    CHECK(ends_at_once(4096, 8192, false));
    CHECK_FALSE(ends_at_once(12288, 4096, true));
    // What cannot be is told as by any other way.
    auto closed = transfer(HostTransfer::Kind::write, -1, 0, {{pages.data(), 4096}});
    closed.at_once = true;
    CHECK(run(*make_uring_queue(8), closed) == EBADF);
}

TEST_CASE("A queue that goes waits for what it was given") {
    const File file;
    std::string text(1 << 20, 'w');
    with_queues([](HostQueue&) {});
    for (const bool uring : {false, true}) {
        auto queue = uring ? make_uring_queue(8) : make_worker_queue(2);
        if (!queue) continue;
        REQUIRE(ftruncate(file.fd, 0) == 0);
        auto write = transfer(HostTransfer::Kind::write, file.fd, 0, {{text.data(), text.size()}});
        queue->start(write);
        queue->submit();
        queue.reset();
        CHECK(file.content(text.size()) == text);
    }
}
