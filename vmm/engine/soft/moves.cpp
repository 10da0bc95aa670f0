// MOV MOVZX MOVSX LEA XCHG CMOVcc SETcc BSWAP, PUSH POP of general operands.
#include <utility>

#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/select.hpp"

namespace viv::soft {
namespace {

template <class T>
const Insn* mov_rr(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, cpu.reg<T>(i->src));
    return next(cpu, i);
}
template <class T>
const Insn* mov_ri(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, static_cast<T>(i->imm));
    return next(cpu, i);
}
template <class T>
const Insn* mov_rm(Cpu& cpu, const Insn* i) {
    const Loaded<T> loaded = try_load_operand<T>(cpu, i);
    if (!loaded.good) [[unlikely]]
        return faulted(cpu, i);
    cpu.set_reg<T>(i->dst, loaded.value);
    return next(cpu, i);
}
template <class T>
const Insn* mov_mr(Cpu& cpu, const Insn* i) {
    if (!try_store_operand<T>(cpu, i, cpu.reg<T>(i->src))) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}
template <class T>
const Insn* mov_mi(Cpu& cpu, const Insn* i) {
    if (!try_store_operand<T>(cpu, i, static_cast<T>(i->imm))) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}

template <class From, class To, Form F>
const Insn* extend(Cpu& cpu, const Insn* i) {
    const Loaded<From> source =
        F == Form::rr ? Loaded<From>{cpu.reg<From>(i->src), true} : try_load_operand<From>(cpu, i);
    if (!source.good) [[unlikely]]
        return faulted(cpu, i);
    cpu.set_reg<std::make_unsigned_t<To>>(i->dst, static_cast<std::make_unsigned_t<To>>(static_cast<To>(source.value)));
    return next(cpu, i);
}
template <Form F, class From, Extend Kind>
Handler extend_to(unsigned size) {
    return by_wide_size(size, []<class T>() -> Handler {
        if constexpr (Kind == Extend::sign) {
            return extend<std::make_signed_t<From>, std::make_signed_t<T>, F>;
        } else {
            return extend<From, T, F>;
        }
    });
}
template <Form F, Extend Kind>
Handler extend_from(unsigned from, unsigned size) {
    switch (from) {
        case 1: return extend_to<F, uint8_t, Kind>(size);
        case 2: return extend_to<F, uint16_t, Kind>(size);
        case 4: return extend_to<F, uint32_t, Kind>(size);
    }
    return nullptr;
}

template <class T>
const Insn* lea(Cpu& cpu, const Insn* i) {
    cpu.set_reg<T>(i->dst, static_cast<T>(effective_address(cpu, i)));
    return next(cpu, i);
}

template <class T>
const Insn* xchg_rr(Cpu& cpu, const Insn* i) {
    const T left = cpu.reg<T>(i->dst);
    const T right = cpu.reg<T>(i->src);
    cpu.set_reg<T>(i->dst, right);
    cpu.set_reg<T>(i->src, left);
    return next(cpu, i);
}
template <class T>
const Insn* xchg_mr(Cpu& cpu, const Insn* i) {
    const T right = cpu.reg<T>(i->src);
    const bool good = try_modify_operand<T>(cpu, i, [&](T left) {
        cpu.set_reg<T>(i->src, left);
        return right;
    });
    if (!good) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}

// The load happens, and a 32-bit destination is zero-extended, whether the condition holds or not (SDM 2A, CMOVcc).
template <Condition C, class T, Form F>
const Insn* cmov(Cpu& cpu, const Insn* i) {
    const T value = F == Form::rr ? cpu.reg<T>(i->src) : load_operand<T>(cpu, i);
    cpu.set_reg<T>(i->dst, holds<C>(cpu) ? value : cpu.reg<T>(i->dst));
    return next(cpu, i);
}
template <Condition C, Form F>
const Insn* setcc(Cpu& cpu, const Insn* i) {
    const uint8_t value = holds<C>(cpu);
    if constexpr (F == Form::r) {
        cpu.set_reg<uint8_t>(i->dst, value);
    } else {
        store_operand<uint8_t>(cpu, i, value);
    }
    return next(cpu, i);
}
template <class Make>
Handler by_condition(unsigned condition, Make make) {
    Handler found = nullptr;
    [&]<size_t... index>(std::index_sequence<index...>) {
        ((condition == index ? void(found = make.template operator()<static_cast<Condition>(index)>()) : void()), ...);
    }
    (std::make_index_sequence<16>{});
    return found;
}

template <class T>
const Insn* bswap(Cpu& cpu, const Insn* i) {
    if constexpr (sizeof(T) == 2) {
        cpu.set_reg<T>(i->dst, 0);  // undefined by the manual; this is what processors do
    } else {
        cpu.set_reg<T>(i->dst, std::byteswap(cpu.reg<T>(i->dst)));
    }
    return next(cpu, i);
}

template <class T>
const Insn* push_r(Cpu& cpu, const Insn* i) {
    if (!try_push<T>(cpu, i, cpu.reg<T>(i->dst))) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}
template <class T>
const Insn* push_i(Cpu& cpu, const Insn* i) {
    if (!try_push<T>(cpu, i, static_cast<T>(i->imm))) [[unlikely]]
        return faulted(cpu, i);
    return next(cpu, i);
}
template <class T>
const Insn* push_m(Cpu& cpu, const Insn* i) {
    push<T>(cpu, i, load_operand<T>(cpu, i));
    return next(cpu, i);
}
template <class T>
const Insn* pop_r(Cpu& cpu, const Insn* i) {
    const Loaded<T> top = try_peek_stack<T>(cpu, i);
    if (!top.good) [[unlikely]]
        return faulted(cpu, i);
    drop_stack(cpu, sizeof(T));
    cpu.set_reg<T>(i->dst, top.value);
    return next(cpu, i);
}
// The address is that with RSP already incremented (SDM 2B, POP).
template <class T>
const Insn* pop_m(Cpu& cpu, const Insn* i) {
    const T value = peek_stack<T>(cpu, i);
    const uint64_t rsp = cpu.gpr[RSP];
    drop_stack(cpu, sizeof(T));
    cpu.at = i;
    try {
        store_operand<T>(cpu, i, value);
    } catch (const Fault&) {
        cpu.gpr[RSP] = rsp;
        throw;
    }
    return next(cpu, i);
}

}  // namespace

Handler mov_handler(Form form, unsigned size) {
    switch (form) {
        case Form::rr: return by_size(size, []<class T>() -> Handler { return mov_rr<T>; });
        case Form::ri: return by_size(size, []<class T>() -> Handler { return mov_ri<T>; });
        case Form::rm: return by_size(size, []<class T>() -> Handler { return mov_rm<T>; });
        case Form::mr: return by_size(size, []<class T>() -> Handler { return mov_mr<T>; });
        case Form::mi: return by_size(size, []<class T>() -> Handler { return mov_mi<T>; });
        case Form::r:
        case Form::m: break;
    }
    return nullptr;
}

Handler extend_handler(Extend kind, Form form, unsigned from, unsigned size) {
    if (kind == Extend::sign) {
        return form == Form::rr ? extend_from<Form::rr, Extend::sign>(from, size)
                                : extend_from<Form::rm, Extend::sign>(from, size);
    }
    return form == Form::rr ? extend_from<Form::rr, Extend::zero>(from, size)
                            : extend_from<Form::rm, Extend::zero>(from, size);
}

Handler lea_handler(unsigned size) {
    return by_wide_size(size, []<class T>() -> Handler { return lea<T>; });
}

Handler xchg_handler(Form form, unsigned size) {
    if (form == Form::rr) return by_size(size, []<class T>() -> Handler { return xchg_rr<T>; });
    return by_size(size, []<class T>() -> Handler { return xchg_mr<T>; });
}

Handler cmov_handler(unsigned condition, Form form, unsigned size) {
    return by_condition(condition, [&]<Condition C>() -> Handler {
        if (form == Form::rr) return by_wide_size(size, []<class T>() -> Handler { return cmov<C, T, Form::rr>; });
        return by_wide_size(size, []<class T>() -> Handler { return cmov<C, T, Form::rm>; });
    });
}

Handler setcc_handler(unsigned condition, Form form) {
    return by_condition(
        condition, [&]<Condition C>() -> Handler { return form == Form::r ? setcc<C, Form::r> : setcc<C, Form::m>; });
}

Handler bswap_handler(unsigned size) {
    return by_wide_size(size, []<class T>() -> Handler { return bswap<T>; });
}

Handler push_handler(Form form, unsigned size) {
    switch (form) {
        case Form::r: return by_wide_size(size, []<class T>() -> Handler { return push_r<T>; });
        case Form::m: return by_wide_size(size, []<class T>() -> Handler { return push_m<T>; });
        default: return by_wide_size(size, []<class T>() -> Handler { return push_i<T>; });
    }
}

Handler pop_handler(Form form, unsigned size) {
    if (form == Form::r) return by_wide_size(size, []<class T>() -> Handler { return pop_r<T>; });
    return by_wide_size(size, []<class T>() -> Handler { return pop_m<T>; });
}

}  // namespace viv::soft
