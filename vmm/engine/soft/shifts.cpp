// ROL ROR RCL RCR SHL SHR SAR, SHLD SHRD. Counts are masked as from the 80186 on (SDM 2B, SAL).
#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/select.hpp"

namespace viv::soft {
namespace {

template <Count C>
uint8_t count_of(const Cpu& cpu, const Insn* i) {
    return C == Count::cl ? cpu.reg<uint8_t>(RCX * 8) : static_cast<uint8_t>(i->imm);
}

template <class Op, class T, Count C>
const Insn* shift_r(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, Op::template run<T>(cpu.reg<T>(i->dst), count_of<C>(cpu, i), cpu.arith));
    return next(cpu, i);
}
template <class Op, class T, Count C>
const Insn* shift_m(Cpu& cpu, const Insn* i) {
    modify_operand<T>(cpu, i, [&](T value) { return Op::template run<T>(value, count_of<C>(cpu, i), cpu.arith); });
    return next(cpu, i);
}
template <class Op>
Handler shift(Form form, Count count, unsigned size) {
    if (form == Form::r && count == Count::cl)
        return by_size(size, []<class T>() -> Handler { return shift_r<Op, T, Count::cl>; });
    if (form == Form::r) return by_size(size, []<class T>() -> Handler { return shift_r<Op, T, Count::immediate>; });
    if (count == Count::cl) return by_size(size, []<class T>() -> Handler { return shift_m<Op, T, Count::cl>; });
    return by_size(size, []<class T>() -> Handler { return shift_m<Op, T, Count::immediate>; });
}

struct Shld {
    template <class T>
    static T run(T a, T b, uint8_t count, uint16_t& flags) {
        uint16_t f = flags;
        asm("addb $0x7f, %%al\n\tsahf\n\tshld %%cl, %2, %0\n\tlahf\n\tseto %%al"
            : "+&r"(a), "+&a"(f)
            : "r"(b), "c"(count)
            : "cc");
        flags = f;
        return a;
    }
};
struct Shrd {
    template <class T>
    static T run(T a, T b, uint8_t count, uint16_t& flags) {
        uint16_t f = flags;
        asm("addb $0x7f, %%al\n\tsahf\n\tshrd %%cl, %2, %0\n\tlahf\n\tseto %%al"
            : "+&r"(a), "+&a"(f)
            : "r"(b), "c"(count)
            : "cc");
        flags = f;
        return a;
    }
};

template <class Op, class T, Count C>
const Insn* double_r(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, Op::template run<T>(cpu.reg<T>(i->dst), cpu.reg<T>(i->src), count_of<C>(cpu, i), cpu.arith));
    return next(cpu, i);
}
template <class Op, class T, Count C>
const Insn* double_m(Cpu& cpu, const Insn* i) {
    modify_operand<T>(cpu, i, [&](T value) {
        return Op::template run<T>(value, cpu.reg<T>(i->src), count_of<C>(cpu, i), cpu.arith);
    });
    return next(cpu, i);
}
template <class Op>
Handler double_shift(Form form, Count count, unsigned size) {
    if (form == Form::rr && count == Count::cl)
        return by_wide_size(size, []<class T>() -> Handler { return double_r<Op, T, Count::cl>; });
    if (form == Form::rr)
        return by_wide_size(size, []<class T>() -> Handler { return double_r<Op, T, Count::immediate>; });
    if (count == Count::cl) return by_wide_size(size, []<class T>() -> Handler { return double_m<Op, T, Count::cl>; });
    return by_wide_size(size, []<class T>() -> Handler { return double_m<Op, T, Count::immediate>; });
}

}  // namespace

Handler shift_handler(Shift operation, Form form, Count count, unsigned size) {
    switch (operation) {
        case Shift::rol: return shift<Rol>(form, count, size);
        case Shift::ror: return shift<Ror>(form, count, size);
        case Shift::rcl: return shift<Rcl>(form, count, size);
        case Shift::rcr: return shift<Rcr>(form, count, size);
        case Shift::shl:
        case Shift::sal: return shift<Shl>(form, count, size);
        case Shift::shr: return shift<Shr>(form, count, size);
        case Shift::sar: return shift<Sar>(form, count, size);
    }
    return nullptr;
}

Handler double_shift_handler(DoubleShift direction, Form form, Count count, unsigned size) {
    if (direction == DoubleShift::left) return double_shift<Shld>(form, count, size);
    return double_shift<Shrd>(form, count, size);
}

}  // namespace viv::soft
