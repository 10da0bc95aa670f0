#pragma once

#include <cstddef>
#include <cstdint>

/// What the decoder makes of guest code: blocks of instructions, each a handler with its operands worked out once.
namespace viv::soft {

struct Cpu;
struct Insn;
struct CodePage;

/// Executes one instruction and goes on with the next. With tail calls the whole rest of the block runs inside and
/// the result is null; without, the result is the instruction to run next, or null when the block was left.
using Handler = const Insn* (*)(Cpu&, const Insn*);

/// Byte offsets into Cpu::gpr: register n is at 8*n, AH..BH one above AL..BL.
constexpr uint8_t slot_zero = 16 * 8;  // always 0: an absent base or index
constexpr uint8_t slot_rip = 17 * 8;   // the RIP of the block's first instruction

enum InsnFlags : uint8_t {
    insn_checked = 1,  // segment limits and rights are to be checked
    insn_rep = 2,      // REP or REPE
    insn_repne = 4,
    insn_lock = 8,
    insn_memory = 16,  // has a memory operand
};

struct Insn {
    Handler handler = nullptr;
    uint8_t dst = 0;  // slots of the register operands
    uint8_t src = 0;
    uint8_t base = slot_zero;  // the memory operand: seg:[base + index * 2^scale + disp] & mask
    uint8_t index = slot_zero;
    uint8_t scale = 0;
    uint8_t seg = 0;
    uint8_t flags = 0;
    uint8_t length = 0;
    uint64_t imm = 0;
    int64_t disp = 0;
    uint64_t mask = ~uint64_t{0};  // of the address size; of the instruction pointer for direct branches
    uint16_t offset = 0;           // in bytes from the start of the block
    uint8_t size = 0;              // operand size in bytes
    uint8_t aux = 0;               // what else the handler needs
    uint32_t opcode = 0;           // x87: the opcode field
    const void* extra = nullptr;   // a native stub

    [[nodiscard]] bool has(InsnFlags flag) const { return (flags & flag) != 0; }
};

/// How a block was decoded; blocks of different flavours never mix.
struct Flavour {
    static constexpr uint8_t code_size_mask = 3;  // 0: 16 bits, 1: 32, 2: 64
    static constexpr uint8_t flat = 4;     // data segments need no checks, and the stack of 32-bit code has 32 bits
    static constexpr uint8_t user = 8;     // CPL 3
    static constexpr uint8_t single = 16;  // one instruction only
};

struct Block;

/// Where a direct branch went last time.
struct Link {
    /// Cpu::code_tag when it was made; at first one that 64-bit code, whose segment starts at 0, never has: host code
    /// does not ask for the address within a page.
    uint64_t tag = ~uint64_t{0};
    uint64_t rip = 0;
    Block* block = nullptr;
};

/// The way into a block for host code: what enter() does (handlers.hpp).
using Entrance = const Insn* (*)(Cpu&, Block*, uint64_t rip);
const Insn* enter_interpreted(Cpu& cpu, Block* block, uint64_t rip);
/// The same by way of a link of the current block, which goes there directly from now on if both are host code.
const Insn* enter_by_link(Cpu& cpu, Block* block, uint64_t rip, Link* link);

/// Straight-line code: up to the first branch, the page's end or an instruction that changes how code is decoded. The
/// instructions follow the header in memory. A guest's kernel runs through more blocks than the host's caches hold: so
/// host code that goes from block to block looks at one line of each, the second, which ends with the first handler.
struct Block {
    const uint8_t* host = nullptr;  // of the first byte
    CodePage* page = nullptr;
    CodePage* second_page = nullptr;  // when its only instruction crosses a page
    Block* hash_next = nullptr;
    uint32_t count = 0;  // instructions
    uint16_t bytes = 0;
    uint8_t room = 0;  // for so many instructions
    uint8_t flavour = 0;
    bool stale = false;
    // While it is counted how often it runs (jit.hpp): how often yet, and the handler of its first instruction.
    uint32_t heat = 0;
    uint32_t exits[2] = {};  // where the host code of each link goes on, for Jit::join(); 0: nowhere
    Handler interpreted = nullptr;
    Entrance entrance = enter_interpreted;
    Link links[2];

    [[nodiscard]] Insn* first() { return reinterpret_cast<Insn*>(this + 1); }
    [[nodiscard]] const Insn* first() const { return reinterpret_cast<const Insn*>(this + 1); }
};
static_assert(offsetof(Block, entrance) == 64 && sizeof(Block) + sizeof(Handler) == 128);

}  // namespace viv::soft
