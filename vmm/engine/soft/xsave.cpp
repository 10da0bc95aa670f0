// XSAVE XSAVEOPT XSAVEC XSAVES XRSTOR XRSTORS (SDM 1, 13.7 to 13.12). There are no supervisor components: IA32_XSS is
// 0.
#include <algorithm>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/system.hpp"
#include "vmm/engine/soft/vector.hpp"

namespace viv::soft {
namespace {

constexpr unsigned legacy_size = 512, header_size = 64, avx_offset = 576, avx_size = 256;
constexpr uint64_t component_x87 = 1, component_sse = 2, component_avx = 4, component_pkru = 0x200;
constexpr uint64_t compact_format = uint64_t{1} << 63;
constexpr uint32_t mxcsr_initial = 0x1F80;

/// The area without PKRU. AVX comes first after the header in the compact format too.
using Area = std::array<uint8_t, avx_offset + avx_size>;

void check_xsave(Cpu& cpu) {
    if (!(cpu.cr4 & cr4_osxsave)) raise_ud();
    if (cpu.cr0 & cr0_ts) raise(vector_nm);
}
void check_supervisor(Cpu& cpu) {
    check_xsave(cpu);
    if (cpu.cpl != 0) raise_gp();
}
uint64_t requested(const Cpu& cpu) {
    return (uint64_t{cpu.reg<uint32_t>(RDX * 8)} << 32 | cpu.reg<uint32_t>(RAX * 8)) & cpu.xcr0;
}
unsigned area_size(uint64_t components) {
    return components & component_avx ? avx_offset + avx_size : legacy_size + header_size;
}
/// Where PKRU is from the start of an area in the compact format with these components, or in the standard format.
unsigned pkru_offset(const Cpu& cpu, bool compact, uint64_t format) {
    return compact ? area_size(format) : cpu.engine->features.pkru_offset;
}

enum class Save : uint8_t { all, in_use, compact };

void save(Cpu& cpu, const Insn& i, Save kind) {
    const uint64_t components = requested(cpu);
    const unsigned size = area_size(components);
    const unsigned pkru_at = pkru_offset(cpu, kind == Save::compact, components);
    const unsigned whole = components & component_pkru ? pkru_at + 8 : size;
    const uint64_t linear = operand_address<Access::write>(cpu, &i, whole);
    check_aligned(linear, 64);
    alignas(64) Area area;
    probe_write(cpu, &i, linear, size, i.seg);
    const uint64_t pkru_linear = (linear + pkru_at) & cpu.linear_mask;
    if (components & component_pkru) probe_write(cpu, &i, pkru_linear, 8, i.seg);
    load_bytes(cpu, &i, linear, area.data(), size, i.seg);
    FxImage image;
    std::memcpy(&image, area.data(), legacy_size);
    sync_mxcsr(cpu);
    uint64_t in_use = components & components_in_use(cpu);
    if (kind == Save::compact && cpu.fx.mxcsr != mxcsr_initial) in_use |= components & component_sse;
    const uint64_t written = kind == Save::all ? components : in_use;
    if (written & component_x87) {
        fill_x87(cpu, i, image);
        unload_fpu(cpu);
    }
    if ((kind == Save::compact ? written & component_sse : components & (component_sse | component_avx)) != 0) {
        image.mxcsr = cpu.fx.mxcsr;
        image.mxcsr_mask = 0xFFFF;
    }
    for (unsigned n = 0; n < vector_count(cpu); ++n) {
        const uint8_t* reg = cpu.vector_registers[n].bytes.data();
        if (written & component_sse) std::memcpy(image.xmm.data() + 16 * n, reg, 16);
        if (written & component_avx) std::memcpy(area.data() + avx_offset + 16 * n, reg + 16, 16);
    }
    std::memcpy(area.data(), &image, legacy_size);
    auto present = peek<uint64_t>(area.data() + legacy_size);
    present = kind == Save::compact ? in_use : (present & ~components) | in_use;
    poke<uint64_t>(area.data() + legacy_size, present);
    if (kind == Save::compact) poke<uint64_t>(area.data() + legacy_size + 8, components | compact_format);
    store_bytes(cpu, &i, linear, area.data(), size, i.seg);
    if (written & component_pkru) store<uint64_t>(cpu, &i, pkru_linear, cpu.pkru, i.seg);
}

/// What the header may say (SDM 1, 13.8 and 13.12).
void check_header(Cpu& cpu, const uint8_t* header, bool compact) {
    const auto present = peek<uint64_t>(header), format = peek<uint64_t>(header + 8);
    const auto is_zero = [&](unsigned from, unsigned to) {
        return std::all_of(header + from, header + to, [](uint8_t b) { return b == 0; });
    };
    if (compact) {
        if (!cpu.engine->features.has(CpuFeature::xsavec) || (format & ~compact_format & ~cpu.xcr0) ||
            (present & ~format) || !is_zero(16, header_size)) {
            raise_gp();
        }
    } else if ((present & ~cpu.xcr0) || !is_zero(8, 24)) {
        raise_gp();
    }
}

void restore(Cpu& cpu, const Insn& i, bool only_compact) {
    const uint64_t components = requested(cpu);
    constexpr unsigned head_size = legacy_size + header_size;
    const uint64_t linear = operand_address<Access::read>(cpu, &i, head_size);
    check_aligned(linear, 64);
    alignas(64) Area area{};
    load_bytes(cpu, &i, linear, area.data(), head_size, i.seg);
    const bool compact = peek<uint64_t>(area.data() + legacy_size + 8) & compact_format;
    if (only_compact && !compact) raise_gp();
    check_header(cpu, area.data() + legacy_size, compact);
    const auto present = peek<uint64_t>(area.data() + legacy_size);
    if (components & present & component_avx) {
        const uint64_t end = operand_address<Access::read>(cpu, &i, sizeof area) + head_size;
        load_bytes(cpu, &i, end & cpu.linear_mask, area.data() + avx_offset, avx_size, i.seg);
    }
    uint32_t pkru = 0;
    if (components & present & component_pkru) {
        const auto format = peek<uint64_t>(area.data() + legacy_size + 8);
        const unsigned at = pkru_offset(cpu, compact, format);
        const uint64_t base = operand_address<Access::read>(cpu, &i, at + 8);
        pkru = load<uint32_t>(cpu, &i, (base + at) & cpu.linear_mask, i.seg);
    }
    FxImage image;
    std::memcpy(&image, area.data(), legacy_size);
    // The standard format has MXCSR in any case, the compact one with the SSE component.
    const bool takes_mxcsr = (components & (compact ? component_sse : component_sse | component_avx)) != 0;
    const uint32_t mxcsr = compact && !(present & component_sse) ? mxcsr_initial : image.mxcsr;
    if (takes_mxcsr && (mxcsr & ~0xFFFFu)) raise_gp();
    if (components & component_x87) present& component_x87 ? take_x87(cpu, i, image) : reset_x87(cpu);
    if (takes_mxcsr) load_mxcsr(cpu, mxcsr);
    for (unsigned n = 0; n < vector_count(cpu); ++n) {
        uint8_t* reg = cpu.vector_registers[n].bytes.data();
        static constexpr std::array<uint8_t, 16> zero{};
        const bool has_sse = present & component_sse, has_avx = present & component_avx;
        if (components & component_sse) std::memcpy(reg, has_sse ? image.xmm.data() + 16 * n : zero.data(), 16);
        if (components & component_avx) {
            std::memcpy(reg + 16, has_avx ? area.data() + avx_offset + 16 * n : zero.data(), 16);
        }
    }
    if (components & component_pkru) set_pkru(cpu, pkru);
}

}  // namespace

uint64_t components_in_use(Cpu& cpu) {
    unload_fpu(cpu);
    uint64_t in_use = 0;
    const FxImage initial;
    const FxImage& fx = cpu.fx;
    const bool x87_initial = fx.fcw == initial.fcw && fx.fsw == 0 && fx.ftw == 0 && fx.fop == 0 && fx.fip == 0 &&
                             fx.fdp == 0 && fx.st == initial.st;
    if (!x87_initial) in_use |= component_x87;
    if (cpu.pkru != 0) in_use |= component_pkru;
    for (const Xmm& reg : cpu.vector_registers) {
        if (std::any_of(reg.bytes.begin(), reg.bytes.begin() + 16, [](uint8_t b) { return b != 0; })) {
            in_use |= component_sse;
        }
        if (std::any_of(reg.bytes.begin() + 16, reg.bytes.end(), [](uint8_t b) { return b != 0; })) {
            in_use |= component_avx;
        }
    }
    return in_use;
}

void xsave(Cpu& cpu, const Insn& i) {
    check_xsave(cpu);
    save(cpu, i, Save::all);
}
void xsaveopt(Cpu& cpu, const Insn& i) {
    check_xsave(cpu);
    save(cpu, i, Save::in_use);
}
void xsavec(Cpu& cpu, const Insn& i) {
    check_xsave(cpu);
    save(cpu, i, Save::compact);
}
void xsaves(Cpu& cpu, const Insn& i) {
    check_supervisor(cpu);
    save(cpu, i, Save::compact);
}
void xrstor(Cpu& cpu, const Insn& i) {
    check_xsave(cpu);
    restore(cpu, i, false);
}
void xrstors(Cpu& cpu, const Insn& i) {
    check_supervisor(cpu);
    restore(cpu, i, true);
}

}  // namespace viv::soft
