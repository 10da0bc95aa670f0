// From Zydis to the instructions that the host executes for the guest.
#include "vmm/engine/soft/decode.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/segments.hpp"
#include "vmm/engine/soft/system.hpp"
#include "vmm/engine/soft/vector.hpp"

namespace viv::soft {
namespace {

bool touches_mmx(const Decoded& d) {
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        if (d.is_reg(n) && ZydisRegisterGetClass(d.op(n).reg.value) == ZYDIS_REGCLASS_MMX) return true;
    }
    return d.z.mnemonic == ZYDIS_MNEMONIC_EMMS;
}
bool touches_vectors(const Decoded& d) {
    switch (d.z.mnemonic) {  // SSE also where their source is in memory
        case ZYDIS_MNEMONIC_CVTPS2PI:
        case ZYDIS_MNEMONIC_CVTTPS2PI:
        case ZYDIS_MNEMONIC_CVTPD2PI:
        case ZYDIS_MNEMONIC_CVTTPD2PI: return true;
        default: break;
    }
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        if (!d.is_reg(n)) continue;
        const auto c = ZydisRegisterGetClass(d.op(n).reg.value);
        if (c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM) return true;
    }
    return false;
}

std::optional<Unit> unit_of(const Decoded& d) {
    if (d.z.opcode >= 0xD8 && d.z.opcode <= 0xDF && d.z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) return Unit::x87;
    switch (d.z.meta.isa_set) {
        case ZYDIS_ISA_SET_PENTIUMMMX:
        case ZYDIS_ISA_SET_SSSE3MMX:
        case ZYDIS_ISA_SET_SSE:
        case ZYDIS_ISA_SET_SSE2:
        case ZYDIS_ISA_SET_SSE2MMX:
        case ZYDIS_ISA_SET_SSE3:
        case ZYDIS_ISA_SET_SSSE3:
        case ZYDIS_ISA_SET_SSE4:
        case ZYDIS_ISA_SET_SSE42:
        case ZYDIS_ISA_SET_AES:
        case ZYDIS_ISA_SET_PCLMULQDQ:
        case ZYDIS_ISA_SET_SHA: {
            const bool vectors = touches_vectors(d);
            if (touches_mmx(d)) return vectors ? Unit::sse_mmx : Unit::mmx;
            return vectors ? Unit::sse : Unit::general;
        }
        case ZYDIS_ISA_SET_AVX:
        case ZYDIS_ISA_SET_AVX2:
        case ZYDIS_ISA_SET_AVX2GATHER:
        case ZYDIS_ISA_SET_AVXAES:
        case ZYDIS_ISA_SET_F16C:
        case ZYDIS_ISA_SET_FMA: return Unit::avx;
        case ZYDIS_ISA_SET_BMI1:
        case ZYDIS_ISA_SET_BMI2:
        case ZYDIS_ISA_SET_ADOX_ADCX: return Unit::general;
        default: return std::nullopt;
    }
}

/// The memory operand, when there is one.
void set_any_memory(const Decoded& d, uint8_t flavour, Insn& out) {
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        if (d.is_mem(n) && d.op(n).visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN) set_memory(d, d.op(n), flavour, out);
    }
}

Handler state_instruction(const Decoded& d) {
    switch (d.z.mnemonic) {
        case ZYDIS_MNEMONIC_LDMXCSR:
        case ZYDIS_MNEMONIC_VLDMXCSR: return simple<ldmxcsr>;
        case ZYDIS_MNEMONIC_STMXCSR:
        case ZYDIS_MNEMONIC_VSTMXCSR: return simple<stmxcsr>;
        case ZYDIS_MNEMONIC_FXSAVE:
        case ZYDIS_MNEMONIC_FXSAVE64: return simple<fxsave>;
        case ZYDIS_MNEMONIC_FXRSTOR:
        case ZYDIS_MNEMONIC_FXRSTOR64: return simple<fxrstor>;
        case ZYDIS_MNEMONIC_XSAVE:
        case ZYDIS_MNEMONIC_XSAVE64: return simple<xsave>;
        case ZYDIS_MNEMONIC_XSAVEOPT:
        case ZYDIS_MNEMONIC_XSAVEOPT64: return simple<xsaveopt>;
        case ZYDIS_MNEMONIC_XSAVEC:
        case ZYDIS_MNEMONIC_XSAVEC64: return simple<xsavec>;
        case ZYDIS_MNEMONIC_XSAVES:
        case ZYDIS_MNEMONIC_XSAVES64: return simple<xsaves>;
        case ZYDIS_MNEMONIC_XRSTOR:
        case ZYDIS_MNEMONIC_XRSTOR64: return simple<xrstor>;
        case ZYDIS_MNEMONIC_XRSTORS:
        case ZYDIS_MNEMONIC_XRSTORS64: return simple<xrstors>;
        case ZYDIS_MNEMONIC_VZEROUPPER: return simple<vzeroupper>;
        case ZYDIS_MNEMONIC_VZEROALL: return simple<vzeroall>;
        case ZYDIS_MNEMONIC_MASKMOVQ:
        case ZYDIS_MNEMONIC_MASKMOVDQU:
        case ZYDIS_MNEMONIC_VMASKMOVDQU: return simple<maskmov>;
        case ZYDIS_MNEMONIC_FNINIT: return simple<fninit>;
        case ZYDIS_MNEMONIC_FNCLEX: return simple<fnclex>;
        case ZYDIS_MNEMONIC_FNSTCW: return simple<fnstcw>;
        case ZYDIS_MNEMONIC_FLDCW: return simple<fldcw>;
        case ZYDIS_MNEMONIC_FNSTSW: return simple<fnstsw>;
        case ZYDIS_MNEMONIC_FNSTENV: return simple<fnstenv>;
        case ZYDIS_MNEMONIC_FLDENV: return simple<fldenv>;
        case ZYDIS_MNEMONIC_FNSAVE: return simple<fnsave>;
        case ZYDIS_MNEMONIC_FRSTOR: return simple<frstor>;
        case ZYDIS_MNEMONIC_FWAIT: return simple<fwait>;
        case ZYDIS_MNEMONIC_FENI8087_NOP:
        case ZYDIS_MNEMONIC_FDISI8087_NOP:
        case ZYDIS_MNEMONIC_FSETPM287_NOP: return simple<nop>;
        default: return nullptr;
    }
}

unsigned vector_number(ZydisRegister reg) {
    const bool is_ymm = ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_YMM;
    return static_cast<unsigned>(reg - (is_ymm ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0));
}

void translate_gather(const Decoded& d, uint8_t flavour, Insn& out) {
    bool wide_index = false;
    switch (d.z.mnemonic) {
        case ZYDIS_MNEMONIC_VGATHERQPS:
        case ZYDIS_MNEMONIC_VGATHERQPD:
        case ZYDIS_MNEMONIC_VPGATHERQD:
        case ZYDIS_MNEMONIC_VPGATHERQQ: wide_index = true; break;
        default: break;
    }
    const bool wide_data = d.z.raw.vex.W;
    set_memory(d, d.op(1), flavour, out);
    out.index = slot_zero;
    out.dst = static_cast<uint8_t>(vector_number(d.op(0).reg.value));
    out.src = static_cast<uint8_t>(vector_number(d.op(2).reg.value));
    out.aux = static_cast<uint8_t>(vector_number(d.op(1).mem.index));
    out.size = static_cast<uint8_t>((wide_index ? 1 : 0) | (wide_data ? 2 : 0));
    out.imm = (d.z.raw.vex.L ? 32 : 16) / (wide_index || wide_data ? 8 : 4);
    out.handler = simple<gather>;
}

/// What the integer translator does itself.
bool is_plain(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_TZCNT:
        case ZYDIS_MNEMONIC_MOVNTI:
        case ZYDIS_MNEMONIC_LFENCE:
        case ZYDIS_MNEMONIC_MFENCE:
        case ZYDIS_MNEMONIC_SFENCE:
        case ZYDIS_MNEMONIC_PAUSE:
        case ZYDIS_MNEMONIC_POPCNT:
        case ZYDIS_MNEMONIC_CLFLUSH: return true;
        default: return false;
    }
}

}  // namespace

std::optional<Flow> translate_native(SoftEngine& engine, const Decoded& d, uint8_t flavour, Insn& out) {
    if (const Handler handler = state_instruction(d)) {
        set_any_memory(d, flavour, out);
        out.size = static_cast<uint8_t>(d.z.operand_width / 8);
        const bool area = d.z.meta.category == ZYDIS_CATEGORY_XSAVE || d.z.meta.category == ZYDIS_CATEGORY_XSAVEOPT ||
                          d.z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE64;
        const bool wide = area && d.z.raw.rex.W;
        if (wide) out.size = 8;
        if (d.z.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || d.z.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
            d.z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) {
            out.size = d.z.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ? 8 : 16;
            const ZydisRegister first = out.size == 8 ? ZYDIS_REGISTER_MM0 : ZYDIS_REGISTER_XMM0;
            unsigned seen = 0;
            for (unsigned n = 0; n < d.z.operand_count && seen < 2; ++n) {
                const auto c = d.is_reg(n) ? ZydisRegisterGetClass(d.op(n).reg.value) : ZYDIS_REGCLASS_INVALID;
                if (c != ZYDIS_REGCLASS_MMX && c != ZYDIS_REGCLASS_XMM) continue;
                (seen++ == 0 ? out.dst : out.src) = static_cast<uint8_t>(d.op(n).reg.value - first);
            }
            out.mask = d.z.address_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d.z.address_width) - 1;
            out.seg = DS;
            for (unsigned n = 0; n < d.z.operand_count; ++n) {
                if (d.is_mem(n)) out.seg = static_cast<uint8_t>(d.op(n).mem.segment - ZYDIS_REGISTER_ES);
            }
        }
        out.handler = handler;
        return Flow::goes_on;
    }
    if (d.z.meta.isa_set == ZYDIS_ISA_SET_AVX2GATHER) {
        translate_gather(d, flavour, out);
        return Flow::goes_on;
    }
    const auto unit = unit_of(d);
    if (!unit || is_plain(d.z.mnemonic)) return std::nullopt;
    set_any_memory(d, flavour, out);
    const NativeOp* op = *unit == Unit::x87 ? engine.native.x87_op(d) : engine.native.vector_op(d, *unit);
    if (!op) return std::nullopt;
    out.extra = op;
    out.opcode = static_cast<uint32_t>((d.z.opcode & 7) << 8 | d.z.raw.modrm.mod << 6 | d.z.raw.modrm.reg << 3 |
                                       d.z.raw.modrm.rm);
    out.handler = native_handler(*op);
    return Flow::goes_on;
}

}  // namespace viv::soft
