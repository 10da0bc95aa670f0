#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

namespace viv {

/// A guest-physical address in bytes.
struct Gpa {
    uint64_t value = 0;
    constexpr auto operator<=>(const Gpa&) const = default;
    constexpr Gpa operator+(uint64_t bytes) const { return {value + bytes}; }
    constexpr uint64_t operator-(Gpa other) const { return value - other.value; }
};

/// The number of a virtual CPU, from 0 (the bootstrap processor).
struct VcpuId {
    uint32_t value = 0;
    constexpr auto operator<=>(const VcpuId&) const = default;
};

using Duration = std::chrono::nanoseconds;

/// A point of guest time: nanoseconds since power-on. It stands still while the machine is paused.
struct VirtualTime {
    int64_t ns = 0;
    constexpr auto operator<=>(const VirtualTime&) const = default;
    constexpr VirtualTime operator+(Duration d) const { return {ns + d.count()}; }
    constexpr VirtualTime operator-(Duration d) const { return {ns - d.count()}; }
    constexpr Duration operator-(VirtualTime other) const { return Duration{ns - other.ns}; }
};

/// Whole periods of a `hertz` oscillator within `ns` nanoseconds (ns >= 0); exact, rounded down.
constexpr uint64_t ticks_in(int64_t ns, uint64_t hertz) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>(static_cast<Wide>(ns) * hertz / 1'000'000'000u);
}

/// The first nanosecond at which `ticks` periods of a `hertz` oscillator have passed; exact, rounded up.
constexpr int64_t ns_of_ticks(uint64_t ticks, uint64_t hertz) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<int64_t>((static_cast<Wide>(ticks) * 1'000'000'000u + (hertz - 1)) / hertz);
}

}  // namespace viv
