#pragma once

#include "vmm/engine/soft/select.hpp"

namespace viv::soft {

enum class BitOp : uint8_t { test, set, reset, complement };
/// BT BTS BTR BTC; the bit number from src or the immediate.
Handler bit_handler(BitOp operation, Form form, unsigned size);
enum class BitScan : uint8_t { bsf, bsr, tzcnt, lzcnt, popcnt };
Handler bit_scan_handler(BitScan operation, Form form, unsigned size);
/// XADD and CMPXCHG; `rr` or `mr`.
Handler xadd_handler(Form form, unsigned size);
Handler cmpxchg_handler(Form form, unsigned size);
void cmpxchg8b(Cpu& cpu, const Insn& i);
void cmpxchg16b(Cpu& cpu, const Insn& i);
Handler movbe_handler(Form form, unsigned size);

}  // namespace viv::soft
