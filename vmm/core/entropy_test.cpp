#include "vmm/core/entropy.hpp"

#include <array>
#include <span>
#include <vector>

#include "vmm/core/catch.hpp"

using namespace viv;

TEST_CASE("Seeded bytes depend on seed and position alone") {
    std::array<std::byte, 100> whole{}, pieces{}, other{};
    SeededEntropy(7).fill(1000, whole);
    SeededEntropy source(7);
    source.fill(1000, std::span(pieces).first(33));
    source.fill(1033, std::span(pieces).subspan(33));
    CHECK(whole == pieces);
    SeededEntropy(8).fill(1000, other);
    CHECK(whole != other);
    // Every bit is seen both ways.
    std::byte ones{0}, zeros{0xFF};
    for (const std::byte byte : whole) ones |= byte, zeros &= byte;
    CHECK(ones == std::byte{0xFF});
    CHECK(zeros == std::byte{0});
}

TEST_CASE("The host's bytes differ from call to call") {
    std::array<std::byte, 32> one{}, other{};
    HostEntropy source;
    source.fill(0, one);
    source.fill(0, other);
    CHECK(one != other);
}
