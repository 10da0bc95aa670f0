#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "vmm/engine/soft/insn.hpp"

namespace viv::soft {

/// Memory for blocks. What was a block stays one until reset(), void or another one: who remembers a block that is gone
/// may still ask what it is now.
class BlockPool {
  public:
    static constexpr uint32_t most_instructions = 65;

    /// Full with so many MiB.
    explicit BlockPool(size_t limit = 512);
    ~BlockPool();
    BlockPool(const BlockPool&) = delete;
    BlockPool& operator=(const BlockPool&) = delete;

    /// A block with room for `count` instructions, 1 to 65.
    Block* allocate(uint32_t count);
    void release(Block* block);
    /// Whether it is time for reset(): what a guest makes of sizes in turn has a bound.
    [[nodiscard]] bool is_full() const { return chunks_.size() >= limit_; }
    /// Gives all memory back. While nobody remembers a block.
    void reset();

    /// A block outside of any pool, and its end.
    static Block* make(uint32_t count);
    static void destroy(Block* block);

  private:
    static constexpr size_t chunk_size = size_t{1} << 20;
    struct Chunk;
    const size_t limit_;  // chunks
    std::vector<std::unique_ptr<Chunk>> chunks_;
    size_t used_ = 0;  // of the last one
    std::array<std::vector<Block*>, most_instructions + 1> free_;
};

}  // namespace viv::soft
