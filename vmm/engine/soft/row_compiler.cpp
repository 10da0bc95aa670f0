// The frame of compiled code: flags, accesses to memory, branches, and the hand-over to the interpreter.
#include "vmm/engine/soft/row_compiler.hpp"

#include <limits>

#include "vmm/engine/soft/flags.hpp"
#include "vmm/engine/soft/handlers.hpp"

namespace viv::soft {
namespace {

using Kind = Operation::Kind;

template <class T>
asmjit::Imm address_of(T pointer) {
    return asmjit::Imm(reinterpret_cast<uintptr_t>(pointer));
}

/// What an instruction does to the arithmetic flags, and whether it may hand over to the interpreter.
struct Effects {
    bool reads_flags = false;     // for more than to leave some as they were
    bool sets_all_flags = false;  // whatever they were
    bool may_hand_over = false;
};

Effects effects_of(const Operation& o) {
    Effects e;
    e.may_hand_over = has_memory_operand(o.form);
    switch (o.kind) {
        case Kind::binary: {
            const auto which = static_cast<Binary>(o.which);
            e.reads_flags = which == Binary::adc || which == Binary::sbb;
            e.sets_all_flags = true;
            break;
        }
        case Kind::unary: e.sets_all_flags = static_cast<Unary>(o.which) == Unary::neg; break;
        case Kind::shift: e.reads_flags = rotates_through_carry(o); break;
        case Kind::imul: e.sets_all_flags = true; break;
        case Kind::lea: e.may_hand_over = false; break;
        case Kind::cmov:
        case Kind::setcc: e.reads_flags = true; break;
        case Kind::push:
        case Kind::pop: e.may_hand_over = true; break;
        default: break;
    }
    return e;
}

}  // namespace

RowCompiler::RowCompiler(x86::Assembler& assembler, Block& block, const std::vector<Operation>& operations,
                         uint32_t first, uint32_t end)
    : a_(assembler),
      registers_(a_),
      block_(block),
      operations_(operations),
      first_(first),
      end_(end),
      code64_((block.flavour & Flavour::code_size_mask) == 2),
      start_(a_.newLabel()) {}

void RowCompiler::emit() {
    if (first_ == 0) emit_entrance();
    a_.bind(start_);
    for (n_ = first_; n_ < end_; ++n_) {
        registers_.next_instruction();
        instruction(block_.first()[n_], operations_[n_]);
    }
    if (!ends_block(operations_[end_ - 1].kind)) go_to_handler(block_.first() + end_);
    for (const HandOver& h : hand_overs_) {
        a_.bind(h.label);
        const Insn* const insn = block_.first() + h.insn;
        a_.mov(x86::rsi, address_of(insn));
        a_.jmp(address_of(insn->handler));
    }
    if (follow_slow_.isValid()) {
        a_.bind(follow_slow_);
        a_.mov(x86::rsi, x86::rcx);
        a_.jmp(address_of(&follow_slow));
    }
    if (jump_slow_.isValid()) {
        a_.bind(jump_slow_);
        a_.mov(x86::rsi, x86::rdx);
        a_.jmp(address_of(&jump_slow));
    }
    if (over_.isValid()) {
        a_.bind(over_);
        a_.add(field(offsetof(Cpu, remaining)), static_cast<int32_t>(block_.count));
        a_.bind(leave_);
        a_.mov(field(offsetof(Cpu, rip)), x86::rdx);
        a_.xor_(x86::eax, x86::eax);
        a_.ret();
    }
}

// Flags. The host's are the guest's right after an instruction that sets them; Cpu::arith has them when somebody
// may look there.

bool RowCompiler::flags_are_seen(uint32_t n) const {
    for (uint32_t later = n + 1; later < end_; ++later) {
        const Effects e = effects_of(operations_[later]);
        if (e.may_hand_over || e.reads_flags) return true;
        if (e.sets_all_flags) return false;
    }
    return true;
}

void RowCompiler::save_flags() {
    host_flags_ = true;
    if (!flags_are_seen(n_)) return;
    a_.lahf();
    a_.seto(x86::al);
    a_.mov(field(offsetof(Cpu, arith), 2), x86::ax);
}

void RowCompiler::load_flags() {
    if (host_flags_) return;
    a_.movzx(x86::eax, field(offsetof(Cpu, arith), 2));
    a_.add(x86::al, 0x7F);
    a_.sahf();
    host_flags_ = true;
}

void RowCompiler::load_carry() {
    if (!host_flags_) a_.bt(field(offsetof(Cpu, arith), 2), 8);
}

void RowCompiler::keep_carry() {
    if (flags_are_seen(n_)) load_carry();
}

x86::CondCode RowCompiler::condition(uint8_t which) {
    const auto as_it_is = static_cast<x86::CondCode>(which);
    if (host_flags_) return as_it_is;
    const auto test = [&](unsigned byte, int bits) {
        a_.test(field(offsetof(Cpu, arith) + byte, 1), bits);
        return which & 1 ? x86::CondCode::kZ : x86::CondCode::kNZ;
    };
    switch (static_cast<Condition>(which & ~1u)) {
        case Condition::o: return test(0, 0x01);
        case Condition::b: return test(1, 0x01);
        case Condition::z: return test(1, 0x40);
        case Condition::be: return test(1, 0x41);
        case Condition::s: return test(1, 0x80);
        case Condition::p: return test(1, 0x04);
        default: load_flags(); return as_it_is;
    }
}

// Memory.

asmjit::Label RowCompiler::hand_over() {
    if (hand_overs_.empty() || hand_overs_.back().insn != n_) hand_overs_.push_back({a_.newLabel(), n_});
    return hand_overs_.back().label;
}

void RowCompiler::effective_address(const Insn& i, const Gp& target) {
    const bool has_base = i.base != slot_zero, has_index = i.index != slot_zero;
    const Gp base = has_base ? registers_.read(i.base / 8) : Gp();
    const Gp index = has_index ? registers_.read(i.index / 8) : Gp();
    const bool narrow = i.mask != std::numeric_limits<uint64_t>::max();
    const Gp to = sized(target, narrow ? 4 : 8);
    if (!has_base && !has_index) {
        a_.mov(to, static_cast<uint64_t>(i.disp) & i.mask);
        return;
    }
    const auto disp = static_cast<int32_t>(i.disp);
    if (has_base && has_index) {
        a_.lea(to, x86::ptr(base, index, i.scale, disp));
    } else if (has_base) {
        a_.lea(to, x86::ptr(base, disp));
    } else {
        a_.lea(to, x86::ptr(static_cast<uint64_t>(i.disp), index, i.scale));
    }
    if (narrow && i.mask == 0xFFFF) a_.movzx(to, target.r16());
}

void RowCompiler::translate(unsigned size, Access access) {
    static_assert(sizeof(TlbEntry) == 64 && Tlb::size == 4096 && offsetof(Tlb, entries) == 0);
    const size_t tag = access == Access::write ? offsetof(TlbEntry, write) : offsetof(TlbEntry, read);
    a_.mov(x86::eax, x86::edx);
    if (size == 1) {
        a_.mov(x86::rcx, x86::rdx);
    } else {
        a_.lea(x86::rcx, x86::ptr(x86::rdx, static_cast<int32_t>(size - 1)));
    }
    a_.shr(x86::eax, 6);
    a_.and_(x86::eax, 0xFFF << 6);
    a_.add(x86::rax, field(offsetof(Cpu, tlb)));
    a_.and_(x86::rcx, -4096);
    a_.cmp(x86::rcx, x86::qword_ptr(x86::rax, static_cast<int32_t>(tag)));
    a_.jne(hand_over());
    a_.add(x86::rdx, x86::qword_ptr(x86::rax, static_cast<int32_t>(offsetof(TlbEntry, addend))));
    host_flags_ = false;
}

void RowCompiler::operand(const Insn& i, unsigned size, Access access) {
    effective_address(i, x86::rdx);
    add_segment(i.seg);
    translate(size, access);
}

void RowCompiler::add_segment(uint8_t seg) {
    if (!code64_ || seg == FS || seg == GS) a_.add(x86::rdx, field(offsetof(Cpu, seg_base) + size_t{8} * seg));
    if (!code64_) a_.mov(x86::edx, x86::edx);
}

// Ways out of the block.

int32_t RowCompiler::link_offset(int link) {
    return static_cast<int32_t>(offsetof(Block, links) + sizeof(Link) * static_cast<size_t>(link));
}

void RowCompiler::target(const Gp& to, uint64_t distance, uint64_t mask) {
    const Gp rip = registers_.read(guest_rip);
    const auto offset = static_cast<int32_t>(distance);
    if (mask == std::numeric_limits<uint64_t>::max()) {
        a_.lea(to.r64(), x86::ptr(rip, offset));
        return;
    }
    a_.lea(to.r32(), x86::ptr(rip, offset));
    if (mask == 0xFFFF) a_.movzx(to.r32(), to.r16());
}

uint64_t RowCompiler::rip_space() const {
    return code64_ ? std::numeric_limits<uint64_t>::max() : std::numeric_limits<uint32_t>::max();
}

const asmjit::Label& RowCompiler::exit_at(Label& label) {
    if (!label.isValid()) label = a_.newLabel();
    return label;
}

/// Within its page a branch leads to the same code, whatever address the page is mapped at.
bool RowCompiler::stays_on_page(uint64_t distance, uint64_t mask) const {
    constexpr uint64_t page = 0x1000;
    return mask == std::numeric_limits<uint64_t>::max() &&
           reinterpret_cast<uintptr_t>(block_.host) % page + distance < page;
}

void RowCompiler::follow(int link, uint64_t distance, uint64_t mask) {
    target(x86::rdx, distance, mask);
    const Label slow = exit_at(follow_slow_);
    const auto in_link = [](size_t offset) { return x86::qword_ptr(x86::rcx, static_cast<int32_t>(offset)); };
    a_.mov(x86::rcx, field(offsetof(Cpu, block)));
    a_.mov(x86::rax, field(offsetof(Cpu, code_tag)));
    a_.add(x86::rcx, link_offset(link));
    if (!stays_on_page(distance, mask)) {
        a_.cmp(in_link(offsetof(Link, rip)), x86::rdx);
        a_.jne(slow);
    }
    a_.cmp(in_link(offsetof(Link, tag)), x86::rax);
    a_.jne(slow);
    a_.mov(x86::rsi, in_link(offsetof(Link, block)));
    // A jump whose distance Jit::join() changes: so the host knows where it goes on before it has seen the block.
    constexpr uint8_t jmp_rel32 = 0xE9;
    a_.embedUInt8(jmp_rel32);
    exits_.push_back({link, a_.newLabel()});
    a_.bind(exits_.back().distance);
    a_.embedUInt32(0);
}

void RowCompiler::jump() {
    static_assert(sizeof(JumpCacheEntry) == 32);
    const Label slow = exit_at(jump_slow_);
    a_.mov(x86::rcx, x86::rdx);
    a_.shr(x86::rcx, 12);
    a_.xor_(x86::ecx, x86::edx);
    a_.and_(x86::ecx, jump_cache_size - 1);
    a_.shl(x86::ecx, 5);
    a_.lea(x86::rcx, x86::ptr(cpu_register, x86::rcx, 0, static_cast<int32_t>(offsetof(Cpu, jump_cache))));
    const auto entry = [](size_t offset, uint32_t size) {
        return x86::Mem(x86::rcx, static_cast<int32_t>(offset), size);
    };
    a_.mov(x86::rax, field(offsetof(Cpu, code_tag)));
    a_.cmp(entry(offsetof(JumpCacheEntry, rip), 8), x86::rdx);
    a_.jne(slow);
    a_.cmp(entry(offsetof(JumpCacheEntry, tag), 8), x86::rax);
    a_.jne(slow);
    a_.cmp(entry(offsetof(JumpCacheEntry, flavour), 1), block_.flavour);
    a_.jne(slow);
    a_.mov(x86::rsi, entry(offsetof(JumpCacheEntry, block), 8));
    a_.jmp(x86::qword_ptr(x86::rsi, static_cast<int32_t>(offsetof(Block, entrance))));
}

void RowCompiler::emit_entrance() {
    over_ = a_.newLabel();
    leave_ = a_.newLabel();
    a_.cmp(field(offsetof(Cpu, attention), 1), 0);
    a_.jne(leave_);
    a_.sub(field(offsetof(Cpu, remaining)), static_cast<int32_t>(block_.count));
    a_.jl(over_);
    a_.mov(slot(guest_rip), x86::rdx);
    a_.mov(field(offsetof(Cpu, block)), x86::rsi);
}

void RowCompiler::go_to_handler(const Insn* insn) {
#if VIV_TAIL_CALLS
    a_.mov(x86::rsi, address_of(insn));
    a_.jmp(at(x86::rsi, 8));
#else
    a_.mov(x86::rax, address_of(insn));
    a_.ret();
#endif
}

void RowCompiler::jcc(const Insn& i, const Operation& o) {
    registers_.read(guest_rip);
    const Label taken = a_.newLabel();
    a_.j(condition(o.which), taken);
    follow(1, i.offset + i.length, rip_space());
    a_.bind(taken);
    follow(0, i.imm, i.mask);
}

void RowCompiler::check_canonical() {
    if (!code64_) return;
    a_.mov(x86::rcx, x86::rdx);
    a_.shl(x86::rcx, 16);
    a_.sar(x86::rcx, 16);
    a_.cmp(x86::rcx, x86::rdx);
    a_.jne(hand_over());
}

void RowCompiler::push_return(const Insn& i) {
    const auto size = static_cast<unsigned>(slot_size());
    stack_place(-slot_size(), Access::write);
    target(x86::rax, i.offset + i.length, rip_space());
    a_.mov(at(x86::rdx, size), sized(x86::rax, size));
    move_stack(-slot_size());
}

void RowCompiler::call(const Insn& i) {
    registers_.read(guest_rip);
    push_return(i);
    follow(0, i.imm, i.mask);
}

void RowCompiler::indirect(const Insn& i, const Operation& o) {
    if (o.form == Form::m) {
        operand(i, o.size, Access::read);
        a_.mov(sized(x86::rdx, o.size), at(x86::rdx, o.size));
    } else {
        a_.mov(sized(x86::rdx, o.size), sized(registers_.read(i.dst / 8), o.size));
    }
    check_canonical();
    if (o.kind == Kind::call_indirect) {
        const Gp kept = registers_.scratch();
        a_.mov(kept, x86::rdx);
        push_return(i);
        a_.mov(x86::rdx, kept);
    }
    jump();
}

void RowCompiler::ret(const Insn& i) {
    const auto size = static_cast<unsigned>(slot_size());
    stack_place(0, Access::read);
    a_.mov(sized(x86::rdx, size), at(x86::rdx, size));
    check_canonical();
    move_stack(slot_size() + static_cast<int32_t>(i.imm));
    jump();
}

void RowCompiler::instruction(const Insn& i, const Operation& o) {
    switch (o.kind) {
        case Kind::none:
        case Kind::nop: break;
        case Kind::binary: binary(i, o); break;
        case Kind::unary: unary(i, o); break;
        case Kind::shift: shift(i, o); break;
        case Kind::mov: mov(i, o); break;
        case Kind::extend: extend(i, o); break;
        case Kind::lea: lea(i, o); break;
        case Kind::xchg: xchg(i, o); break;
        case Kind::cmov: cmov(i, o); break;
        case Kind::setcc: setcc(i, o); break;
        case Kind::bswap: bswap(i, o); break;
        case Kind::push: push(i, o); break;
        case Kind::pop: pop(i, o); break;
        case Kind::imul: imul(i, o); break;
        case Kind::bit: bit(i, o); break;
        case Kind::jcc: jcc(i, o); break;
        case Kind::jmp: follow(0, i.imm, i.mask); break;
        case Kind::call: call(i); break;
        case Kind::jmp_indirect:
        case Kind::call_indirect: indirect(i, o); break;
        case Kind::ret: ret(i); break;
        case Kind::end_of_block: follow(1, i.offset, rip_space()); break;
    }
}

}  // namespace viv::soft
