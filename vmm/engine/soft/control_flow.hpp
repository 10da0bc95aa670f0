#pragma once

#include "vmm/engine/soft/select.hpp"

namespace viv::soft {

// Near branches. A direct target is imm, relative to the block's start; `mask` is that of the instruction pointer;
// `size` is the operand size, so what CALL pushes and RET pops.
Handler jcc_handler(unsigned condition);
const Insn* jmp_direct(Cpu& cpu, const Insn* i);
Handler call_direct_handler(unsigned size);
/// JMP and CALL through a register or memory; `r` or `m`.
Handler jmp_indirect_handler(Form form, unsigned size);
Handler call_indirect_handler(Form form, unsigned size);
/// RET, with imm bytes of arguments.
Handler ret_handler(unsigned size);
enum class LoopKind : uint8_t { loop, loope, loopne, jcxz };
/// aux: the address size in bytes, which decides between CX, ECX and RCX.
Handler loop_handler(LoopKind kind);

}  // namespace viv::soft
