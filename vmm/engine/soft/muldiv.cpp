// MUL IMUL DIV IDIV, and the decimal adjustments AAA AAS AAM AAD DAA DAS.
#include "vmm/engine/soft/muldiv.hpp"

#include "vmm/engine/soft/flags.hpp"

namespace viv::soft {
namespace {

constexpr uint8_t ax = RAX * 8, dx = RDX * 8;

template <class T>
T source(Cpu& cpu, const Insn& i) {
    return i.has(insn_memory) ? load_operand<T>(cpu, &i) : cpu.reg<T>(i.src);
}

// The manual leaves four flags undefined, and some processors do not change them: then they are to be what they always
// are, and not what the host did before. Hence the XOR.

/// RDX:RAX (AX for bytes) := RAX * operand, with the host's flags.
template <class T, bool is_signed>
void multiply(Cpu& cpu, const Insn& i) {
    const T right = source<T>(cpu, i);
    T low = cpu.reg<T>(ax), high = 0;
    uint16_t flags = 0;
    if constexpr (sizeof(T) == 1) {
        uint16_t wide = low;
        if constexpr (is_signed) {
            asm("xorl %%edx, %%edx\n\timulb %2\n\tmovw %%ax, %0\n\tlahf\n\tseto %%al"
                : "=&r"(wide), "=&a"(flags)
                : "r"(right), "1"(wide)
                : "cc", "edx");
        } else {
            asm("xorl %%edx, %%edx\n\tmulb %2\n\tmovw %%ax, %0\n\tlahf\n\tseto %%al"
                : "=&r"(wide), "=&a"(flags)
                : "r"(right), "1"(wide)
                : "cc", "edx");
        }
        cpu.set_reg<uint16_t>(ax, wide);
    } else {
        T a = low;
        uint64_t raw_flags = 0;
        if constexpr (is_signed) {
            asm("xorl %k2, %k2\n\timul %3\n\tpushfq\n\tpopq %2"
                : "+a"(a), "=&d"(high), "=&r"(raw_flags)
                : "r"(right)
                : "cc");
        } else {
            asm("xorl %k2, %k2\n\tmul %3\n\tpushfq\n\tpopq %2"
                : "+a"(a), "=&d"(high), "=&r"(raw_flags)
                : "r"(right)
                : "cc");
        }
        low = a;
        cpu.set_arithmetic_flags(static_cast<uint32_t>(raw_flags));
        cpu.set_reg<T>(ax, low);
        cpu.set_reg<T>(dx, high);
        return;
    }
    cpu.arith = flags;
}

struct Imul {
    template <class T>
    static T run(T a, T b, uint16_t& flags) {
        uint16_t out;
        asm("xorl %%eax, %%eax\n\timul %2, %0\n\tlahf\n\tseto %%al" : "+&r"(a), "=&a"(out) : "r"(b) : "cc");
        flags = out;
        return a;
    }
};

/// Two and three operands: dst := src or dst times immediate or memory.
template <class T>
const Insn* imul_rr(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, Imul::run<T>(cpu.reg<T>(i->dst), cpu.reg<T>(i->src), cpu.arith));
    return next(cpu, i);
}
template <class T>
const Insn* imul_rm(Cpu& cpu, const Insn* i) {
    const T right = load_operand<T>(cpu, i);
    cpu.set_reg<T>(i->dst, Imul::run<T>(cpu.reg<T>(i->dst), right, cpu.arith));
    return next(cpu, i);
}
template <class T>
const Insn* imul_rri(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, Imul::run<T>(cpu.reg<T>(i->src), static_cast<T>(i->imm), cpu.arith));
    return next(cpu, i);
}
template <class T>
const Insn* imul_rmi(Cpu& cpu, const Insn* i) {
    const T left = load_operand<T>(cpu, i);
    cpu.set_reg<T>(i->dst, Imul::run<T>(left, static_cast<T>(i->imm), cpu.arith));
    return next(cpu, i);
}

/// Flags stay as they were: the manual leaves them undefined, and so do recent processors.
template <class T, bool is_signed>
void divide(Cpu& cpu, const Insn& i) {
    __extension__ using Wide =
        std::conditional_t<sizeof(T) == 8, std::conditional_t<is_signed, __int128, unsigned __int128>,
                           std::conditional_t<is_signed, int64_t, uint64_t>>;
    __extension__ using Unsigned = std::conditional_t<sizeof(T) == 8, unsigned __int128, uint64_t>;
    using Signed = std::conditional_t<is_signed, std::make_signed_t<T>, T>;
    constexpr unsigned bits = 8 * sizeof(T);
    const auto divisor = static_cast<Signed>(source<T>(cpu, i));
    if (divisor == 0) raise(vector_de);
    Unsigned raw = 0;
    if constexpr (sizeof(T) == 1) {
        raw = cpu.reg<uint16_t>(ax);
    } else {
        raw = (static_cast<Unsigned>(cpu.reg<T>(dx)) << bits) | cpu.reg<T>(ax);
    }
    Wide dividend = static_cast<Wide>(raw);
    if constexpr (is_signed && sizeof(T) < 4) {
        // The double-width value sign-extended to 64 bits.
        dividend = static_cast<Wide>(raw << (64 - 2 * bits)) >> (64 - 2 * bits);
    }
    if constexpr (is_signed) {
        // The one quotient that the host's own division cannot give either.
        const Unsigned lowest = Unsigned{1} << (8 * sizeof(Unsigned) - 1);
        if (divisor == -1 && static_cast<Unsigned>(dividend) == lowest) raise(vector_de);
    }
    const Wide quotient = dividend / static_cast<Wide>(divisor);
    const Wide remainder = dividend % static_cast<Wide>(divisor);
    if (static_cast<Wide>(static_cast<Signed>(quotient)) != quotient) raise(vector_de);
    if constexpr (sizeof(T) == 1) {
        cpu.set_reg<uint8_t>(ax, static_cast<uint8_t>(quotient));
        cpu.set_reg<uint8_t>(ax + 1, static_cast<uint8_t>(remainder));
    } else {
        cpu.set_reg<T>(ax, static_cast<T>(quotient));
        cpu.set_reg<T>(dx, static_cast<T>(remainder));
    }
}

void set_result_flags(Cpu& cpu, uint8_t value, uint32_t others) {
    uint32_t flags = others;
    if (value == 0) flags |= flag_zf;
    if (value & 0x80) flags |= flag_sf;
    if (std::popcount(value) % 2 == 0) flags |= flag_pf;
    cpu.set_arithmetic_flags(flags);
}

}  // namespace

Handler multiply_handler(bool is_signed, unsigned size) {
    if (is_signed) return by_size(size, []<class T>() -> Handler { return simple<multiply<T, true>>; });
    return by_size(size, []<class T>() -> Handler { return simple<multiply<T, false>>; });
}

Handler imul_handler(Form form, bool immediate, unsigned size) {
    if (form == Form::rr && !immediate) return by_wide_size(size, []<class T>() -> Handler { return imul_rr<T>; });
    if (form == Form::rr) return by_wide_size(size, []<class T>() -> Handler { return imul_rri<T>; });
    if (!immediate) return by_wide_size(size, []<class T>() -> Handler { return imul_rm<T>; });
    return by_wide_size(size, []<class T>() -> Handler { return imul_rmi<T>; });
}

Handler divide_handler(bool is_signed, unsigned size) {
    if (is_signed) return by_size(size, []<class T>() -> Handler { return simple<divide<T, true>>; });
    return by_size(size, []<class T>() -> Handler { return simple<divide<T, false>>; });
}

// SDM 2A, the operation sections of each; the flags that the manual leaves undefined follow recent processors.
void aaa(Cpu& cpu, const Insn&) {
    const auto a = cpu.reg<uint16_t>(ax);
    const bool adjust = (a & 0xF) > 9 || (cpu.arithmetic_flags() & flag_af);
    const auto value = static_cast<uint16_t>((adjust ? a + 0x106 : a) & 0xFF0F);
    cpu.set_reg<uint16_t>(ax, value);
    set_result_flags(cpu, static_cast<uint8_t>(value), adjust ? flag_af | flag_cf : 0);
}

void aas(Cpu& cpu, const Insn&) {
    const auto a = cpu.reg<uint16_t>(ax);
    const bool adjust = (a & 0xF) > 9 || (cpu.arithmetic_flags() & flag_af);
    const auto value = static_cast<uint16_t>((adjust ? a - 0x106 : a) & 0xFF0F);
    cpu.set_reg<uint16_t>(ax, value);
    set_result_flags(cpu, static_cast<uint8_t>(value), adjust ? flag_af | flag_cf : 0);
}

void aam(Cpu& cpu, const Insn& i) {
    const auto base = static_cast<uint8_t>(i.imm);
    if (base == 0) raise(vector_de);
    const auto al = cpu.reg<uint8_t>(ax);
    cpu.set_reg<uint16_t>(ax, static_cast<uint16_t>((al / base) << 8 | al % base));
    set_result_flags(cpu, static_cast<uint8_t>(al % base), 0);
}

void aad(Cpu& cpu, const Insn& i) {
    const auto a = cpu.reg<uint16_t>(ax);
    const auto value = static_cast<uint8_t>((a & 0xFF) + (a >> 8) * i.imm);
    cpu.set_reg<uint16_t>(ax, value);
    set_result_flags(cpu, value, 0);
}

void daa(Cpu& cpu, const Insn&) {
    const auto old = cpu.reg<uint8_t>(ax);
    const uint32_t before = cpu.arithmetic_flags();
    uint8_t value = old;
    uint32_t flags = 0;
    if ((old & 0xF) > 9 || (before & flag_af)) {
        value = static_cast<uint8_t>(value + 6);
        flags |= flag_af;
    }
    if (old > 0x99 || (before & flag_cf)) {
        value = static_cast<uint8_t>(value + 0x60);
        flags |= flag_cf;
    }
    cpu.set_reg<uint8_t>(ax, value);
    set_result_flags(cpu, value, flags);
}

void das(Cpu& cpu, const Insn&) {
    const auto old = cpu.reg<uint8_t>(ax);
    const uint32_t before = cpu.arithmetic_flags();
    uint8_t value = old;
    uint32_t flags = 0;
    if ((old & 0xF) > 9 || (before & flag_af)) {
        if (old < 6 || (before & flag_cf)) flags |= flag_cf;
        value = static_cast<uint8_t>(value - 6);
        flags |= flag_af;
    }
    if (old > 0x99 || (before & flag_cf)) {
        value = static_cast<uint8_t>(value - 0x60);
        flags |= flag_cf;
    }
    cpu.set_reg<uint8_t>(ax, value);
    set_result_flags(cpu, value, flags);
}

}  // namespace viv::soft
