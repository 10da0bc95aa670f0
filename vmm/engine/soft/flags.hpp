#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "vmm/engine/soft/cpu.hpp"

/// Arithmetic under the guest's flags. The host has the same flags, so each operation is the host's own instruction
/// and its flags, the undefined ones included, are kept as LAHF and SETO give them (Cpu::arith).
namespace viv::soft {

/// The conditions of Jcc, SETcc and CMOVcc, in encoding order.
enum class Condition : uint8_t { o, no, b, nb, z, nz, be, nbe, s, ns, p, np, l, nl, le, nle };

template <Condition C>
inline bool holds(const Cpu& cpu) {
    const unsigned a = cpu.arith;
    constexpr auto positive = static_cast<Condition>(static_cast<unsigned>(C) & ~1u);
    bool value = false;
    if constexpr (positive == Condition::o) value = a & 1;
    if constexpr (positive == Condition::b) value = a & 0x100;
    if constexpr (positive == Condition::z) value = a & 0x4000;
    if constexpr (positive == Condition::be) value = a & 0x4100;
    if constexpr (positive == Condition::s) value = a & 0x8000;
    if constexpr (positive == Condition::p) value = a & 0x400;
    if constexpr (positive == Condition::l) value = ((a >> 15) ^ a) & 1;
    if constexpr (positive == Condition::le) value = (((a >> 15) ^ a) & 1) | (a & 0x4000);
    return value != (static_cast<unsigned>(C) & 1u);
}

// One struct an operation: run(a, b, flags) is the new value of a; `flags` is read where the operation does.
#define VIV_BINARY(Name, instruction)                                                               \
    struct Name {                                                                                   \
        static constexpr bool writes = true;                                                        \
        template <class T>                                                                          \
        static T run(T a, T b, uint16_t& flags) {                                                   \
            uint16_t out;                                                                           \
            asm(instruction " %2, %0\n\tlahf\n\tseto %%al" : "+&r"(a), "=&a"(out) : "r"(b) : "cc"); \
            flags = out;                                                                            \
            return a;                                                                               \
        }                                                                                           \
    }
#define VIV_BINARY_WITH_FLAGS(Name, instruction)                                          \
    struct Name {                                                                         \
        static constexpr bool writes = true;                                              \
        template <class T>                                                                \
        static T run(T a, T b, uint16_t& flags) {                                         \
            uint16_t f = flags;                                                           \
            asm("addb $0x7f, %%al\n\tsahf\n\t" instruction " %2, %0\n\tlahf\n\tseto %%al" \
                : "+&r"(a), "+&a"(f)                                                      \
                : "r"(b)                                                                  \
                : "cc");                                                                  \
            flags = f;                                                                    \
            return a;                                                                     \
        }                                                                                 \
    }
#define VIV_UNARY_WITH_FLAGS(Name, instruction)                                                                       \
    struct Name {                                                                                                     \
        template <class T>                                                                                            \
        static T run(T a, uint16_t& flags) {                                                                          \
            uint16_t f = flags;                                                                                       \
            asm("addb $0x7f, %%al\n\tsahf\n\t" instruction " %0\n\tlahf\n\tseto %%al" : "+&r"(a), "+&a"(f) : : "cc"); \
            flags = f;                                                                                                \
            return a;                                                                                                 \
        }                                                                                                             \
    }
// The count in CL. A count of zero leaves the flags as they were, which the host sees to.
#define VIV_SHIFT(Name, instruction)                                                        \
    struct Name {                                                                           \
        template <class T>                                                                  \
        static T run(T a, uint8_t count, uint16_t& flags) {                                 \
            uint16_t f = flags;                                                             \
            asm("addb $0x7f, %%al\n\tsahf\n\t" instruction " %%cl, %0\n\tlahf\n\tseto %%al" \
                : "+&r"(a), "+&a"(f)                                                        \
                : "c"(count)                                                                \
                : "cc");                                                                    \
            flags = f;                                                                      \
            return a;                                                                       \
        }                                                                                   \
    }

VIV_BINARY(Add, "add");
VIV_BINARY(Sub, "sub");
VIV_BINARY(And, "and");
VIV_BINARY(Or, "or");
VIV_BINARY(Xor, "xor");
VIV_BINARY_WITH_FLAGS(Adc, "adc");
VIV_BINARY_WITH_FLAGS(Sbb, "sbb");
VIV_UNARY_WITH_FLAGS(Inc, "inc");
VIV_UNARY_WITH_FLAGS(Dec, "dec");
VIV_UNARY_WITH_FLAGS(Neg, "neg");
VIV_SHIFT(Shl, "shl");
VIV_SHIFT(Shr, "shr");
VIV_SHIFT(Sar, "sar");
VIV_SHIFT(Rol, "rol");
VIV_SHIFT(Ror, "ror");
VIV_SHIFT(Rcl, "rcl");
VIV_SHIFT(Rcr, "rcr");

#undef VIV_BINARY
#undef VIV_BINARY_WITH_FLAGS
#undef VIV_UNARY_WITH_FLAGS
#undef VIV_SHIFT

struct Cmp {
    static constexpr bool writes = false;
    template <class T>
    static T run(T a, T b, uint16_t& flags) {
        uint16_t out;
        asm("cmp %2, %1\n\tlahf\n\tseto %%al" : "=&a"(out) : "r"(a), "r"(b) : "cc");
        flags = out;
        return a;
    }
};
struct Test {
    static constexpr bool writes = false;
    template <class T>
    static T run(T a, T b, uint16_t& flags) {
        uint16_t out;
        asm("test %2, %1\n\tlahf\n\tseto %%al" : "=&a"(out) : "r"(a), "r"(b) : "cc");
        flags = out;
        return a;
    }
};
struct Not {
    template <class T>
    static T run(T a, uint16_t&) {
        return static_cast<T>(~a);
    }
};

}  // namespace viv::soft
