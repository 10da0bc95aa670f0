#include "vmm/core/event_loop.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <thread>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {
struct Pipe {
    Pipe() { REQUIRE(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0); }
    ~Pipe() {
        close(fds[0]);
        close(fds[1]);
    }
    void put(char c) const { REQUIRE(::write(fds[1], &c, 1) == 1); }
    char take() const {
        char c = 0;
        REQUIRE(::read(fds[0], &c, 1) == 1);
        return c;
    }
    int fds[2];
};
}  // namespace

TEST_CASE("Posted work runs under the machine lock") {
    std::mutex lock;
    EventLoop loop(lock);
    bool was_locked = false;
    loop.post([&] { std::thread([&] { was_locked = !lock.try_lock(); }).join(); });
    loop.poll();
    CHECK(was_locked);
}

TEST_CASE("A watch calls back for every readiness until it goes") {
    std::mutex lock;
    EventLoop loop(lock);
    const Pipe pipe;
    std::string got;
    auto watch = loop.watch(pipe.fds[0], EventLoop::Ready::read, [&] { got += pipe.take(); });
    loop.poll();
    CHECK(got.empty());
    pipe.put('a');
    pipe.put('b');
    for (int i = 0; i < 4; ++i) loop.poll();
    CHECK(got == "ab");
    watch->enable(false);
    pipe.put('c');
    for (int i = 0; i < 4; ++i) loop.poll();
    CHECK(got == "ab");
    watch->enable(true);
    for (int i = 0; i < 4; ++i) loop.poll();
    CHECK(got == "abc");
    watch.reset();
    pipe.put('d');
    for (int i = 0; i < 4; ++i) loop.poll();
    CHECK(got == "abc");
}

TEST_CASE("The loop runs the clock's timers on its thread, also one armed later and earlier") {
    std::mutex lock;
    EventLoop loop(lock);
    HostClock clock;
    std::string order;
    Timer late(clock, [&](VirtualTime) {
        order += 'b';
        loop.stop();
    });
    Timer early(clock, [&](VirtualTime) { order += 'a'; });
    loop.drive(clock);
    late.arm(clock.now() + std::chrono::milliseconds(60));
    std::thread thread([&] { loop.run(); });
    {
        const std::lock_guard hold(lock);
        early.arm(clock.now() + std::chrono::milliseconds(5));
    }
    thread.join();
    CHECK(order == "ab");
}

TEST_CASE("A deadline before the one that the loop sleeps for wakes it") {
    std::mutex lock;
    EventLoop loop(lock);
    HostClock clock;
    Timer late(clock, [](VirtualTime) {});
    Timer early(clock, [&](VirtualTime) { loop.stop(); });
    loop.drive(clock);
    late.arm(clock.now() + std::chrono::hours(1));
    loop.poll();  // now it sleeps for that
    early.arm(clock.now() + std::chrono::milliseconds(5));
    loop.run();  // would not come back for an hour
    CHECK(late.armed());
    CHECK_FALSE(early.armed());
}

TEST_CASE("A paused clock's timer keeps the loop from nothing, and fires after the pause") {
    std::mutex lock;
    EventLoop loop(lock);
    HostClock clock;
    int fired = 0;
    Timer timer(clock, [&](VirtualTime) { ++fired; });
    loop.drive(clock);
    {
        const std::lock_guard hold(lock);
        timer.arm(clock.now() + std::chrono::milliseconds(1));
    }
    loop.poll();
    clock.pause();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    loop.poll();  // used to look at the deadline that stays ahead for ever
    CHECK(fired == 0);
    clock.resume();
    loop.clock_changed();
    while (fired == 0) loop.wait();
    CHECK(fired == 1);
}
