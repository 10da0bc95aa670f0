#include "vmm/engine/soft/jit.hpp"

#include "vmm/engine/soft/block_cache.hpp"
#include "vmm/engine/soft/block_compiler.hpp"
#include "vmm/engine/soft/code_memory.hpp"
#include "vmm/engine/soft/handlers.hpp"

namespace viv::soft {
namespace {

// Address space, of which is used what the code takes: some 60 bytes an instruction.
constexpr size_t memory_size = size_t{128} << 20;

/// The first handler of a block that is counted.
const Insn* counted(Cpu& cpu, const Insn* i) {
    Block& block = *cpu.block;
    if (--block.heat > 0) return block.interpreted(cpu, i);
    block.first()->handler = block.interpreted;
    cpu.blocks->jit.compile(block);
    return i->handler(cpu, i);
}

}  // namespace

Jit::Jit() = default;
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
    if (!memory_) memory_ = std::make_unique<CodeMemory>(memory_size);
    const size_t size =
        compiler.install(memory_->writable() + used_, memory_->executable() + used_, memory_->size() - used_);
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

void Jit::reset() {
    used_ = 0;
    compiled_ = 0;
    out_of_memory_ = false;
}

}  // namespace viv::soft
