// BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT, XADD CMPXCHG CMPXCHG8B CMPXCHG16B, MOVBE.
#include "vmm/engine/soft/bits.hpp"

#include <bit>

#include "vmm/engine/soft/flags.hpp"

namespace viv::soft {
namespace {

template <BitOp Op, class T>
T change_bit(T value, unsigned bit) {
    const T mask = static_cast<T>(T{1} << bit);
    if constexpr (Op == BitOp::set) return static_cast<T>(value | mask);
    if constexpr (Op == BitOp::reset) return static_cast<T>(value & ~mask);
    if constexpr (Op == BitOp::complement) return static_cast<T>(value ^ mask);
    return value;
}

void set_carry(Cpu& cpu, bool carry) {
    cpu.arith = static_cast<uint16_t>((cpu.arith & ~0x100u) | (carry ? 0x100u : 0u));
}

template <BitOp Op, class T, bool immediate>
const Insn* bit_r(Cpu& cpu, const Insn* i) {
    const auto bit = static_cast<unsigned>((immediate ? i->imm : cpu.reg<T>(i->src)) % (8 * sizeof(T)));
    const T value = cpu.reg<T>(i->dst);
    if constexpr (Op != BitOp::test) cpu.set_reg<T>(i->dst, change_bit<Op, T>(value, bit));
    set_carry(cpu, (value >> bit) & 1);
    return next(cpu, i);
}

// A bit number in a register reaches beyond the operand, in steps of the operand's size (SDM 2A, BT).
template <BitOp Op, class T, bool immediate>
const Insn* bit_m(Cpu& cpu, const Insn* i) {
    constexpr unsigned bits = 8 * sizeof(T);
    const T number = immediate ? static_cast<T>(i->imm) : cpu.reg<T>(i->src);
    uint64_t offset = effective_address(cpu, i);
    if constexpr (!immediate) {
        const auto index = static_cast<int64_t>(static_cast<std::make_signed_t<T>>(number));
        const int64_t step = index >> std::countr_zero(bits);
        offset = (offset + static_cast<uint64_t>(step * static_cast<int64_t>(sizeof(T)))) & i->mask;
    }
    const auto bit = static_cast<unsigned>(number % bits);
    if constexpr (Op == BitOp::test) {
        if (i->has(insn_checked)) check_segment<Access::read>(cpu, i, i->seg, offset, sizeof(T));
        const uint64_t linear = (offset + cpu.seg_base[i->seg]) & cpu.linear_mask;
        set_carry(cpu, (load<T>(cpu, i, linear, i->seg) >> bit) & 1);
    } else {
        if (i->has(insn_checked)) check_segment<Access::write>(cpu, i, i->seg, offset, sizeof(T));
        const uint64_t linear = (offset + cpu.seg_base[i->seg]) & cpu.linear_mask;
        modify<T>(cpu, i, linear, i->seg, [&](T value) {
            set_carry(cpu, (value >> bit) & 1);
            return change_bit<Op, T>(value, bit);
        });
    }
    return next(cpu, i);
}

template <BitOp Op>
Handler bit(Form form, unsigned size) {
    switch (form) {
        case Form::rr: return by_wide_size(size, []<class T>() -> Handler { return bit_r<Op, T, false>; });
        case Form::ri: return by_wide_size(size, []<class T>() -> Handler { return bit_r<Op, T, true>; });
        case Form::mr: return by_wide_size(size, []<class T>() -> Handler { return bit_m<Op, T, false>; });
        default: return by_wide_size(size, []<class T>() -> Handler { return bit_m<Op, T, true>; });
    }
}

// BSF and BSR of zero leave the destination unchanged and set only ZF, as all processors do.
struct Bsf {
    template <class T>
    static T run(T old, T value, uint16_t& flags) {
        uint16_t out = flags;
        asm("addb $0x7f, %%al\n\tsahf\n\tbsf %2, %0\n\tlahf\n\tseto %%al" : "+&r"(old), "+&a"(out) : "r"(value) : "cc");
        flags = out;
        return old;
    }
};
struct Bsr {
    template <class T>
    static T run(T old, T value, uint16_t& flags) {
        uint16_t out = flags;
        asm("addb $0x7f, %%al\n\tsahf\n\tbsr %2, %0\n\tlahf\n\tseto %%al" : "+&r"(old), "+&a"(out) : "r"(value) : "cc");
        flags = out;
        return old;
    }
};
// CF for a zero source, ZF for a zero result, the others undefined: cleared here.
struct Tzcnt {
    template <class T>
    static T run(T, T value, uint16_t& flags) {
        const auto count = static_cast<T>(std::countr_zero(value));
        flags = static_cast<uint16_t>(0x200 | (value == 0 ? 0x100 : 0) | (count == 0 ? 0x4000 : 0));
        return count;
    }
};
struct Lzcnt {
    template <class T>
    static T run(T, T value, uint16_t& flags) {
        const auto count = static_cast<T>(std::countl_zero(value));
        flags = static_cast<uint16_t>(0x200 | (value == 0 ? 0x100 : 0) | (count == 0 ? 0x4000 : 0));
        return count;
    }
};
struct Popcnt {
    template <class T>
    static T run(T, T value, uint16_t& flags) {
        flags = static_cast<uint16_t>(0x200 | (value == 0 ? 0x4000 : 0));
        return static_cast<T>(std::popcount(value));
    }
};

template <class Op, class T, Form F>
const Insn* scan(Cpu& cpu, const Insn* i) {
    const T value = F == Form::rr ? cpu.reg<T>(i->src) : load_operand<T>(cpu, i);
    const T old = cpu.reg<T>(i->dst);
    const T result = Op::template run<T>(old, value, cpu.arith);
    if constexpr (sizeof(T) == 4 && (std::is_same_v<Op, Bsf> || std::is_same_v<Op, Bsr>)) {
        // An unchanged destination keeps its upper half too.
        if (value == 0) return next(cpu, i);
    }
    cpu.set_reg<T>(i->dst, result);
    return next(cpu, i);
}
template <class Op>
Handler scan_of(Form form, unsigned size) {
    if (form == Form::rr) return by_wide_size(size, []<class T>() -> Handler { return scan<Op, T, Form::rr>; });
    return by_wide_size(size, []<class T>() -> Handler { return scan<Op, T, Form::rm>; });
}

template <class T>
const Insn* xadd_r(Cpu& cpu, const Insn* i) {
    const T left = cpu.reg<T>(i->dst);
    const T sum = Add::run<T>(left, cpu.reg<T>(i->src), cpu.arith);
    cpu.set_reg<T>(i->src, left);
    cpu.set_reg<T>(i->dst, sum);
    return next(cpu, i);
}
template <class T>
const Insn* xadd_m(Cpu& cpu, const Insn* i) {
    modify_operand<T>(cpu, i, [&](T left) {
        const T sum = Add::run<T>(left, cpu.reg<T>(i->src), cpu.arith);
        cpu.set_reg<T>(i->src, left);
        return sum;
    });
    return next(cpu, i);
}

template <class T>
const Insn* cmpxchg_r(Cpu& cpu, const Insn* i) {
    const T left = cpu.reg<T>(i->dst);
    const T accumulator = cpu.reg<T>(RAX * 8);
    Cmp::run<T>(accumulator, left, cpu.arith);
    if (accumulator == left) {
        cpu.set_reg<T>(i->dst, cpu.reg<T>(i->src));
    } else {
        cpu.set_reg<T>(RAX * 8, left);
    }
    return next(cpu, i);
}
template <class T>
const Insn* cmpxchg_m(Cpu& cpu, const Insn* i) {
    const T accumulator = cpu.reg<T>(RAX * 8);
    // Memory is written back even when the comparison fails (SDM 2A, CMPXCHG).
    modify_operand<T>(cpu, i, [&](T left) {
        Cmp::run<T>(accumulator, left, cpu.arith);
        if (accumulator == left) return cpu.reg<T>(i->src);
        cpu.set_reg<T>(RAX * 8, left);
        return left;
    });
    return next(cpu, i);
}

void set_zero(Cpu& cpu, bool zero) {
    cpu.arith = static_cast<uint16_t>((cpu.arith & ~0x4000u) | (zero ? 0x4000u : 0u));
}

template <class T>
void cmpxchg_pair(Cpu& cpu, const Insn& i) {
    const uint64_t linear = operand_address<Access::write>(cpu, &i, 2 * sizeof(T));
    if (sizeof(T) == 8 && (linear & 15)) raise_gp();
    probe_write(cpu, &i, linear, 2 * sizeof(T), i.seg);
    const uint64_t high_address = (linear + sizeof(T)) & cpu.linear_mask;
    const T low = load<T>(cpu, &i, linear, i.seg);
    const T high = load<T>(cpu, &i, high_address, i.seg);
    const bool equal = low == cpu.reg<T>(RAX * 8) && high == cpu.reg<T>(RDX * 8);
    store<T>(cpu, &i, linear, equal ? cpu.reg<T>(RBX * 8) : low, i.seg);
    store<T>(cpu, &i, high_address, equal ? cpu.reg<T>(RCX * 8) : high, i.seg);
    if (!equal) {
        cpu.set_reg<T>(RAX * 8, low);
        cpu.set_reg<T>(RDX * 8, high);
    }
    set_zero(cpu, equal);
}

template <class T>
const Insn* movbe_rm(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, std::byteswap(load_operand<T>(cpu, i)));
    return next(cpu, i);
}
template <class T>
const Insn* movbe_mr(Cpu& cpu, const Insn* i) {
    store_operand<T>(cpu, i, std::byteswap(cpu.reg<T>(i->src)));
    return next(cpu, i);
}

}  // namespace

Handler bit_handler(BitOp operation, Form form, unsigned size) {
    switch (operation) {
        case BitOp::test: return bit<BitOp::test>(form, size);
        case BitOp::set: return bit<BitOp::set>(form, size);
        case BitOp::reset: return bit<BitOp::reset>(form, size);
        case BitOp::complement: return bit<BitOp::complement>(form, size);
    }
    return nullptr;
}

Handler bit_scan_handler(BitScan operation, Form form, unsigned size) {
    switch (operation) {
        case BitScan::bsf: return scan_of<Bsf>(form, size);
        case BitScan::bsr: return scan_of<Bsr>(form, size);
        case BitScan::tzcnt: return scan_of<Tzcnt>(form, size);
        case BitScan::lzcnt: return scan_of<Lzcnt>(form, size);
        case BitScan::popcnt: return scan_of<Popcnt>(form, size);
    }
    return nullptr;
}

Handler xadd_handler(Form form, unsigned size) {
    if (form == Form::rr) return by_size(size, []<class T>() -> Handler { return xadd_r<T>; });
    return by_size(size, []<class T>() -> Handler { return xadd_m<T>; });
}

Handler cmpxchg_handler(Form form, unsigned size) {
    if (form == Form::rr) return by_size(size, []<class T>() -> Handler { return cmpxchg_r<T>; });
    return by_size(size, []<class T>() -> Handler { return cmpxchg_m<T>; });
}

void cmpxchg8b(Cpu& cpu, const Insn& i) {
    cmpxchg_pair<uint32_t>(cpu, i);
}

void cmpxchg16b(Cpu& cpu, const Insn& i) {
    cmpxchg_pair<uint64_t>(cpu, i);
}

Handler movbe_handler(Form form, unsigned size) {
    if (form == Form::rm) return by_wide_size(size, []<class T>() -> Handler { return movbe_rm<T>; });
    return by_wide_size(size, []<class T>() -> Handler { return movbe_mr<T>; });
}

}  // namespace viv::soft
