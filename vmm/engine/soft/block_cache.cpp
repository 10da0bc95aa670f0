#include "vmm/engine/soft/block_cache.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "vmm/engine/soft/code_watch.hpp"
#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/handlers.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/soft_vcpu.hpp"

namespace viv::soft {
namespace {
constexpr unsigned table_bits = 18;
constexpr size_t max_blocks = 400'000;

const std::byte* page_start(const std::byte* host) {
    return reinterpret_cast<const std::byte*>(reinterpret_cast<uintptr_t>(host) & ~uintptr_t{0xFFF});
}

}  // namespace

uint64_t BlockCache::chunk_mask(uint64_t address, uint64_t size) {
    const uint64_t from = (address & 0xFFF) / 64;
    const uint64_t to = std::min<uint64_t>(0xFFF, (address & 0xFFF) + size - 1) / 64;
    return (~uint64_t{0} >> (63 - (to - from))) << from;
}

BlockCache::BlockCache(SoftEngine& engine, CodeWatch* watch)
    : memory_(engine.memory),
      engine_(engine),
      watch_(watch),
      table_(static_cast<Block**>(std::calloc(size_t{1} << table_bits, sizeof(Block*)))),
      seen_writes_(memory_.noted_writes()) {
    VIV_ASSERT(table_);
}

BlockCache::~BlockCache() {
    clear();
    collect();
}

void BlockCache::Free::operator()(Block** table) const {
    std::free(table);
}

size_t BlockCache::slot_of(const std::byte* host, uint8_t flavour) const {
    // By the golden ratio (Knuth, The Art of Computer Programming 3, 6.4).
    const uint64_t key = reinterpret_cast<uintptr_t>(host) ^ static_cast<uint64_t>(flavour) << 56;
    return (key * 0x9E3779B97F4A7C15) >> (64 - table_bits);
}

Block* BlockCache::find(const std::byte* host, uint8_t flavour, const std::byte* second_host) {
    for (Block* block = table_[slot_of(host, flavour)]; block; block = block->hash_next) {
        if (block->host != reinterpret_cast<const uint8_t*>(host) || block->flavour != flavour) continue;
        if (block->second_page && block->second_page->host != second_host) continue;
        if (!fresh(*block->page)) return nullptr;
        if (block->second_page && !fresh(*block->second_page)) return nullptr;
        return block;
    }
    return nullptr;
}

bool BlockCache::is_still(Block& known, const std::byte* host, uint8_t flavour, const std::byte* second_host) {
    if (known.host != reinterpret_cast<const uint8_t*>(host) || known.flavour != flavour || known.stale || !known.page)
        return false;
    if (known.second_page && (known.second_page->host != second_host || !fresh(*known.second_page))) return false;
    return fresh(*known.page);
}

bool BlockCache::fresh(CodePage& page) {
    if (watch_) return true;  // what was written is void already
    const uint64_t writes = memory_.noted_writes();
    if (page.checked_at == writes) return true;
    page.checked_at = writes;
    if (memory_.write_generation(page.address) == page.generation) return true;
    void_page(page);
    return false;
}

CodePage& BlockCache::page_of(const std::byte* host_page, Gpa address) {
    auto& page = pages_[host_page];
    if (!page) {
        page = std::make_unique<CodePage>();
        page->host = host_page;
        page->address = {address.value & page_mask};
        page->generation = memory_.write_generation(address);
        page->checked_at = memory_.noted_writes();
        for (Cpu* cpu : users_) protect_code_page(*cpu, host_page);
    }
    return *page;
}

void BlockCache::prepare(const std::byte* host_page, Gpa address) {
    if (!watch_) return;
    Cpu& cpu = *users_.front();
    page_of(host_page, address);
    const uint32_t writers = watch_->begin(host_page, cpu.id);
    if (writers == 0) return;
    if (writers & ~(1u << cpu.id)) {
        const Alone alone(cpu);
        for (SoftVcpu* vcpu : engine_.vcpus) {
            if (writers & (1u << vcpu->cpu().id)) protect_code_page(vcpu->cpu(), host_page);
        }
    }
    watch_->closed(host_page);
}

bool BlockCache::may_open(const Cpu& cpu, const std::byte* host_page) {
    return watch_ ? watch_->open(host_page, cpu.id) : !pages_.contains(host_page);
}

void BlockCache::drop_page(const std::byte* host_page) {
    pages_.erase(host_page);
    if (watch_) watch_->set_chunks(host_page, users_.front()->id, 0);
}

void BlockCache::new_epochs() {
    for (Cpu* cpu : users_) new_code_epoch(*cpu);
}

uint32_t BlockCache::next_epoch() {
    if (epoch == std::numeric_limits<uint32_t>::max()) {
        // From the start again, with no link left that an old number could revive.
        epoch = 0;
        for (Cpu* cpu : users_) cpu->jump_cache.fill({});
        clear();
    }
    return ++epoch;
}

void BlockCache::insert(Block* block, Gpa address, const std::byte* second, Gpa second_address) {
    const auto* host = reinterpret_cast<const std::byte*>(block->host);
    if (live_ >= max_blocks / (watch_ ? engine_.vcpus.size() : 1)) clear();
    // A page that nobody watches any more may have been written to.
    if (watch_ && (!pages_.contains(page_start(host)) || (second && !pages_.contains(second)))) return adopt(block);
    CodePage& page = page_of(page_start(host), address);
    block->page = &page;
    page.blocks.push_back(block);
    page.chunks |= chunk_mask(reinterpret_cast<uintptr_t>(host), block->bytes);
    if (second) {
        CodePage& after = page_of(second, second_address);
        block->second_page = &after;
        after.blocks.push_back(block);
        after.chunks |= 1;
        if (watch_) watch_->set_chunks(second, users_.front()->id, after.chunks);
    }
    if (watch_) watch_->set_chunks(page.host, users_.front()->id, page.chunks);
    Block*& head = table_[slot_of(host, block->flavour)];
    block->hash_next = head;
    head = block;
    ++live_;
    ++decoded;
}

void BlockCache::void_block(Block* block) {
    if (block->stale) return;
    block->stale = true;
    // Whoever runs it leaves at its next instruction.
    for (uint32_t i = 0; i < block->count; ++i) block->first()[i].handler = leave_stale_block;
    block->first()[block->count].handler = leave_stale_block;
    block->entrance = enter_interpreted;
    Block** link = &table_[slot_of(reinterpret_cast<const std::byte*>(block->host), block->flavour)];
    while (*link != block) link = &(*link)->hash_next;
    *link = block->hash_next;
    graveyard_.push_back(block);
    --live_;
    ++invalidated;
}

void BlockCache::void_page(CodePage& page) {
    const std::vector<Block*> blocks = std::move(page.blocks);
    page.blocks.clear();
    for (Block* block : blocks) {
        CodePage* other = block->page == &page ? block->second_page : block->page;
        if (other) std::erase(other->blocks, block);
        void_block(block);
    }
    drop_page(page.host);
    new_epochs();
}

void BlockCache::written(Gpa address, const std::byte* host, unsigned size) {
    memory_.mark_dirty(address, size);
    forget(host, size);
    if (watch_) engine_.tell_of_write(host, size, users_.front());
}

void BlockCache::forget(const std::byte* host, unsigned size) {
    const auto found = pages_.find(page_start(host));
    if (found == pages_.end()) return;
    CodePage& page = *found->second;
    const uint64_t chunks = chunk_mask(reinterpret_cast<uintptr_t>(host), size);
    if (!(page.chunks & chunks) && !page.blocks.empty()) return;

    const auto first = reinterpret_cast<uintptr_t>(host);
    bool any = false;
    page.chunks = 0;
    std::erase_if(page.blocks, [&](Block* block) {
        const bool head = block->page == &page;
        const uintptr_t start =
            head ? reinterpret_cast<uintptr_t>(block->host) : reinterpret_cast<uintptr_t>(page.host);
        const uintptr_t length =
            head ? block->bytes : block->bytes - (0x1000 - (reinterpret_cast<uintptr_t>(block->host) & 0xFFF));
        if (start >= first + size || first >= start + length) {
            page.chunks |= chunk_mask(start, length);
            return false;
        }
        CodePage* other = head ? block->second_page : block->page;
        if (other) std::erase(other->blocks, block);
        void_block(block);
        any = true;
        return true;
    });
    if (page.blocks.empty()) {
        drop_page(page.host);
    } else if (watch_) {
        watch_->set_chunks(page.host, users_.front()->id, page.chunks);
    }
    if (any) new_epochs();
}

bool BlockCache::memory_moved() {
    if (watch_) return false;  // as fresh()
    const uint64_t writes = memory_.noted_writes();
    if (writes == seen_writes_) return false;
    seen_writes_ = writes;
    new_epochs();
    return true;
}

void BlockCache::collect() {
    const bool is_full = jit.is_full() || pool_.is_full();
    if (is_full) clear();
    for (Block* block : graveyard_) pool_.release(block);
    graveyard_.clear();
    if (!is_full) return;
    jit.reset();
    pool_.reset();
    for (Cpu* cpu : users_) cpu->jump_cache.fill({});
}

void BlockCache::clear() {
    while (!pages_.empty()) {
        for (Block* block : pages_.begin()->second->blocks) void_block(block);
        drop_page(pages_.begin()->first);
    }
    new_epochs();
}

}  // namespace viv::soft
