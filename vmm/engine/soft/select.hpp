#pragma once

#include <cstdint>

#include "vmm/engine/soft/handlers.hpp"

namespace viv::soft {

/// The handler that `make` gives for an operand size of 1, 2, 4 or 8 bytes.
template <class Make>
Handler by_size(unsigned bytes, Make make) {
    switch (bytes) {
        case 1: return make.template operator()<uint8_t>();
        case 2: return make.template operator()<uint16_t>();
        case 4: return make.template operator()<uint32_t>();
        case 8: return make.template operator()<uint64_t>();
    }
    return nullptr;
}
/// As by_size(), for instructions without a form of one byte.
template <class Make>
Handler by_wide_size(unsigned bytes, Make make) {
    switch (bytes) {
        case 2: return make.template operator()<uint16_t>();
        case 4: return make.template operator()<uint32_t>();
        case 8: return make.template operator()<uint64_t>();
    }
    return nullptr;
}

/// Which operands an instruction has; `r` register, `m` memory, `i` immediate; the destination first.
enum class Form : uint8_t { rr, rm, mr, ri, mi, r, m };

/// The families of handlers, each in the file of its aspect. Null: no such combination.
enum class Binary : uint8_t { add, orr, adc, sbb, andd, sub, xorr, cmp, test };
Handler binary_handler(Binary operation, Form form, unsigned size);
enum class Unary : uint8_t { inc, dec, neg, nott };
Handler unary_handler(Unary operation, Form form, unsigned size);
enum class Shift : uint8_t { rol, ror, rcl, rcr, shl, shr, sal, sar };
enum class Count : uint8_t { immediate, cl };
Handler shift_handler(Shift operation, Form form, Count count, unsigned size);
enum class DoubleShift : uint8_t { left, right };
Handler double_shift_handler(DoubleShift direction, Form form, Count count, unsigned size);

Handler mov_handler(Form form, unsigned size);
/// MOVZX and MOVSX: from `from` bytes to `size`; `rr` or `rm`.
enum class Extend : uint8_t { zero, sign };
Handler extend_handler(Extend kind, Form form, unsigned from, unsigned size);
Handler lea_handler(unsigned size);
Handler xchg_handler(Form form, unsigned size);
Handler cmov_handler(unsigned condition, Form form, unsigned size);
Handler setcc_handler(unsigned condition, Form form);
Handler bswap_handler(unsigned size);

/// Pushes and pops of registers, memory and immediates.
Handler push_handler(Form form, unsigned size);
Handler pop_handler(Form form, unsigned size);

Handler jcc_handler(unsigned condition);
}  // namespace viv::soft
