#include "vmm/engine/soft/block_pool.hpp"

#include <new>

#include "vmm/core/result.hpp"

namespace viv::soft {
namespace {

constexpr size_t alignment = 64;

size_t size_of(uint32_t count) {
    return (sizeof(Block) + count * sizeof(Insn) + alignment - 1) & ~(alignment - 1);
}
Block* make_at(void* memory, uint32_t count) {
    auto* block = new (memory) Block;
    for (uint32_t n = 0; n < count; ++n) new (block->first() + n) Insn;
    block->count = count;
    block->room = static_cast<uint8_t>(count);
    return block;
}

}  // namespace

struct alignas(alignment) BlockPool::Chunk {
    std::array<std::byte, chunk_size> bytes;
};

BlockPool::BlockPool(size_t limit) : limit_(limit) {}
BlockPool::~BlockPool() = default;

Block* BlockPool::allocate(uint32_t count) {
    VIV_ASSERT(count <= most_instructions);
    std::vector<Block*>& free = free_[count];
    if (!free.empty()) {
        Block* const block = free.back();
        free.pop_back();
        return make_at(block, count);
    }
    const size_t size = size_of(count);
    if (chunks_.empty() || chunk_size - used_ < size) {
        chunks_.push_back(std::make_unique_for_overwrite<Chunk>());
        used_ = 0;
    }
    void* const memory = chunks_.back()->bytes.data() + used_;
    used_ += size;
    return make_at(memory, count);
}

void BlockPool::release(Block* block) {
    block->stale = true;
    free_[block->room].push_back(block);
}

void BlockPool::reset() {
    for (auto& free : free_) free.clear();
    chunks_.clear();
    used_ = 0;
}

Block* BlockPool::make(uint32_t count) {
    return make_at(::operator new (size_of(count), std::align_val_t{alignment}), count);
}

void BlockPool::destroy(Block* block) {
    ::operator delete (block, std::align_val_t{alignment});
}

}  // namespace viv::soft
