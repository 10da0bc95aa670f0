// From Zydis to handlers: the integer and system instructions.
#include <array>

#include "vmm/engine/soft/bits.hpp"
#include "vmm/engine/soft/control_flow.hpp"
#include "vmm/engine/soft/decode.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/feature_table.hpp"
#include "vmm/engine/soft/muldiv.hpp"
#include "vmm/engine/soft/segments.hpp"
#include "vmm/engine/soft/select.hpp"
#include "vmm/engine/soft/strings.hpp"
#include "vmm/engine/soft/system.hpp"

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

namespace {

/// The segment of a string instruction's source.
uint8_t source_segment(const Decoded& d) {
    const ZydisInstructionAttributes a = d.z.attributes;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_CS) return CS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_SS) return SS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_ES) return ES;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_FS) return FS;
    if (a & ZYDIS_ATTRIB_HAS_SEGMENT_GS) return GS;
    return DS;
}

class Translator {
  public:
    Translator(const CpuFeatureSet& features, const Decoded& d, uint8_t flavour, Insn& out)
        : features_(features), d_(d), flavour_(flavour), out_(out) {}

    /// False when it is none of these.
    bool run() {
        const ZydisMnemonic m = d_.z.mnemonic;
        out_.size = static_cast<uint8_t>(d_.z.operand_width / 8);
        return arithmetic(m) || moves(m) || branches(m) || strings(m) || plain(m) || system(m);
    }
    [[nodiscard]] Flow flow() const { return flow_; }

  private:
    Form form2() const {
        if (d_.is_mem(0)) return d_.is_imm(1) ? Form::mi : Form::mr;
        if (d_.is_mem(1)) return Form::rm;
        return d_.is_imm(1) ? Form::ri : Form::rr;
    }
    /// Two operands, the destination first.
    Form operands2() {
        for (unsigned n = 0; n < 2; ++n) {
            if (d_.is_mem(n)) set_memory(d_, d_.op(n), flavour_, out_);
            if (d_.is_imm(n)) out_.imm = d_.op(n).imm.value.u;
        }
        if (d_.is_reg(0)) out_.dst = slot_of(d_.op(0).reg.value);
        if (d_.is_reg(1)) out_.src = slot_of(d_.op(1).reg.value);
        return form2();
    }
    Form operand1() {
        if (d_.is_mem(0)) {
            set_memory(d_, d_.op(0), flavour_, out_);
            return Form::m;
        }
        out_.dst = out_.src = slot_of(d_.op(0).reg.value);
        return Form::r;
    }
    bool set(Handler handler) {
        out_.handler = handler;
        return true;
    }
    bool set_ending(Handler handler) {
        flow_ = Flow::ends;
        return set(handler);
    }
    bool binary(Binary operation) {
        const Form form = operands2();
        // TEST and XCHG know no difference between their operands.
        if (operation == Binary::test && form == Form::rm) return set(binary_handler(operation, Form::rm, d_.size(0)));
        return set(binary_handler(operation, form, d_.size(0)));
    }
    bool unary(Unary operation) {
        const Form form = operand1();
        return set(unary_handler(operation, form, d_.size(0)));
    }
    bool shift(Shift operation) {
        const Form form = operand1();
        const bool by_cl = d_.is_reg(1);
        if (!by_cl) out_.imm = d_.is_imm(1) ? d_.op(1).imm.value.u : 1;
        return set(shift_handler(operation, form, by_cl ? Count::cl : Count::immediate, d_.size(0)));
    }
    bool double_shift(DoubleShift direction) {
        const Form form = operands2();
        const bool by_cl = d_.is_reg(2);
        if (!by_cl) out_.imm = d_.op(2).imm.value.u;
        return set(double_shift_handler(direction, form, by_cl ? Count::cl : Count::immediate, d_.size(0)));
    }
    bool bit(BitOp operation) {
        const Form form = operands2();
        return set(bit_handler(operation, form, d_.size(0)));
    }
    bool scan(BitScan operation) {
        const Form form = operands2();
        return set(bit_scan_handler(operation, form, d_.size(0)));
    }

    bool arithmetic(ZydisMnemonic m) {
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

    bool imul() {
        if (d_.z.operand_count_visible == 1) {
            operand1();
            return set(multiply_handler(true, d_.size(0)));
        }
        const Form form = operands2();
        const bool immediate = d_.z.operand_count_visible == 3;
        if (immediate) out_.imm = d_.op(2).imm.value.u;
        return set(imul_handler(form, immediate, d_.size(0)));
    }

    bool mov() {
        if (d_.is_reg(0) && is_special(d_.op(0).reg.value)) return mov_special(true, d_.op(0).reg.value);
        if (d_.is_reg(1) && is_special(d_.op(1).reg.value)) return mov_special(false, d_.op(1).reg.value);
        const Form form = operands2();
        return set(mov_handler(form, d_.size(0)));
    }
    static bool is_special(ZydisRegister reg) {
        const auto c = ZydisRegisterGetClass(reg);
        return c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG ||
               c == ZYDIS_REGCLASS_TEST;
    }
    bool mov_special(bool to, ZydisRegister reg) {
        operands2();
        switch (ZydisRegisterGetClass(reg)) {
            case ZYDIS_REGCLASS_SEGMENT:
                out_.aux = static_cast<uint8_t>(reg - ZYDIS_REGISTER_ES);
                if (!to) {
                    out_.size = static_cast<uint8_t>(d_.size(0));
                    return set(simple<mov_from_segment>);
                }
                if (out_.aux == CS) return set_ending(ending<undefined>);
                return load_segment_handler<mov_to_segment>();
            case ZYDIS_REGCLASS_CONTROL:
                out_.aux = static_cast<uint8_t>(reg - ZYDIS_REGISTER_CR0);
                return to ? set_ending(ending<mov_to_cr>) : set(simple<mov_from_cr>);
            case ZYDIS_REGCLASS_DEBUG:
                out_.aux = static_cast<uint8_t>(reg - ZYDIS_REGISTER_DR0);
                return set_ending(to ? ending<mov_to_dr> : ending<mov_from_dr>);
            default: return set_ending(ending<undefined>);
        }
    }
    /// A load of SS has a shadow, and any may change whether data needs checks.
    template <Semantics function>
    bool load_segment_handler() {
        if (out_.aux == SS) return set_ending(ending<function>);
        return set(mode_changing<function>);
    }

    bool moves(ZydisMnemonic m) {
        switch (m) {
            case ZYDIS_MNEMONIC_MOV: return mov();
            case ZYDIS_MNEMONIC_MOVZX: return extend(Extend::zero);
            case ZYDIS_MNEMONIC_MOVSX:
            case ZYDIS_MNEMONIC_MOVSXD: return extend(Extend::sign);
            case ZYDIS_MNEMONIC_LEA: operands2(); return set(lea_handler(d_.size(0)));
            case ZYDIS_MNEMONIC_XCHG: {
                Form form = operands2();
                if (form == Form::rm) {
                    out_.src = out_.dst;
                    form = Form::mr;
                }
                return set(xchg_handler(form, d_.size(0)));
            }
            case ZYDIS_MNEMONIC_BSWAP: operand1(); return set(bswap_handler(d_.size(0)));
            case ZYDIS_MNEMONIC_MOVBE: {
                const Form form = operands2();
                return set(movbe_handler(form, d_.size(0)));
            }
            case ZYDIS_MNEMONIC_MOVNTI: {
                const Form form = operands2();
                return set(mov_handler(form, d_.size(0)));
            }
            case ZYDIS_MNEMONIC_PUSH: return push_operand();
            case ZYDIS_MNEMONIC_POP: return pop_operand();
            case ZYDIS_MNEMONIC_LDS: return far_load(DS);
            case ZYDIS_MNEMONIC_LES: return far_load(ES);
            case ZYDIS_MNEMONIC_LSS: return far_load(SS);
            case ZYDIS_MNEMONIC_LFS: return far_load(FS);
            case ZYDIS_MNEMONIC_LGS: return far_load(GS);
            default: break;
        }
        const int condition = condition_of(m, cmov_mnemonics);
        if (condition >= 0) {
            const Form form = operands2();
            return set(cmov_handler(static_cast<unsigned>(condition), form, d_.size(0)));
        }
        const int setting = condition_of(m, set_mnemonics);
        if (setting >= 0) {
            const Form form = operand1();
            return set(setcc_handler(static_cast<unsigned>(setting), form));
        }
        return false;
    }
    bool extend(Extend kind) {
        const Form form = operands2();
        // MOVSXD with an operand size of 16 or 32 is a plain move.
        if (d_.size(1) >= d_.size(0)) return set(mov_handler(form, d_.size(0)));
        return set(extend_handler(kind, form, d_.size(1), d_.size(0)));
    }
    bool push_operand() {
        if (d_.is_imm(0)) {
            out_.imm = d_.op(0).imm.value.u;
            out_.seg = SS;
            return set(push_handler(Form::ri, out_.size));
        }
        if (d_.is_reg(0) && ZydisRegisterGetClass(d_.op(0).reg.value) == ZYDIS_REGCLASS_SEGMENT) {
            out_.aux = static_cast<uint8_t>(d_.op(0).reg.value - ZYDIS_REGISTER_ES);
            return set(simple<push_segment>);
        }
        const Form form = operand1();
        return set(push_handler(form, out_.size));
    }
    bool pop_operand() {
        if (d_.is_reg(0) && ZydisRegisterGetClass(d_.op(0).reg.value) == ZYDIS_REGCLASS_SEGMENT) {
            out_.aux = static_cast<uint8_t>(d_.op(0).reg.value - ZYDIS_REGISTER_ES);
            return load_segment_handler<pop_segment>();
        }
        const Form form = operand1();
        return set(pop_handler(form, out_.size));
    }
    bool far_load(Seg which) {
        operands2();
        out_.aux = which;
        return load_segment_handler<load_far_pointer>();
    }

    void direct_target() {
        out_.imm = static_cast<uint64_t>(d_.op(0).imm.value.s + out_.offset + d_.z.length);
        out_.mask = d_.z.operand_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d_.z.operand_width) - 1;
    }
    bool far_target(Handler handler) {
        if (d_.is_mem(0)) {
            set_memory(d_, d_.op(0), flavour_, out_);
        } else {
            out_.imm = d_.op(0).ptr.offset;
            out_.disp = d_.op(0).ptr.segment;
        }
        return set_ending(handler);
    }
    bool is_far() const { return d_.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR; }
    bool loop(LoopKind kind) {
        direct_target();
        out_.aux = static_cast<uint8_t>(d_.z.address_width / 8);
        return set_ending(loop_handler(kind));
    }

    /// A REP prefix decides over the opcode, as processors do and no manual says.
    LoopKind loop_kind() const {
        LoopKind kind = d_.z.opcode == 0xE1 ? LoopKind::loope : LoopKind::loopne;
        for (unsigned n = 0; n < d_.z.raw.prefix_count; ++n) {
            if (d_.z.raw.prefixes[n].value == 0xF2) kind = LoopKind::loopne;
            if (d_.z.raw.prefixes[n].value == 0xF3) kind = LoopKind::loope;
        }
        return kind;
    }

    bool branches(ZydisMnemonic m) {
        const int condition = condition_of(m, jump_mnemonics);
        if (condition >= 0) {
            direct_target();
            return set_ending(jcc_handler(static_cast<unsigned>(condition)));
        }
        switch (m) {
            case ZYDIS_MNEMONIC_JMP:
                if (is_far()) return far_target(ending<jmp_far>);
                if (d_.is_imm(0)) {
                    direct_target();
                    return set_ending(jmp_direct);
                }
                return set_ending(jmp_indirect_handler(operand1(), out_.size));
            case ZYDIS_MNEMONIC_CALL:
                if (is_far()) return far_target(ending<call_far>);
                if (d_.is_imm(0)) {
                    direct_target();
                    return set_ending(call_direct_handler(out_.size));
                }
                return set_ending(call_indirect_handler(operand1(), out_.size));
            case ZYDIS_MNEMONIC_RET:
                if (d_.is_imm(0)) out_.imm = d_.op(0).imm.value.u & 0xFFFF;
                if (is_far()) return set_ending(ending<ret_far>);
                return set_ending(ret_handler(out_.size));
            case ZYDIS_MNEMONIC_JCXZ:
            case ZYDIS_MNEMONIC_JECXZ:
            case ZYDIS_MNEMONIC_JRCXZ: return loop(LoopKind::jcxz);
            case ZYDIS_MNEMONIC_LOOP: return loop(LoopKind::loop);
            case ZYDIS_MNEMONIC_LOOPE:
            case ZYDIS_MNEMONIC_LOOPNE: return loop(loop_kind());
            case ZYDIS_MNEMONIC_INT: out_.imm = d_.op(0).imm.value.u; return set_ending(ending<int_n>);
            case ZYDIS_MNEMONIC_INT3: return set_ending(ending<int3>);
            case ZYDIS_MNEMONIC_INT1: return set_ending(ending<int1>);
            case ZYDIS_MNEMONIC_INTO: return set_ending(ending<into>);
            case ZYDIS_MNEMONIC_IRET:
            case ZYDIS_MNEMONIC_IRETD:
            case ZYDIS_MNEMONIC_IRETQ: return set_ending(transfer<iret>);
            case ZYDIS_MNEMONIC_SYSCALL: return set_ending(transfer<syscall>);
            case ZYDIS_MNEMONIC_SYSRET: return set_ending(transfer<sysret>);
            case ZYDIS_MNEMONIC_SYSENTER: return set_ending(ending<sysenter>);
            case ZYDIS_MNEMONIC_SYSEXIT: return set_ending(ending<sysexit>);
            case ZYDIS_MNEMONIC_UD0:
            case ZYDIS_MNEMONIC_UD1:
            case ZYDIS_MNEMONIC_UD2: return set_ending(ending<undefined>);
            default: return false;
        }
    }

    bool string(StringOp operation, unsigned size) {
        out_.size = static_cast<uint8_t>(size);
        out_.mask = d_.z.address_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d_.z.address_width) - 1;
        out_.seg = source_segment(d_);
        const ZydisInstructionAttributes a = d_.z.attributes;
        const bool repeat = a & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
        if (a & ZYDIS_ATTRIB_HAS_REPNE) out_.flags |= insn_repne;
        const bool io = operation == StringOp::ins || operation == StringOp::outs;
        if (io) flow_ = Flow::ends;  // what follows may be new code, or an interrupt
        return set(string_handler(operation, size, repeat));
    }
    bool strings(ZydisMnemonic m) {
        if (d_.z.meta.category != ZYDIS_CATEGORY_STRINGOP && d_.z.meta.category != ZYDIS_CATEGORY_IOSTRINGOP) {
            return false;
        }
        switch (m) {
            case ZYDIS_MNEMONIC_MOVSB: return string(StringOp::movs, 1);
            case ZYDIS_MNEMONIC_MOVSW: return string(StringOp::movs, 2);
            case ZYDIS_MNEMONIC_MOVSD: return string(StringOp::movs, 4);
            case ZYDIS_MNEMONIC_MOVSQ: return string(StringOp::movs, 8);
            case ZYDIS_MNEMONIC_STOSB: return string(StringOp::stos, 1);
            case ZYDIS_MNEMONIC_STOSW: return string(StringOp::stos, 2);
            case ZYDIS_MNEMONIC_STOSD: return string(StringOp::stos, 4);
            case ZYDIS_MNEMONIC_STOSQ: return string(StringOp::stos, 8);
            case ZYDIS_MNEMONIC_LODSB: return string(StringOp::lods, 1);
            case ZYDIS_MNEMONIC_LODSW: return string(StringOp::lods, 2);
            case ZYDIS_MNEMONIC_LODSD: return string(StringOp::lods, 4);
            case ZYDIS_MNEMONIC_LODSQ: return string(StringOp::lods, 8);
            case ZYDIS_MNEMONIC_CMPSB: return string(StringOp::cmps, 1);
            case ZYDIS_MNEMONIC_CMPSW: return string(StringOp::cmps, 2);
            case ZYDIS_MNEMONIC_CMPSD: return string(StringOp::cmps, 4);
            case ZYDIS_MNEMONIC_CMPSQ: return string(StringOp::cmps, 8);
            case ZYDIS_MNEMONIC_SCASB: return string(StringOp::scas, 1);
            case ZYDIS_MNEMONIC_SCASW: return string(StringOp::scas, 2);
            case ZYDIS_MNEMONIC_SCASD: return string(StringOp::scas, 4);
            case ZYDIS_MNEMONIC_SCASQ: return string(StringOp::scas, 8);
            case ZYDIS_MNEMONIC_INSB: return string(StringOp::ins, 1);
            case ZYDIS_MNEMONIC_INSW: return string(StringOp::ins, 2);
            case ZYDIS_MNEMONIC_INSD: return string(StringOp::ins, 4);
            case ZYDIS_MNEMONIC_OUTSB: return string(StringOp::outs, 1);
            case ZYDIS_MNEMONIC_OUTSW: return string(StringOp::outs, 2);
            case ZYDIS_MNEMONIC_OUTSD: return string(StringOp::outs, 4);
            default: return false;
        }
    }

    bool plain(ZydisMnemonic m) {
        switch (m) {
            case ZYDIS_MNEMONIC_PAUSE:
                if (d_.z.raw.rex.B == 0) return set(simple<nop>);
                // F3 REX.B 90 is an exchange of R8 with the accumulator.
                out_.dst = R8 * 8;
                out_.src = RAX * 8;
                return set(xchg_handler(Form::rr, out_.size));
            case ZYDIS_MNEMONIC_NOP:
            case ZYDIS_MNEMONIC_LFENCE:
            case ZYDIS_MNEMONIC_SFENCE:
            case ZYDIS_MNEMONIC_MFENCE:
            case ZYDIS_MNEMONIC_PREFETCH:
            case ZYDIS_MNEMONIC_PREFETCHW:
            case ZYDIS_MNEMONIC_PREFETCHNTA:
            case ZYDIS_MNEMONIC_PREFETCHWT1:
            case ZYDIS_MNEMONIC_PREFETCHT0:
            case ZYDIS_MNEMONIC_PREFETCHT1:
            case ZYDIS_MNEMONIC_PREFETCHT2:
            case ZYDIS_MNEMONIC_ENDBR32:
            case ZYDIS_MNEMONIC_ENDBR64: return set(simple<nop>);
            case ZYDIS_MNEMONIC_CLFLUSH:
            case ZYDIS_MNEMONIC_CLFLUSHOPT: operand1(); return set(simple<touch>);
            case ZYDIS_MNEMONIC_CBW:
            case ZYDIS_MNEMONIC_CWDE:
            case ZYDIS_MNEMONIC_CDQE: return set(simple<convert>);
            case ZYDIS_MNEMONIC_CWD:
            case ZYDIS_MNEMONIC_CDQ:
            case ZYDIS_MNEMONIC_CQO: return set(simple<convert_double>);
            case ZYDIS_MNEMONIC_LAHF: return set(simple<lahf>);
            case ZYDIS_MNEMONIC_SAHF: return set(simple<sahf>);
            case ZYDIS_MNEMONIC_CLC: return set(simple<clc>);
            case ZYDIS_MNEMONIC_STC: return set(simple<stc>);
            case ZYDIS_MNEMONIC_CMC: return set(simple<cmc>);
            case ZYDIS_MNEMONIC_CLD: return set(simple<cld>);
            case ZYDIS_MNEMONIC_STD: return set(simple<std_instruction>);
            case ZYDIS_MNEMONIC_XLAT:
                out_.seg = source_segment(d_);
                out_.mask = d_.z.address_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d_.z.address_width) - 1;
                return set(simple<xlat>);
            case ZYDIS_MNEMONIC_PUSHF:
            case ZYDIS_MNEMONIC_PUSHFD:
            case ZYDIS_MNEMONIC_PUSHFQ: return set(simple<pushf>);
            case ZYDIS_MNEMONIC_POPF:
            case ZYDIS_MNEMONIC_POPFD:
            case ZYDIS_MNEMONIC_POPFQ: return set_ending(ending<popf>);
            case ZYDIS_MNEMONIC_PUSHA:
            case ZYDIS_MNEMONIC_PUSHAD: return set(simple<pusha>);
            case ZYDIS_MNEMONIC_POPA:
            case ZYDIS_MNEMONIC_POPAD: return set(simple<popa>);
            case ZYDIS_MNEMONIC_ENTER:
                out_.imm = d_.op(0).imm.value.u & 0xFFFF;
                out_.aux = static_cast<uint8_t>(d_.op(1).imm.value.u);
                return set(simple<enter_instruction>);
            case ZYDIS_MNEMONIC_LEAVE: return set(simple<leave_instruction>);
            case ZYDIS_MNEMONIC_BOUND: operands2(); return set(simple<bound>);
            default: return false;
        }
    }

    bool selector(Semantics, Handler handler) {
        operand1();
        return set(handler);
    }
    bool port(Handler handler, unsigned operand) {
        out_.aux = d_.is_reg(operand) ? 1 : 0;
        if (!out_.aux) out_.imm = d_.op(operand).imm.value.u & 0xFF;
        out_.size = static_cast<uint8_t>(d_.size(1 - operand));
        return set_ending(handler);
    }

    bool system(ZydisMnemonic m) {
        switch (m) {
            case ZYDIS_MNEMONIC_IN: return port(ending<in_instruction>, 1);
            case ZYDIS_MNEMONIC_OUT: return port(ending<out_instruction>, 0);
            case ZYDIS_MNEMONIC_HLT: return set_ending(ending<hlt>);
            case ZYDIS_MNEMONIC_CLI: return set(simple<cli>);
            case ZYDIS_MNEMONIC_STI: return set_ending(ending<sti>);
            case ZYDIS_MNEMONIC_CLAC: return set(simple<clac>);
            case ZYDIS_MNEMONIC_STAC: return set(simple<stac>);
            case ZYDIS_MNEMONIC_LGDT: operand1(); return set(simple<lgdt>);
            case ZYDIS_MNEMONIC_LIDT: operand1(); return set(simple<lidt>);
            case ZYDIS_MNEMONIC_SGDT: operand1(); return set(simple<sgdt>);
            case ZYDIS_MNEMONIC_SIDT: operand1(); return set(simple<sidt>);
            case ZYDIS_MNEMONIC_LLDT: operand1(); return set(simple<lldt>);
            case ZYDIS_MNEMONIC_LTR: operand1(); return set(simple<ltr>);
            case ZYDIS_MNEMONIC_SLDT: operand1(); return set_sized(simple<sldt>);
            case ZYDIS_MNEMONIC_STR: operand1(); return set_sized(simple<str>);
            case ZYDIS_MNEMONIC_SMSW: operand1(); return set_sized(simple<smsw>);
            case ZYDIS_MNEMONIC_LMSW: operand1(); return set_ending(ending<lmsw>);
            case ZYDIS_MNEMONIC_CLTS: return set(simple<clts>);
            case ZYDIS_MNEMONIC_INVLPG: operand1(); return set_ending(ending<invlpg>);
            case ZYDIS_MNEMONIC_INVPCID: operands2(); return set_ending(ending<invpcid>);
            case ZYDIS_MNEMONIC_INVD:
            case ZYDIS_MNEMONIC_WBINVD: return set(simple<wbinvd>);
            case ZYDIS_MNEMONIC_RDMSR: return set_ending(ending<rdmsr>);
            case ZYDIS_MNEMONIC_WRMSR: return set_ending(ending<wrmsr>);
            case ZYDIS_MNEMONIC_RDTSC: return set(simple<rdtsc>);
            case ZYDIS_MNEMONIC_RDTSCP: return set(simple<rdtscp>);
            case ZYDIS_MNEMONIC_RDPMC: return set_ending(ending<rdpmc>);
            case ZYDIS_MNEMONIC_RDPID: operand1(); return set(simple<rdpid>);
            case ZYDIS_MNEMONIC_RDRAND:
            case ZYDIS_MNEMONIC_RDSEED: operand1(); return set(simple<rdrand>);
            case ZYDIS_MNEMONIC_CPUID: return set(simple<cpuid_instruction>);
            case ZYDIS_MNEMONIC_RDPKRU: return set(simple<rdpkru>);
            case ZYDIS_MNEMONIC_WRPKRU: return set(simple<wrpkru>);
            case ZYDIS_MNEMONIC_SWAPGS: return set(simple<swapgs>);
            case ZYDIS_MNEMONIC_RDFSBASE: return base(simple<rdfsbase>, FS);
            case ZYDIS_MNEMONIC_RDGSBASE: return base(simple<rdfsbase>, GS);
            case ZYDIS_MNEMONIC_WRFSBASE: return base(simple<wrfsbase>, FS);
            case ZYDIS_MNEMONIC_WRGSBASE: return base(simple<wrfsbase>, GS);
            case ZYDIS_MNEMONIC_LAR: operands2(); return set_sized(simple<lar>);
            case ZYDIS_MNEMONIC_LSL: operands2(); return set_sized(simple<lsl>);
            case ZYDIS_MNEMONIC_VERR: operand1(); return set(simple<verr>);
            case ZYDIS_MNEMONIC_VERW: operand1(); return set(simple<verw>);
            case ZYDIS_MNEMONIC_ARPL: operands2(); return set(simple<arpl>);
            case ZYDIS_MNEMONIC_XGETBV: return set(simple<xgetbv>);
            case ZYDIS_MNEMONIC_XSETBV: return set_ending(ending<xsetbv>);
            case ZYDIS_MNEMONIC_MONITOR:
                out_.seg = source_segment(d_);
                out_.mask = d_.z.address_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d_.z.address_width) - 1;
                return set(simple<monitor>);
            case ZYDIS_MNEMONIC_MWAIT: return set_ending(ending<mwait>);
            default: return false;
        }
    }
    bool set_sized(Handler handler) {
        out_.size = static_cast<uint8_t>(d_.is_mem(0) ? 2 : d_.size(0));
        return set(handler);
    }
    bool base(Handler handler, Seg which) {
        operand1();
        out_.aux = which;
        out_.size = static_cast<uint8_t>(d_.size(0));
        return set(handler);
    }

    using Conditions = std::array<ZydisMnemonic, 16>;
    static constexpr Conditions jump_mnemonics{
        ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JNB,
        ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE,
        ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JP,  ZYDIS_MNEMONIC_JNP,
        ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE, ZYDIS_MNEMONIC_JNLE};
    static constexpr Conditions set_mnemonics{
        ZYDIS_MNEMONIC_SETO, ZYDIS_MNEMONIC_SETNO, ZYDIS_MNEMONIC_SETB,  ZYDIS_MNEMONIC_SETNB,
        ZYDIS_MNEMONIC_SETZ, ZYDIS_MNEMONIC_SETNZ, ZYDIS_MNEMONIC_SETBE, ZYDIS_MNEMONIC_SETNBE,
        ZYDIS_MNEMONIC_SETS, ZYDIS_MNEMONIC_SETNS, ZYDIS_MNEMONIC_SETP,  ZYDIS_MNEMONIC_SETNP,
        ZYDIS_MNEMONIC_SETL, ZYDIS_MNEMONIC_SETNL, ZYDIS_MNEMONIC_SETLE, ZYDIS_MNEMONIC_SETNLE};
    static constexpr Conditions cmov_mnemonics{
        ZYDIS_MNEMONIC_CMOVO, ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVB,  ZYDIS_MNEMONIC_CMOVNB,
        ZYDIS_MNEMONIC_CMOVZ, ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVBE, ZYDIS_MNEMONIC_CMOVNBE,
        ZYDIS_MNEMONIC_CMOVS, ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVP,  ZYDIS_MNEMONIC_CMOVNP,
        ZYDIS_MNEMONIC_CMOVL, ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVLE, ZYDIS_MNEMONIC_CMOVNLE};
    static int condition_of(ZydisMnemonic m, const Conditions& list) {
        for (size_t n = 0; n < list.size(); ++n) {
            if (list[n] == m) return static_cast<int>(n);
        }
        return -1;
    }

    const CpuFeatureSet& features_;
    const Decoded& d_;
    uint8_t flavour_;
    Insn& out_;
    Flow flow_ = Flow::goes_on;
};

}  // namespace

Flow translate_instruction(SoftEngine& engine, const Decoded& d, uint8_t flavour, uint16_t offset, Insn& out) {
    out = {};
    out.offset = offset;
    out.length = d.z.length;
    if (has_instruction(engine.features.set, d.z)) {
        if (const auto flow = translate_native(engine, d, flavour, out)) return *flow;
        Translator translator(engine.features.set, d, flavour, out);
        if (translator.run() && out.handler) return translator.flow();
    }
    out.handler = ending<undefined>;
    return Flow::ends;
}

}  // namespace viv::soft
