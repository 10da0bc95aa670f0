#include "tools/sst/differences.hpp"

#include <algorithm>
#include <cstdlib>

namespace viv::sst {
namespace {

constexpr uint16_t CF = 0x001, PF = 0x004, AF = 0x010, ZF = 0x040, SF = 0x080, OF = 0x800;
constexpr uint16_t high_flags = 0xF000;  // IOPL, NT and bit 15, which the 80286 keeps 0 in real mode

/// Flags that the manual leaves undefined after an instruction (Intel SDM 2, the descriptions; 80286 PRM, appendix B).
uint16_t undefined_flags(Opcode opcode, const Vector& vector) {
    const unsigned code = opcode.code, reg = opcode.reg;
    if (vector.exception && vector.exception->number == 0) return OF | SF | ZF | AF | PF | CF;
    const auto shift = [&](unsigned count, unsigned width) -> uint16_t {
        count &= 31;
        uint16_t flags = count == 1 ? 0 : OF;
        if (reg >= 4 && count) flags |= AF;
        if (reg >= 4 && reg != 7 && count >= width) flags |= CF;
        return flags;
    };
    const auto last = [&](size_t from_end) -> unsigned {
        return vector.bytes.size() > from_end ? vector.bytes[vector.bytes.size() - 1 - from_end] : 0;
    };
    const bool logic_row = code < 0x40 && (code & 7) < 6 && ((code >> 3) == 1 || (code >> 3) == 4 || (code >> 3) == 6);
    if (logic_row) return AF;
    switch (code) {
        case 0x27:
        case 0x2F: return OF;
        case 0x37:
        case 0x3F: return OF | SF | ZF | PF;
        case 0x69:
        case 0x6B: return SF | ZF | AF | PF;
        case 0x80:
        case 0x81:
        case 0x82:
        case 0x83: return reg == 1 || reg == 4 || reg == 6 ? AF : 0;
        case 0x84:
        case 0x85:
        case 0xA8:
        case 0xA9: return AF;
        case 0xC0: return shift(last(1), 8);  // the HLT follows the count
        case 0xC1: return shift(last(1), 16);
        case 0xD0: return shift(1, 8);
        case 0xD1: return shift(1, 16);
        case 0xD2: return shift(vector.initial[CX] & 0xFF, 8);
        case 0xD3: return shift(vector.initial[CX] & 0xFF, 16);
        case 0xD4:
        case 0xD5: return OF | AF | CF;
        case 0xF6:
        case 0xF7:
            if (reg <= 1) return AF;
            if (reg == 4 || reg == 5) return SF | ZF | AF | PF;
            if (reg >= 6) return OF | SF | ZF | AF | PF | CF;
            return 0;
        default: return 0;
    }
}

/// Where an exception has pushed IP, and CS and FLAGS behind it.
uint32_t pushed_at(const Vector& vector) {
    return (uint32_t{vector.expected[SS]} << 4) + vector.expected[SP];
}

/// Whether all is as expected when these flags may be anything, in the register and where an exception pushes them.
bool agrees(const Vector& vector, const Outcome& outcome, uint16_t free_flags) {
    for (unsigned i = 0; i < register_count; ++i) {
        const uint16_t care = i == FLAGS ? static_cast<uint16_t>(~free_flags) : 0xFFFF;
        if ((outcome.registers[i] ^ expected_register(vector, static_cast<Register>(i))) & care) return false;
    }
    return std::ranges::all_of(outcome.memory, [&](const Outcome::Byte& byte) {
        if (!vector.exception) return false;
        const uint32_t offset = byte.address - pushed_at(vector) - 4;
        if (offset > 1) return false;
        const auto free = static_cast<uint8_t>(free_flags >> (8 * offset));
        return ((byte.found ^ byte.expected) & ~free) == 0;
    });
}

bool has_lock_prefix(const Vector& vector) {
    for (const uint8_t byte : vector.bytes) {
        if (byte == 0xF0) return true;
        const bool prefix =
            byte == 0x26 || byte == 0x2E || byte == 0x36 || byte == 0x3E || byte == 0xF2 || byte == 0xF3;
        if (!prefix) return false;
    }
    return false;
}

/// Whether its form with memory may have a LOCK prefix (SDM 2A, "LOCK").
bool takes_lock(Opcode opcode) {
    const unsigned code = opcode.code, reg = opcode.reg;
    if (code < 0x38 && (code & 7) < 2) return true;
    if (code >= 0x80 && code <= 0x83) return reg != 7;
    if (code == 0x86 || code == 0x87) return true;
    if (code == 0xF6 || code == 0xF7) return reg == 2 || reg == 3;
    return (code == 0xFE || code == 0xFF) && reg < 2;
}

bool is_string_instruction(Opcode opcode) {
    const unsigned code = opcode.code;
    return (code >= 0x6C && code <= 0x6F) || (code >= 0xA4 && code <= 0xA7) || (code >= 0xAA && code <= 0xAF);
}

/// Whether nothing but these registers differs.
bool only_differ(const Vector& vector, const Outcome& outcome, std::initializer_list<Register> registers) {
    if (!outcome.memory.empty()) return false;
    for (unsigned i = 0; i < register_count; ++i) {
        const auto which = static_cast<Register>(i);
        const bool free = std::ranges::find(registers, which) != registers.end();
        if (!free && outcome.registers[i] != expected_register(vector, which)) return false;
    }
    return true;
}

/// A handful of vectors have SS where CS is pushed, for no reason that the manual knows.
bool pushes_ss_for_cs(const Vector& vector, const Outcome& outcome) {
    const uint32_t cs_at = pushed_at(vector) + 2;
    const auto is_ss = [&](const Outcome::Byte& byte) {
        const uint32_t offset = byte.address - cs_at;
        return offset <= 1 && byte.expected == static_cast<uint8_t>(vector.initial[SS] >> (8 * offset));
    };
    return !outcome.memory.empty() && std::ranges::all_of(outcome.memory, is_ss);
}

/// What the 80286 does otherwise than all its successors, by design.
std::string_view processor_difference(Opcode opcode, const Vector& vector, const Outcome& outcome) {
    constexpr size_t longest_on_80286 = 10, hlt = 1;
    const auto taken = outcome.unexpected_exception;
    const unsigned code = opcode.code, reg = opcode.reg;
    const bool far_pointer = code == 0xC4 || code == 0xC5 || (code == 0xFF && (reg == 3 || reg == 5));
    const bool has_4_bytes = code == 0x62 || far_pointer || (code >= 0xD8 && code <= 0xDF);
    if (has_lock_prefix(vector) && (taken == 6 || !takes_lock(opcode))) return "LOCK refused";
    if ((taken == 12 || taken == 13) && has_4_bytes) return "4 bytes across the end";
    if (taken == 0 && code == 0xF6 && reg == 7 && !vector.exception) return "IDIV overflow not seen";
    if (pushes_ss_for_cs(vector, outcome)) return "SS pushed for CS";
    if (vector.exception) {
        if (vector.exception->number == 13 && taken == 12) return "#SS, not #GP";
        if (vector.bytes.size() > longest_on_80286 + hlt) return "longer than 10 bytes";
        const bool names_segment = code == 0x8C || code == 0x8E;
        if (names_segment && vector.exception->number == 6) return "FS and GS";
        if (vector.exception->number == 13 && is_string_instruction(opcode) &&
            only_differ(vector, outcome, {CX, SI, DI}))
            return "string registers at a fault";
        if (vector.exception->number == 13 && taken == 6) return "#UD before #GP";
        const auto moved = static_cast<uint16_t>(vector.expected[SP] - outcome.registers[SP]);
        if (vector.exception->number == 13 && code == 0x8F && moved == 2) return "SP of POP at a fault";
    }
    return unexplained_difference;
}

}  // namespace

Opcode opcode_of(const std::string& path) {
    const std::string name = path.substr(path.find_last_of('/') + 1);
    char* end = nullptr;
    Opcode opcode;
    opcode.code = static_cast<uint16_t>(std::strtoul(name.c_str(), &end, 16));
    if (*end == '.' && end[1] >= '0' && end[1] <= '7') opcode.reg = static_cast<uint8_t>(end[1] - '0');
    return opcode;
}

uint16_t expected_register(const Vector& vector, Register which) {
    const uint16_t value = vector.expected[which];
    if (which == IP) return static_cast<uint16_t>(value - 1);
    if (which == FLAGS) return static_cast<uint16_t>((value & 0x0FFF) | 2);
    return value;
}

std::string_view classify(Opcode opcode, const Vector& vector, const Outcome& outcome) {
    if (outcome.shutdown) return unexplained_difference;
    if (agrees(vector, outcome, 0)) return same;
    if (agrees(vector, outcome, undefined_flags(opcode, vector))) return "undefined flags";
    if (agrees(vector, outcome, high_flags)) return "flags above bit 11";
    return processor_difference(opcode, vector, outcome);
}

}  // namespace viv::sst
