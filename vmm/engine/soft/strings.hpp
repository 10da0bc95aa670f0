#pragma once

#include "vmm/engine/soft/select.hpp"

namespace viv::soft {

enum class StringOp : uint8_t { movs, stos, lods, cmps, scas, ins, outs };
/// `mask` is that of the address size, `seg` the source segment; REP prefixes in `flags`.
Handler string_handler(StringOp operation, unsigned size, bool repeat);

}  // namespace viv::soft
