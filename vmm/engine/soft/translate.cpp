// From Zydis to handlers: operands, and the integer arithmetic.
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/feature_table.hpp"
#include "vmm/engine/soft/translator.hpp"

namespace viv::soft {

uint8_t slot_of(ZydisRegister reg) {
    const auto id = [reg](ZydisRegister first) { return static_cast<unsigned>(reg - first); };
    switch (ZydisRegisterGetClass(reg)) {
        case ZYDIS_REGCLASS_GPR8: {
            const unsigned n = id(ZYDIS_REGISTER_AL);
            if (n < 4) return static_cast<uint8_t>(n * 8);
            if (n < 8) return static_cast<uint8_t>((n - 4) * 8 + 1);
            return static_cast<uint8_t>((n - 4) * 8);
        }
        case ZYDIS_REGCLASS_GPR16: return static_cast<uint8_t>(id(ZYDIS_REGISTER_AX) * 8);
        case ZYDIS_REGCLASS_GPR32: return static_cast<uint8_t>(id(ZYDIS_REGISTER_EAX) * 8);
        case ZYDIS_REGCLASS_GPR64: return static_cast<uint8_t>(id(ZYDIS_REGISTER_RAX) * 8);
        case ZYDIS_REGCLASS_IP: return slot_rip;
        default: return slot_zero;
    }
}

void set_memory(const Decoded& d, const ZydisDecodedOperand& operand, uint8_t flavour, Insn& out) {
    const auto& m = operand.mem;
    out.flags |= insn_memory;
    out.base = slot_of(m.base);
    out.index = m.index == ZYDIS_REGISTER_NONE ? slot_zero : slot_of(m.index);
    out.scale = m.scale >= 8 ? 3 : static_cast<uint8_t>(m.scale / 2);
    out.disp = m.disp.has_displacement ? m.disp.value : 0;
    if (out.base == slot_rip) out.disp += out.offset + d.z.length;
    out.mask = d.z.address_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d.z.address_width) - 1;
    out.seg = static_cast<uint8_t>(m.segment - ZYDIS_REGISTER_ES);
    const bool code64 = (flavour & Flavour::code_size_mask) == 2;
    const bool flat = (flavour & Flavour::flat) && (out.seg == ES || out.seg == SS || out.seg == DS);
    if (!code64 && !flat) out.flags |= insn_checked;
}

uint8_t source_segment(const Decoded& d) {
    const ZydisInstructionAttributes a = d.z.attributes;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_CS) return CS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_SS) return SS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_ES) return ES;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_FS) return FS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_GS) return GS;
    return DS;
}

bool Translator::run() {
    const ZydisMnemonic m = d_.z.mnemonic;
    out_.size = static_cast<uint8_t>(d_.z.operand_width / 8);
    return arithmetic(m) || moves(m) || branches(m) || strings(m) || plain(m) || system(m);
}

Form Translator::form2() const {
    if (d_.is_mem(0)) return d_.is_imm(1) ? Form::mi : Form::mr;
    if (d_.is_mem(1)) return Form::rm;
    return d_.is_imm(1) ? Form::ri : Form::rr;
}

Form Translator::operands2() {
    for (unsigned n = 0; n < 2; ++n) {
        if (d_.is_mem(n)) set_memory(d_, d_.op(n), flavour_, out_);
        if (d_.is_imm(n)) out_.imm = d_.op(n).imm.value.u;
    }
    if (d_.is_reg(0)) out_.dst = slot_of(d_.op(0).reg.value);
    if (d_.is_reg(1)) out_.src = slot_of(d_.op(1).reg.value);
    return form2();
}

Form Translator::operand1() {
    if (d_.is_mem(0)) {
        set_memory(d_, d_.op(0), flavour_, out_);
        return Form::m;
    }
    out_.dst = out_.src = slot_of(d_.op(0).reg.value);
    return Form::r;
}

bool Translator::binary(Binary operation) {
    const Form form = operands2();
    // TEST and XCHG know no difference between their operands.
    if (operation == Binary::test && form == Form::rm) return set(binary_handler(operation, Form::rm, d_.size(0)));
    return set(binary_handler(operation, form, d_.size(0)));
}

bool Translator::unary(Unary operation) {
    const Form form = operand1();
    return set(unary_handler(operation, form, d_.size(0)));
}

bool Translator::shift(Shift operation) {
    const Form form = operand1();
    const bool by_cl = d_.is_reg(1);
    if (!by_cl) out_.imm = d_.is_imm(1) ? d_.op(1).imm.value.u : 1;
    return set(shift_handler(operation, form, by_cl ? Count::cl : Count::immediate, d_.size(0)));
}

bool Translator::double_shift(DoubleShift direction) {
    const Form form = operands2();
    const bool by_cl = d_.is_reg(2);
    if (!by_cl) out_.imm = d_.op(2).imm.value.u;
    return set(double_shift_handler(direction, form, by_cl ? Count::cl : Count::immediate, d_.size(0)));
}

bool Translator::bit(BitOp operation) {
    const Form form = operands2();
    return set(bit_handler(operation, form, d_.size(0)));
}

bool Translator::scan(BitScan operation) {
    const Form form = operands2();
    return set(bit_scan_handler(operation, form, d_.size(0)));
}

bool Translator::arithmetic(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_ADD: return binary(Binary::add);
        case ZYDIS_MNEMONIC_OR: return binary(Binary::orr);
        case ZYDIS_MNEMONIC_ADC: return binary(Binary::adc);
        case ZYDIS_MNEMONIC_SBB: return binary(Binary::sbb);
        case ZYDIS_MNEMONIC_AND: return binary(Binary::andd);
        case ZYDIS_MNEMONIC_SUB: return binary(Binary::sub);
        case ZYDIS_MNEMONIC_XOR: return binary(Binary::xorr);
        case ZYDIS_MNEMONIC_CMP: return binary(Binary::cmp);
        case ZYDIS_MNEMONIC_TEST: return binary(Binary::test);
        case ZYDIS_MNEMONIC_INC: return unary(Unary::inc);
        case ZYDIS_MNEMONIC_DEC: return unary(Unary::dec);
        case ZYDIS_MNEMONIC_NEG: return unary(Unary::neg);
        case ZYDIS_MNEMONIC_NOT: return unary(Unary::nott);
        case ZYDIS_MNEMONIC_ROL: return shift(Shift::rol);
        case ZYDIS_MNEMONIC_ROR: return shift(Shift::ror);
        case ZYDIS_MNEMONIC_RCL: return shift(Shift::rcl);
        case ZYDIS_MNEMONIC_RCR: return shift(Shift::rcr);
        case ZYDIS_MNEMONIC_SHL: return shift(Shift::shl);
        case ZYDIS_MNEMONIC_SALC: return set(simple<salc>);
        case ZYDIS_MNEMONIC_SHR: return shift(Shift::shr);
        case ZYDIS_MNEMONIC_SAR: return shift(Shift::sar);
        case ZYDIS_MNEMONIC_SHLD: return double_shift(DoubleShift::left);
        case ZYDIS_MNEMONIC_SHRD: return double_shift(DoubleShift::right);
        case ZYDIS_MNEMONIC_BT: return bit(BitOp::test);
        case ZYDIS_MNEMONIC_BTS: return bit(BitOp::set);
        case ZYDIS_MNEMONIC_BTR: return bit(BitOp::reset);
        case ZYDIS_MNEMONIC_BTC: return bit(BitOp::complement);
        case ZYDIS_MNEMONIC_BSF: return scan(BitScan::bsf);
        case ZYDIS_MNEMONIC_BSR: return scan(BitScan::bsr);
        // On a processor that does not know them the prefix means nothing.
        case ZYDIS_MNEMONIC_TZCNT: return scan(features_.has(CpuFeature::bmi1) ? BitScan::tzcnt : BitScan::bsf);
        case ZYDIS_MNEMONIC_LZCNT: return scan(features_.has(CpuFeature::abm) ? BitScan::lzcnt : BitScan::bsr);
        case ZYDIS_MNEMONIC_POPCNT: return scan(BitScan::popcnt);
        case ZYDIS_MNEMONIC_XADD: {
            const Form form = operands2();
            return set(xadd_handler(form, d_.size(0)));
        }
        case ZYDIS_MNEMONIC_CMPXCHG: {
            const Form form = operands2();
            return set(cmpxchg_handler(form, d_.size(0)));
        }
        case ZYDIS_MNEMONIC_CMPXCHG8B: operand1(); return set(simple<cmpxchg8b>);
        case ZYDIS_MNEMONIC_CMPXCHG16B: operand1(); return set(simple<cmpxchg16b>);
        case ZYDIS_MNEMONIC_MUL: operand1(); return set(multiply_handler(false, d_.size(0)));
        case ZYDIS_MNEMONIC_DIV: operand1(); return set(divide_handler(false, d_.size(0)));
        case ZYDIS_MNEMONIC_IDIV: operand1(); return set(divide_handler(true, d_.size(0)));
        case ZYDIS_MNEMONIC_IMUL: return imul();
        case ZYDIS_MNEMONIC_AAA: return set(simple<aaa>);
        case ZYDIS_MNEMONIC_AAS: return set(simple<aas>);
        case ZYDIS_MNEMONIC_AAM: out_.imm = d_.op(0).imm.value.u; return set(simple<aam>);
        case ZYDIS_MNEMONIC_AAD: out_.imm = d_.op(0).imm.value.u; return set(simple<aad>);
        case ZYDIS_MNEMONIC_DAA: return set(simple<daa>);
        case ZYDIS_MNEMONIC_DAS: return set(simple<das>);
        default: return false;
    }
}

bool Translator::imul() {
    if (d_.z.operand_count_visible == 1) {
        operand1();
        return set(multiply_handler(true, d_.size(0)));
    }
    const Form form = operands2();
    const bool immediate = d_.z.operand_count_visible == 3;
    if (immediate) out_.imm = d_.op(2).imm.value.u;
    return set(imul_handler(form, immediate, d_.size(0)));
}
Flow translate_instruction(SoftEngine& engine, const Decoded& d, uint8_t flavour, uint16_t offset, Insn& out) {
    out = {};
    out.offset = offset;
    out.length = d.z.length;
    if (has_instruction(engine.features.set, d.z)) {
        if (const auto flow = translate_native(engine, d, flavour, out)) return *flow;
        Translator translator(engine.features.set, d, flavour, out);
        if (translator.run() && out.handler) {
            if (const Handler handler = handler_among_others(engine, d)) out.handler = handler;
            return translator.flow();
        }
    }
    out.handler = ending<undefined>;
    return Flow::ends;
}

}  // namespace viv::soft
