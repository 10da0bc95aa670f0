#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "vmm/engine/soft/decode.hpp"

/// All instructions there are, found by asking the decoder, and random instances of them.
namespace viv::soft_test {

enum class CodeSize : uint8_t { bits32, bits64 };

using Random = std::mt19937_64;

/// One encoding of an instruction, without what may vary: registers, addressing, displacement, immediates.
struct Form {
    ZydisMnemonic mnemonic{};
    std::vector<uint8_t> prefixes;  // 66h, F2h, F3h as far as they belong to it
    bool vex = false;
    bool wide = false;     // REX.W, VEX.W
    uint8_t vex_rest = 0;  // L and pp
    uint8_t map = 0;       // 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A
    uint8_t opcode = 0;
    bool has_modrm = false, memory = false;
    int reg = -1, rm = -1;  // the fields of ModRM that are part of the opcode
    bool free_vvvv = false;
};

/// The encodings of each mnemonic that the engine translates for ring 3 code of this size.
using Forms = std::map<ZydisMnemonic, std::vector<Form>>;
Forms find_forms(soft::SoftEngine& engine, CodeSize size);

/// Bytes of an instance, 15 of them; the instruction may be shorter. With few exceptions the decoder finds the same
/// mnemonic in them.
std::vector<uint8_t> make_instance(const Form& form, CodeSize size, Random& random);
/// Bytes that look like instructions and mostly are, in proportion to the opcode map.
std::vector<uint8_t> make_random_bytes(CodeSize size, Random& random);

bool decode_for(CodeSize size, const std::vector<uint8_t>& bytes, soft::Decoded& out);

}  // namespace viv::soft_test
