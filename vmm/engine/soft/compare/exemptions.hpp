#pragma once

#include "vmm/engine/soft/compare/native_case.hpp"
#include "vmm/engine/soft/compare/random_state.hpp"

/// What is not compared, and why: what the manual leaves undefined, what processors do differently, and what answers
/// differently on every machine.
namespace viv::soft_test {

/// What of a result does not count.
struct Exempt {
    struct Bytes {
        uint64_t address;
        uint64_t size;
    };
    uint64_t flags = 0;         // bits of RFLAGS
    uint32_t registers = 0;     // general registers, a bit each
    uint32_t vectors = 0;       // vector registers, a bit each
    uint32_t mxcsr = 0;         // bits of MXCSR
    std::vector<Bytes> bytes;   // of memory
    bool memory = false;        // nothing in memory counts
    bool cr2 = false;           // CR2 does not count
    bool x87_pointers = false;  // FIP, FDP, FOP
    bool rip = false;
    bool all = false;
};

/// Reasons to leave out an instruction altogether: empty when it is compared.
const char* left_out(const Case& c, CodeSize size);
/// Instructions that are left out in all their forms.
bool is_left_out(ZydisMnemonic mnemonic);
/// What does not count in the results.
Exempt exempt(const Case& c, const CpuImage& in, const CpuImage& host, const CpuImage& soft);

}  // namespace viv::soft_test
