// From Zydis to handlers: instructions without a family, and the privileged ones.
#include "vmm/engine/soft/translator.hpp"

namespace viv::soft {
bool Translator::plain(ZydisMnemonic m) {
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
        case ZYDIS_MNEMONIC_CLFLUSHOPT:
        case ZYDIS_MNEMONIC_CLWB: operand1(); return set(simple<touch>);
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
            out_.mask = address_mask();
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

bool Translator::port(Handler handler, unsigned operand) {
    out_.aux = d_.is_reg(operand) ? 1 : 0;
    if (!out_.aux) out_.imm = d_.op(operand).imm.value.u & 0xFF;
    out_.size = static_cast<uint8_t>(d_.size(1 - operand));
    return set_ending(handler);
}

bool Translator::system(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_IN: return port(ending<in_instruction>, 1);
        case ZYDIS_MNEMONIC_OUT: return port(ending<out_instruction>, 0);
        case ZYDIS_MNEMONIC_HLT: return set_ending(ending<hlt>);
        case ZYDIS_MNEMONIC_CLI: return set(simple<cli>);
        case ZYDIS_MNEMONIC_STI: return set(sti);
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
            out_.mask = address_mask();
            return set(simple<monitor>);
        case ZYDIS_MNEMONIC_MWAIT: return set_ending(ending<mwait>);
        default: return false;
    }
}

bool Translator::set_sized(Handler handler) {
    out_.size = static_cast<uint8_t>(d_.is_mem(0) ? 2 : d_.size(0));
    return set(handler);
}

bool Translator::base(Handler handler, Seg which) {
    operand1();
    out_.aux = which;
    out_.size = static_cast<uint8_t>(d_.size(0));
    return set(handler);
}

}  // namespace viv::soft
