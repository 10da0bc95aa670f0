#include "vmm/boot/room.hpp"

#include "vmm/core/catch.hpp"

using namespace viv::boot;

namespace {

constexpr uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

Room room() {
    return Room({{0, 0x9F800, 1}, {0x9F800, 0x800, 2}, {mib, 15 * mib, 1}, {4 * gib, gib, 1}});
}

}  // namespace

TEST_CASE("Room is what the map calls usable, without the first page and what is above 4 GiB") {
    CHECK_FALSE(room().take(0, 16));
    CHECK_FALSE(room().take(0x9F000, 0x801));
    CHECK_FALSE(room().take(0x9F800, 1));
    CHECK_FALSE(room().take(4 * gib, 1));
    CHECK(room().take(0x1000, 0x9E800));
    CHECK(room().take(mib, 15 * mib));
    CHECK_FALSE(room().take(mib, 15 * mib + 1));
    CHECK_FALSE(room().take(2 * mib, ~uint64_t{0}));
}

TEST_CASE("Room is given away once") {
    Room all = room();
    CHECK(all.take(4 * mib, mib));
    CHECK_FALSE(all.take(5 * mib - 1, 1));
    CHECK_FALSE(all.take(3 * mib, mib + 1));
    CHECK(all.take(5 * mib, 11 * mib));
    CHECK(all.take(mib, 3 * mib));
    CHECK_FALSE(all.take_any(1, 1, mib).has_value());
}

TEST_CASE("Room is found at the lowest place that fits") {
    Room all = room();
    CHECK(all.take(mib, 10));
    CHECK(all.take_any(0x1000, 0x1000, mib) == mib + 0x1000);
    CHECK(all.take_any(16, 8, mib) == mib + 16);
    CHECK(all.take_any(64 * kib, 1, 0x98000) == mib + 0x2000);
    CHECK(all.take_any(0x1000, 0x1000, 0) == 0x1000);
    CHECK_FALSE(all.take_any(16 * mib, 1, 0).has_value());
}

TEST_CASE("Room joins stretches that touch, and bears lengths that overflow") {
    Room all({{0x1000, 0x1000, 1}, {0x2000, 0x1000, 1}, {mib, ~uint64_t{0}, 1}});
    CHECK(all.take(0x1800, 0x1000));
    CHECK(all.take(mib, 4 * gib - mib));
}
