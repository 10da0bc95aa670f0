#pragma once

#include <cstddef>
#include <memory>

#include "vmm/engine/soft/insn.hpp"

namespace viv::soft {

class CodeMemory;

/// From the instructions of one block to host code.
class BlockCompiler {
  public:
    /// Of rows of at least so many instructions.
    BlockCompiler(Block& block, uint32_t shortest_row);
    ~BlockCompiler();
    BlockCompiler(const BlockCompiler&) = delete;
    BlockCompiler& operator=(const BlockCompiler&) = delete;

    /// False: nothing in it is worth compiling.
    bool run();
    /// Puts the code of run() into the memory from `start` on, and gives the block its new handlers. The bytes used; 0:
    /// there are too few.
    size_t install(CodeMemory& memory, size_t start);

  private:
    struct Output;
    Block& block_;
    const uint32_t shortest_row_;
    std::unique_ptr<Output> output_;
};

}  // namespace viv::soft
