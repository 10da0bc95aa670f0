// Models: virtqueues: split and packed, indirect descriptors, event index, in-order use
// Not modelled: use out of order and several uses told as one (nothing here needs them), notification data
// Ignored bits: reserved descriptor flags; AVAIL and USED within an indirect table; next of the last descriptor
// Reference: Virtual I/O Device (VIRTIO) 1.2, sections 2.6, 2.7 and 2.8
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/virtio/virtio_registers.hpp"
#include "vmm/core/guest_memory.hpp"

namespace viv {

/// What a transport and the rings' places make of a queue.
struct VirtqueueState {
    uint16_t size = 0;  // entries
    bool enabled = false;
    uint16_t vector = virtio::NO_VECTOR;  // of MSI-X
    uint64_t descriptors = 0;             // area addresses (2.6)
    uint64_t driver = 0;
    uint64_t device = 0;
    uint16_t taken = 0;  // split: free-running index, packed: place in the ring; of what the driver has made available
    uint16_t used = 0;   // likewise, of what the device gives back
    bool taken_wrap = true;
    bool used_wrap = true;
    uint16_t untold = 0;  // entries given back since the driver was last told, or was asked whether it wants to be
    static void fields(auto& self, auto&& visit) {
        visit("size", self.size);
        visit("enabled", self.enabled);
        visit("vector", self.vector);
        visit("descriptors", self.descriptors);
        visit("driver", self.driver);
        visit("device", self.device);
        visit("taken", self.taken);
        visit("used", self.used);
        visit("taken-wrap", self.taken_wrap);
        visit("used-wrap", self.used_wrap);
        visit("untold", self.untold);
    }
    bool operator==(const VirtqueueState&) const = default;
};

/// A buffer that the driver made available: memory for the device to read, and then memory to write. All of it is
/// backed by RAM (or ROM that is read) when it is taken; copies are checked all the same.
struct VirtqueueChain {
    struct Segment {
        Gpa base;
        uint32_t size = 0;
    };
    std::vector<Segment> readable;
    std::vector<Segment> writable;
    uint64_t readable_size = 0;  // bytes
    uint64_t writable_size = 0;
    uint16_t id = 0;       // how the driver knows it
    uint16_t entries = 0;  // of the ring that it takes

    /// Copies out of the readable part, from `offset` on. False when there is less than that.
    bool read(const GuestMemory& memory, uint64_t offset, std::span<std::byte> out) const;
    /// Copies into the writable part, from `offset` on. False when there is less room.
    bool write(GuestMemory& memory, uint64_t offset, std::span<const std::byte> in) const;
    void clear();
};

/// A virtqueue, as the device sees it: a view of its state for as long as an access lasts. Everything that the driver
/// wrote is checked; what cannot be makes the queue `broken`, and the device has to be reset (2.1.2).
class Virtqueue {
  public:
    static constexpr unsigned most_entries = 32768;
    /// Descriptors that one buffer may have, in a table of its own.
    static constexpr unsigned most_segments = 1024;

    /// `features` are those that were negotiated.
    Virtqueue(VirtqueueState& state, uint64_t features, GuestMemory& memory)
        : state_(state), features_(features), memory_(memory) {}

    enum class Taken { buffer, nothing, broken };
    /// The next buffer in the driver's order. With `nothing`, the driver has been asked to tell of the next one.
    [[nodiscard]] Taken take(VirtqueueChain& chain);
    /// The buffer taken last was not taken.
    void put_back(const VirtqueueChain& chain);
    /// Gives a buffer back with the number of bytes that were written from its start on. False: broken.
    [[nodiscard]] bool give(const VirtqueueChain& chain, uint32_t written);
    /// Buffers in the order in which they were taken.
    struct Use {
        uint16_t id = 0;
        uint16_t entries = 0;
        uint32_t written = 0;
    };
    /// Gives several back so that the driver sees all of them or none.
    [[nodiscard]] bool give(std::span<const Use> uses);
    /// Whether the driver wants an interrupt for what was given back since this was last called.
    [[nodiscard]] bool wants_interrupt();

  private:
    struct Descriptor {
        uint64_t address = 0;
        uint32_t size = 0;
        uint16_t id = 0;  // of packed queues
        uint16_t flags = 0;
        uint16_t next = 0;  // of split queues
    };
    [[nodiscard]] bool packed() const { return features_ & virtio::RING_PACKED; }
    [[nodiscard]] bool event_index() const { return features_ & virtio::EVENT_IDX; }
    [[nodiscard]] bool load(Gpa table, unsigned index, Descriptor& descriptor) const;
    template <class T>
    [[nodiscard]] bool fetch(uint64_t address, T& value) const;
    [[nodiscard]] Taken take_split(VirtqueueChain& chain);
    [[nodiscard]] Taken take_packed(VirtqueueChain& chain);
    [[nodiscard]] bool add_indirect(const Descriptor& table, VirtqueueChain& chain) const;
    [[nodiscard]] bool add(const Descriptor& descriptor, VirtqueueChain& chain) const;
    [[nodiscard]] bool is_backed(uint64_t address, uint64_t size, GuestMemory::Intent intent) const;
    [[nodiscard]] bool give_packed(std::span<const Use> uses);
    void advance(uint16_t& place, bool& wrap, unsigned entries) const;

    VirtqueueState& state_;
    uint64_t features_;
    GuestMemory& memory_;
};

}  // namespace viv
