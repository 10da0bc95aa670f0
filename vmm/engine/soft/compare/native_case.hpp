#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

/// What the comparison and its child process share: a stretch of memory with a batch of cases.
namespace viv::soft_test {

/// What an instruction of ring 3 can read or change, outside of memory. Also how it ended.
struct CpuImage {
    std::array<uint64_t, 16> gpr{};
    uint64_t rip = 0;
    uint64_t rflags = 0x202;
    std::array<uint16_t, 6> selectors{};  // ES CS SS DS FS GS
    uint64_t fs_base = 0, gs_base = 0;
    uint32_t vector = 0;  // of the exception that ended it; 1 and 3 are the ends by step and by the INT3 behind it
    uint32_t error = 0;
    uint64_t cr2 = 0;
    alignas(64) std::array<uint8_t, 832> xsave{};  // x87, SSE, header, AVX
};

/// As Linux has them in the descriptor table.
constexpr uint16_t user_cs32 = 0x23, user_ss = 0x2B, user_cs64 = 0x33;

/// A batch and where its code and data are, in the child and for the software CPU alike.
struct Layout {
    static constexpr unsigned cases = 128;
    static constexpr uint64_t page = 0x1000;
    /// A slot of 64 bytes for the code of each case, in two pages; nothing is mapped behind them. The first bytes of a
    /// slot are for code that begins in the slot before.
    static constexpr uint64_t code_address = 0x10000000, code_size = 2 * page, code_slot = 64;
    /// For each case: a page that is not there, two pages of memory, one that is read-only, and nothing behind.
    static constexpr uint64_t data_address = 0x20000000, data_slot = 8 * page;
    static constexpr uint64_t data_offset = page, data_size = 2 * page, read_only_offset = 3 * page;

    static uint64_t code_of(unsigned n) { return code_address + n * code_slot + 16; }
    static uint64_t data_of(unsigned n) { return data_address + n * data_slot; }
};

/// The shared memory: this header, then code, the read-only page, and the data of each case.
struct SharedBatch {
    std::atomic<uint32_t> wanted{0};  // batches given to the child, and a futex
    std::atomic<uint32_t> done{0};    // batches it has executed, and a futex
    std::atomic<uint32_t> first{0};   // cases of this batch: from here up to `count`
    std::atomic<uint32_t> count{0};
    std::atomic<uint32_t> at{0};  // the case under way
    std::array<CpuImage, Layout::cases> in;
    std::array<CpuImage, Layout::cases> out;

    static constexpr size_t code_offset() { return (sizeof(SharedBatch) + 0xFFF) & ~size_t{0xFFF}; }
    static constexpr size_t read_only_offset() { return code_offset() + Layout::code_size; }
    static constexpr size_t data_offset(unsigned n) {
        return read_only_offset() + Layout::page + n * Layout::data_size;
    }
    static constexpr size_t size() { return data_offset(Layout::cases); }
};

}  // namespace viv::soft_test
