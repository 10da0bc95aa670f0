#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "vmm/core/guest_memory.hpp"
#include "vmm/engine/soft/block_pool.hpp"
#include "vmm/engine/soft/cpu.hpp"
#include "vmm/engine/soft/jit.hpp"
#include "vmm/engine/soft/relaxed.hpp"

namespace viv::soft {

class CodeWatch;
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

/// Blocks, of all CPUs of a machine while they take turns, of one when each has a thread. A page is known by its host
/// address, so that all aliases of a page and all mappings of it share their blocks.
class BlockCache {
  public:
    /// With a watch it is that of one CPU, which hears through the watch of what others write to its code.
    BlockCache(SoftEngine& engine, CodeWatch* watch);
    ~BlockCache();
    BlockCache(const BlockCache&) = delete;
    BlockCache& operator=(const BlockCache&) = delete;

    void add_user(Cpu& cpu) { users_.push_back(&cpu); }
    void remove_user(Cpu& cpu) { std::erase(users_, &cpu); }
    /// Comes before bytes of a page are decoded: from then on nobody writes there unnoticed.
    void prepare(const std::byte* host_page, Gpa address);

    /// The block of this flavour that starts at `host`, if there is one and its pages have not changed: one that goes
    /// on on another page only when that is `second_host`.
    Block* find(const std::byte* host, uint8_t flavour, const std::byte* second_host);
    /// Whether `known`, once a block of this cache and perhaps gone since, is the one that find() would give.
    bool is_still(Block& known, const std::byte* host, uint8_t flavour, const std::byte* second_host);
    /// Memory for a block of `count` instructions, in nobody's list yet.
    Block* allocate(uint32_t count) { return pool_.allocate(count); }
    /// Takes a block in. `second` is the page its last bytes are on, when that is another one.
    void insert(Block* block, Gpa address, const std::byte* second, Gpa second_address);

    /// Takes in a block that must not be found again; it lives until collect().
    void adopt(Block* block) { graveyard_.push_back(block); }

    /// Whether the CPU may write to the page from now on without telling.
    bool may_open(const Cpu& cpu, const std::byte* host_page);
    /// The guest wrote here: blocks made of these bytes are void, also the one that is running, and those of other
    /// CPUs.
    void written(Gpa address, const std::byte* host, unsigned size);
    /// The same for what others wrote; within a page.
    void forget(const std::byte* host, unsigned size);
    /// The 64-byte pieces of a page that `size` bytes at `address` touch, a bit each.
    static uint64_t chunk_mask(uint64_t address, uint64_t size);
    /// True once after something outside the CPUs wrote to memory: links have to be made anew.
    [[nodiscard]] bool memory_moved();
    /// Frees what was voided, and everything when no memory for blocks or host code is left. Only while no block runs.
    void collect();
    /// Voids everything.
    void clear();

    /// Another number for what code is linked under.
    uint32_t next_epoch();

    Relaxed<uint32_t> epoch = 1;
    Relaxed<uint64_t> decoded, invalidated;
    Jit jit;

  private:
    CodePage& page_of(const std::byte* host_page, Gpa address);
    void drop_page(const std::byte* host_page);
    void new_epochs();
    bool fresh(CodePage& page);
    void void_block(Block* block);
    void void_page(CodePage& page);
    [[nodiscard]] size_t slot_of(const std::byte* host, uint8_t flavour) const;

    GuestMemory& memory_;
    SoftEngine& engine_;
    CodeWatch* watch_;
    std::vector<Cpu*> users_;
    // Untouched memory is zero and costs nothing, which most of it stays in a small guest.
    struct Free {
        void operator()(Block** table) const;
    };
    std::unique_ptr<Block*[], Free> table_;
    std::unordered_map<const std::byte*, std::unique_ptr<CodePage>> pages_;
    std::vector<Block*> graveyard_;
    BlockPool pool_;
    uint64_t seen_writes_ = 0;
    size_t live_ = 0;
};

}  // namespace viv::soft
