// ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT.
#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/select.hpp"

namespace viv::soft {
namespace {

template <class Op, class T>
const Insn* op_rr(Cpu& cpu, const Insn* i) {
    const T value = Op::template run<T>(cpu.reg<T>(i->dst), cpu.reg<T>(i->src), cpu.arith);
    if constexpr (Op::writes) cpu.set_reg<T>(i->dst, value);
    return next(cpu, i);
}
template <class Op, class T>
const Insn* op_ri(Cpu& cpu, const Insn* i) {
    const T value = Op::template run<T>(cpu.reg<T>(i->dst), static_cast<T>(i->imm), cpu.arith);
    if constexpr (Op::writes) cpu.set_reg<T>(i->dst, value);
    return next(cpu, i);
}
template <class Op, class T>
const Insn* op_rm(Cpu& cpu, const Insn* i) {
    const Loaded<T> right = try_load_operand<T>(cpu, i);
    if (!right.good) [[unlikely]]
        return faulted(cpu, i);
    const T value = Op::template run<T>(cpu.reg<T>(i->dst), right.value, cpu.arith);
    if constexpr (Op::writes) cpu.set_reg<T>(i->dst, value);
    return next(cpu, i);
}
/// False: the access faults.
template <class Op, class T>
inline bool to_memory(Cpu& cpu, const Insn* i, T right) {
    if constexpr (Op::writes) {
        return try_modify_operand<T>(cpu, i, [&](T left) { return Op::template run<T>(left, right, cpu.arith); });
    } else {
        const Loaded<T> left = try_load_operand<T>(cpu, i);
        if (left.good) Op::template run<T>(left.value, right, cpu.arith);
        return left.good;
    }
}
template <class Op, class T>
const Insn* op_mr(Cpu& cpu, const Insn* i) {
    if (!to_memory<Op, T>(cpu, i, cpu.reg<T>(i->src))) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}
template <class Op, class T>
const Insn* op_mi(Cpu& cpu, const Insn* i) {
    if (!to_memory<Op, T>(cpu, i, static_cast<T>(i->imm))) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}

template <class Op>
Handler binary(Form form, unsigned size) {
    switch (form) {
        case Form::rr: return by_size(size, []<class T>() -> Handler { return op_rr<Op, T>; });
        case Form::ri: return by_size(size, []<class T>() -> Handler { return op_ri<Op, T>; });
        case Form::rm: return by_size(size, []<class T>() -> Handler { return op_rm<Op, T>; });
        case Form::mr: return by_size(size, []<class T>() -> Handler { return op_mr<Op, T>; });
        case Form::mi: return by_size(size, []<class T>() -> Handler { return op_mi<Op, T>; });
        case Form::r:
        case Form::m: break;
    }
    return nullptr;
}

template <class Op, class T>
const Insn* op_r(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, Op::template run<T>(cpu.reg<T>(i->dst), cpu.arith));
    return next(cpu, i);
}
template <class Op, class T>
const Insn* op_m(Cpu& cpu, const Insn* i) {
    const bool good = try_modify_operand<T>(cpu, i, [&](T value) { return Op::template run<T>(value, cpu.arith); });
    if (!good) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}
template <class Op>
Handler unary(Form form, unsigned size) {
    if (form == Form::r) return by_size(size, []<class T>() -> Handler { return op_r<Op, T>; });
    return by_size(size, []<class T>() -> Handler { return op_m<Op, T>; });
}

}  // namespace

Handler binary_handler(Binary operation, Form form, unsigned size) {
    switch (operation) {
        case Binary::add: return binary<Add>(form, size);
        case Binary::orr: return binary<Or>(form, size);
        case Binary::adc: return binary<Adc>(form, size);
        case Binary::sbb: return binary<Sbb>(form, size);
        case Binary::andd: return binary<And>(form, size);
        case Binary::sub: return binary<Sub>(form, size);
        case Binary::xorr: return binary<Xor>(form, size);
        case Binary::cmp: return binary<Cmp>(form, size);
        case Binary::test: return binary<Test>(form, size);
    }
    return nullptr;
}

Handler unary_handler(Unary operation, Form form, unsigned size) {
    switch (operation) {
        case Unary::inc: return unary<Inc>(form, size);
        case Unary::dec: return unary<Dec>(form, size);
        case Unary::neg: return unary<Neg>(form, size);
        case Unary::nott: return unary<Not>(form, size);
    }
    return nullptr;
}

}  // namespace viv::soft
