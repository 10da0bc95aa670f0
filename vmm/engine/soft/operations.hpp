#pragma once

#include <cstdint>

#include "vmm/engine/soft/select.hpp"

namespace viv::soft {

/// What a handler does, for those that the compiler makes host code of.
struct Operation {
    enum class Kind : uint8_t {
        none,
        nop,
        binary,
        unary,
        shift,
        mov,
        extend,
        lea,
        xchg,
        cmov,
        setcc,
        bswap,
        push,
        pop,
        imul,
        bit,
        jcc,
        jmp,
        call,
        jmp_indirect,
        call_indirect,
        ret,
        end_of_block
    };
    Kind kind = Kind::none;
    Form form = Form::rr;
    uint8_t size = 0;   // of the operands, in bytes
    uint8_t which = 0;  // the Binary, Unary, Shift, Extend, BitOp or condition
    uint8_t from = 0;   // extend: bytes of the source
    bool flag = false;  // shift: the count is in CL; imul: there is an immediate
};

/// Kind::none for a handler that it does not know.
Operation operation_of(Handler handler);

/// Whether one of the operands is memory; LEA only computes where it is.
inline bool has_memory_operand(Form form) {
    return form == Form::rm || form == Form::mr || form == Form::mi || form == Form::m;
}
/// Whether Insn::dst is a register that it reads or writes; and Insn::src.
inline bool has_register_destination(Form form) {
    return form == Form::rr || form == Form::rm || form == Form::ri || form == Form::r;
}
inline bool has_register_source(Form form) {
    return form == Form::rr || form == Form::mr;
}
inline bool rotates_through_carry(const Operation& o) {
    const auto which = static_cast<Shift>(o.which);
    return o.kind == Operation::Kind::shift && (which == Shift::rcl || which == Shift::rcr);
}
/// Whether control does not come to the instruction that follows.
inline bool ends_block(Operation::Kind kind) {
    using Kind = Operation::Kind;
    switch (kind) {
        case Kind::jcc:
        case Kind::jmp:
        case Kind::call:
        case Kind::jmp_indirect:
        case Kind::call_indirect:
        case Kind::ret:
        case Kind::end_of_block: return true;
        default: return false;
    }
}

}  // namespace viv::soft
