#pragma once

#include <Zydis/Zydis.h>

#include "vmm/engine/soft/features.hpp"

namespace viv::soft {

/// Whether the CPU model has this instruction.
bool has_instruction(const CpuFeatureSet& features, const ZydisDecodedInstruction& z);

}  // namespace viv::soft
