#include "vmm/engine/soft/compare/exemptions.hpp"

#include <algorithm>
#include <cstring>

#include "vmm/engine/cpu_state.hpp"

namespace viv::soft_test {
namespace {

constexpr uint64_t cf = 1, pf = 4, af = 0x10, zf = 0x40, sf = 0x80, of = 0x800, ac = 0x40000;

unsigned number_of(ZydisRegister reg) {
    return static_cast<unsigned>(ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg)));
}

bool is_access_fault(uint32_t vector) {
    return (vector >= 12 && vector <= 14) || vector == 17;
}
/// FXSAVE, XSAVE and their kind.
bool saves_state(ZydisISASet set) {
    return set == ZYDIS_ISA_SET_FXSAVE || set == ZYDIS_ISA_SET_FXSAVE64 || set == ZYDIS_ISA_SET_XSAVE ||
           set == ZYDIS_ISA_SET_XSAVEC || set == ZYDIS_ISA_SET_XSAVEOPT;
}
/// F2h or F3h, also where it means nothing.
bool has_repeat_prefix(const Case& c) {
    const auto& raw = c.decoded.z.raw;
    return std::any_of(raw.prefixes, raw.prefixes + raw.prefix_count,
                       [](const auto& prefix) { return prefix.value == 0xF2 || prefix.value == 0xF3; });
}
/// A way back to 32-bit code at an address of 64 bits: Intel takes its lower half, for AMD (and here) it is not within
/// the limit.
bool cuts_address(const CpuImage& host, const CpuImage& soft) {
    return host.selectors[1] == user_cs32 && (host.vector == 1 || host.vector == 3) && soft.vector == 13;
}
bool is_segment(const ZydisDecodedOperand& operand) {
    return operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

}  // namespace

bool is_left_out(ZydisMnemonic mnemonic) {
    switch (mnemonic) {
        // They enter the host's kernel.
        case ZYDIS_MNEMONIC_SYSCALL:
        case ZYDIS_MNEMONIC_SYSENTER:
        // The host's kernel answers for the processor (UMIP).
        case ZYDIS_MNEMONIC_SGDT:
        case ZYDIS_MNEMONIC_SIDT:
        case ZYDIS_MNEMONIC_SLDT:
        case ZYDIS_MNEMONIC_SMSW:
        case ZYDIS_MNEMONIC_STR: return true;
        default: return false;
    }
}

const char* left_out(const Case& c, CodeSize size) {
    const auto& z = c.decoded.z;
    if (is_left_out(z.mnemonic)) return "answered by the kernel of the host";
    if (z.mnemonic == ZYDIS_MNEMONIC_INT && c.decoded.op(0).imm.value.u == 0x80) {
        return "answered by the kernel of the host";
    }
    // A 66h prefix before a near branch in 64-bit code: AMD takes it as an operand size of 16 bits, Intel (and this
    // CPU) ignores it.
    const bool near_branch = z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || z.meta.category == ZYDIS_CATEGORY_RET ||
                             z.meta.category == ZYDIS_CATEGORY_CALL;
    const bool far_branch = z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || z.mnemonic == ZYDIS_MNEMONIC_IRET;
    if (size == CodeSize::bits64 && near_branch && !far_branch && (z.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE)) {
        return "vendors differ about 66h before branches";
    }
    // AMD has no far pointers with 64 bits of offset.
    const bool far = z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || z.mnemonic == ZYDIS_MNEMONIC_LSS ||
                     z.mnemonic == ZYDIS_MNEMONIC_LFS || z.mnemonic == ZYDIS_MNEMONIC_LGS;
    const bool pointer = c.decoded.is_mem(0) || c.decoded.is_mem(1);
    if (far && pointer && z.operand_width == 64 && z.meta.category != ZYDIS_CATEGORY_RET) {
        return "vendors differ about 64-bit far pointers";
    }
    // MOVSXD to 16 bits reads two bytes for Intel, four for AMD.
    if (z.mnemonic == ZYDIS_MNEMONIC_MOVSXD && z.operand_width == 16) return "vendors differ about MOVSXD to 16 bits";
    // The register form of the prefetches is a NOP for Intel and undefined for AMD.
    if (z.opcode_map == ZYDIS_OPCODE_MAP_0F && z.opcode == 0x0D && z.raw.modrm.mod == 3) {
        return "vendors differ about prefetches of registers";
    }
    // LOOPE and LOOPNE with a repeat prefix: Intel goes by the prefix, AMD (and this CPU) ignores it.
    if ((z.mnemonic == ZYDIS_MNEMONIC_LOOPE || z.mnemonic == ZYDIS_MNEMONIC_LOOPNE) && has_repeat_prefix(c)) {
        return "vendors differ about F2h and F3h before LOOPE and LOOPNE";
    }
    // F3h before XCHG R8, RAX is PAUSE for AMD (and this CPU).
    if (z.mnemonic == ZYDIS_MNEMONIC_PAUSE && (z.attributes & ZYDIS_ATTRIB_HAS_REX) && z.raw.rex.B) {
        return "vendors differ about F3h before XCHG R8, RAX";
    }
    return nullptr;
}

Exempt exempt(const Case& c, const CpuImage& in, const CpuImage& host, const CpuImage& soft) {
    const auto& d = c.decoded;
    Exempt e;
    const bool completed = host.vector == 1 || host.vector == 3;
    const bool page_fault = host.vector == 14;
    const uint64_t operand = operand_address(c, in).value_or(0);
    const uint64_t count_mask = d.z.address_width == 64 ? ~uint64_t{0} : (uint64_t{1} << d.z.address_width) - 1;
    e.flags = (completed || host.rip != in.rip) && d.z.cpu_flags ? d.z.cpu_flags->undefined : 0;
    // The x87's pointers: AMD keeps them only while an exception is pending, and Linux clears them.
    e.x87_pointers = true;
    switch (d.z.mnemonic) {
        // A count of zero, or above the operand size: SDM 2B, "flags affected".
        case ZYDIS_MNEMONIC_SHLD:
        case ZYDIS_MNEMONIC_SHRD: e.flags |= cf | pf | af | zf | sf | of; break;
        case ZYDIS_MNEMONIC_MUL:
        case ZYDIS_MNEMONIC_IMUL: e.flags |= pf | af | zf | sf; break;
        case ZYDIS_MNEMONIC_DIV:
        case ZYDIS_MNEMONIC_IDIV: e.flags |= cf | pf | af | zf | sf | of; break;
        case ZYDIS_MNEMONIC_TZCNT:
        case ZYDIS_MNEMONIC_LZCNT: e.flags |= pf | af | sf | of; break;
        // Sums of products: exceptions are those of steps whose order is the processor's own.
        case ZYDIS_MNEMONIC_DPPS:
        case ZYDIS_MNEMONIC_DPPD:
        case ZYDIS_MNEMONIC_VDPPS:
        case ZYDIS_MNEMONIC_VDPPD: e.mxcsr = host.vector == 19 ? 0x3F : 0; break;
        // Adjustments for decimals: SDM 2A.
        case ZYDIS_MNEMONIC_DAA:
        case ZYDIS_MNEMONIC_DAS: e.flags |= of; break;
        case ZYDIS_MNEMONIC_AAA:
        case ZYDIS_MNEMONIC_AAS: e.flags |= of | sf | zf | pf; break;
        case ZYDIS_MNEMONIC_AAM:
        case ZYDIS_MNEMONIC_AAD: e.flags |= of | af | cf; break;
        // Bit 17 of MXCSR is AMD's alone.
        case ZYDIS_MNEMONIC_LDMXCSR:
        case ZYDIS_MNEMONIC_VLDMXCSR: e.all = completed && soft.vector == 13; break;
        // Answers of their own on each machine and at each time.
        case ZYDIS_MNEMONIC_RDTSC: e.registers = 1 << RAX | 1 << RDX; break;
        case ZYDIS_MNEMONIC_RDTSCP: e.registers = 1 << RAX | 1 << RDX | 1 << RCX; break;
        case ZYDIS_MNEMONIC_CPUID: e.registers = 1 << RAX | 1 << RBX | 1 << RCX | 1 << RDX; break;
        case ZYDIS_MNEMONIC_XGETBV: e.registers = 1 << RAX | 1 << RDX; break;
        case ZYDIS_MNEMONIC_RDPID:
        case ZYDIS_MNEMONIC_RDRAND:
        case ZYDIS_MNEMONIC_RDSEED: e.registers = 1u << number_of(d.op(0).reg.value); break;
        // Two bytes or four: SDM 2B, PUSH, knows both kinds of processors.
        case ZYDIS_MNEMONIC_PUSH:
            if (is_segment(d.op(0))) e.bytes.push_back({soft.gpr[RSP] + 2, 2});
            break;
        // The pointers again, and MXCSR_MASK: AMD has a bit that others lack.
        case ZYDIS_MNEMONIC_FXSAVE:
        case ZYDIS_MNEMONIC_FXSAVE64:
        case ZYDIS_MNEMONIC_XSAVE:
        case ZYDIS_MNEMONIC_XSAVE64:
        case ZYDIS_MNEMONIC_XSAVEC:
        case ZYDIS_MNEMONIC_XSAVEC64:
        case ZYDIS_MNEMONIC_XSAVEOPT:
        case ZYDIS_MNEMONIC_XSAVEOPT64: e.bytes = {{operand + 6, 18}, {operand + 28, 4}}; [[fallthrough]];
        // Which part of a large operand is touched first is the processor's own.
        case ZYDIS_MNEMONIC_FXRSTOR:
        case ZYDIS_MNEMONIC_FXRSTOR64:
        case ZYDIS_MNEMONIC_XRSTOR:
        case ZYDIS_MNEMONIC_XRSTOR64:
        case ZYDIS_MNEMONIC_FLDENV:
        case ZYDIS_MNEMONIC_FRSTOR:
            e.cr2 = true;
            e.memory = page_fault;
            e.all = (host.xsave[26] & 2) != 0;  // bit 17 of MXCSR is AMD's alone
            // What comes before a fault may be restored already.
            e.all = e.all || (is_access_fault(host.vector) && d.z.meta.isa_set == ZYDIS_ISA_SET_XSAVE);
            break;
        case ZYDIS_MNEMONIC_FNSTENV:
        case ZYDIS_MNEMONIC_FNSAVE:
            e.bytes = {{operand + (d.z.operand_width == 16 ? 6u : 12u), d.z.operand_width == 16 ? 8u : 16u}};
            e.cr2 = true;
            e.memory = page_fault;
            break;
        // Byte by byte or all at once: SDM 2B, MASKMOVQ.
        case ZYDIS_MNEMONIC_MASKMOVQ:
        case ZYDIS_MNEMONIC_MASKMOVDQU:
        case ZYDIS_MNEMONIC_VMASKMOVDQU: e.all = is_access_fault(host.vector); break;
        // Whether a result that cannot be stored has left its exceptions, or raised them.
        case ZYDIS_MNEMONIC_VCVTPS2PH:
            e.mxcsr = is_access_fault(host.vector) ? 0x3F : 0;
            e.all = host.vector == 19 && is_access_fault(soft.vector);
            break;
        // VEX.W where there are no 64 bits: Intel ignores it, AMD (and this CPU) refuses it.
        case ZYDIS_MNEMONIC_VPINSRD:
        case ZYDIS_MNEMONIC_VPEXTRD: e.all = soft.vector == 6 && c.size == CodeSize::bits32; break;
        // Ten bytes over the edge of a page: Intel stores those before it.
        case ZYDIS_MNEMONIC_FBSTP:
        case ZYDIS_MNEMONIC_FSTP: e.memory = page_fault; break;
        // AMD looks at the permission of the port even when there is nothing to do.
        case ZYDIS_MNEMONIC_INSB:
        case ZYDIS_MNEMONIC_INSW:
        case ZYDIS_MNEMONIC_INSD:
        case ZYDIS_MNEMONIC_OUTSB:
        case ZYDIS_MNEMONIC_OUTSW:
        case ZYDIS_MNEMONIC_OUTSD: e.all = host.vector == 13 && (in.gpr[RCX] & count_mask) == 0; break;
        // The push may come before the look at the target.
        case ZYDIS_MNEMONIC_CALL: e.all = is_access_fault(host.vector) && soft.vector == 13; break;
        // Which operand is read first is the processor's own.
        case ZYDIS_MNEMONIC_CMPSB:
        case ZYDIS_MNEMONIC_CMPSW:
        case ZYDIS_MNEMONIC_CMPSD:
        case ZYDIS_MNEMONIC_CMPSQ:
            e.all = is_access_fault(host.vector) && is_access_fault(soft.vector);
            [[fallthrough]];
        // Between two of a row the flags are as before all of them (SDM 2B, REP) or, AMD, as after the last one.
        case ZYDIS_MNEMONIC_SCASB:
        case ZYDIS_MNEMONIC_SCASW:
        case ZYDIS_MNEMONIC_SCASD:
        case ZYDIS_MNEMONIC_SCASQ:
            if (host.rip == in.rip) e.flags |= cf | pf | af | zf | sf | of;
            break;
        // So is which part of a frame.
        case ZYDIS_MNEMONIC_IRET:
        case ZYDIS_MNEMONIC_IRETD:
        case ZYDIS_MNEMONIC_IRETQ:
            e.all = page_fault || cuts_address(host, soft) ||
                    (is_access_fault(host.vector) && is_access_fault(soft.vector));
            break;
        case ZYDIS_MNEMONIC_RET:
            e.all = (page_fault || host.vector == 17 || cuts_address(host, soft)) &&
                    d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
            break;
        // AMD keeps what was popped before the fault; with ESP as it was the instruction can begin anew.
        case ZYDIS_MNEMONIC_POPA:
        case ZYDIS_MNEMONIC_POPAD:
            if (is_access_fault(host.vector)) e.registers = 0xFF & ~(1u << RSP);
            break;
        // Two bytes of the stack or four.
        case ZYDIS_MNEMONIC_POP: e.all = host.vector == 17 && is_segment(d.op(0)); break;
        // AMD fetches no ModRM byte.
        case ZYDIS_MNEMONIC_UD0:
        case ZYDIS_MNEMONIC_UD1: e.all = host.vector == 6 && soft.vector == 14; break;
        // Each element's address wraps on its own; any of those that fault is told.
        case ZYDIS_MNEMONIC_VMASKMOVPS:
        case ZYDIS_MNEMONIC_VMASKMOVPD:
        case ZYDIS_MNEMONIC_VPMASKMOVD:
        case ZYDIS_MNEMONIC_VPMASKMOVQ:
            e.all = operand < 0x100000000 && operand + 32 > 0x100000000;
            e.cr2 = true;
            break;
        // A trap; hosts that are guests themselves have been seen to report it as a fault.
        case ZYDIS_MNEMONIC_INT1: e.rip = true; break;
        // The host does not ask for the alignment that the manual asks for.
        case ZYDIS_MNEMONIC_SHA1MSG1:
        case ZYDIS_MNEMONIC_SHA1MSG2:
        case ZYDIS_MNEMONIC_SHA1NEXTE:
        case ZYDIS_MNEMONIC_SHA1RNDS4:
        case ZYDIS_MNEMONIC_SHA256MSG1:
        case ZYDIS_MNEMONIC_SHA256MSG2:
        case ZYDIS_MNEMONIC_SHA256RNDS2: e.all = soft.vector == 13 && host.vector != 13; break;
        // Outside of 64-bit code SYSRET is AMD's alone.
        case ZYDIS_MNEMONIC_SYSRET: e.all = soft.vector == 6 && host.vector == 13; break;
        default: break;
    }
    // Which of several checks comes first, and of which bytes: SDM 2A, FXSAVE (#AC or #GP), PUSH of segment registers.
    const bool large = saves_state(d.z.meta.isa_set);
    const bool masked = d.z.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || d.z.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
                        d.z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU;
    const bool frame = d.z.mnemonic == ZYDIS_MNEMONIC_ENTER || d.z.mnemonic == ZYDIS_MNEMONIC_PUSH;
    if (host.vector == 17 && (large || masked || frame)) e.all = true;
    // Which parts of the area are touched: those that are in use, or all; the header first, or last.
    if (large && soft.vector == 14 && (completed || host.rip != soft.rip)) e.all = true;
    if (large && host.vector != soft.vector && is_access_fault(host.vector) && is_access_fault(soft.vector))
        e.all = true;
    // Whether accesses of more than eight bytes are checked is the processor's own (SDM 3A, 6.15, #AC).
    const bool wide = std::any_of(d.operands, d.operands + d.z.operand_count, [](const ZydisDecodedOperand& one) {
        return one.type == ZYDIS_OPERAND_TYPE_MEMORY && one.size > 64;
    });
    const bool half_floats = d.z.meta.isa_set == ZYDIS_ISA_SET_F16C;
    if ((in.rflags & ac) && soft.vector == 17 && (wide || half_floats)) e.all = true;
    // A string instruction with addresses of 32 bits: Intel cuts its registers before the first step, AMD with it.
    if (d.z.meta.category == ZYDIS_CATEGORY_STRINGOP && c.size == CodeSize::bits64 && d.z.address_width == 32 &&
        (is_access_fault(host.vector) || (in.gpr[RCX] & count_mask) == 0)) {
        e.registers |= 1 << RCX | 1 << RSI | 1 << RDI;
    }
    // Intel does not look at the memory for a result that an exception keeps from it.
    constexpr uint8_t es = 0x80;  // of the status word's lower byte
    if (d.z.meta.category == ZYDIS_CATEGORY_X87_ALU && host.rip != in.rip && is_access_fault(soft.vector)) {
        e.all = e.all || (host.xsave[2] & es);
    }
    // Whether an MMX instruction that faults has cleared TOP.
    const bool mmx = std::any_of(d.operands, d.operands + d.z.operand_count, [](const ZydisDecodedOperand& one) {
        return one.type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(one.reg.value) == ZYDIS_REGCLASS_MMX;
    });
    if (mmx && is_access_fault(host.vector) && host.vector == soft.vector) e.all = true;
    // Linux has a data segment with the number of the CPU in it at 78h.
    if (soft.vector == 13 && soft.error == 0x78) e.all = true;
    const bool asks = d.z.mnemonic == ZYDIS_MNEMONIC_LSL || d.z.mnemonic == ZYDIS_MNEMONIC_LAR ||
                      d.z.mnemonic == ZYDIS_MNEMONIC_VERR || d.z.mnemonic == ZYDIS_MNEMONIC_VERW;
    if (asks && (host.rflags & zf) && !(soft.rflags & zf)) e.all = true;
    // An area over the end of the canonical addresses; the frame of a far call in either order.
    if (e.cr2 && page_fault && (soft.vector == 12 || soft.vector == 13) && operand < 0x800000000000) {
        e.all = e.all || operand + sizeof in.xsave > 0x800000000000;
    }
    if (d.z.mnemonic == ZYDIS_MNEMONIC_CALL && is_access_fault(host.vector) && is_access_fault(soft.vector))
        e.all = true;
    // AMD does not take every address for canonical that becomes so by the base of FS or GS.
    const bool based = d.z.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS);
    if (based && host.vector == 13 && soft.vector == 14 && soft.cr2 >> 63) e.all = true;
    // An address with RSP or RBP that is neither canonical nor aligned: both exceptions are due, and no manual has an
    // order.
    if (host.vector == 17 && soft.vector == 12) e.all = true;
    // Whether an access may go around the top of a flat segment: SDM 3A, 5.3, "implementation-specific".
    if (c.size == CodeSize::bits32 && ((soft.vector == 14 && soft.cr2 >= 0xFFFFF000) || soft.vector == 17)) {
        e.all = e.all || host.vector == 12 || host.vector == 13;
    }
    if (d.z.meta.category == ZYDIS_CATEGORY_AVX2GATHER && (!completed || host.rip == in.rip)) {
        // What is done before the fault is the processor's own: SDM 2C, VGATHERDPD.
        e.all = host.vector == 1 && host.rip == in.rip;  // a single step may end in the middle of it
        e.vectors = 1u << number_of(d.op(0).reg.value) | 1u << number_of(d.op(2).reg.value);
        e.cr2 = true;
    }
    // With unmasked overflow or underflow the precision exception is that of a result of unlimited range.
    uint32_t mxcsr = 0;
    std::memcpy(&mxcsr, in.xsave.data() + 24, 4);
    if (host.vector == 19 && (mxcsr & 0xC00) != 0xC00) e.mxcsr |= 0x20;
    return e;
}

}  // namespace viv::soft_test
