// From Zydis to handlers: moves, the stack, and loads of segment registers.
#include "vmm/engine/soft/segments.hpp"
#include "vmm/engine/soft/translator.hpp"

namespace viv::soft {
namespace {
constexpr std::array<ZydisMnemonic, 16> set_mnemonics{
    ZYDIS_MNEMONIC_SETO, ZYDIS_MNEMONIC_SETNO, ZYDIS_MNEMONIC_SETB,  ZYDIS_MNEMONIC_SETNB,
    ZYDIS_MNEMONIC_SETZ, ZYDIS_MNEMONIC_SETNZ, ZYDIS_MNEMONIC_SETBE, ZYDIS_MNEMONIC_SETNBE,
    ZYDIS_MNEMONIC_SETS, ZYDIS_MNEMONIC_SETNS, ZYDIS_MNEMONIC_SETP,  ZYDIS_MNEMONIC_SETNP,
    ZYDIS_MNEMONIC_SETL, ZYDIS_MNEMONIC_SETNL, ZYDIS_MNEMONIC_SETLE, ZYDIS_MNEMONIC_SETNLE};
constexpr std::array<ZydisMnemonic, 16> cmov_mnemonics{
    ZYDIS_MNEMONIC_CMOVO, ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVB,  ZYDIS_MNEMONIC_CMOVNB,
    ZYDIS_MNEMONIC_CMOVZ, ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVBE, ZYDIS_MNEMONIC_CMOVNBE,
    ZYDIS_MNEMONIC_CMOVS, ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVP,  ZYDIS_MNEMONIC_CMOVNP,
    ZYDIS_MNEMONIC_CMOVL, ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVLE, ZYDIS_MNEMONIC_CMOVNLE};
}  // namespace

int Translator::condition_of(ZydisMnemonic m, const Conditions& list) {
    for (size_t n = 0; n < list.size(); ++n) {
        if (list[n] == m) return static_cast<int>(n);
    }
    return -1;
}

template <Semantics function>
bool Translator::load_segment_handler() {
    if (out_.aux == SS) return set_ending(ending<function>);
    return set(mode_changing<function>);
}

bool Translator::mov() {
    if (d_.is_reg(0) && is_special(d_.op(0).reg.value)) return mov_special(true, d_.op(0).reg.value);
    if (d_.is_reg(1) && is_special(d_.op(1).reg.value)) return mov_special(false, d_.op(1).reg.value);
    const Form form = operands2();
    return set(mov_handler(form, d_.size(0)));
}

bool Translator::is_special(ZydisRegister reg) {
    const auto c = ZydisRegisterGetClass(reg);
    return c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG ||
           c == ZYDIS_REGCLASS_TEST;
}

bool Translator::mov_special(bool to, ZydisRegister reg) {
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

bool Translator::moves(ZydisMnemonic m) {
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

bool Translator::extend(Extend kind) {
    const Form form = operands2();
    // MOVSXD with an operand size of 16 or 32 is a plain move.
    if (d_.size(1) >= d_.size(0)) return set(mov_handler(form, d_.size(0)));
    return set(extend_handler(kind, form, d_.size(1), d_.size(0)));
}

bool Translator::push_operand() {
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

bool Translator::pop_operand() {
    if (d_.is_reg(0) && ZydisRegisterGetClass(d_.op(0).reg.value) == ZYDIS_REGCLASS_SEGMENT) {
        out_.aux = static_cast<uint8_t>(d_.op(0).reg.value - ZYDIS_REGISTER_ES);
        return load_segment_handler<pop_segment>();
    }
    const Form form = operand1();
    return set(pop_handler(form, out_.size));
}

bool Translator::far_load(Seg which) {
    operands2();
    out_.aux = which;
    return load_segment_handler<load_far_pointer>();
}

}  // namespace viv::soft
