// LDMXCSR STMXCSR, FXSAVE FXRSTOR, XSAVE XRSTOR, VZEROUPPER VZEROALL, MASKMOVQ MASKMOVDQU.
#include <algorithm>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/vector.hpp"

namespace viv::soft {
namespace {

constexpr unsigned legacy_size = 512, header_size = 64, avx_offset = 576, avx_size = 256;

unsigned vector_count(const Cpu& cpu) {
    return cpu.code64 ? 16 : 8;
}

/// The legacy area of FXSAVE and XSAVE (SDM 1, 10.5.1): the first 160 bytes are x87 and MXCSR.
void fill_legacy(Cpu& cpu, const Insn& i, FxImage& image) {
    unload_fpu(cpu);
    sync_mxcsr(cpu);
    image.fcw = cpu.fx.fcw;
    image.fsw = status_word(cpu);
    image.ftw = cpu.fx.ftw;
    image.fop = cpu.fx.fop;
    image.fip = i.size == 8 ? cpu.fx.fip : cpu.fx.fip & 0xFFFFFFFF;
    image.fdp = i.size == 8 ? cpu.fx.fdp : cpu.fx.fdp & 0xFFFFFFFF;
    image.st = cpu.fx.st;
}

void take_x87(Cpu& cpu, const FxImage& image) {
    unload_fpu(cpu);
    cpu.fx.fcw = static_cast<uint16_t>((image.fcw & 0x1F3F) | 0x40);
    cpu.fx.fsw = image.fsw;
    cpu.fx.ftw = image.ftw;
    cpu.fx.fop = image.fop & 0x7FF;
    cpu.fx.fip = image.fip;
    cpu.fx.fdp = image.fdp;
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

void check_fpu(Cpu& cpu) {
    if (cpu.cr0 & (cr0_em | cr0_ts)) raise(vector_nm);
}
void check_xsave(Cpu& cpu) {
    if (!(cpu.cr4 & cr4_osxsave)) raise_ud();
    if (cpu.cr0 & cr0_ts) raise(vector_nm);
}
uint64_t requested(const Cpu& cpu) {
    return (uint64_t{cpu.reg<uint32_t>(RDX * 8)} << 32 | cpu.reg<uint32_t>(RAX * 8)) & cpu.xcr0;
}

}  // namespace

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
    FxImage image;
    // Bytes 464 to 511 are the software's; they stay.
    load_bytes(cpu, &i, linear, &image, legacy_size, i.seg);
    fill_legacy(cpu, i, image);
    image.reserved = 0;
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
    if (i.size != 8) {
        image.fip &= 0xFFFFFFFF;
        image.fdp &= 0xFFFFFFFF;
    }
    take_x87(cpu, image);
    if (!(cpu.cr4 & cr4_osfxsr)) return;
    load_mxcsr(cpu, image.mxcsr);
    for (unsigned n = 0; n < vector_count(cpu); ++n) {
        std::memcpy(cpu.vector_registers[n].bytes.data(), image.xmm.data() + 16 * n, 16);
    }
}

// The standard format only (SDM 1, 13.7); XSAVEC and XSAVES are not offered.
void xsave(Cpu& cpu, const Insn& i) {
    check_xsave(cpu);
    const uint64_t components = requested(cpu);
    const unsigned size = components & 4 ? avx_offset + avx_size : legacy_size + header_size;
    const uint64_t linear = operand_address<Access::write>(cpu, &i, size);
    check_aligned(linear, 64);
    alignas(64) std::array<uint8_t, avx_offset + avx_size> area;
    load_bytes(cpu, &i, linear, area.data(), size, i.seg);
    probe_write(cpu, &i, linear, size, i.seg);
    FxImage image;
    std::memcpy(&image, area.data(), legacy_size);
    FxImage current;
    fill_legacy(cpu, i, current);
    if (components & 1) {
        const FxImage old = image;
        image = current;
        image.mxcsr = old.mxcsr;
        image.mxcsr_mask = old.mxcsr_mask;
        image.xmm = old.xmm;
        image.unused = old.unused;
    }
    if (components & 6) {
        image.mxcsr = cpu.fx.mxcsr;
        image.mxcsr_mask = 0xFFFF;
    }
    for (unsigned n = 0; n < vector_count(cpu); ++n) {
        const uint8_t* reg = cpu.vector_registers[n].bytes.data();
        if (components & 2) std::memcpy(image.xmm.data() + 16 * n, reg, 16);
        if (components & 4) std::memcpy(area.data() + avx_offset + 16 * n, reg + 16, 16);
    }
    std::memcpy(area.data(), &image, legacy_size);
    uint64_t present = 0;
    std::memcpy(&present, area.data() + legacy_size, 8);
    present |= components;
    std::memcpy(area.data() + legacy_size, &present, 8);
    store_bytes(cpu, &i, linear, area.data(), size, i.seg);
}

void xrstor(Cpu& cpu, const Insn& i) {
    check_xsave(cpu);
    const uint64_t components = requested(cpu);
    const unsigned size = components & 4 ? avx_offset + avx_size : legacy_size + header_size;
    const uint64_t linear = operand_address<Access::read>(cpu, &i, size);
    check_aligned(linear, 64);
    alignas(64) std::array<uint8_t, avx_offset + avx_size> area;
    load_bytes(cpu, &i, linear, area.data(), size, i.seg);
    uint64_t present = 0;
    std::memcpy(&present, area.data() + legacy_size, 8);
    const bool reserved_clear =
        std::all_of(area.begin() + legacy_size + 8, area.begin() + legacy_size + 24, [](uint8_t b) { return b == 0; });
    if ((present & ~cpu.xcr0) || !reserved_clear) raise_gp();
    FxImage image;
    std::memcpy(&image, area.data(), legacy_size);
    if ((components & 6) && (image.mxcsr & ~0xFFFFu)) raise_gp();
    if (i.size != 8) {
        image.fip &= 0xFFFFFFFF;
        image.fdp &= 0xFFFFFFFF;
    }
    if (components & 1) present & 1 ? take_x87(cpu, image) : reset_x87(cpu);
    if (components & 6) load_mxcsr(cpu, image.mxcsr);
    for (unsigned n = 0; n < vector_count(cpu); ++n) {
        uint8_t* reg = cpu.vector_registers[n].bytes.data();
        if (components & 2) {
            present & 2 ? void(std::memcpy(reg, image.xmm.data() + 16 * n, 16)) : void(std::memset(reg, 0, 16));
        }
        if (components & 4) {
            present & 4 ? void(std::memcpy(reg + 16, area.data() + avx_offset + 16 * n, 16))
                        : void(std::memset(reg + 16, 0, 16));
        }
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
