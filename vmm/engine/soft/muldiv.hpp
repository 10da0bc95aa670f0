#pragma once

#include "vmm/engine/soft/select.hpp"

namespace viv::soft {

/// MUL and one-operand IMUL of `size` bytes; the operand is src or memory.
Handler multiply_handler(bool is_signed, unsigned size);
/// IMUL with a destination register: rr or rm, with an immediate or without.
Handler imul_handler(Form form, bool immediate, unsigned size);
Handler divide_handler(bool is_signed, unsigned size);

void aaa(Cpu& cpu, const Insn& i);
void aas(Cpu& cpu, const Insn& i);
void aam(Cpu& cpu, const Insn& i);
void aad(Cpu& cpu, const Insn& i);
void daa(Cpu& cpu, const Insn& i);
void das(Cpu& cpu, const Insn& i);

}  // namespace viv::soft
