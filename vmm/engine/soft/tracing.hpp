#pragma once

#include "vmm/engine/soft/interrupts.hpp"

namespace viv::soft {

/// For the trace of the engine, if there is one: the instruction at cpu.rip that is about to run, and an interrupt or
/// exception that is about to be delivered.
void trace_instruction(Cpu& cpu);
void trace_interrupt(Cpu& cpu, uint8_t vector, Source source, bool has_error, uint32_t error);

}  // namespace viv::soft
