#include "vmm/engine/soft/block_compiler.hpp"

#include <vector>

#include "vmm/engine/soft/code_memory.hpp"
#include "vmm/engine/soft/row_compiler.hpp"

namespace viv::soft {
namespace {

using Kind = Operation::Kind;

/// Remembers that something could not be encoded.
class Errors final : public asmjit::ErrorHandler {
  public:
    void handleError(asmjit::Error, const char*, asmjit::BaseEmitter*) override { any = true; }
    bool any = false;
};

bool is_high_byte(uint8_t slot_number) {
    return slot_number % 8 != 0;
}

/// What a PUSH of the compiler's moves, and the size of the addresses that it branches to: in 64-bit code and, without
/// checks of segments, in 32-bit code; else 0.
unsigned stack_slot(uint8_t flavour) {
    switch (flavour & Flavour::code_size_mask) {
        case 2: return 8;
        case 1: return flavour & Flavour::flat ? 4 : 0;
        default: return 0;
    }
}

/// Whether the compiler makes host code of the instruction.
bool is_compiled(const Insn& i, const Operation& o, uint8_t flavour) {
    switch (o.kind) {
        case Kind::none: return false;
        case Kind::push:
        case Kind::pop:
        case Kind::call:
        case Kind::ret: return o.size == stack_slot(flavour);
        case Kind::jmp_indirect:
        case Kind::call_indirect:
            // CALL RSP pushes below what it goes to.
            if (o.size != stack_slot(flavour) || (o.form == Form::r && i.dst / 8 == RSP)) return false;
            break;
        default: break;
    }
    if (has_memory_operand(o.form)) {
        if (i.has(insn_checked)) return false;
        if ((i.base != slot_zero || i.index != slot_zero) && !fits(i.disp)) return false;
        if ((o.form == Form::mi && !fits(immediate(i, o.size)))) return false;
    }
    if (o.kind == Kind::jcc || o.kind == Kind::jmp || o.kind == Kind::end_of_block || o.kind == Kind::nop) return true;
    return !(has_register_destination(o.form) && is_high_byte(i.dst)) &&
           !(has_register_source(o.form) && is_high_byte(i.src));
}

}  // namespace

struct BlockCompiler::Output {
    struct Start {
        uint32_t insn;
        asmjit::Label label;
    };
    Errors errors;
    asmjit::CodeHolder code;
    std::unique_ptr<x86::Assembler> assembler;
    std::vector<Start> starts;
    std::vector<RowCompiler::Exit> exits;
    asmjit::Label entrance;  // valid when the first row is the block's start
};

BlockCompiler::BlockCompiler(Block& block, uint32_t shortest_row) : block_(block), shortest_row_(shortest_row) {}
BlockCompiler::~BlockCompiler() = default;

bool BlockCompiler::run() {
    std::vector<Operation> operations(block_.count + 1);
    for (uint32_t n = 0; n <= block_.count; ++n) {
        const Insn& insn = block_.first()[n];
        operations[n] = operation_of(insn.handler);
        if (!is_compiled(insn, operations[n], block_.flavour)) operations[n] = {};
    }
    uint32_t n = 0;
    while (n <= block_.count) {
        if (operations[n].kind == Kind::none) {
            ++n;
            continue;
        }
        uint32_t end = n;
        while (end <= block_.count && operations[end].kind != Kind::none) {
            if (ends_block(operations[end++].kind)) break;
        }
        const bool is_last = ends_block(operations[end - 1].kind);
        // A branch is worth it; the way on behind an instruction that leaves the block is never taken.
        if (end - n >= shortest_row_ || (is_last && operations[end - 1].kind != Kind::end_of_block)) {
            if (!output_) {
                output_ = std::make_unique<Output>();
                output_->code.init(asmjit::Environment::host());
                output_->code.setErrorHandler(&output_->errors);
                output_->assembler = std::make_unique<x86::Assembler>(&output_->code);
            }
            x86::Assembler& assembler = *output_->assembler;
            assembler.align(asmjit::AlignMode::kCode, 16);
            if (n == 0) {
                output_->entrance = assembler.newLabel();
                assembler.bind(output_->entrance);
            }
            RowCompiler row(assembler, block_, operations, n, end);
            row.emit();
            output_->starts.push_back({n, row.start()});
            output_->exits.insert(output_->exits.end(), row.exits().begin(), row.exits().end());
        }
        if (is_last) break;
        n = end;
    }
    return output_ && !output_->errors.any;
}

size_t BlockCompiler::install(CodeMemory& memory, size_t start) {
    std::byte* const writable = memory.writable() + start;
    const std::byte* const executable = memory.executable() + start;
    const size_t room = memory.size() - start;
    asmjit::CodeHolder& code = output_->code;
    code.flatten();
    code.resolveUnresolvedLinks();
    if (code.codeSize() > room) return 0;
    code.relocateToBase(reinterpret_cast<uintptr_t>(executable));
    const size_t size = code.codeSize();
    code.copyFlattenedData(writable, room);
    VIV_ASSERT(!output_->errors.any);
    const auto address = [&](const asmjit::Label& label) {
        return reinterpret_cast<uintptr_t>(executable) + code.labelOffsetFromBase(label);
    };
    for (const Output::Start& row : output_->starts) {
        block_.first()[row.insn].handler = reinterpret_cast<Handler>(address(row.label));
    }
    for (const RowCompiler::Exit& exit : output_->exits) {
        const size_t offset = start + code.labelOffsetFromBase(exit.distance);
        block_.exits[exit.link] = static_cast<uint32_t>(offset);
        memory.aim(offset, memory.executable());
    }
    if (output_->entrance.isValid()) block_.entrance = reinterpret_cast<Entrance>(address(output_->entrance));
    return size;
}

}  // namespace viv::soft
