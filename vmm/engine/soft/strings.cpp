// MOVS STOS LODS CMPS SCAS INS OUTS with their REP forms. Repeated ones run a page at a time where they can, and stop
// between iterations when something waits, with the registers of that iteration (SDM 2B, REP).
#include "vmm/engine/soft/strings.hpp"

#include <algorithm>

#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/host_call.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {

/// Adds to an index or count register in the address size.
void advance(Cpu& cpu, const Insn* i, Gpr index, int64_t by) {
    const uint64_t old = cpu.gpr[index];
    const uint64_t value = (old + static_cast<uint64_t>(by)) & i->mask;
    cpu.gpr[index] = i->mask == 0xFFFF ? (old & ~uint64_t{0xFFFF}) | value : value;
}

bool backwards(const Cpu& cpu) {
    return cpu.eflags & flag_df;
}
template <class T>
int64_t step(const Cpu& cpu) {
    return backwards(cpu) ? -static_cast<int64_t>(sizeof(T)) : static_cast<int64_t>(sizeof(T));
}

template <class T>
uint64_t source_address(Cpu& cpu, const Insn* i) {
    return segment_address<Access::read>(cpu, i, i->seg, cpu.gpr[RSI] & i->mask, sizeof(T));
}
template <class T, Access A>
uint64_t target_address(Cpu& cpu, const Insn* i) {
    return segment_address<A>(cpu, i, ES, cpu.gpr[RDI] & i->mask, sizeof(T));
}

/// How many elements from `offset` up stay in the page, in the address size and in the segment; 0 for none.
template <class T, Access A>
uint64_t straight(const Cpu& cpu, const Insn* i, uint8_t seg, uint64_t offset, uint64_t wanted) {
    uint64_t bytes = wanted * sizeof(T);
    const uint64_t linear = (offset + cpu.seg_base[seg]) & cpu.linear_mask;
    bytes = std::min(bytes, 0x1000 - (linear & 0xFFF));
    if (i->mask - offset < bytes) return 0;
    if (!cpu.code64) {
        const SegmentBounds& bounds = cpu.bounds[seg];
        const uint64_t high = A == Access::write ? bounds.write_high : bounds.read_high;
        const uint64_t low = A == Access::write ? bounds.write_low : bounds.low;
        if (offset < low || offset + bytes - 1 > high) return 0;
    }
    return bytes / sizeof(T);
}

/// The host's bytes of so many elements.
template <class Byte>
struct Run {
    Byte* bytes = nullptr;
    uint64_t count = 0;
};
/// Up to `wanted` elements to come at ES:DI, upwards; none when fewer than two can be reached directly.
template <class T>
Run<std::byte> target_run(Cpu& cpu, const Insn* i, uint64_t wanted) {
    if (backwards(cpu)) return {};
    const uint64_t to = cpu.gpr[RDI] & i->mask;
    const uint64_t count = straight<T, Access::write>(cpu, i, ES, to, wanted);
    if (count < 2) return {};
    const auto bytes = static_cast<unsigned>(count * sizeof(T));
    return {direct<Access::write>(cpu, (to + cpu.seg_base[ES]) & cpu.linear_mask, bytes), count};
}
/// The same at the source.
template <class T>
Run<const std::byte> source_run(Cpu& cpu, const Insn* i, uint64_t wanted) {
    if (backwards(cpu)) return {};
    const uint64_t from = cpu.gpr[RSI] & i->mask;
    const uint64_t count = straight<T, Access::read>(cpu, i, i->seg, from, wanted);
    if (count < 2) return {};
    const auto bytes = static_cast<unsigned>(count * sizeof(T));
    return {direct<Access::read>(cpu, (from + cpu.seg_base[i->seg]) & cpu.linear_mask, bytes), count};
}

/// Runs up to `count` iterations of a bulk form and returns how many; 0 when one has to go the careful way.
template <class T>
uint64_t bulk_movs(Cpu& cpu, const Insn* i, uint64_t count) {
    const Run<const std::byte> source = source_run<T>(cpu, i, count);
    if (!source.bytes) return 0;
    const Run<std::byte> target = target_run<T>(cpu, i, source.count);
    if (!target.bytes) return 0;
    count = target.count;
    const auto bytes = static_cast<unsigned>(count * sizeof(T));
    if (target.bytes > source.bytes && target.bytes < source.bytes + bytes) {
        // Each element may be read after an earlier one was written: that is how memory is filled with a pattern.
        for (uint64_t n = 0; n < bytes; n += sizeof(T)) poke<T>(target.bytes + n, peek<T>(source.bytes + n));
    } else {
        std::memmove(target.bytes, source.bytes, bytes);
    }
    advance(cpu, i, RSI, bytes);
    advance(cpu, i, RDI, bytes);
    return count;
}

template <class T>
uint64_t bulk_stos(Cpu& cpu, const Insn* i, uint64_t count) {
    const Run<std::byte> target = target_run<T>(cpu, i, count);
    if (!target.bytes) return 0;
    const T value = cpu.reg<T>(RAX * 8);
    for (uint64_t n = 0; n < target.count; ++n) poke<T>(target.bytes + n * sizeof(T), value);
    advance(cpu, i, RDI, static_cast<int64_t>(target.count * sizeof(T)));
    return target.count;
}

template <class T>
struct Movs {
    static constexpr bool compares = false;
    static uint64_t bulk(Cpu& cpu, const Insn* i, uint64_t count) { return bulk_movs<T>(cpu, i, count); }
    static void once(Cpu& cpu, const Insn* i) {
        const T value = load<T>(cpu, i, source_address<T>(cpu, i), i->seg);
        store<T>(cpu, i, target_address<T, Access::write>(cpu, i), value, ES);
        advance(cpu, i, RSI, step<T>(cpu));
        advance(cpu, i, RDI, step<T>(cpu));
    }
};
template <class T>
struct Stos {
    static constexpr bool compares = false;
    static uint64_t bulk(Cpu& cpu, const Insn* i, uint64_t count) { return bulk_stos<T>(cpu, i, count); }
    static void once(Cpu& cpu, const Insn* i) {
        store<T>(cpu, i, target_address<T, Access::write>(cpu, i), cpu.reg<T>(RAX * 8), ES);
        advance(cpu, i, RDI, step<T>(cpu));
    }
};
template <class T>
struct Lods {
    static constexpr bool compares = false;
    static uint64_t bulk(Cpu&, const Insn*, uint64_t) { return 0; }
    static void once(Cpu& cpu, const Insn* i) {
        cpu.set_reg<T>(RAX * 8, load<T>(cpu, i, source_address<T>(cpu, i), i->seg));
        advance(cpu, i, RSI, step<T>(cpu));
    }
};
template <class T>
struct Cmps {
    static constexpr bool compares = true;
    static uint64_t bulk(Cpu&, const Insn*, uint64_t) { return 0; }
    static void once(Cpu& cpu, const Insn* i) {
        const T left = load<T>(cpu, i, source_address<T>(cpu, i), i->seg);
        const T right = load<T>(cpu, i, target_address<T, Access::read>(cpu, i), ES);
        Cmp::run<T>(left, right, cpu.arith);
        advance(cpu, i, RSI, step<T>(cpu));
        advance(cpu, i, RDI, step<T>(cpu));
    }
};
template <class T>
struct Scas {
    static constexpr bool compares = true;
    static uint64_t bulk(Cpu&, const Insn*, uint64_t) { return 0; }
    static void once(Cpu& cpu, const Insn* i) {
        const T right = load<T>(cpu, i, target_address<T, Access::read>(cpu, i), ES);
        Cmp::run<T>(cpu.reg<T>(RAX * 8), right, cpu.arith);
        advance(cpu, i, RDI, step<T>(cpu));
    }
};
template <class T>
struct Ins {
    static constexpr bool compares = false;
    static uint64_t bulk(Cpu& cpu, const Insn* i, uint64_t count) {
        check_io(cpu, cpu.reg<uint16_t>(RDX * 8), sizeof(T));
        const Run<std::byte> target = target_run<T>(cpu, i, count);
        if (!target.bytes) return 0;
        const size_t bytes = target.count * sizeof(T);
        {
            const HostCall call(cpu);
            cpu.host->port_read_block(cpu.reg<uint16_t>(RDX * 8), sizeof(T), {target.bytes, bytes});
        }
        advance(cpu, i, RDI, static_cast<int64_t>(bytes));
        return target.count;
    }
    static void once(Cpu& cpu, const Insn* i) {
        const auto port = cpu.reg<uint16_t>(RDX * 8);
        check_io(cpu, port, sizeof(T));
        check_io_breakpoint(cpu, port, sizeof(T));
        const uint64_t linear = target_address<T, Access::write>(cpu, i);
        // What the port gives cannot be asked for twice.
        if (!direct<Access::write>(cpu, linear, sizeof(T))) probe_write(cpu, i, linear, sizeof(T), ES);
        T value = 0;
        {
            const HostCall call(cpu);
            value = static_cast<T>(cpu.host->port_read(port, sizeof(T)));
        }
        store<T>(cpu, i, linear, value, ES);
        advance(cpu, i, RDI, step<T>(cpu));
    }
};
template <class T>
struct Outs {
    static constexpr bool compares = false;
    static uint64_t bulk(Cpu& cpu, const Insn* i, uint64_t count) {
        check_io(cpu, cpu.reg<uint16_t>(RDX * 8), sizeof(T));
        const Run<const std::byte> source = source_run<T>(cpu, i, count);
        if (!source.bytes) return 0;
        const size_t bytes = source.count * sizeof(T);
        {
            const HostCall call(cpu);
            cpu.host->port_write_block(cpu.reg<uint16_t>(RDX * 8), sizeof(T), {source.bytes, bytes});
        }
        advance(cpu, i, RSI, static_cast<int64_t>(bytes));
        return source.count;
    }
    static void once(Cpu& cpu, const Insn* i) {
        const auto port = cpu.reg<uint16_t>(RDX * 8);
        check_io(cpu, port, sizeof(T));
        const T value = load<T>(cpu, i, source_address<T>(cpu, i), i->seg);
        check_io_breakpoint(cpu, port, sizeof(T));
        {
            const HostCall call(cpu);
            cpu.host->port_write(port, sizeof(T), value);
        }
        advance(cpu, i, RSI, step<T>(cpu));
    }
};

template <template <class> class Op, class T>
const Insn* single(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    Op<T>::once(cpu, i);
    return next(cpu, i);
}

template <template <class> class Op, class T>
const Insn* repeated(Cpu& cpu, const Insn* i) {
    cpu.at = i;
    // Single steps and breakpoints are those of iterations.
    const bool singly = (cpu.eflags & flag_tf) || (cpu.dr7 & 0xFF);
    while (true) {
        const uint64_t count = cpu.gpr[RCX] & i->mask;
        if (count == 0) break;
        uint64_t done = singly ? 0 : Op<T>::bulk(cpu, i, count);
        if (done == 0) {
            Op<T>::once(cpu, i);
            done = 1;
        }
        advance(cpu, i, RCX, -static_cast<int64_t>(done));
        if constexpr (Op<T>::compares) {
            if (holds<Condition::z>(cpu) == i->has(insn_repne)) break;
        }
        if (done == count) break;
        // Time passes with the amount of work, and interrupts come in between.
        cpu.remaining -= static_cast<int64_t>((done + 7) / 8);
        const bool interrupted = cpu.remaining <= 0 || cpu.attention.load(std::memory_order_relaxed);
        if (interrupted || cpu.block->stale || (cpu.block->flavour & Flavour::single)) {
            refund(cpu, i);
            return leave(cpu, cpu.current_rip());
        }
    }
    return next(cpu, i);
}

template <template <class> class Op, class T>
Handler pick(bool repeat) {
    return repeat ? repeated<Op, T> : single<Op, T>;
}

template <class T>
Handler pick(StringOp operation, bool repeat) {
    switch (operation) {
        case StringOp::movs: return pick<Movs, T>(repeat);
        case StringOp::stos: return pick<Stos, T>(repeat);
        case StringOp::lods: return pick<Lods, T>(repeat);
        case StringOp::cmps: return pick<Cmps, T>(repeat);
        case StringOp::scas: return pick<Scas, T>(repeat);
        case StringOp::ins: return pick<Ins, T>(repeat);
        case StringOp::outs: return pick<Outs, T>(repeat);
    }
    return nullptr;
}

}  // namespace

Handler string_handler(StringOp operation, unsigned size, bool repeat) {
    return by_size(size, [&]<class T>() -> Handler { return pick<T>(operation, repeat); });
}

}  // namespace viv::soft
