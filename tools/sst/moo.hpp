#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/result.hpp"

/// Files of SingleStepTests in the MOO format (https://github.com/dbalsom/moo), as far as a comparison of instructions
/// needs them: what the buses did cycle by cycle is passed over.
namespace viv::sst {

/// In the order of the file's bit mask.
enum Register : uint8_t { AX, BX, CX, DX, CS, SS, DS, ES, SP, BP, SI, DI, IP, FLAGS, register_count };

struct MemoryByte {
    uint32_t address = 0;
    uint8_t value = 0;
};

struct Vector {
    uint32_t index = 0;
    std::string name;  // disassembly
    std::vector<uint8_t> bytes;
    std::array<uint16_t, register_count> initial{};
    std::array<uint16_t, register_count> expected{};
    std::vector<MemoryByte> initial_memory;
    std::vector<MemoryByte> expected_memory;  // what differs from `initial_memory`
    /// The file also says where FLAGS were pushed, but rounds down to even addresses.
    struct Exception {
        uint8_t number = 0;
    };
    std::optional<Exception> exception;
};

Result<std::vector<Vector>> read_moo(const std::string& path);

}  // namespace viv::sst
