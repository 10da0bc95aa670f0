#include "vmm/core/entropy.hpp"

#include <sys/random.h>

#include <cerrno>

#include "vmm/core/result.hpp"

namespace viv {
namespace {

/// The word of this number in the row that starts from `seed` (SplitMix64, Steele, Lea and Flood 2014).
uint64_t word_of(uint64_t seed, uint64_t number) {
    uint64_t word = seed + (number + 1) * 0x9E3779B97F4A7C15;
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9;
    word = (word ^ word >> 27) * 0x94D049BB133111EB;
    return word ^ word >> 31;
}

}  // namespace

void HostEntropy::fill(uint64_t /*position*/, std::span<std::byte> out) {
    while (!out.empty()) {
        const ssize_t got = getrandom(out.data(), out.size(), 0);
        // Nothing but a signal can come between, on any kernel that this runs on.
        VIV_ASSERT(got > 0 || errno == EINTR);
        if (got > 0) out = out.subspan(static_cast<size_t>(got));
    }
}

void SeededEntropy::fill(uint64_t position, std::span<std::byte> out) {
    for (std::byte& byte : out) {
        byte = static_cast<std::byte>(word_of(seed_, position / 8) >> (8 * (position % 8)));
        ++position;
    }
}

}  // namespace viv
