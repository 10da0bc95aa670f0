// LDMXCSR STMXCSR, FXSAVE FXRSTOR, VZEROUPPER VZEROALL, MASKMOVQ MASKMOVDQU.
#include <algorithm>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/vector.hpp"

namespace viv::soft {
namespace {

constexpr unsigned legacy_size = 512;

void check_fpu(Cpu& cpu) {
    if (cpu.cr0 & (cr0_em | cr0_ts)) raise(vector_nm);
}

}  // namespace

unsigned vector_count(const Cpu& cpu) {
    return cpu.code64 ? 16 : 8;
}

void fill_x87(Cpu& cpu, const Insn& i, FxImage& image) {
    unload_fpu(cpu);
    sync_mxcsr(cpu);
    image.fcw = cpu.fx.fcw;
    image.fsw = status_word(cpu);
    image.ftw = cpu.fx.ftw;
    image.reserved = 0;
    image.fop = cpu.fx.fop;
    image.fip = i.size == 8 ? cpu.fx.fip : cpu.fx.fip & 0xFFFFFFFF;
    image.fdp = i.size == 8 ? cpu.fx.fdp : cpu.fx.fdp & 0xFFFFFFFF;
    image.st = cpu.fx.st;
}

void take_x87(Cpu& cpu, const Insn& i, const FxImage& image) {
    unload_fpu(cpu);
    cpu.fx.fcw = static_cast<uint16_t>((image.fcw & 0x1F3F) | 0x40);
    cpu.fx.fsw = image.fsw;
    cpu.fx.ftw = image.ftw;
    cpu.fx.fop = image.fop & 0x7FF;
    cpu.fx.fip = i.size == 8 ? image.fip : image.fip & 0xFFFFFFFF;
    cpu.fx.fdp = i.size == 8 ? image.fdp : image.fdp & 0xFFFFFFFF;
    cpu.fx.st = image.st;
    for (auto& reg : cpu.fx.st) std::fill(reg.begin() + 10, reg.end(), uint8_t{0});
}

void reset_x87(Cpu& cpu) {
    unload_fpu(cpu);
    const uint32_t mxcsr = cpu.fx.mxcsr;
    cpu.fx = {};
    cpu.fx.mxcsr = mxcsr;
}

void check_aligned(uint64_t linear, uint64_t alignment) {
    if (linear & (alignment - 1)) raise_gp();
}

void ldmxcsr(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::sse);
    const auto value = load_operand<uint32_t>(cpu, &i);
    if (value & ~0xFFFFu) raise_gp();
    load_mxcsr(cpu, value);
}

void stmxcsr(Cpu& cpu, const Insn& i) {
    check_unit(cpu, Unit::sse);
    sync_mxcsr(cpu);
    store_operand<uint32_t>(cpu, &i, cpu.fx.mxcsr);
}

void fxsave(Cpu& cpu, const Insn& i) {
    check_fpu(cpu);
    const uint64_t linear = operand_address<Access::write>(cpu, &i, legacy_size);
    check_aligned(linear, 16);
    probe_write(cpu, &i, linear, legacy_size, i.seg);
    FxImage image;
    // Bytes 464 to 511 are the software's; they stay.
    load_bytes(cpu, &i, linear, &image, legacy_size, i.seg);
    fill_x87(cpu, i, image);
    image.mxcsr = cpu.fx.mxcsr;
    image.mxcsr_mask = 0xFFFF;
    if (cpu.cr4 & cr4_osfxsr) {
        for (unsigned n = 0; n < vector_count(cpu); ++n) {
            std::memcpy(image.xmm.data() + 16 * n, cpu.vector_registers[n].bytes.data(), 16);
        }
    }
    store_bytes(cpu, &i, linear, &image, legacy_size, i.seg);
}

void fxrstor(Cpu& cpu, const Insn& i) {
    check_fpu(cpu);
    const uint64_t linear = operand_address<Access::read>(cpu, &i, legacy_size);
    check_aligned(linear, 16);
    FxImage image;
    load_bytes(cpu, &i, linear, &image, legacy_size, i.seg);
    if ((cpu.cr4 & cr4_osfxsr) && (image.mxcsr & ~0xFFFFu)) raise_gp();
    take_x87(cpu, i, image);
    if (!(cpu.cr4 & cr4_osfxsr)) return;
    load_mxcsr(cpu, image.mxcsr);
    for (unsigned n = 0; n < vector_count(cpu); ++n) {
        std::memcpy(cpu.vector_registers[n].bytes.data(), image.xmm.data() + 16 * n, 16);
    }
}

void vzeroupper(Cpu& cpu, const Insn&) {
    check_unit(cpu, Unit::avx);
    for (unsigned n = 0; n < vector_count(cpu); ++n) std::memset(cpu.vector_registers[n].bytes.data() + 16, 0, 16);
}

void vzeroall(Cpu& cpu, const Insn&) {
    check_unit(cpu, Unit::avx);
    for (unsigned n = 0; n < vector_count(cpu); ++n) cpu.vector_registers[n] = {};
}

void maskmov(Cpu& cpu, const Insn& i) {
    std::array<uint8_t, 16> data{}, mask{};
    if (i.size == 8) {
        check_unit(cpu, Unit::mmx);
        check_x87_exception(cpu);
        unload_fpu(cpu);
        std::memcpy(data.data(), cpu.fx.st[i.dst].data(), 8);
        std::memcpy(mask.data(), cpu.fx.st[i.src].data(), 8);
        // As every MMX instruction: TOP is 0 and all registers count as used. The registers were in order of ST(i).
        const unsigned top = (cpu.fx.fsw >> 11) & 7;
        std::rotate(cpu.fx.st.begin(), cpu.fx.st.begin() + ((8 - top) & 7), cpu.fx.st.end());
        cpu.fx.fsw &= static_cast<uint16_t>(~0x3800u);
        cpu.fx.ftw = 0xFF;
        std::memcpy(data.data(), cpu.fx.st[i.dst].data(), 8);
        std::memcpy(mask.data(), cpu.fx.st[i.src].data(), 8);
    } else {
        check_unit(cpu, Unit::sse);
        std::memcpy(data.data(), cpu.vector_registers[i.dst].bytes.data(), 16);
        std::memcpy(mask.data(), cpu.vector_registers[i.src].bytes.data(), 16);
    }
    const uint64_t offset = cpu.gpr[RDI] & i.mask;
    for (unsigned n = 0; n < i.size; ++n) {
        if (!(mask[n] & 0x80)) continue;
        const uint64_t at = segment_address<Access::write>(cpu, &i, i.seg, (offset + n) & i.mask, 1);
        store<uint8_t>(cpu, &i, at, data[n], i.seg);
    }
}

}  // namespace viv::soft
