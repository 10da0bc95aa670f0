#pragma once

#include <vector>

#include "vmm/engine/soft/host_registers.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/operations.hpp"

namespace viv::soft {

/// Host code of instructions that follow each other without a way in between them. It has the Cpu in RDI. The guest's
/// registers are always up to date in the Cpu; some of their values are also kept in host registers, so that most reads
/// cost nothing. RAX, RCX and RDX are free for each instruction; callee-saved registers are left alone, so that host
/// code and handlers follow each other by jumps.
class RowCompiler {
  public:
    RowCompiler(x86::Assembler& assembler, Block& block, const std::vector<Operation>& operations, uint32_t first,
                uint32_t end);
    /// All of them, and the way on; in front of the first one of a block also its entrance.
    void emit();
    /// Where the first one begins, behind the entrance.
    [[nodiscard]] const asmjit::Label& start() const { return start_; }
    /// A jump by a link of the block, and where its 32-bit distance is, which is anything yet.
    struct Exit {
        int link;
        asmjit::Label distance;
    };
    [[nodiscard]] const std::vector<Exit>& exits() const { return exits_; }

  private:
    using Label = asmjit::Label;
    using Id = x86::Inst::Id;
    struct HandOver {
        Label label;
        uint32_t insn;
    };

    // Flags. The host's are the guest's right after an instruction that sets them; Cpu::arith has them when somebody
    // may look there.

    /// Whether anything can see what instruction n makes of the flags.
    [[nodiscard]] bool flags_are_seen(uint32_t n) const;
    void save_flags();
    /// Destroys RAX.
    void load_flags();
    void load_carry();
    void keep_carry();
    /// Makes the host able to decide the condition; destroys RAX.
    x86::CondCode condition(uint8_t which);

    // Memory.

    /// Where the interpreter takes over in front of the present instruction.
    Label hand_over();
    /// `target` := the offset of the memory operand. Leaves the flags alone.
    void effective_address(const Insn& i, const Gp& target);
    /// RDX := the host address of what RDX is the linear address of; destroys RAX, RCX and the host's flags.
    void translate(unsigned size, Access access);
    /// Makes of the offset in RDX the linear address.
    void add_segment(uint8_t seg);
    /// RDX := the host address of the memory operand, as translate().
    void operand(const Insn& i, unsigned size, Access access);

    // Instructions.

    /// Both operands of a two-operand instruction: a register of the guest or memory at [RDX], a register or an
    /// immediate.
    void emit_two(Id id, const Insn& i, Form form, unsigned size);
    /// Host registers for all that the instruction names, before anything is computed in RAX, RCX or RDX.
    void read_registers(const Insn& i, const Operation& o);
    void address(const Insn& i, const Operation& o, Access access);
    void binary(const Insn& i, const Operation& o);
    void emit_one(Id id, const Insn& i, Form form, unsigned size);
    void unary(const Insn& i, const Operation& o);
    void shift(const Insn& i, const Operation& o);
    void mov(const Insn& i, const Operation& o);
    void load_immediate(const Gp& target, const Insn& i, unsigned size);
    void extend(const Insn& i, const Operation& o);
    void lea(const Insn& i, const Operation& o);
    void xchg(const Insn& i, const Operation& o);
    void cmov(const Insn& i, const Operation& o);
    void setcc(const Insn& i, const Operation& o);
    void bswap(const Insn& i, const Operation& o);
    void imul(const Insn& i, const Operation& o);
    /// BT and its like change CF alone.
    void bit(const Insn& i, const Operation& o);
    void push(const Insn& i, const Operation& o);
    void pop(const Insn& i, const Operation& o);
    /// Bytes that a PUSH or a CALL of this code moves.
    [[nodiscard]] int32_t slot_size() const { return code64_ ? 8 : 4; }
    /// RDX := the host address of a slot `distance` bytes above the top of the stack, as translate().
    void stack_place(int32_t distance, Access access);
    void move_stack(int32_t bytes);

    // Ways out of the block.

    static int32_t link_offset(int link);
    /// `to` := `distance` from the start of the block, within `mask`.
    void target(const Gp& to, uint64_t distance, uint64_t mask);
    [[nodiscard]] uint64_t rip_space() const;
    /// `label`, made when need be.
    const Label& exit_at(Label& label);
    [[nodiscard]] bool stays_on_page(uint64_t distance, uint64_t mask) const;
    /// To `distance` from the start of the block, within `mask`, by a link of the block (handlers.hpp: follow).
    void follow(int link, uint64_t distance, uint64_t mask);
    /// To RDX by the jump cache (handlers.hpp: jump).
    void jump();
    /// The Entrance of the block: Block in RSI, address in RDX.
    void emit_entrance();
    void go_to_handler(const Insn* insn);
    void jcc(const Insn& i, const Operation& o);
    /// The interpreter raises the fault of a branch to the non-canonical address in RDX. Destroys RCX.
    void check_canonical();
    /// Pushes the address of the next instruction.
    void push_return(const Insn& i);
    void call(const Insn& i);
    void indirect(const Insn& i, const Operation& o);
    void ret(const Insn& i);
    void instruction(const Insn& i, const Operation& o);

    x86::Assembler& a_;
    HostRegisters registers_;
    Block& block_;
    const std::vector<Operation>& operations_;
    const uint32_t first_, end_;
    const bool code64_;
    uint32_t n_ = 0;           // the instruction
    bool host_flags_ = false;  // the host's arithmetic flags are the guest's
    std::vector<HandOver> hand_overs_;
    std::vector<Exit> exits_;
    Label follow_slow_, jump_slow_;
    Label start_, over_, leave_;
};

inline bool fits(int64_t value) {
    return value == static_cast<int32_t>(value);
}
/// An immediate as instructions of this size have it: signed.
inline int64_t immediate(const Insn& i, unsigned size) {
    switch (size) {
        case 1: return static_cast<int8_t>(i.imm);
        case 2: return static_cast<int16_t>(i.imm);
        case 4: return static_cast<int32_t>(i.imm);
        default: return static_cast<int64_t>(i.imm);
    }
}
}  // namespace viv::soft
