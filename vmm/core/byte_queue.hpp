#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace viv {

/// A queue of up to N bytes as a state struct; N is small, so the front is always bytes[0]. Unused places are zero, so
/// that equal queues compare equal.
template <size_t N>
struct ByteQueue {
    std::array<uint8_t, N> bytes{};
    uint8_t size = 0;

    static void fields(auto& self, auto&& visit) {
        visit("bytes", self.bytes);
        visit("size", self.size);
    }
    bool operator==(const ByteQueue&) const = default;

    /// What a saved state must fulfil.
    [[nodiscard]] bool valid() const { return size <= N; }
    [[nodiscard]] bool empty() const { return size == 0; }
    [[nodiscard]] size_t room() const { return N - size; }
    /// False when full; the byte is not taken.
    bool push(uint8_t byte) {
        if (size == N) return false;
        bytes[size++] = byte;
        return true;
    }
    /// The oldest byte; only when not empty.
    uint8_t pop() {
        const uint8_t byte = bytes[0];
        std::copy(bytes.begin() + 1, bytes.begin() + size, bytes.begin());
        bytes[--size] = 0;
        return byte;
    }
    void clear() { *this = ByteQueue{}; }
};

}  // namespace viv
