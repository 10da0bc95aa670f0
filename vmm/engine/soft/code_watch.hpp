#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace viv::soft {

/// Which CPUs hold blocks made of a page, and which may write to it without telling, when each CPU has a thread and
/// blocks of its own. A page never is both: where there is code, every write is seen, and told to those whose code it
/// is. Pages go by their host address. All of it may be called from any thread.
class CodeWatch {
  public:
    static constexpr unsigned max_cpus = 16;
    static constexpr uint64_t all_chunks = ~uint64_t{0};

    /// `cpu` is about to read code of the page. Returns the CPUs, a bit each, that may still write there without
    /// telling: they have to be stopped from it, and closed() called, before the first byte is read.
    uint32_t begin(const std::byte* page, unsigned cpu);
    void closed(const std::byte* page);
    /// Which 64-byte pieces of the page `cpu` has blocks of; it had all since begin(). None: it has forgotten the page.
    void set_chunks(const std::byte* page, unsigned cpu, uint64_t chunks);
    /// Whether `cpu` may from now on write to the page without telling.
    bool open(const std::byte* page, unsigned cpu);
    /// The CPUs with blocks of these pieces of the page, which was just written. Quick where nobody has any nearby.
    uint32_t users(const std::byte* page, uint64_t chunks);

  private:
    struct Page {
        uint32_t writers = 0;
        uint32_t users = 0;
        std::unique_ptr<std::array<uint64_t, max_cpus>> chunks;  // while there are users
    };
    struct alignas(64) Shard {
        std::mutex lock;
        std::unordered_map<const std::byte*, Page> pages;
    };
    Shard& shard_of(const std::byte* page) {
        return shards_[(reinterpret_cast<uintptr_t>(page) >> 12) % shards_.size()];
    }

    /// How many pages with users share a place of this table: most have no neighbour there.
    std::atomic<uint32_t>& watched_of(const std::byte* page) {
        return watched_[(reinterpret_cast<uintptr_t>(page) >> 12) % watched_.size()];
    }

    std::array<Shard, 64> shards_;
    std::array<std::atomic<uint32_t>, 16384> watched_{};
};

}  // namespace viv::soft
