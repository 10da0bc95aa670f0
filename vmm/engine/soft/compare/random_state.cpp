#include "vmm/engine/soft/compare/random_state.hpp"

#include <algorithm>
#include <cstring>

#include "vmm/engine/cpu_state.hpp"

namespace viv::soft_test {
namespace {

constexpr size_t pool_size = 1 << 17;

/// Selectors that mean something: user segments under both privilege levels, the kernel's, its TSS, and two of the LDT,
/// which is not there.
constexpr uint16_t user_selectors[12] = {0, 1, user_cs32, user_cs64, user_ss, 0x20, 0x28, 0x10, 0x18, 0x40, 0x53, 7};

template <class T>
void put(std::span<uint8_t> to, size_t at, T value) {
    if (at + sizeof value <= to.size()) std::memcpy(to.data() + at, &value, sizeof value);
}

bool is_general(ZydisRegister reg) {
    return reg != ZYDIS_REGISTER_NONE && ZydisRegisterGetClass(reg) != ZYDIS_REGCLASS_IP;
}
unsigned number_of(ZydisRegister reg) {
    return static_cast<unsigned>(ZydisRegisterGetId(reg));
}

/// What the operand needs of its address.
unsigned alignment_of(const soft::Decoded& d, unsigned size) {
    switch (d.z.meta.category) {
        case ZYDIS_CATEGORY_XSAVE:
        case ZYDIS_CATEGORY_XSAVEOPT: return 64;
        default: break;
    }
    if (size >= 512) return 16;
    return std::clamp(size, 1u, 32u);
}

}  // namespace

std::optional<uint64_t> operand_address(const Case& c, const CpuImage& in) {
    const soft::Decoded& d = c.decoded;
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        const auto& mem = d.op(n).mem;
        if (!d.is_mem(n) || d.op(n).visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) continue;
        uint64_t offset = mem.disp.has_displacement ? static_cast<uint64_t>(mem.disp.value) : 0;
        if (ZydisRegisterGetClass(mem.base) == ZYDIS_REGCLASS_IP) {
            offset += in.rip + d.z.length;
        } else if (mem.base != ZYDIS_REGISTER_NONE) {
            offset += in.gpr[number_of(mem.base)];
        }
        const bool vector_index = mem.index >= ZYDIS_REGISTER_XMM0 && mem.index <= ZYDIS_REGISTER_YMM31;
        if (mem.index != ZYDIS_REGISTER_NONE && !vector_index) offset += in.gpr[number_of(mem.index)] * mem.scale;
        if (d.z.address_width != 64) offset &= (uint64_t{1} << d.z.address_width) - 1;
        if (mem.segment == ZYDIS_REGISTER_FS) offset += in.fs_base;
        if (mem.segment == ZYDIS_REGISTER_GS) offset += in.gs_base;
        return c.size == CodeSize::bits64 ? offset : offset & 0xFFFFFFFF;
    }
    return std::nullopt;
}

StateMaker::StateMaker(Random& random) : random_(random), pool_(pool_size) {
    fill(pool_);
}

void StateMaker::fill(std::span<uint8_t> bytes) {
    for (size_t at = 0; at + 8 <= bytes.size(); at += 8) put(bytes, at, one_in(4) ? number(8) : value());
}

uint64_t StateMaker::value() {
    switch (random_() % 8) {
        case 0: return random_() % 256;
        case 1: return ~(random_() % 256);
        case 2: return uint64_t{1} << (random_() % 64);
        case 3: return (uint64_t{1} << (random_() % 64)) - 1;
        case 4: return static_cast<uint32_t>(random_());
        default: return random_();
    }
}

/// A floating point number (a pair of them in 8 bytes) of ordinary size, or an infinity, NaN, zero or denormal.
uint64_t StateMaker::number(unsigned size) {
    const double scaled = (static_cast<double>(static_cast<int64_t>(random_() % 2000)) - 1000) / 16;
    const auto single = static_cast<float>(scaled);
    uint32_t bits32 = 0;
    uint64_t bits64 = 0;
    std::memcpy(&bits32, &single, 4);
    std::memcpy(&bits64, &scaled, 8);
    if (one_in(8)) {
        static constexpr uint32_t odd32[] = {0,          0x80000000, 0x7F800000, 0xFF800000,
                                             0x7FC00000, 0x7F800001, 1,          0x7F7FFFFF};
        static constexpr uint64_t odd64[] = {
            0, 1ull << 63,        0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001,
            1, 0x7FEFFFFFFFFFFFFF};
        const unsigned n = random_() % 8;
        bits32 = odd32[n];
        bits64 = odd64[n];
    }
    if (size == 4) return bits32;
    return one_in(2) ? bits64 : uint64_t{bits32} << 32 | bits32;
}

void StateMaker::registers(const Case& c, CpuImage& in) {
    const uint64_t slot = Layout::data_of(c.slot) + Layout::data_offset;
    for (unsigned n = 0; n < 16; ++n) {
        in.gpr[n] = one_in(2) ? slot + random_() % Layout::data_size : value();
        if (c.size == CodeSize::bits32) in.gpr[n] = n < 8 ? static_cast<uint32_t>(in.gpr[n]) : 0;
    }
    in.rflags = 0x202 | (static_cast<uint32_t>(random_()) & 0x8D5) | (one_in(8) ? 0x400u : 0u);
    if (one_in(32)) in.rflags |= 0x40000;  // alignment checks
    const uint16_t code = c.size == CodeSize::bits64 ? user_cs64 : user_cs32;
    in.selectors = {user_ss, code, user_ss, user_ss, 0, 0};
    in.fs_base = in.gs_base = 0;
    if (c.size == CodeSize::bits64) {
        in.fs_base = one_in(2) ? slot : value() >> 17;
        in.gs_base = one_in(2) ? 0x1000 : slot;
    }
}

void StateMaker::floating_point(CpuImage& in, CodeSize size) {
    auto& x = in.xsave;
    x.fill(0);
    uint16_t control = 0x37F;
    if (one_in(4)) control = static_cast<uint16_t>(0x7F | (random_() & 0xF00));
    if (one_in(6)) control = static_cast<uint16_t>(0x40 | (random_() & 0xF3F));
    auto status = static_cast<uint16_t>((random_() % 8) << 11 | (random_() & 0x4700));
    if (one_in(8)) status = static_cast<uint16_t>(status | (random_() & 0x7F));
    if (status & ~control & 0x3F) status |= 0x8080;
    put<uint16_t>(x, 0, control);
    put<uint16_t>(x, 2, status);
    put<uint8_t>(x, 4, static_cast<uint8_t>(one_in(4) ? random_() : 0xFF));
    put<uint64_t>(x, 8, Layout::code_address + random_() % 0x1000);
    put<uint64_t>(x, 16, Layout::data_address + random_() % 0x1000);
    uint32_t mxcsr = 0x1F80;
    if (one_in(4)) mxcsr |= static_cast<uint32_t>(random_()) & 0xE040;
    if (one_in(12)) mxcsr = static_cast<uint32_t>(random_()) & 0xFFC0;
    if (one_in(8)) mxcsr |= static_cast<uint32_t>(random_()) & 0x3F;
    put<uint32_t>(x, 24, mxcsr);
    put<uint32_t>(x, 28, 0xFFFF);
    for (unsigned n = 0; n < 8; ++n) {
        const bool real = !one_in(4);
        put<uint64_t>(x, 32 + 16 * n, real ? random_() | uint64_t{1} << 63 : value());
        put<uint16_t>(x, 40 + 16 * n,
                      static_cast<uint16_t>(real ? 0x3FF0 + random_() % 32 + (random_() % 2) * 0x8000 : random_()));
        if (one_in(8)) {  // zeros, infinities, NaNs, denormals
            static constexpr uint64_t significands[] = {0, 1ull << 63, 3ull << 62, 1};
            put<uint64_t>(x, 32 + 16 * n, significands[random_() % 4]);
            put<uint16_t>(x, 40 + 16 * n, static_cast<uint16_t>((one_in(2) ? 0x7FFF : 0) | (random_() & 0x8000)));
        }
    }
    for (unsigned n = 0; n < (size == CodeSize::bits64 ? 16 : 8); ++n) {
        for (const size_t base : {size_t{160}, size_t{168}, size_t{576}, size_t{584}}) {
            put<uint64_t>(x, base + 16 * n, one_in(2) ? number(8) : value());
        }
    }
    put<uint64_t>(x, 512, 7);
}

/// An address in the memory of the case: most of them good, some over the edges of what may be read or written.
uint64_t StateMaker::address(unsigned slot, unsigned size, unsigned alignment) {
    const uint64_t start = Layout::data_of(slot) + Layout::data_offset;
    const uint64_t end = start + Layout::data_size;
    const uint64_t span = size < Layout::data_size ? Layout::data_size - size : 1;
    uint64_t at = start + random_() % span;
    switch (random_() % 32) {
        case 0: at = start + Layout::page - random_() % (size + 1); break;  // over two pages
        case 1: at = end - random_() % (size + 1); break;                   // into the read-only page
        case 2: at = end + random_() % Layout::page; break;                 // in it, or over its end
        case 3: at = start - random_() % (size + 1); break;                 // from the page that is missing
        case 4: at = value(); break;
        default: break;
    }
    return random_() % 4 != 0 ? at & ~uint64_t{alignment - 1u} : at;
}

void StateMaker::aim_implicit(const Case& c, CpuImage& in) {
    const auto set = [&](Gpr reg, unsigned size, unsigned alignment) {
        in.gpr[reg] = address(c.slot, size, alignment);
        if (c.size == CodeSize::bits32) in.gpr[reg] &= 0xFFFFFFFF;
    };
    set(RSP, 64, 8);
    if (c.known && c.decoded.z.meta.category == ZYDIS_CATEGORY_STRINGOP) {
        set(RSI, 64, 8);
        set(RDI, 64, 8);
        if (!one_in(16)) in.gpr[RCX] = random_() % (one_in(8) ? 5000 : 40);
    } else if (c.known && c.decoded.z.mnemonic == ZYDIS_MNEMONIC_LEAVE) {
        set(RBP, 8, 8);
    } else if (c.known && c.decoded.z.mnemonic == ZYDIS_MNEMONIC_ENTER) {
        set(RBP, 64, 8);
    } else if (one_in(2)) {
        in.gpr[RCX] = random_() % 40;
    }
}

/// Small indices, so that the elements are near the base.
void StateMaker::aim_gather(const Case& c, CpuImage& in, const ZydisDecodedOperand& operand) {
    const bool ymm = ZydisRegisterGetClass(operand.mem.index) == ZYDIS_REGCLASS_YMM;
    const unsigned index = number_of(operand.mem.index);
    const bool wide =
        c.decoded.z.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS || c.decoded.z.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
        c.decoded.z.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || c.decoded.z.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;
    for (unsigned at = 0; at < (ymm ? 32u : 16u); at += wide ? 8 : 4) {
        const auto small = static_cast<int64_t>(random_() % 256) - 128;
        const size_t place = (at < 16 ? 160 : 576 - 16) + 16 * index + at;
        if (one_in(64)) continue;
        wide ? put<int64_t>(in.xsave, place, small) : put<int32_t>(in.xsave, place, static_cast<int32_t>(small));
    }
}

/// What instructions with strict ideas about their operand find there.
void StateMaker::set_target(const Case& c, std::span<uint8_t> data, uint64_t address, unsigned size) {
    const uint64_t start = Layout::data_of(c.slot) + Layout::data_offset;
    if (address < start || address >= start + data.size()) return;
    const size_t at = address - start;
    switch (c.decoded.z.mnemonic) {
        case ZYDIS_MNEMONIC_XRSTOR:
        case ZYDIS_MNEMONIC_XRSTOR64:
        case ZYDIS_MNEMONIC_XSAVE:
        case ZYDIS_MNEMONIC_XSAVE64:
        case ZYDIS_MNEMONIC_XSAVEC:
        case ZYDIS_MNEMONIC_XSAVEC64:
        case ZYDIS_MNEMONIC_XSAVEOPT:
        case ZYDIS_MNEMONIC_XSAVEOPT64: {
            if (!one_in(16)) {
                for (size_t n = 512; n < 576; n += 8) put<uint64_t>(data, at + n, 0);
                put<uint64_t>(data, at + 512, random_() & 7);
                // The compact format: its components.
                if (one_in(3)) put<uint64_t>(data, at + 520, uint64_t{1} << 63 | (random_() & 7) | (one_in(8) ? 0 : 7));
            }
            if (!one_in(16)) put<uint32_t>(data, at + 24, static_cast<uint32_t>(random_() & 0xFFFF));
            return;
        }
        case ZYDIS_MNEMONIC_FXRSTOR:
        case ZYDIS_MNEMONIC_FXRSTOR64:
            if (!one_in(16)) put<uint32_t>(data, at + 24, static_cast<uint32_t>(random_() & 0xFFFF));
            return;
        case ZYDIS_MNEMONIC_LDMXCSR:
        case ZYDIS_MNEMONIC_VLDMXCSR:
            if (!one_in(16)) put<uint32_t>(data, at, static_cast<uint32_t>(random_() & 0xFFFF));
            return;
        default: break;
    }
    // A far pointer, or a value for a segment register.
    if (c.decoded.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || c.decoded.z.meta.category == ZYDIS_CATEGORY_SEGOP) {
        if (size > 2 && one_in(2)) put<uint32_t>(data, at, static_cast<uint32_t>(random_()));
        put<uint16_t>(data, at + (size > 2 ? size - 2 : 0), user_selectors[random_() % 12]);
        return;
    }
    if (one_in(2)) {
        if (size == 4) put<uint32_t>(data, at, static_cast<uint32_t>(number(4)));
        if (size >= 8) put<uint64_t>(data, at, number(8));
        if (size == 10) {
            put<uint64_t>(data, at, random_() | uint64_t{1} << 63);
            put<uint16_t>(data, at + 8, static_cast<uint16_t>(0x3FF0 + random_() % 32));
        }
    }
}

/// The frame of a far return or IRET.
void StateMaker::set_frame(const Case& c, CpuImage& in, std::span<uint8_t> data) {
    const uint64_t start = Layout::data_of(c.slot) + Layout::data_offset;
    if (in.gpr[RSP] < start || in.gpr[RSP] >= start + data.size()) return;
    const size_t at = in.gpr[RSP] - start, step = c.decoded.z.operand_width / 8;
    // Without AC: where IRET itself is checked by the flags that it loads (Intel), Linux takes the fault for a lock
    // over two cache lines, and tries again for ever.
    constexpr uint64_t flags = 0x207DD5;
    const uint64_t words[5] = {one_in(8) ? value() : Layout::code_address + random_() % 0x2000,
                               user_selectors[random_() % 12], 0x202 | (random_() & flags),
                               one_in(8) ? value() : start + random_() % 0x1000,
                               one_in(4) ? user_selectors[random_() % 12] : user_ss};
    for (size_t n = 0; n < 5; ++n) {
        if (at + (n + 1) * step <= data.size()) std::memcpy(data.data() + at + n * step, &words[n], step);
    }
}

/// Makes the explicit memory operand hit the memory of the case.
void StateMaker::aim(Case& c, CpuImage& in, std::span<uint8_t> data) {
    soft::Decoded& d = c.decoded;
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        const ZydisDecodedOperand& operand = d.op(n);
        if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
        const auto& mem = operand.mem;
        const unsigned size = std::max(1u, operand.size / 8u);
        const unsigned width = d.z.address_width;
        uint64_t segment = 0;
        if (mem.segment == ZYDIS_REGISTER_FS) segment = in.fs_base;
        if (mem.segment == ZYDIS_REGISTER_GS) segment = in.gs_base;
        uint64_t target = address(c.slot, size, alignment_of(d, size));
        if (operand.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
            set_target(c, data, in.gpr[RSP], size);
            continue;
        }
        const bool vector_index = mem.index >= ZYDIS_REGISTER_XMM0 && mem.index <= ZYDIS_REGISTER_YMM31;
        if (vector_index) {
            aim_gather(c, in, operand);
            target = Layout::data_of(c.slot) + Layout::data_offset + Layout::page + random_() % 64 * 8;
        }
        uint64_t rest = segment + static_cast<uint64_t>(mem.disp.has_displacement ? mem.disp.value : 0);
        if (is_general(mem.index) && !vector_index) {
            if (one_in(2) && number_of(mem.index) != RSP) in.gpr[number_of(mem.index)] = random_() % 64;
            rest += in.gpr[number_of(mem.index)] * mem.scale;
        }
        if (is_general(mem.base) && mem.base != mem.index) {
            uint64_t base = target - rest;
            if (c.size == CodeSize::bits32) base &= 0xFFFFFFFF;
            in.gpr[number_of(mem.base)] = base;
            if (width != 16) target &= width == 32 ? 0xFFFFFFFF : ~uint64_t{0};
        } else if (d.z.raw.disp.size >= 32 && mem.base != mem.index) {
            // An absolute address or one relative to RIP: the displacement is what can be changed.
            const uint64_t origin =
                mem.base == ZYDIS_REGISTER_RIP || mem.base == ZYDIS_REGISTER_EIP ? in.rip + d.z.length : 0;
            const uint64_t displacement = target - origin - (rest - static_cast<uint64_t>(mem.disp.value));
            const unsigned bytes = d.z.raw.disp.size / 8u;
            std::memcpy(c.code.data() + d.z.raw.disp.offset, &displacement, bytes);
            decode_for(c.size, c.code, d);
            target = origin + static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(displacement))) + rest -
                     static_cast<uint64_t>(mem.disp.value);
        } else {
            continue;
        }
        if (width == 64 || width == 32) set_target(c, data, target, size);
        // A bit number in a register reaches far; most of them shall stay near.
        const bool bit_test = d.z.meta.category == ZYDIS_CATEGORY_BITBYTE && d.is_reg(1);
        if (bit_test && !one_in(4) && d.op(1).reg.value != mem.base) {
            in.gpr[number_of(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, d.op(1).reg.value))] =
                random_() % 512;
        }
    }
}

void StateMaker::make(Case& c, CpuImage& in, std::span<uint8_t> data) {
    const size_t from = random_() % (pool_size - data.size()) & ~size_t{7};
    std::memcpy(data.data(), pool_.data() + from, data.size());
    pool_[random_() % pool_size] = static_cast<uint8_t>(random_());
    registers(c, in);
    floating_point(in, c.size);
    aim_implicit(c, in);
    if (!c.known) return;
    aim(c, in, data);
    const bool returns = c.decoded.z.meta.category == ZYDIS_CATEGORY_RET;
    if (returns && c.decoded.z.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR) set_frame(c, in, data);
    const auto category = c.decoded.z.meta.category;
    const bool state = category == ZYDIS_CATEGORY_XSAVE || category == ZYDIS_CATEGORY_XSAVEOPT;
    if (state || c.decoded.z.mnemonic == ZYDIS_MNEMONIC_XGETBV) {
        // The components that both sides have. An address in RAX or RDX misses then.
        in.gpr[RAX] = random_() % 8;
        in.gpr[RDX] = 0;
        if (c.decoded.z.mnemonic == ZYDIS_MNEMONIC_XGETBV) in.gpr[RCX] = random_() % 2;
    }
    // Selectors that mean something.
    if (c.decoded.z.meta.category == ZYDIS_CATEGORY_SEGOP || c.decoded.z.mnemonic == ZYDIS_MNEMONIC_MOV ||
        c.decoded.z.mnemonic == ZYDIS_MNEMONIC_LAR || c.decoded.z.mnemonic == ZYDIS_MNEMONIC_LSL ||
        c.decoded.z.mnemonic == ZYDIS_MNEMONIC_VERR || c.decoded.z.mnemonic == ZYDIS_MNEMONIC_VERW) {
        const unsigned source = c.decoded.z.operand_count_visible == 1 ? 0 : 1;
        const bool to_segment =
            c.decoded.z.mnemonic != ZYDIS_MNEMONIC_MOV ||
            (c.decoded.is_reg(0) && ZydisRegisterGetClass(c.decoded.op(0).reg.value) == ZYDIS_REGCLASS_SEGMENT);
        if (to_segment && c.decoded.is_reg(source)) {
            const ZydisRegister reg =
                ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, c.decoded.op(source).reg.value);
            if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_GPR64)
                in.gpr[number_of(reg)] = user_selectors[random_() % 12];
        }
    }
}

}  // namespace viv::soft_test
