#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "vmm/core/result.hpp"
#include "vmm/core/types.hpp"

namespace viv {

/// Guest-physical memory that is backed by host memory: RAM, ROM and their aliases. One list for both engines.
/// Everything outside the engines and bulk I/O goes through the checked copies.
class GuestMemory {
  public:
    enum class Kind { ram, rom };

    /// A stretch of guest-physical addresses. `host` stays valid until the region is removed.
    struct Region {
        Gpa base;
        uint64_t size = 0;
        Kind kind = Kind::ram;
        std::byte* host = nullptr;
        std::string name;
        uint32_t backing = 0;         // index of the memory file behind it; aliases share one
        uint64_t backing_offset = 0;  // bytes
    };

    static constexpr uint64_t page_size = 4096;

    GuestMemory();
    ~GuestMemory();
    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;

    /// Adds zeroed memory at [base, base+size), both multiples of the page size. Errors: overlap, host out of memory.
    Result<void> add(Gpa base, uint64_t size, Kind kind, std::string name);
    /// Shows `size` bytes that are backed at `target` at `base` too (one region must hold them all).
    Result<void> add_alias(Gpa base, uint64_t size, Gpa target, Kind kind, std::string name);
    /// Takes away the region that starts at `base`; its memory goes when no alias is left, unless it is a store's.
    /// Returns whether there was one.
    bool remove(Gpa base);

    /// Memory that stays whether it is shown or not, for what moves or hides: shadow RAM, a frame buffer.
    struct Store {
        uint32_t backing = 0;
        uint64_t size = 0;
    };
    /// Zeroed memory of whole pages that is shown nowhere yet. Errors: host out of memory.
    Result<Store> add_store(uint64_t size, std::string name);
    /// Shows `size` bytes of a store, from `offset` on, at `base` too. Errors: overlap, or not a range of whole pages.
    Result<void> show(Gpa base, uint64_t size, Store store, uint64_t offset, Kind kind, std::string name);
    /// The store that a region shows part of, if it is one's.
    [[nodiscard]] std::optional<Store> store_of(const Region& region) const;
    /// The host bytes of a store, shown or not: for its device. After writing, call note_store_write().
    [[nodiscard]] std::span<std::byte> bytes(Store store);
    /// As note_write() and take_dirty(), for a store. take_dirty() asks the engine first, as on_sync() says.
    void note_store_write(Store store, uint64_t offset, uint64_t size);
    std::vector<bool> take_dirty(Store store);
    /// `ask` makes an engine that learns of its CPUs' writes late note them now, for the region at an address.
    void on_sync(std::move_only_function<void(Gpa)> ask) { ask_ = std::move(ask); }

    /// While one lives, listeners wait: a change of several steps reaches the engines as one, at its end.
    class Change {
      public:
        explicit Change(GuestMemory& memory) : memory_(memory) { ++memory_.open_changes_; }
        ~Change();
        Change(const Change&) = delete;
        Change& operator=(const Change&) = delete;

      private:
        GuestMemory& memory_;
    };

    /// Copies guest memory out. Bytes that nothing backs read as FFh; returns whether all were backed.
    bool read(Gpa address, std::span<std::byte> out) const;
    /// Copies into guest memory. Bytes in ROM or behind nothing are dropped; returns whether all were written.
    bool write(Gpa address, std::span<const std::byte> in);
    /// As write(), for the host's own use: ROM takes it too.
    bool write_rom(Gpa address, std::span<const std::byte> in);

    /// A little-endian value of guest memory; all-ones where nothing backs it.
    template <class T>
    requires std::is_trivially_copyable_v<T>
    [[nodiscard]] T load(Gpa address) const {
        T value{};
        read(address, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    }
    template <class T>
    requires std::is_trivially_copyable_v<T>
    bool store(Gpa address, const T& value) { return write(address, std::as_bytes(std::span(&value, 1))); }

    /// The host bytes of [address, address+size), or an empty span when one region does not hold them all (or, for
    /// Intent::write, when it is ROM). For engines and bulk I/O only; after writing, call note_write().
    enum class Intent { read, write };
    [[nodiscard]] std::span<std::byte> window(Gpa address, uint64_t size, Intent intent);
    /// Marks pages dirty and moves their write generation on. write() does it by itself.
    void note_write(Gpa address, uint64_t size);

    /// Marks pages dirty only: for an engine that watches its own writes to code. From any thread, while the region
    /// list stands still.
    void mark_dirty(Gpa address, uint64_t size);
    /// How often note_write() was called: while it stands still, no write generation has changed. From any thread.
    [[nodiscard]] uint64_t noted_writes() const { return noted_writes_.load(std::memory_order_relaxed); }
    /// How often take_dirty() was called: an engine that lets pages be written without telling has to mark them dirty
    /// again after each. From any thread.
    [[nodiscard]] uint64_t dirty_takes() const { return dirty_takes_.load(std::memory_order_relaxed); }

    /// Changes with every write that is noted on this page; code caches compare it. 0 where nothing backs the page.
    [[nodiscard]] uint32_t write_generation(Gpa address) const;
    /// One bit a page of the region at `base`, set where written since the last call; clears them.
    std::vector<bool> take_dirty(Gpa base);

    [[nodiscard]] const std::vector<Region>& regions() const { return regions_; }
    [[nodiscard]] const Region* find(Gpa address) const;
    /// The file descriptor of a region's memory (for sharing and for engines that map it themselves).
    [[nodiscard]] int file_descriptor(const Region& region) const;
    /// Bytes of RAM, aliases not counted.
    [[nodiscard]] uint64_t ram_size() const;

    /// Told while it happens what happens to the memory: for an engine whose CPUs run meanwhile. All calls come under
    /// the machine lock.
    class Observer {
      public:
        virtual ~Observer() = default;
        /// The region list is about to change. regions_changed() follows, perhaps after further changes.
        virtual void regions_will_change() = 0;
        virtual void regions_changed() = 0;
        /// What note_write() tells of, at its place in host memory.
        virtual void written(const std::byte* host, uint64_t size) = 0;
        /// take_dirty() was called.
        virtual void dirt_taken() = 0;
    };
    void add_observer(Observer& observer) { observers_.push_back(&observer); }
    void remove_observer(Observer& observer) { std::erase(observers_, &observer); }

    /// Called after each change of the region list.
    void on_change(std::move_only_function<void()> listener) { listeners_.push_back(std::move(listener)); }

  private:
    struct Backing;
    Result<std::unique_ptr<Backing>> make_backing(uint64_t size, const std::string& name);
    Result<void> insert(Region region);
    void will_change();
    void changed();
    void count_write(const std::byte* host, uint64_t size);
    void count_take();
    template <class Mark>
    void for_each_page(Gpa address, uint64_t size, Mark mark);
    template <class Step>
    bool for_each_piece(Gpa address, size_t size, Step step) const;
    bool copy_in(Gpa address, std::span<const std::byte> in, bool into_rom);

    std::atomic<uint64_t> noted_writes_{0};
    std::atomic<uint64_t> dirty_takes_{0};
    std::vector<Region> regions_;  // sorted by base
    std::vector<std::unique_ptr<Backing>> backings_;
    std::vector<std::move_only_function<void()>> listeners_;
    std::vector<Observer*> observers_;
    std::move_only_function<void(Gpa)> ask_;
    bool observers_know_ = false;  // that regions change
    unsigned open_changes_ = 0;
    bool change_waits_ = false;
};

}  // namespace viv
