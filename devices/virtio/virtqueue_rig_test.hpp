#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "devices/virtio/virtio_registers.hpp"
#include "vmm/core/guest_memory.hpp"

namespace viv {

/// The driver's side of a virtqueue in memory, for tests: either layout. It has 24 KiB from `base` on.
class RingDriver {
  public:
    struct Piece {
        uint64_t address = 0;
        uint32_t size = 0;
        bool writes = false;  // by the device
    };
    struct Used {
        uint16_t id = 0;
        uint32_t written = 0;
    };
    enum class Place { ring, table };

    RingDriver() = default;
    RingDriver(GuestMemory& memory, uint64_t base, uint16_t size, uint64_t features)
        : memory_(&memory), base_(base), size_(size), features_(features) {
        for (uint64_t at = base; at < base + 0x3000; at += 8) memory.store(Gpa{at}, uint64_t{0});
    }

    [[nodiscard]] uint64_t descriptors() const { return base_; }
    [[nodiscard]] uint64_t driver() const { return base_ + 0x1000; }
    [[nodiscard]] uint64_t device() const { return base_ + 0x2000; }
    [[nodiscard]] uint64_t table() const { return base_ + 0x3000; }
    [[nodiscard]] uint16_t size() const { return size_; }
    [[nodiscard]] bool packed() const { return features_ & virtio::RING_PACKED; }

    /// Makes a buffer available; its ID.
    uint16_t add(const std::vector<Piece>& pieces, Place place = Place::ring) {
        return packed() ? add_packed(pieces, place) : add_split(pieces, place);
    }
    /// The next buffer that the device gave back.
    std::optional<Used> take() {
        if (packed()) {
            const uint64_t at = base_ + uint64_t{16} * used_;
            const auto flags = memory_->load<uint16_t>(Gpa{at + 14});
            const bool here =
                ((flags & virtio::DESC_AVAIL) != 0) == used_wrap_ && ((flags & virtio::DESC_USED) != 0) == used_wrap_;
            if (!here) return std::nullopt;
            const auto id = memory_->load<uint16_t>(Gpa{at + 12});
            const auto written = memory_->load<uint32_t>(Gpa{at + 8});
            for (unsigned i = 0; i < lengths_.at(id); ++i) step(used_, used_wrap_);
            return Used{id, written};
        }
        if (memory_->load<uint16_t>(Gpa{device() + 2}) == used_) return std::nullopt;
        const uint64_t at = device() + 4 + uint64_t{8} * (used_ % size_);
        ++used_;
        return Used{static_cast<uint16_t>(memory_->load<uint32_t>(Gpa{at})), memory_->load<uint32_t>(Gpa{at + 4})};
    }

    enum class Interrupts { always, never };
    void want(Interrupts when) {
        const uint16_t flag = when == Interrupts::never ? 1 : 0;
        memory_->store(Gpa{driver() + (packed() ? 2 : 0)}, flag);
    }
    /// With the event index: only for the buffer that is `ahead` places behind what was taken (0: the next).
    void want_after(uint16_t ahead) {
        if (packed()) {
            uint16_t place = used_;
            bool wrap = used_wrap_;
            for (unsigned i = 0; i < ahead; ++i) step(place, wrap);
            memory_->store(Gpa{driver()}, static_cast<uint16_t>(place | (wrap ? 0x8000 : 0)));
            memory_->store(Gpa{driver() + 2}, virtio::EVENT_DESC);
        } else {
            memory_->store(Gpa{driver() + 4 + uint64_t{2} * size_}, static_cast<uint16_t>(used_ + ahead));
        }
    }

    void put(uint64_t at, const Piece& piece, uint16_t first, uint16_t second) {
        memory_->store(Gpa{at}, piece.address);
        memory_->store(Gpa{at + 8}, piece.size);
        memory_->store(Gpa{at + 12}, first);
        memory_->store(Gpa{at + 14}, second);
    }

  private:
    void step(uint16_t& place, bool& wrap) const {
        if (++place == size_) {
            place = 0;
            wrap = !wrap;
        }
    }
    /// The table in which an indirect buffer is; eight of 64 descriptors each are used in turn.
    uint64_t next_table() { return table() + uint64_t{0x400} * (tables_++ % 8); }

    uint16_t add_split(const std::vector<Piece>& pieces, Place place) {
        const bool table = place == Place::table;
        const uint64_t at = table ? next_table() : 0;
        const auto head = static_cast<uint16_t>(free_);
        for (size_t i = 0; i < pieces.size(); ++i) {
            const bool more = i + 1 < pieces.size();
            const auto index = static_cast<uint16_t>(table ? i : free_);
            free_ = table ? free_ : (free_ + 1) % size_;
            const auto flags =
                static_cast<uint16_t>((more ? virtio::DESC_NEXT : 0) | (pieces[i].writes ? virtio::DESC_WRITE : 0));
            const auto next = static_cast<uint16_t>(table ? i + 1 : free_);
            put((table ? at : descriptors()) + uint64_t{16} * index, pieces[i], flags, next);
        }
        if (table) {
            put(descriptors() + uint64_t{16} * head, {at, static_cast<uint32_t>(16 * pieces.size())},
                virtio::DESC_INDIRECT, 0);
            free_ = (free_ + 1) % size_;
        }
        memory_->store(Gpa{driver() + 4 + uint64_t{2} * (available_ % size_)}, head);
        memory_->store(Gpa{driver() + 2}, ++available_);
        return head;
    }

    uint16_t add_packed(const std::vector<Piece>& pieces, Place place) {
        const auto id = static_cast<uint16_t>(ids_++ % size_);
        const uint64_t first = descriptors() + uint64_t{16} * available_;
        uint16_t first_flags = 0;
        const auto put_next = [&](const Piece& piece, unsigned flags, bool is_first) {
            const auto all = static_cast<uint16_t>(flags | (wrap_ ? virtio::DESC_AVAIL : virtio::DESC_USED));
            const uint64_t at = descriptors() + uint64_t{16} * available_;
            // The first one's flags come last.
            if (is_first) first_flags = all;
            put(at, piece, id, is_first ? memory_->load<uint16_t>(Gpa{at + 14}) : all);
            step(available_, wrap_);
        };
        if (place == Place::table) {
            const uint64_t at = next_table();
            for (size_t i = 0; i < pieces.size(); ++i) {
                put(at + 16 * i, pieces[i], 0, pieces[i].writes ? virtio::DESC_WRITE : uint16_t{0});
            }
            put_next({at, static_cast<uint32_t>(16 * pieces.size())}, virtio::DESC_INDIRECT, true);
            lengths_[id] = 1;
        } else {
            for (size_t i = 0; i < pieces.size(); ++i) {
                const bool more = i + 1 < pieces.size();
                put_next(pieces[i], (more ? virtio::DESC_NEXT : 0u) | (pieces[i].writes ? virtio::DESC_WRITE : 0u),
                         i == 0);
            }
            lengths_[id] = static_cast<uint16_t>(pieces.size());
        }
        memory_->store(Gpa{first + 14}, first_flags);
        return id;
    }

    GuestMemory* memory_ = nullptr;
    uint64_t base_ = 0;
    uint16_t size_ = 0;
    uint64_t features_ = 0;
    unsigned free_ = 0;  // split: the next descriptor
    unsigned ids_ = 0;   // packed
    unsigned tables_ = 0;
    uint16_t available_ = 0;
    bool wrap_ = true;
    uint16_t used_ = 0;
    bool used_wrap_ = true;
    std::array<uint16_t, 256> lengths_{};
};

}  // namespace viv
