// What is different when other CPUs run meanwhile, or wait for their turn: LOCK, fences, serializing instructions,
// PAUSE (SDM 3A, 9.1.2 and 9.3).
#include <thread>

#include "vmm/engine/soft/bits.hpp"
#include "vmm/engine/soft/decode.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/select.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {

/// Read-modify-write as one access for all CPUs. `change` gets the old value and returns the new one; it may be called
/// several times, and must change nothing but the flags and what it changes each time.
template <class T, class Change>
void modify_locked(Cpu& cpu, const Insn* i, uint64_t linear, Change change) {
    if (std::byte* const at = locked_place(cpu, i, linear, sizeof(T), i->seg)) {
        using Shared [[gnu::may_alias]] = T;
        auto* const shared = reinterpret_cast<Shared*>(at);
        const uint16_t flags = cpu.arith;
        Shared old = __atomic_load_n(shared, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(shared, &old, change(old), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
            cpu.arith = flags;
        }
        return locked_done(cpu, linear, sizeof(T), at);
    }
    const auto plainly = [&] {
        const T old = static_cast<T>(load_slow(cpu, i, linear, sizeof(T), i->seg));
        store_slow(cpu, i, linear, sizeof(T), static_cast<uint64_t>(change(old)), i->seg);
    };
    // Across lines or pages all others stand still instead. Devices have no locked accesses.
    if (!is_ram(cpu, linear, sizeof(T))) return plainly();
    const Alone alone(cpu);
    plainly();
}

template <class T, class Change>
const Insn* modify_operand_locked(Cpu& cpu, const Insn* i, Change change) {
    cpu.at = i;
    modify_locked<T>(cpu, i, operand_address<Access::write>(cpu, i, sizeof(T)), change);
    return next(cpu, i);
}

template <class Op, class T, Form F>
const Insn* binary(Cpu& cpu, const Insn* i) {
    const T right = F == Form::mi ? static_cast<T>(i->imm) : cpu.reg<T>(i->src);
    return modify_operand_locked<T>(cpu, i, [&](T left) { return Op::template run<T>(left, right, cpu.arith); });
}
template <class Op>
Handler binary_of(bool immediate, unsigned size) {
    if (immediate) return by_size(size, []<class T>() -> Handler { return binary<Op, T, Form::mi>; });
    return by_size(size, []<class T>() -> Handler { return binary<Op, T, Form::mr>; });
}

template <class Op, class T>
const Insn* unary(Cpu& cpu, const Insn* i) {
    return modify_operand_locked<T>(cpu, i, [&](T value) { return Op::template run<T>(value, cpu.arith); });
}
template <class Op>
Handler unary_of(unsigned size) {
    return by_size(size, []<class T>() -> Handler { return unary<Op, T>; });
}

struct SetBit {
    template <class T>
    static T run(T value, T mask) {
        return static_cast<T>(value | mask);
    }
};
struct ResetBit {
    template <class T>
    static T run(T value, T mask) {
        return static_cast<T>(value & ~mask);
    }
};
struct ComplementBit {
    template <class T>
    static T run(T value, T mask) {
        return static_cast<T>(value ^ mask);
    }
};

// A bit number in a register reaches beyond the operand, as without LOCK.
template <class Op, class T, bool immediate>
const Insn* bit(Cpu& cpu, const Insn* i) {
    constexpr unsigned bits = 8 * sizeof(T);
    const T number = immediate ? static_cast<T>(i->imm) : cpu.reg<T>(i->src);
    uint64_t offset = effective_address(cpu, i);
    if constexpr (!immediate) {
        const auto index = static_cast<int64_t>(static_cast<std::make_signed_t<T>>(number));
        const int64_t step = index >> std::countr_zero(bits);
        offset = (offset + static_cast<uint64_t>(step * static_cast<int64_t>(sizeof(T)))) & i->mask;
    }
    cpu.at = i;
    if (i->has(insn_checked)) check_segment<Access::write>(cpu, i, i->seg, offset, sizeof(T));
    const uint64_t linear = (offset + cpu.seg_base[i->seg]) & cpu.linear_mask;
    const auto mask = static_cast<T>(T{1} << number % bits);
    modify_locked<T>(cpu, i, linear, [&](T value) {
        cpu.arith = static_cast<uint16_t>((cpu.arith & ~0x100u) | (value & mask ? 0x100u : 0u));
        return Op::template run<T>(value, mask);
    });
    return next(cpu, i);
}
template <class Op>
Handler bit_of(bool immediate, unsigned size) {
    if (immediate) return by_wide_size(size, []<class T>() -> Handler { return bit<Op, T, true>; });
    return by_wide_size(size, []<class T>() -> Handler { return bit<Op, T, false>; });
}

template <class T>
const Insn* xchg(Cpu& cpu, const Insn* i) {
    const T right = cpu.reg<T>(i->src);
    return modify_operand_locked<T>(cpu, i, [&](T left) {
        cpu.set_reg<T>(i->src, left);
        return right;
    });
}

template <class T>
const Insn* xadd(Cpu& cpu, const Insn* i) {
    const T right = cpu.reg<T>(i->src);
    return modify_operand_locked<T>(cpu, i, [&](T left) {
        cpu.set_reg<T>(i->src, left);
        return Add::run<T>(left, right, cpu.arith);
    });
}

// Memory is written back even when the comparison fails (SDM 2A, CMPXCHG).
template <class T>
const Insn* cmpxchg(Cpu& cpu, const Insn* i) {
    const T accumulator = cpu.reg<T>(RAX * 8);
    const T replacement = cpu.reg<T>(i->src);
    const uint64_t linear = operand_address<Access::write>(cpu, i, sizeof(T));
    T found{};
    cpu.at = i;
    modify_locked<T>(cpu, i, linear, [&](T left) {
        found = left;
        Cmp::run<T>(accumulator, left, cpu.arith);
        return accumulator == left ? replacement : left;
    });
    if (found != accumulator) cpu.set_reg<T>(RAX * 8, found);
    return next(cpu, i);
}

void set_zero(Cpu& cpu, bool zero) {
    cpu.arith = static_cast<uint16_t>((cpu.arith & ~0x4000u) | (zero ? 0x4000u : 0u));
}

const Insn* cmpxchg8b_locked(Cpu& cpu, const Insn* i) {
    const uint64_t accumulator = cpu.reg<uint32_t>(RAX * 8) | uint64_t{cpu.reg<uint32_t>(RDX * 8)} << 32;
    const uint64_t replacement = cpu.reg<uint32_t>(RBX * 8) | uint64_t{cpu.reg<uint32_t>(RCX * 8)} << 32;
    const uint64_t linear = operand_address<Access::write>(cpu, i, 8);
    uint64_t found = 0;
    cpu.at = i;
    modify_locked<uint64_t>(cpu, i, linear, [&](uint64_t left) {
        found = left;
        return left == accumulator ? replacement : left;
    });
    if (found != accumulator) {
        cpu.set_reg<uint32_t>(RAX * 8, static_cast<uint32_t>(found));
        cpu.set_reg<uint32_t>(RDX * 8, static_cast<uint32_t>(found >> 32));
    }
    set_zero(cpu, found == accumulator);
    return next(cpu, i);
}

const Insn* cmpxchg16b_locked(Cpu& cpu, const Insn* i) {
    const uint64_t linear = operand_address<Access::write>(cpu, i, 16);
    if (linear & 15) raise_gp();
    std::byte* const at = locked_place(cpu, i, linear, 16, i->seg);
    if (!at) {
        cmpxchg16b(cpu, *i);  // of a device
        return next(cpu, i);
    }
    bool equal = false;
    uint64_t low = cpu.gpr[RAX], high = cpu.gpr[RDX];
    asm volatile("lock cmpxchg16b (%[at])"
                 : "=@ccz"(equal), "+a"(low), "+d"(high)
                 : [at] "r"(at), "b"(cpu.gpr[RBX]), "c"(cpu.gpr[RCX])
                 : "memory");
    cpu.gpr[RAX] = low;
    cpu.gpr[RDX] = high;
    set_zero(cpu, equal);
    locked_done(cpu, linear, 16, at);
    return next(cpu, i);
}

Handler locked_handler(const Decoded& d) {
    const bool immediate = d.is_imm(1);
    const unsigned size = d.size(0);
    switch (d.z.mnemonic) {
        case ZYDIS_MNEMONIC_ADD: return binary_of<Add>(immediate, size);
        case ZYDIS_MNEMONIC_OR: return binary_of<Or>(immediate, size);
        case ZYDIS_MNEMONIC_ADC: return binary_of<Adc>(immediate, size);
        case ZYDIS_MNEMONIC_SBB: return binary_of<Sbb>(immediate, size);
        case ZYDIS_MNEMONIC_AND: return binary_of<And>(immediate, size);
        case ZYDIS_MNEMONIC_SUB: return binary_of<Sub>(immediate, size);
        case ZYDIS_MNEMONIC_XOR: return binary_of<Xor>(immediate, size);
        case ZYDIS_MNEMONIC_INC: return unary_of<Inc>(size);
        case ZYDIS_MNEMONIC_DEC: return unary_of<Dec>(size);
        case ZYDIS_MNEMONIC_NEG: return unary_of<Neg>(size);
        case ZYDIS_MNEMONIC_NOT: return unary_of<Not>(size);
        case ZYDIS_MNEMONIC_BTS: return bit_of<SetBit>(immediate, size);
        case ZYDIS_MNEMONIC_BTR: return bit_of<ResetBit>(immediate, size);
        case ZYDIS_MNEMONIC_BTC: return bit_of<ComplementBit>(immediate, size);
        case ZYDIS_MNEMONIC_XCHG: return by_size(size, []<class T>() -> Handler { return xchg<T>; });
        case ZYDIS_MNEMONIC_XADD: return by_size(size, []<class T>() -> Handler { return xadd<T>; });
        case ZYDIS_MNEMONIC_CMPXCHG: return by_size(size, []<class T>() -> Handler { return cmpxchg<T>; });
        case ZYDIS_MNEMONIC_CMPXCHG8B: return cmpxchg8b_locked;
        case ZYDIS_MNEMONIC_CMPXCHG16B: return cmpxchg16b_locked;
        default: return nullptr;
    }
}

/// Its stores before it are seen by all CPUs before what follows.
template <Semantics function>
void serialized(Cpu& cpu, const Insn& i) {
    function(cpu, i);
    host_fence();
}

Handler ordering_handler(const Decoded& d) {
    switch (d.z.mnemonic) {
        // Also what the host stored past its caches is then in the guest's order.
        case ZYDIS_MNEMONIC_MFENCE:
        case ZYDIS_MNEMONIC_SFENCE: return simple<serialized<nop>>;
        case ZYDIS_MNEMONIC_CPUID: return simple<serialized<cpuid_instruction>>;
        case ZYDIS_MNEMONIC_IRET:
        case ZYDIS_MNEMONIC_IRETD:
        case ZYDIS_MNEMONIC_IRETQ: return transfer<serialized<iret>>;
        case ZYDIS_MNEMONIC_INVLPG: return ending<serialized<invlpg>>;
        case ZYDIS_MNEMONIC_INVPCID: return ending<serialized<invpcid>>;
        case ZYDIS_MNEMONIC_WRMSR: return ending<serialized<wrmsr>>;
        case ZYDIS_MNEMONIC_WBINVD: return simple<serialized<wbinvd>>;
        case ZYDIS_MNEMONIC_MOV:
            if (d.is_reg(0) && ZydisRegisterGetClass(d.op(0).reg.value) == ZYDIS_REGCLASS_CONTROL)
                return ending<serialized<mov_to_cr>>;
            return nullptr;
        default: return nullptr;
    }
}

/// The hint of a loop that waits for another CPU. While CPUs take turns, the turn goes on to the next one; with threads
/// of their own, that CPU may be waiting for this processor of the host.
void pause(Cpu& cpu, const Insn&) {
    constexpr unsigned between_yields = 64;
    if (!cpu.engine->has_threads()) {
        cpu.yields = true;
        cpu.attention.store(true, std::memory_order_relaxed);
        return;
    }
    asm volatile("pause");
    if (++cpu.pauses % between_yields == 0) std::this_thread::yield();
}

}  // namespace

Handler handler_among_others(const SoftEngine& engine, const Decoded& d) {
    const bool exchange = d.z.mnemonic == ZYDIS_MNEMONIC_XCHG && (d.is_mem(0) || d.is_mem(1));
    if (d.z.mnemonic == ZYDIS_MNEMONIC_PAUSE && d.z.raw.rex.B == 0)
        return engine.cpu_count > 1 ? simple<pause> : nullptr;
    if (!engine.locks) return nullptr;
    if (exchange || (d.z.attributes & ZYDIS_ATTRIB_HAS_LOCK)) return locked_handler(d);
    return ordering_handler(d);
}

}  // namespace viv::soft
