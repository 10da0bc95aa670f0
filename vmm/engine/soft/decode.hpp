#pragma once

#include <Zydis/Zydis.h>

#include <optional>
#include <span>

#include "vmm/engine/soft/insn.hpp"

namespace viv::soft {

class SoftEngine;

/// One instruction as Zydis sees it.
struct Decoded {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

    [[nodiscard]] const ZydisDecodedOperand& op(unsigned n) const { return operands[n]; }
    [[nodiscard]] bool is_reg(unsigned n) const {
        return n < z.operand_count && operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER;
    }
    [[nodiscard]] bool is_mem(unsigned n) const {
        return n < z.operand_count && operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY;
    }
    [[nodiscard]] bool is_imm(unsigned n) const {
        return n < z.operand_count && operands[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    }
    [[nodiscard]] unsigned size(unsigned n) const { return operands[n].size / 8; }
};

/// How an instruction stands to the end of its block.
enum class Flow : uint8_t { goes_on, ends };

/// Decodes `bytes` for code of the given size (0: 16 bits, 1: 32, 2: 64); the status is Zydis's.
ZyanStatus decode(std::span<const uint8_t> bytes, uint8_t code_size, Decoded& out);

/// A block of the instruction at the start of `bytes`, which may be undefined (then decoded.z.length is 0), in nobody's
/// list; null when the instruction goes on beyond them.
Block* make_single_block(SoftEngine& engine, std::span<const uint8_t> bytes, uint8_t flavour, Decoded& decoded);
/// Copies the code at `rip` as far as it can be fetched; returns the count of bytes.
size_t fetch_code(Cpu& cpu, uint64_t rip, std::span<uint8_t> out);

/// Turns a decoded instruction at `offset` in its block into handler and operands. What the CPU model lacks becomes
/// #UD. `flavour` as in Flavour.
Flow translate_instruction(SoftEngine& engine, const Decoded& decoded, uint8_t flavour, uint16_t offset, Insn& out);

/// The slot of a general register (RSP, AH, R8D...).
uint8_t slot_of(ZydisRegister reg);
/// Fills the memory operand's fields.
void set_memory(const Decoded& decoded, const ZydisDecodedOperand& operand, uint8_t flavour, Insn& out);

/// What an instruction does instead when there are other CPUs: its own handler for locked instructions, fences,
/// serializing ones and PAUSE (among_others.cpp); null for all others.
Handler handler_among_others(const SoftEngine& engine, const Decoded& decoded);

/// x87, MMX, SSE, AVX and what else runs as the host's own instruction (translate_native.cpp); nothing when it is not
/// one of them.
std::optional<Flow> translate_native(SoftEngine& engine, const Decoded& decoded, uint8_t flavour, Insn& out);

}  // namespace viv::soft
