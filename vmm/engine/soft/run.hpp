#pragma once

#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {

/// The block at `rip` in the CPU's present flavour, decoded when need be; null when the run loop has to look itself
/// (the fetch faults, or the code is not in memory of ours). Never throws.
Block* find_block(Cpu& cpu, uint64_t rip);
/// `known`, which was the block at `rip` once and may be gone, if it is that still as far as the TLB tells; null when
/// find_block() has to look. Never throws.
Block* find_again(Cpu& cpu, Block* known, uint64_t rip);
/// The block at cpu.rip of flavour `flavour`; throws what fetching the instruction throws.
Block* fetch_block(Cpu& cpu, uint64_t rip, uint8_t flavour);

/// Throws #DB when an enabled instruction breakpoint is at cpu.rip.
void check_code_breakpoint(Cpu& cpu);

/// Between the handlers' Cpu and the engines' common CpuState (state.cpp); not the local APIC.
CpuState save_cpu_state(Cpu& cpu);
void load_cpu_state(Cpu& cpu, const CpuState& state);
/// Refuses a state with what this CPU does not have.
Result<void> check_cpu_state(const Cpu& cpu, const CpuState& state);
/// Parts of it, while the CPU does not run: general, segment, control and debug registers, shadow and NMI mask; the
/// XSAVE image; MSRs, of which those that are not listed stay.
void save_registers(Cpu& cpu, CpuState& state);
void load_registers(Cpu& cpu, const CpuState& state);
std::vector<uint8_t> save_vectors(Cpu& cpu);
void load_vectors(Cpu& cpu, const std::vector<uint8_t>& image);
void load_msrs(Cpu& cpu, const std::vector<Msr>& msrs);

}  // namespace viv::soft
