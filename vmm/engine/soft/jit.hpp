#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "vmm/engine/soft/insn.hpp"
#include "vmm/engine/soft/relaxed.hpp"

namespace viv::soft {

class CodeMemory;

/// Makes host code of blocks that run often. Rows of instructions become a handler of their own, which the first of
/// them gets; the others keep theirs, since host code that meets anything but the common case (an access that the TLB
/// does not answer) hands over to the interpreter in front of that instruction. So everything that is difficult has one
/// place, and blocks with host code and without are the same to all others. Not for several threads at a time.
class Jit {
  public:
    Jit();
    ~Jit();
    Jit(const Jit&) = delete;
    Jit& operator=(const Jit&) = delete;

    /// Has `block`, which is not running yet, count how often it runs, and compiles it when that is often.
    void watch(Block& block);
    /// Makes the host code now, where there is something to gain; nothing when no memory is left for it.
    void compile(Block& block);
    /// Host code that goes by a link of `from` goes straight on in the link's block from now on, if that is host code,
    /// too.
    void join(Block& from, const Link& link);
    /// Comes before a link of `from` is made to go to `to`, which may be in the memory of the one that it went to: host
    /// code of that one is not gone to any more.
    void relink(Block& from, const Link& link, const Block& to);
    /// Whether it is time for reset(). Two runs of the same guest come to it at the same moment.
    [[nodiscard]] bool is_full() const { return compiled_ >= most_instructions || out_of_memory_; }
    /// Forgets all host code. While no block that has some is left.
    void reset();

    /// How often a block runs before it is compiled; 0: none is.
    uint32_t threshold = 64;
    /// How many instructions in a row are worth it.
    uint32_t shortest_row = 2;
    Relaxed<uint64_t> blocks, bytes;  // compiled, in all

  private:
    static constexpr uint32_t most_instructions = 300'000;
    std::unique_ptr<CodeMemory> memory_;  // none before the first block
    size_t used_;
    uint32_t compiled_ = 0;  // instructions, of the blocks that it has code of
    bool out_of_memory_ = false;
};

}  // namespace viv::soft
