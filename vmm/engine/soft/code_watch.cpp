#include "vmm/engine/soft/code_watch.hpp"

namespace viv::soft {

uint32_t CodeWatch::begin(const std::byte* page, unsigned cpu) {
    Shard& shard = shard_of(page);
    const std::lock_guard hold(shard.lock);
    Page& p = shard.pages[page];
    // Before the code is read, as users() looks after something was written: one of the two sees the other.
    if (p.users == 0) watched_of(page).fetch_add(1, std::memory_order_seq_cst);
    p.users |= 1u << cpu;
    if (!p.chunks) p.chunks = std::make_unique<std::array<uint64_t, max_cpus>>();
    (*p.chunks)[cpu] = all_chunks;
    return p.writers;
}

void CodeWatch::closed(const std::byte* page) {
    Shard& shard = shard_of(page);
    const std::lock_guard hold(shard.lock);
    shard.pages[page].writers = 0;
}

void CodeWatch::set_chunks(const std::byte* page, unsigned cpu, uint64_t chunks) {
    Shard& shard = shard_of(page);
    const std::lock_guard hold(shard.lock);
    const auto found = shard.pages.find(page);
    if (found == shard.pages.end() || !found->second.chunks) return;
    Page& p = found->second;
    (*p.chunks)[cpu] = chunks;
    if (chunks != 0 || p.users == 0) return;
    p.users &= ~(1u << cpu);
    if (p.users != 0) return;
    watched_of(page).fetch_sub(1, std::memory_order_relaxed);
    shard.pages.erase(found);
}

bool CodeWatch::open(const std::byte* page, unsigned cpu) {
    Shard& shard = shard_of(page);
    const std::lock_guard hold(shard.lock);
    Page& p = shard.pages[page];
    if (p.users != 0) return false;
    p.writers |= 1u << cpu;
    return true;
}

uint32_t CodeWatch::users(const std::byte* page, uint64_t chunks) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (watched_of(page).load(std::memory_order_relaxed) == 0) return 0;
    Shard& shard = shard_of(page);
    const std::lock_guard hold(shard.lock);
    const auto found = shard.pages.find(page);
    if (found == shard.pages.end() || found->second.users == 0) return 0;
    uint32_t users = 0;
    for (unsigned cpu = 0; cpu < max_cpus; ++cpu) {
        if ((*found->second.chunks)[cpu] & chunks) users |= 1u << cpu;
    }
    return users;
}

}  // namespace viv::soft
