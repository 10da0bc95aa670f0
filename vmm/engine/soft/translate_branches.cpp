// From Zydis to handlers: branches and string instructions.
#include "vmm/engine/soft/translator.hpp"

namespace viv::soft {
namespace {
constexpr std::array<ZydisMnemonic, 16> jump_mnemonics{
    ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JNB,
    ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE,
    ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JP,  ZYDIS_MNEMONIC_JNP,
    ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE, ZYDIS_MNEMONIC_JNLE};
}  // namespace

void Translator::direct_target() {
    out_.imm = static_cast<uint64_t>(d_.op(0).imm.value.s + out_.offset + d_.z.length);
    out_.mask = d_.z.operand_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d_.z.operand_width) - 1;
}

bool Translator::far_target(Handler handler) {
    if (d_.is_mem(0)) {
        set_memory(d_, d_.op(0), flavour_, out_);
    } else {
        out_.imm = d_.op(0).ptr.offset;
        out_.disp = d_.op(0).ptr.segment;
    }
    return set_ending(handler);
}

bool Translator::loop(LoopKind kind) {
    direct_target();
    out_.aux = static_cast<uint8_t>(d_.z.address_width / 8);
    return set_ending(loop_handler(kind));
}

LoopKind Translator::loop_kind() const {
    LoopKind kind = d_.z.opcode == 0xE1 ? LoopKind::loope : LoopKind::loopne;
    for (unsigned n = 0; n < d_.z.raw.prefix_count; ++n) {
        if (d_.z.raw.prefixes[n].value == 0xF2) kind = LoopKind::loopne;
        if (d_.z.raw.prefixes[n].value == 0xF3) kind = LoopKind::loope;
    }
    return kind;
}

bool Translator::branches(ZydisMnemonic m) {
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

bool Translator::string(StringOp operation, unsigned size) {
    out_.size = static_cast<uint8_t>(size);
    out_.mask = address_mask();
    out_.seg = source_segment(d_);
    const ZydisInstructionAttributes a = d_.z.attributes;
    const bool repeat = a & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    if (a & ZYDIS_ATTRIB_HAS_REPNE) out_.flags |= insn_repne;
    const bool io = operation == StringOp::ins || operation == StringOp::outs;
    if (io) flow_ = Flow::ends;  // what follows may be new code, or an interrupt
    return set(string_handler(operation, size, repeat));
}

bool Translator::strings(ZydisMnemonic m) {
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

}  // namespace viv::soft
