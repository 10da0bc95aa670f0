#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "vmm/core/guest_memory.hpp"
#include "vmm/engine/soft/cpu.hpp"

namespace viv::soft {

class SoftEngine;

/// A page of guest memory that blocks were made from.
struct CodePage {
    const std::byte* host = nullptr;
    Gpa address;
    uint32_t generation = 0;  // GuestMemory's, when the blocks were made
    uint64_t checked_at = 0;  // GuestMemory::noted_writes() when it was last compared
    uint64_t chunks = 0;      // which 64-byte pieces hold code
    std::vector<Block*> blocks;
};

/// All blocks of a machine, shared by its CPUs. A page is known by its host address, so that all aliases of a page and
/// all mappings of it share their blocks.
class BlockCache {
  public:
    BlockCache(GuestMemory& memory, SoftEngine& engine);
    ~BlockCache();
    BlockCache(const BlockCache&) = delete;
    BlockCache& operator=(const BlockCache&) = delete;

    /// The block of this flavour that starts at `host`, if there is one and its page has not changed.
    Block* find(const std::byte* host, uint8_t flavour, const std::byte* second_host);
    /// Memory for a block of `count` instructions, in nobody's list yet.
    static Block* allocate(uint32_t count);
    static void release(Block* block);
    /// Takes a block in. `second` is the page its last bytes are on, when that is another one.
    void insert(Block* block, Gpa address, const std::byte* second, Gpa second_address);

    /// Takes in a block that must not be found again; it lives until collect().
    void adopt(Block* block) { graveyard_.push_back(block); }

    [[nodiscard]] bool has_code(const std::byte* host_page) const { return pages_.contains(host_page); }
    /// The guest wrote here: blocks made of these bytes are void, also the one that is running.
    void written(Gpa address, const std::byte* host, unsigned size);
    /// True once after something outside the CPUs wrote to memory: links have to be made anew.
    [[nodiscard]] bool memory_moved();
    /// Frees what was voided. Only while no block runs.
    void collect();
    /// Voids everything.
    void clear();

    uint64_t decoded = 0, invalidated = 0;

  private:
    CodePage& page_of(const std::byte* host_page, Gpa address);
    bool fresh(CodePage& page);
    void void_block(Block* block);
    void void_page(CodePage& page);
    [[nodiscard]] size_t slot_of(const std::byte* host, uint8_t flavour) const;

    GuestMemory& memory_;
    SoftEngine& engine_;
    std::vector<Block*> table_;
    std::unordered_map<const std::byte*, std::unique_ptr<CodePage>> pages_;
    std::vector<Block*> graveyard_;
    uint64_t seen_writes_ = 0;
    size_t live_ = 0;
};

}  // namespace viv::soft
