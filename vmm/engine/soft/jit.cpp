#include "vmm/engine/soft/jit.hpp"

#include <asmjit/x86.h>

#include "vmm/engine/soft/block_cache.hpp"
#include "vmm/engine/soft/block_compiler.hpp"
#include "vmm/engine/soft/code_memory.hpp"
#include "vmm/engine/soft/handlers.hpp"

namespace viv::soft {
namespace {

// Address space, of which is used what the code takes: some 60 bytes an instruction.
constexpr size_t memory_size = size_t{128} << 20;

/// At the start of the memory: a jump to enter_by_link(), where exits go that are not joined.
constexpr size_t unjoined_size = 16;
void write_unjoined(std::byte* to) {
    namespace x86 = asmjit::x86;
    asmjit::CodeHolder code;
    code.init(asmjit::Environment::host());
    x86::Assembler assembler(&code);
    assembler.mov(x86::rax, asmjit::Imm(reinterpret_cast<uintptr_t>(&enter_by_link)));
    assembler.jmp(x86::rax);
    VIV_ASSERT(code.codeSize() <= unjoined_size);
    code.copyFlattenedData(to, unjoined_size);
}

/// The host executes nothing that it fetched before: what was written through another address than it is executed at
/// may be there in its old form until then (SDM 3A, 12.6). IRET does that, and is no privilege.
void serialize() {
    asm volatile(
        "sub $128, %%rsp\n"  // what compilers keep below the stack
        "mov %%rsp, %%rcx\n"
        "mov %%ss, %%eax\n"
        "push %%rax\n"
        "push %%rcx\n"
        "pushfq\n"
        "mov %%cs, %%eax\n"
        "push %%rax\n"
        "lea 1f(%%rip), %%rax\n"
        "push %%rax\n"
        "iretq\n"
        "1: add $128, %%rsp\n"
        :
        :
        : "rax", "rcx", "memory", "cc");
}

/// The first handler of a block that is counted.
const Insn* counted(Cpu& cpu, const Insn* i) {
    Block& block = *cpu.block;
    if (--block.heat > 0) return block.interpreted(cpu, i);
    block.first()->handler = block.interpreted;
    cpu.blocks->jit.compile(block);
    return i->handler(cpu, i);
}

}  // namespace

Jit::Jit() : used_(unjoined_size) {}
Jit::~Jit() = default;

void Jit::watch(Block& block) {
    if (threshold == 0) return;
    block.heat = threshold;
    block.interpreted = block.first()->handler;
    block.first()->handler = counted;
}

void Jit::compile(Block& block) {
    if (is_full()) return;
    BlockCompiler compiler(block, shortest_row);
    if (!compiler.run()) return;
    if (!memory_) {
        memory_ = std::make_unique<CodeMemory>(memory_size);
        write_unjoined(memory_->writable());
    }
    const size_t size = compiler.install(*memory_, used_);
    if (size == 0) {
        out_of_memory_ = true;
        return;
    }
    constexpr size_t alignment = 16;
    used_ += (size + alignment - 1) & ~(alignment - 1);
    compiled_ += block.count;
    ++blocks;
    bytes += size;
}

void Jit::join(Block& from, const Link& link) {
    const uint32_t exit = from.exits[&link - from.links];
    const auto* const to = reinterpret_cast<const std::byte*>(link.block->entrance);
    if (exit != 0 && memory_->executes(to)) memory_->aim(exit, to);
}

void Jit::relink(Block& from, const Link& link, const Block& to) {
    const uint32_t exit = from.exits[&link - from.links];
    if (exit == 0) return;
    const std::byte* const joined = memory_->aimed_at(exit);
    if (joined == memory_->executable() || joined == reinterpret_cast<const std::byte*>(to.entrance)) return;
    memory_->aim(exit, memory_->executable());
    serialize();
}

void Jit::reset() {
    used_ = unjoined_size;
    compiled_ = 0;
    out_of_memory_ = false;
}

}  // namespace viv::soft
