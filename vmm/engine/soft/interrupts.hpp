#pragma once

#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {

enum class Source : uint8_t { software, exception, external };

/// Delivers through the IVT or IDT; cpu.rip is the address to return to. May throw a second fault, with nothing
/// changed.
void interrupt(Cpu& cpu, uint8_t vector, Source source, bool has_error = false, uint32_t error = 0);
/// Delivers an exception, and what goes wrong on the way: double fault, and shutdown on the third.
void deliver(Cpu& cpu, Fault fault, Source source = Source::exception);
/// INT n, INT3, INTO in all modes; cpu.rip is that of the next instruction.
enum class IntKind : uint8_t { int_n, int3, into, int1 };
void software_interrupt(Cpu& cpu, uint8_t vector, IntKind kind);
void interrupt_return(Cpu& cpu, unsigned size);
/// POPF and friends: which flags `value` may change at this privilege level.
void load_flags(Cpu& cpu, uint32_t value, unsigned size);

}  // namespace viv::soft
