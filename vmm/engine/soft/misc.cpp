// Flag instructions, stack frames, segment moves, far transfers and software interrupts as instructions.
#include <type_traits>

#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/interrupts.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/segments.hpp"
#include "vmm/engine/soft/system.hpp"

namespace viv::soft {
namespace {

void push_sized(Cpu& cpu, const Insn& i, uint64_t value) {
    switch (i.size) {
        case 2: return push<uint16_t>(cpu, &i, static_cast<uint16_t>(value));
        case 4: return push<uint32_t>(cpu, &i, static_cast<uint32_t>(value));
        default: return push<uint64_t>(cpu, &i, value);
    }
}
uint64_t peek_sized(Cpu& cpu, const Insn& i, uint64_t depth = 0) {
    switch (i.size) {
        case 2: return peek_stack<uint16_t>(cpu, &i, depth);
        case 4: return peek_stack<uint32_t>(cpu, &i, depth);
        default: return peek_stack<uint64_t>(cpu, &i, depth);
    }
}
void set_sized(Cpu& cpu, uint8_t slot, unsigned size, uint64_t value) {
    switch (size) {
        case 1: return cpu.set_reg<uint8_t>(slot, static_cast<uint8_t>(value));
        case 2: return cpu.set_reg<uint16_t>(slot, static_cast<uint16_t>(value));
        case 4: return cpu.set_reg<uint32_t>(slot, static_cast<uint32_t>(value));
        default: return cpu.set_reg<uint64_t>(slot, value);
    }
}
/// After MOV and POP to SS nothing interrupts before the next instruction, single steps included (SDM 3A, 6.8.3).
void shadow_for(Cpu& cpu, unsigned which) {
    if (which != SS) return;
    cpu.interrupt_shadow = true;
    cpu.trap_suppressed = true;
}

}  // namespace

void pushf(Cpu& cpu, const Insn& i) {
    uint32_t flags = cpu.flags() & ~(flag_vm | flag_rf);
    if (cpu.vm86() && cpu.iopl() < 3) {
        if (!(cpu.cr4 & cr4_vme) || i.size != 2) raise_gp();
        flags = (flags & ~flag_if) | flag_iopl | (cpu.eflags & flag_vif ? flag_if : 0);
    }
    push_sized(cpu, i, flags);
}

void popf(Cpu& cpu, const Insn& i) {
    const auto value = static_cast<uint32_t>(peek_sized(cpu, i));
    if (cpu.vm86() && cpu.iopl() < 3) {
        if (!(cpu.cr4 & cr4_vme) || i.size != 2) raise_gp();
        if ((value & flag_tf) || ((value & flag_if) && (cpu.eflags & flag_vip))) raise_gp();
        drop_stack(cpu, i.size);
        constexpr uint32_t changeable = flags_arithmetic | flag_df | flag_nt;
        cpu.set_flags((cpu.flags() & ~(changeable | flag_vif | flag_tf)) | (value & changeable) |
                      (value & flag_if ? flag_vif : 0));
        return;
    }
    drop_stack(cpu, i.size);
    load_flags(cpu, value, i.size);
}

void lahf(Cpu& cpu, const Insn&) {
    cpu.set_reg<uint8_t>(1, static_cast<uint8_t>((cpu.arithmetic_flags() & 0xD5) | 2));
}
void sahf(Cpu& cpu, const Insn&) {
    cpu.set_arithmetic_flags((cpu.arithmetic_flags() & flag_of) | cpu.reg<uint8_t>(1));
}
void clc(Cpu& cpu, const Insn&) {
    cpu.arith &= static_cast<uint16_t>(~0x100u);
}
void stc(Cpu& cpu, const Insn&) {
    cpu.arith |= 0x100;
}
void cmc(Cpu& cpu, const Insn&) {
    cpu.arith ^= 0x100;
}
void cld(Cpu& cpu, const Insn&) {
    cpu.eflags &= ~flag_df;
}
void std_instruction(Cpu& cpu, const Insn&) {
    cpu.eflags |= flag_df;
}
void salc(Cpu& cpu, const Insn&) {
    cpu.set_reg<uint8_t>(0, cpu.carry() ? 0xFF : 0);
}
void xlat(Cpu& cpu, const Insn& i) {
    const uint64_t offset = (cpu.gpr[RBX] + cpu.reg<uint8_t>(0)) & i.mask;
    cpu.set_reg<uint8_t>(0, load<uint8_t>(cpu, &i, segment_address<Access::read>(cpu, &i, i.seg, offset, 1), i.seg));
}

void convert(Cpu& cpu, const Insn& i) {
    switch (i.size) {
        case 2: return cpu.set_reg<uint16_t>(0, static_cast<uint16_t>(static_cast<int8_t>(cpu.gpr[RAX])));
        case 4: return cpu.set_reg<uint32_t>(0, static_cast<uint32_t>(static_cast<int16_t>(cpu.gpr[RAX])));
        default: cpu.gpr[RAX] = static_cast<uint64_t>(int64_t{static_cast<int32_t>(cpu.gpr[RAX])});
    }
}
void convert_double(Cpu& cpu, const Insn& i) {
    const unsigned top = 8u * i.size - 1;
    set_sized(cpu, RDX * 8, i.size, (cpu.gpr[RAX] >> top) & 1 ? ~uint64_t{0} : 0);
}

void pusha(Cpu& cpu, const Insn& i) {
    Transaction transaction(cpu);
    const uint64_t sp = cpu.gpr[RSP];
    for (unsigned n = 0; n < 8; ++n) push_sized(cpu, i, n == RSP ? sp : cpu.gpr[n]);
    transaction.commit();
}
void popa(Cpu& cpu, const Insn& i) {
    uint64_t values[8];
    for (unsigned n = 0; n < 8; ++n) values[n] = peek_sized(cpu, i, n * i.size);
    for (unsigned n = 0; n < 8; ++n) {
        if (7 - n != RSP) set_sized(cpu, static_cast<uint8_t>((7 - n) * 8), i.size, values[n]);
    }
    drop_stack(cpu, 8u * i.size);
}

// imm: bytes of the frame, aux: nesting level (SDM 2A, ENTER).
void enter_instruction(Cpu& cpu, const Insn& i) {
    Transaction transaction(cpu);
    const unsigned level = i.aux & 31;
    push_sized(cpu, i, cpu.gpr[RBP]);
    const uint64_t frame = cpu.gpr[RSP];
    uint64_t bp = cpu.gpr[RBP];
    for (unsigned n = 1; n < level; ++n) {
        bp -= i.size;
        const uint64_t at = segment_address<Access::read>(cpu, &i, SS, bp & cpu.stack_mask, i.size);
        uint64_t value = 0;
        switch (i.size) {
            case 2: value = load<uint16_t>(cpu, &i, at, SS); break;
            case 4: value = load<uint32_t>(cpu, &i, at, SS); break;
            default: value = load<uint64_t>(cpu, &i, at, SS); break;
        }
        push_sized(cpu, i, value);
    }
    if (level > 0) push_sized(cpu, i, frame);
    set_sized(cpu, RBP * 8, i.size, frame);
    drop_stack(cpu, ~i.imm + 1);
    // The end of the frame has to be writable.
    const uint64_t top = segment_address<Access::write>(cpu, &i, SS, cpu.gpr[RSP] & cpu.stack_mask, i.size);
    probe_write(cpu, &i, top, i.size, SS);
    transaction.commit();
}
void leave_instruction(Cpu& cpu, const Insn& i) {
    const uint64_t top = cpu.gpr[RBP] & cpu.stack_mask;
    const uint64_t at = segment_address<Access::read>(cpu, &i, SS, top, i.size);
    uint64_t value = 0;
    switch (i.size) {
        case 2: value = load<uint16_t>(cpu, &i, at, SS); break;
        case 4: value = load<uint32_t>(cpu, &i, at, SS); break;
        default: value = load<uint64_t>(cpu, &i, at, SS); break;
    }
    cpu.gpr[RSP] = (cpu.gpr[RSP] & ~cpu.stack_mask) | ((top + i.size) & cpu.stack_mask);
    set_sized(cpu, RBP * 8, i.size, value);
}

void bound(Cpu& cpu, const Insn& i) {
    const uint64_t at = operand_address<Access::read>(cpu, &i, 2u * i.size);
    int64_t low = 0, high = 0, index = 0;
    if (i.size == 2) {
        low = static_cast<int16_t>(load<uint16_t>(cpu, &i, at, i.seg));
        high = static_cast<int16_t>(load<uint16_t>(cpu, &i, at + 2, i.seg));
        index = static_cast<int16_t>(cpu.reg<uint16_t>(i.dst));
    } else {
        low = static_cast<int32_t>(load<uint32_t>(cpu, &i, at, i.seg));
        high = static_cast<int32_t>(load<uint32_t>(cpu, &i, at + 4, i.seg));
        index = static_cast<int32_t>(cpu.reg<uint32_t>(i.dst));
    }
    if (index < low || index > high) raise(vector_br);
}

void nop(Cpu&, const Insn&) {}

void touch(Cpu& cpu, const Insn& i) {
    static_cast<void>(load_operand<uint8_t>(cpu, &i));
}

void mov_to_segment(Cpu& cpu, const Insn& i) {
    const uint16_t selector = i.has(insn_memory) ? load_operand<uint16_t>(cpu, &i) : cpu.reg<uint16_t>(i.src);
    load_segment(cpu, static_cast<Seg>(i.aux), selector);
    shadow_for(cpu, i.aux);
}
void mov_from_segment(Cpu& cpu, const Insn& i) {
    const uint16_t selector = cpu.seg[i.aux].selector;
    if (i.has(insn_memory)) return store_operand<uint16_t>(cpu, &i, selector);
    set_sized(cpu, i.dst, i.size, selector);
}
void push_segment(Cpu& cpu, const Insn& i) {
    // Only two bytes are written, whatever the stack pointer moves by (SDM 2B, PUSH).
    if (i.size != 4) return push_sized(cpu, i, cpu.seg[i.aux].selector);
    const uint64_t top = (cpu.gpr[RSP] - 4) & cpu.stack_mask;
    store<uint16_t>(cpu, &i, segment_address<Access::write>(cpu, &i, SS, top, 2), cpu.seg[i.aux].selector, SS);
    cpu.gpr[RSP] = (cpu.gpr[RSP] & ~cpu.stack_mask) | top;
}
void pop_segment(Cpu& cpu, const Insn& i) {
    const auto selector = peek_stack<uint16_t>(cpu, &i);
    const uint64_t rsp = cpu.gpr[RSP];
    const uint64_t mask = cpu.stack_mask;
    load_segment(cpu, static_cast<Seg>(i.aux), selector);
    cpu.gpr[RSP] = (rsp & ~mask) | ((rsp + i.size) & mask);
    shadow_for(cpu, i.aux);
}
void load_far_pointer(Cpu& cpu, const Insn& i) {
    const uint64_t at = operand_address<Access::read>(cpu, &i, i.size + 2u);
    uint64_t offset = 0;
    switch (i.size) {
        case 2: offset = load<uint16_t>(cpu, &i, at, i.seg); break;
        case 4: offset = load<uint32_t>(cpu, &i, at, i.seg); break;
        default: offset = load<uint64_t>(cpu, &i, at, i.seg); break;
    }
    const auto selector = load<uint16_t>(cpu, &i, (at + i.size) & cpu.linear_mask, i.seg);
    load_segment(cpu, static_cast<Seg>(i.aux), selector);
    set_sized(cpu, i.dst, i.size, offset);
}

namespace {
struct FarPointer {
    uint16_t selector;
    uint64_t offset;
};
FarPointer far_operand(Cpu& cpu, const Insn& i) {
    if (!i.has(insn_memory)) return {static_cast<uint16_t>(i.disp), i.imm};
    const uint64_t at = operand_address<Access::read>(cpu, &i, i.size + 2u);
    uint64_t offset = 0;
    switch (i.size) {
        case 2: offset = load<uint16_t>(cpu, &i, at, i.seg); break;
        case 4: offset = load<uint32_t>(cpu, &i, at, i.seg); break;
        default: offset = load<uint64_t>(cpu, &i, at, i.seg); break;
    }
    return {load<uint16_t>(cpu, &i, (at + i.size) & cpu.linear_mask, i.seg), offset};
}
}  // namespace

void jmp_far(Cpu& cpu, const Insn& i) {
    const FarPointer target = far_operand(cpu, i);
    far_jump(cpu, target.selector, target.offset, i.size);
}
void call_far(Cpu& cpu, const Insn& i) {
    const FarPointer target = far_operand(cpu, i);
    far_call(cpu, target.selector, target.offset, i.size);
}
void ret_far(Cpu& cpu, const Insn& i) {
    far_return(cpu, i.size, static_cast<unsigned>(i.imm));
}
void int_n(Cpu& cpu, const Insn& i) {
    software_interrupt(cpu, static_cast<uint8_t>(i.imm), IntKind::int_n);
}
void int3(Cpu& cpu, const Insn&) {
    software_interrupt(cpu, vector_bp, IntKind::int3);
}
void int1(Cpu& cpu, const Insn&) {
    // A trap that MOV SS has put off is one with it.
    if (cpu.debug_pending != 0) {
        cpu.report_debug(cpu.debug_pending);
        cpu.debug_pending = 0;
    }
    software_interrupt(cpu, vector_db, IntKind::int1);
}
void into(Cpu& cpu, const Insn&) {
    if (cpu.arithmetic_flags() & flag_of) software_interrupt(cpu, vector_of, IntKind::into);
}
void iret(Cpu& cpu, const Insn& i) {
    interrupt_return(cpu, i.size);
    // An NMI that has waited for the end of another one comes now.
    if ((cpu.eflags & flag_rf) || cpu.nmis_pending) cpu.attention.store(true, std::memory_order_relaxed);
}

}  // namespace viv::soft
