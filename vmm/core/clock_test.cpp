#include "vmm/core/clock.hpp"

#include <vector>

#include "vmm/core/catch.hpp"

using namespace viv;
using namespace std::chrono_literals;

TEST_CASE("Timers run in deadline order, equal ones in the order they were armed, each at its own time") {
    ManualClock clock;
    std::vector<std::pair<int, int64_t>> ran;
    Timer a(clock, [&](VirtualTime) { ran.emplace_back(1, clock.now().ns); });
    Timer b(clock, [&](VirtualTime) { ran.emplace_back(2, clock.now().ns); });
    Timer c(clock, [&](VirtualTime) { ran.emplace_back(3, clock.now().ns); });
    b.arm({200});
    a.arm({100});
    c.arm({200});
    clock.advance(150ns);
    CHECK(ran == std::vector<std::pair<int, int64_t>>{{1, 100}});
    clock.advance(50ns);
    CHECK(ran == std::vector<std::pair<int, int64_t>>{{1, 100}, {2, 200}, {3, 200}});
}

TEST_CASE("A periodic timer that arms from its deadline loses no time") {
    ManualClock clock;
    int ticks = 0;
    Timer* self = nullptr;
    Timer timer(clock, [&](VirtualTime deadline) {
        ++ticks;
        self->arm(deadline + 10ns);
    });
    self = &timer;
    timer.arm({10});
    clock.advance(1005ns);
    CHECK(ticks == 100);
}

TEST_CASE("A cancelled or destroyed timer does not run; arming again replaces") {
    ManualClock clock;
    int ran = 0;
    Timer timer(clock, [&](VirtualTime) { ++ran; });
    {
        Timer gone(clock, [&](VirtualTime) { ran += 100; });
        gone.arm({5});
    }
    timer.arm({5});
    timer.arm({50});
    CHECK(clock.next_deadline() == VirtualTime{50});
    clock.advance(20ns);
    CHECK(ran == 0);
    timer.cancel();
    CHECK_FALSE(timer.deadline());
    clock.advance(100ns);
    CHECK(ran == 0);
}

TEST_CASE("A timer that always fires at once cannot hold the machine") {
    ManualClock clock;
    Timer* self = nullptr;
    Timer timer(clock, [&](VirtualTime deadline) { self->arm(deadline); });
    self = &timer;
    timer.arm({0});
    CHECK_FALSE(clock.run_due(1000));
}

TEST_CASE("The listener hears of earlier deadlines only") {
    ManualClock clock;
    int heard = 0;
    clock.on_earlier_deadline([&] { ++heard; });
    Timer a(clock, [](VirtualTime) {});
    Timer b(clock, [](VirtualTime) {});
    a.arm({100});
    b.arm({200});
    CHECK(heard == 1);
    b.arm({50});
    CHECK(heard == 2);
}

TEST_CASE("Virtual time is exact over any split of the instructions") {
    VirtualClock one(7), many(7);
    one.retire(1'000'003);
    for (int i = 0; i < 1'000'003; ++i) many.retire(1);
    CHECK(one.now() == many.now());
    CHECK(one.now().ns == 1'000'003ll * 1000 / 7);
}

TEST_CASE("Retiring instructions_until(deadline) reaches the deadline and not a moment less does") {
    VirtualClock clock(3);
    clock.retire(5);
    const VirtualTime deadline{10'000};
    const uint64_t count = clock.instructions_until(deadline);
    clock.retire(count - 1);
    CHECK(clock.now() < deadline);
    clock.retire(1);
    CHECK(clock.now() >= deadline);
    CHECK(clock.instructions_until(deadline) == 0);
}

TEST_CASE("A halted machine skips to the next deadline, never backwards") {
    VirtualClock clock(100);
    clock.skip_to({5000});
    CHECK(clock.now().ns == 5000);
    clock.skip_to({10});
    CHECK(clock.now().ns == 5000);
}

TEST_CASE("Host time stands still while paused and goes on from there") {
    HostClock clock;
    clock.pause();
    const auto at = clock.now();
    CHECK(clock.now() == at);
    clock.set({123'456'789'000});
    clock.resume();
    CHECK(clock.now() >= VirtualTime{123'456'789'000});
    CHECK(clock.now() < VirtualTime{123'456'789'000 + 60'000'000'000});
}

TEST_CASE("Oscillator arithmetic is exact at the edges") {
    static_assert(ticks_in(1'000'000'000, 1193182) == 1193182);
    static_assert(ns_of_ticks(1193182, 1193182) == 1'000'000'000);
    static_assert(ticks_in(ns_of_ticks(1, 1193182), 1193182) == 1);
    static_assert(ticks_in(ns_of_ticks(1, 1193182) - 1, 1193182) == 0);
    for (uint64_t t : {3ull, 1'000'003ull, 987'654'321'987ull}) CHECK(ticks_in(ns_of_ticks(t, 1193182), 1193182) == t);
}
