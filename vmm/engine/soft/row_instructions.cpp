// Host code of each instruction that does not branch.
#include <array>
#include <limits>

#include "vmm/engine/soft/bits.hpp"
#include "vmm/engine/soft/row_compiler.hpp"

namespace viv::soft {

void RowCompiler::emit_two(x86::Inst::Id id, const Insn& i, Form form, unsigned size) {
    switch (form) {
        case Form::rr: {
            const Gp left = registers_.read(i.dst / 8);
            a_.emit(id, sized(left, size), sized(registers_.read(i.src / 8), size));
            break;
        }
        case Form::rm: a_.emit(id, sized(registers_.read(i.dst / 8), size), at(x86::rdx, size)); break;
        case Form::mr: a_.emit(id, at(x86::rdx, size), sized(registers_.read(i.src / 8), size)); break;
        case Form::ri: a_.emit(id, sized(registers_.read(i.dst / 8), size), asmjit::Imm(immediate(i, size))); break;
        default: a_.emit(id, at(x86::rdx, size), asmjit::Imm(immediate(i, size))); break;
    }
}

void RowCompiler::read_registers(const Insn& i, const Operation& o) {
    if (has_register_destination(o.form)) registers_.read(i.dst / 8);
    if (has_register_source(o.form)) registers_.read(i.src / 8);
}

void RowCompiler::address(const Insn& i, const Operation& o, Access access) {
    if (has_memory_operand(o.form)) operand(i, o.size, access);
}

void RowCompiler::binary(const Insn& i, const Operation& o) {
    static constexpr std::array ids{x86::Inst::kIdAdd, x86::Inst::kIdOr,  x86::Inst::kIdAdc,
                                    x86::Inst::kIdSbb, x86::Inst::kIdAnd, x86::Inst::kIdSub,
                                    x86::Inst::kIdXor, x86::Inst::kIdCmp, x86::Inst::kIdTest};
    const auto which = static_cast<Binary>(o.which);
    const bool writes = which != Binary::cmp && which != Binary::test;
    read_registers(i, o);
    address(i, o, writes && !has_register_destination(o.form) ? Access::write : Access::read);
    if (which == Binary::adc || which == Binary::sbb) load_carry();
    if (which == Binary::test && o.form == Form::rm) {
        // Which has no such form: the operands are all the same to it.
        a_.test(at(x86::rdx, o.size), sized(registers_.read(i.dst / 8), o.size));
    } else {
        emit_two(ids[o.which], i, o.form, o.size);
    }
    if (writes && has_register_destination(o.form)) registers_.store(i.dst / 8);
    save_flags();
}

void RowCompiler::emit_one(x86::Inst::Id id, const Insn& i, Form form, unsigned size) {
    if (form == Form::r) {
        a_.emit(id, sized(registers_.read(i.dst / 8), size));
        registers_.store(i.dst / 8);
    } else {
        a_.emit(id, at(x86::rdx, size));
    }
}

void RowCompiler::unary(const Insn& i, const Operation& o) {
    read_registers(i, o);
    address(i, o, Access::write);
    switch (static_cast<Unary>(o.which)) {
        case Unary::nott: emit_one(x86::Inst::kIdNot, i, o.form, o.size); return;
        case Unary::neg: emit_one(x86::Inst::kIdNeg, i, o.form, o.size); break;
        case Unary::inc:
            keep_carry();
            emit_one(x86::Inst::kIdInc, i, o.form, o.size);
            break;
        case Unary::dec:
            keep_carry();
            emit_one(x86::Inst::kIdDec, i, o.form, o.size);
            break;
    }
    save_flags();
}

void RowCompiler::shift(const Insn& i, const Operation& o) {
    static constexpr std::array ids{x86::Inst::kIdRol, x86::Inst::kIdRor, x86::Inst::kIdRcl, x86::Inst::kIdRcr,
                                    x86::Inst::kIdShl, x86::Inst::kIdShr, x86::Inst::kIdShl, x86::Inst::kIdSar};
    read_registers(i, o);
    const Gp count = o.flag ? registers_.read(RCX) : Gp();
    address(i, o, Access::write);
    if (o.flag) a_.mov(x86::ecx, count.r32());
    // Also for what sets all of them by the manual: what a processor makes of an undefined one may depend on what
    // it was.
    if (flags_are_seen(n_) || rotates_through_carry(o)) load_flags();
    const x86::Inst::Id id = ids[o.which];
    if (o.form == Form::r) {
        const Gp to = sized(registers_.read(i.dst / 8), o.size);
        o.flag ? a_.emit(id, to, x86::cl) : a_.emit(id, to, asmjit::Imm(static_cast<uint8_t>(i.imm)));
        // By nothing: what clears the upper half is then not sure to happen.
        if (o.size == 4) a_.mov(to, to);
        registers_.store(i.dst / 8);
    } else {
        const x86::Mem to = at(x86::rdx, o.size);
        o.flag ? a_.emit(id, to, x86::cl) : a_.emit(id, to, asmjit::Imm(static_cast<uint8_t>(i.imm)));
    }
    save_flags();
}

void RowCompiler::mov(const Insn& i, const Operation& o) {
    const unsigned to = i.dst / 8;
    if (o.form == Form::rr || o.form == Form::ri || o.form == Form::rm) {
        Gp from;
        if (o.form == Form::rr) from = registers_.read(i.src / 8);
        if (o.form == Form::rm) operand(i, o.size, Access::read);
        // Of less than four bytes the rest stays.
        const Gp target = o.size >= 4 ? registers_.write(to) : registers_.read(to);
        if (o.form == Form::rr) a_.mov(sized(target, o.size), sized(from, o.size));
        if (o.form == Form::rm) a_.mov(sized(target, o.size), at(x86::rdx, o.size));
        if (o.form == Form::ri) load_immediate(target, i, o.size);
        registers_.store(to);
    } else if (o.form == Form::mr) {
        const Gp from = registers_.read(i.src / 8);
        operand(i, o.size, Access::write);
        a_.mov(at(x86::rdx, o.size), sized(from, o.size));
    } else {
        operand(i, o.size, Access::write);
        a_.mov(at(x86::rdx, o.size), immediate(i, o.size));
    }
}

void RowCompiler::load_immediate(const Gp& target, const Insn& i, unsigned size) {
    const bool short_form = size == 8 && i.imm <= std::numeric_limits<uint32_t>::max();
    if (size == 4 || short_form) {
        a_.mov(target.r32(), static_cast<uint32_t>(i.imm));
    } else {
        a_.mov(sized(target, size), immediate(i, size));
    }
}

void RowCompiler::extend(const Insn& i, const Operation& o) {
    Gp from;
    if (o.form == Form::rr) {
        from = registers_.read(i.src / 8);
    } else {
        operand(i, o.from, Access::read);
    }
    const unsigned to = i.dst / 8;
    const Gp target = sized(o.size >= 4 ? registers_.write(to) : registers_.read(to), o.size);
    const bool is_signed = static_cast<Extend>(o.which) == Extend::sign;
    x86::Inst::Id id = is_signed ? x86::Inst::kIdMovsx : x86::Inst::kIdMovzx;
    if (o.from == 4) id = x86::Inst::kIdMovsxd;
    if (o.form == Form::rr) {
        a_.emit(id, target, sized(from, o.from));
    } else {
        a_.emit(id, target, at(x86::rdx, o.from));
    }
    registers_.store(to);
}

void RowCompiler::lea(const Insn& i, const Operation& o) {
    effective_address(i, x86::rdx);
    const unsigned to = i.dst / 8;
    const Gp target = o.size >= 4 ? registers_.write(to) : registers_.read(to);
    a_.mov(sized(target, o.size), sized(x86::rdx, o.size));
    registers_.store(to);
}

void RowCompiler::xchg(const Insn& i, const Operation& o) {
    const Gp right = registers_.read(i.src / 8);
    if (o.form == Form::mr) {
        operand(i, o.size, Access::write);
        a_.mov(sized(x86::rax, o.size), at(x86::rdx, o.size));
        a_.mov(at(x86::rdx, o.size), sized(right, o.size));
    } else {
        const Gp left = registers_.read(i.dst / 8);
        a_.mov(sized(x86::rax, o.size), sized(left, o.size));
        a_.mov(sized(left, o.size), sized(right, o.size));
        registers_.store(i.dst / 8);
    }
    a_.mov(sized(right, o.size), sized(x86::rax, o.size));
    registers_.store(i.src / 8);
}

void RowCompiler::cmov(const Insn& i, const Operation& o) {
    read_registers(i, o);
    address(i, o, Access::read);
    const x86::CondCode code = condition(o.which);
    const Gp to = sized(registers_.read(i.dst / 8), o.size);
    if (o.form == Form::rr) {
        a_.cmov(code, to, sized(registers_.read(i.src / 8), o.size));
    } else {
        a_.cmov(code, to, at(x86::rdx, o.size));
    }
    registers_.store(i.dst / 8);
}

void RowCompiler::setcc(const Insn& i, const Operation& o) {
    read_registers(i, o);
    address(i, o, Access::write);
    const x86::CondCode code = condition(o.which);
    if (o.form == Form::r) {
        a_.set(code, registers_.read(i.dst / 8).r8());
        registers_.store(i.dst / 8);
    } else {
        a_.set(code, at(x86::rdx, 1));
    }
}

void RowCompiler::bswap(const Insn& i, const Operation& o) {
    a_.bswap(sized(registers_.read(i.dst / 8), o.size));
    registers_.store(i.dst / 8);
}

void RowCompiler::imul(const Insn& i, const Operation& o) {
    if (o.form == Form::rm) operand(i, o.size, Access::read);
    const unsigned to = i.dst / 8;
    a_.xor_(x86::eax, x86::eax);  // as the interpreter does, for the undefined flags
    if (o.flag) {
        const asmjit::Imm factor(immediate(i, o.size));
        if (o.form == Form::rm) {
            a_.emit(x86::Inst::kIdImul, sized(x86::rax, o.size), at(x86::rdx, o.size), factor);
        } else {
            a_.emit(x86::Inst::kIdImul, sized(x86::rax, o.size), sized(registers_.read(i.src / 8), o.size), factor);
        }
        // In full, or what is left of the old value under it.
        const Gp target = o.size >= 4 ? registers_.write(to) : registers_.read(to);
        a_.mov(sized(target, o.size), sized(x86::rax, o.size));
    } else {
        emit_two(x86::Inst::kIdImul, i, o.form, o.size);
    }
    registers_.store(to);
    save_flags();
}

void RowCompiler::bit(const Insn& i, const Operation& o) {
    static constexpr std::array ids{x86::Inst::kIdBt, x86::Inst::kIdBts, x86::Inst::kIdBtr, x86::Inst::kIdBtc};
    const bool writes = static_cast<BitOp>(o.which) != BitOp::test;
    read_registers(i, o);
    address(i, o, writes ? Access::write : Access::read);
    const x86::Inst::Id id = ids[o.which];
    const asmjit::Imm number(static_cast<int64_t>(i.imm % (8 * o.size)));
    switch (o.form) {
        case Form::mi: a_.emit(id, at(x86::rdx, o.size), number); break;
        case Form::ri: a_.emit(id, sized(registers_.read(i.dst / 8), o.size), number); break;
        default: {
            const Gp bits = registers_.read(i.dst / 8);
            a_.emit(id, sized(bits, o.size), sized(registers_.read(i.src / 8), o.size));
        }
    }
    if (flags_are_seen(n_)) {
        a_.setc(x86::cl);
        a_.mov(x86::al, field(offsetof(Cpu, arith) + 1, 1));
        a_.and_(x86::al, 0xFE);
        a_.or_(x86::al, x86::cl);
        a_.mov(field(offsetof(Cpu, arith) + 1, 1), x86::al);
    }
    if (writes && has_register_destination(o.form)) {
        const Gp to = registers_.read(i.dst / 8);
        if (o.size == 4) a_.mov(to.r32(), to.r32());
        registers_.store(i.dst / 8);
    }
    host_flags_ = false;
}

void RowCompiler::push(const Insn& i, const Operation& o) {
    const Gp value = o.form == Form::r ? registers_.read(i.dst / 8) : Gp();
    stack_place(-slot_size(), Access::write);
    if (o.form == Form::r) {
        a_.mov(at(x86::rdx, o.size), sized(value, o.size));
    } else if (fits(immediate(i, o.size))) {
        a_.mov(at(x86::rdx, o.size), immediate(i, o.size));
    } else {
        a_.mov(x86::rax, i.imm);
        a_.mov(at(x86::rdx, o.size), x86::rax);
    }
    move_stack(-slot_size());
}

void RowCompiler::pop(const Insn& i, const Operation& o) {
    stack_place(0, Access::read);
    move_stack(slot_size());
    a_.mov(sized(registers_.write(i.dst / 8), o.size), at(x86::rdx, o.size));
    registers_.store(i.dst / 8);
}

void RowCompiler::stack_place(int32_t distance, Access access) {
    const Gp rsp = registers_.read(RSP);
    a_.lea(sized(x86::rdx, static_cast<unsigned>(slot_size())), x86::ptr(rsp, distance));
    add_segment(SS);
    translate(static_cast<unsigned>(slot_size()), access);
}

void RowCompiler::move_stack(int32_t bytes) {
    const Gp rsp = registers_.read(RSP);
    a_.lea(sized(rsp, static_cast<unsigned>(slot_size())), x86::ptr(rsp, bytes));
    registers_.store(RSP);
}

}  // namespace viv::soft
