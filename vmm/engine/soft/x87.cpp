// The x87 instructions about its control words and environment (SDM 1, 8.1).
#include <algorithm>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/vector.hpp"

namespace viv::soft {
namespace {

uint16_t control_word(uint16_t value) {
    return static_cast<uint16_t>((value & 0x1F3F) | 0x40);
}

/// The tag word of two bits a register: valid, zero, special, empty.
uint16_t full_tags(const FxImage& fx) {
    const unsigned top = (fx.fsw >> 11) & 7;
    unsigned tags = 0;
    for (unsigned physical = 0; physical < 8; ++physical) {
        unsigned tag = 3;
        if ((fx.ftw >> physical) & 1) {
            const auto& reg = fx.st[(physical - top) & 7];
            uint64_t significand = 0;
            std::memcpy(&significand, reg.data(), 8);
            const unsigned exponent = (reg[8] | reg[9] << 8) & 0x7FFFu;
            if (exponent == 0 && significand == 0) {
                tag = 1;
            } else if (exponent == 0 || exponent == 0x7FFF || !(significand >> 63)) {
                tag = 2;
            } else {
                tag = 0;
            }
        }
        tags |= tag << (2 * physical);
    }
    return static_cast<uint16_t>(tags);
}

uint8_t short_tags(uint16_t full) {
    unsigned tags = 0;
    for (unsigned n = 0; n < 8; ++n) {
        if (((full >> (2 * n)) & 3) != 3) tags |= 1u << n;
    }
    return static_cast<uint8_t>(tags);
}

unsigned environment_size(const Insn& i) {
    return i.size == 2 ? 14 : 28;
}

/// In the four layouts of SDM 1, figures 8-9 to 8-12.
void make_environment(Cpu& cpu, const Insn& i, uint8_t* out) {
    unload_fpu(cpu);
    const FxImage& fx = cpu.fx;
    const bool real = cpu.real_or_vm86();
    const auto ip = static_cast<uint32_t>(fx.fip), dp = static_cast<uint32_t>(fx.fdp);
    if (i.size == 2) {
        const uint16_t words[7] = {fx.fcw,
                                   status_word(cpu),
                                   full_tags(fx),
                                   static_cast<uint16_t>(ip),
                                   static_cast<uint16_t>(real ? ((ip >> 4) & 0xF000) | fx.fop : 0),
                                   static_cast<uint16_t>(dp),
                                   static_cast<uint16_t>(real ? (dp >> 4) & 0xF000 : 0)};
        std::memcpy(out, words, sizeof words);
        return;
    }
    const uint32_t words[7] = {0xFFFF0000u | fx.fcw,
                               0xFFFF0000u | status_word(cpu),
                               0xFFFF0000u | full_tags(fx),
                               real ? 0xFFFF0000u | (ip & 0xFFFF) : ip,
                               real ? ((ip >> 4) & 0x0FFFF000) | fx.fop : static_cast<uint32_t>(fx.fop) << 16,
                               real ? 0xFFFF0000u | (dp & 0xFFFF) : dp,
                               real ? (dp >> 4) & 0x0FFFF000 : 0xFFFF0000u};
    std::memcpy(out, words, sizeof words);
}

void take_environment(Cpu& cpu, const Insn& i, const uint8_t* in) {
    unload_fpu(cpu);
    uint32_t words[7] = {};
    for (unsigned n = 0; n < 7; ++n) {
        if (i.size == 2) {
            words[n] = peek<uint16_t>(in + 2 * n);
        } else {
            words[n] = peek<uint32_t>(in + 4 * n);
        }
    }
    const uint8_t old_top = (cpu.fx.fsw >> 11) & 7;
    cpu.fx.fcw = control_word(static_cast<uint16_t>(words[0]));
    cpu.fx.fsw = static_cast<uint16_t>(words[1]);
    cpu.fx.ftw = short_tags(static_cast<uint16_t>(words[2]));
    cpu.fx.fip = words[3];
    cpu.fx.fdp = words[5];
    // The image keeps the registers in the order of ST(i): with another TOP they move.
    const unsigned turn = (((cpu.fx.fsw >> 11) & 7u) - old_top) & 7u;
    std::rotate(cpu.fx.st.begin(), cpu.fx.st.begin() + turn, cpu.fx.st.end());
}

void initialise(Cpu& cpu) {
    unload_fpu(cpu);
    cpu.fx.fcw = 0x37F;
    cpu.fx.fsw = 0;
    cpu.fx.ftw = 0;
    cpu.fx.fop = 0;
    cpu.fx.fip = cpu.fx.fdp = 0;
}

/// ST(0) is in another physical register after FNINIT; the contents stay where they are.
void turn_to_top_zero(Cpu& cpu) {
    const unsigned top = (cpu.fx.fsw >> 11) & 7;
    std::rotate(cpu.fx.st.begin(), cpu.fx.st.begin() + ((8 - top) & 7), cpu.fx.st.end());
}

}  // namespace

void fninit(Cpu& cpu, const Insn&) {
    check_unit(cpu, Unit::x87);
    unload_fpu(cpu);
    turn_to_top_zero(cpu);
    initialise(cpu);
    release_ferr(cpu);
}

void fnclex(Cpu& cpu, const Insn&) {
    check_unit(cpu, Unit::x87);
    if (cpu.fpu_live) {
        asm volatile("fnclex");
    } else {
        cpu.fx.fsw &= 0x7F00;
    }
    release_ferr(cpu);
}

void fnstcw(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::x87);
    store_operand<uint16_t>(cpu, &i, cpu.fx.fcw);
}

void fldcw(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::x87);
    check_x87_exception(cpu);
    cpu.fx.fcw = control_word(load_operand<uint16_t>(cpu, &i));
    if (cpu.fpu_live) {
        const auto masked = static_cast<uint16_t>(cpu.fx.fcw | 0x3F);
        asm volatile("fldcw %0" : : "m"(masked));
    }
}

void fnstsw(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::x87);
    const uint16_t status = status_word(cpu);
    if (i.has(insn_memory)) {
        store_operand<uint16_t>(cpu, &i, status);
    } else {
        cpu.set_reg<uint16_t>(RAX * 8, status);
    }
}

void fnstenv(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::x87);
    const uint64_t linear = operand_address<Access::write>(cpu, &i, environment_size(i));
    uint8_t image[28];
    make_environment(cpu, i, image);
    store_bytes(cpu, &i, linear, image, environment_size(i), i.seg);
    cpu.fx.fcw |= 0x3F;
}

void fldenv(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::x87);
    check_x87_exception(cpu);
    const uint64_t linear = operand_address<Access::read>(cpu, &i, environment_size(i));
    uint8_t image[28];
    load_bytes(cpu, &i, linear, image, environment_size(i), i.seg);
    take_environment(cpu, i, image);
}

void fnsave(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::x87);
    const unsigned head = environment_size(i);
    const uint64_t linear = operand_address<Access::write>(cpu, &i, head + 80);
    uint8_t image[108];
    make_environment(cpu, i, image);
    for (unsigned n = 0; n < 8; ++n) std::memcpy(image + head + 10 * n, cpu.fx.st[n].data(), 10);
    store_bytes(cpu, &i, linear, image, head + 80, i.seg);
    turn_to_top_zero(cpu);
    initialise(cpu);
    release_ferr(cpu);
}

void frstor(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::x87);
    check_x87_exception(cpu);
    const unsigned head = environment_size(i);
    const uint64_t linear = operand_address<Access::read>(cpu, &i, head + 80);
    uint8_t image[108];
    load_bytes(cpu, &i, linear, image, head + 80, i.seg);
    take_environment(cpu, i, image);
    for (unsigned n = 0; n < 8; ++n) {
        cpu.fx.st[n] = {};
        std::memcpy(cpu.fx.st[n].data(), image + head + 10 * n, 10);
    }
}

void fwait(Cpu& cpu, const Insn&) {
    if ((cpu.cr0 & (cr0_mp | cr0_ts)) == (cr0_mp | cr0_ts)) raise(vector_nm);
    check_x87_exception(cpu);
}

}  // namespace viv::soft
