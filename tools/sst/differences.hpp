#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/sst/moo.hpp"

namespace viv::sst {

/// What the software CPU made of a vector.
struct Outcome {
    std::array<uint16_t, register_count> registers{};
    struct Byte {
        uint32_t address = 0;
        uint8_t found = 0;
        uint8_t expected = 0;
    };
    std::vector<Byte> memory;  // where it is not as on the 80286
    bool halted = false;
    bool shutdown = false;
    std::optional<uint8_t> unexpected_exception;
};

/// Which instruction a file is about: "C1.4.MOO" is opcode C1h with 4 in the reg field; "0F01.2.MOO" is 0F 01 /2.
struct Opcode {
    uint16_t code = 0;
    uint8_t reg = 0;
};
Opcode opcode_of(const std::string& path);

/// What the vector wants a register to be before the HLT that ends it; FLAGS without what real mode masks there.
uint16_t expected_register(const Vector& vector, Register which);

inline constexpr std::string_view same = "same", unexplained_difference = "unexplained";

/// `same`, `unexplained_difference`, or the name under which docs/engines.md has the difference.
std::string_view classify(Opcode opcode, const Vector& vector, const Outcome& outcome);

}  // namespace viv::sst
