#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/result.hpp"

namespace viv {

/// One access as a device sees it: the offset from the start of the mapped region, and the size: 1, 2, 4 or 8 bytes.
struct Access {
    uint64_t offset = 0;
    uint8_t size = 1;
};

/// What a bus can reach. An access never crosses the end of its region; the device answers every size at every offset.
class BusDevice {
  public:
    virtual ~BusDevice() = default;
    /// The value read, in the low `size` bytes; the bus masks what is above.
    virtual uint64_t read(Access access) = 0;
    /// Bits of `value` above `size` bytes are zero.
    virtual void write(Access access, uint64_t value) = 0;
    /// A string input: fills `data` with data.size()/access.size elements from the same offset. The default reads one
    /// by one.
    virtual void read_block(Access access, std::span<std::byte> data);
    /// A string output: the elements of `data` to the same offset. The default writes one by one.
    virtual void write_block(Access access, std::span<const std::byte> data);
};

/// A device whose registers are bytes: wider accesses become single bytes in ascending order, as an 8-bit card sees
/// them.
class ByteDevice : public BusDevice {
  public:
    virtual uint8_t read8(uint64_t offset) = 0;
    virtual void write8(uint64_t offset, uint8_t value) = 0;
    uint64_t read(Access access) final;
    void write(Access access, uint64_t value) final;
};

/// Counters of what a guest asked of a bus; they wrap, and nothing is decided by them.
struct BusCounters {
    uint64_t reads = 0;
    uint64_t writes = 0;
    uint64_t unmapped_reads = 0;
    uint64_t unmapped_writes = 0;
};

/// An address space of devices: I/O ports or memory. Splits accesses at region edges, reads all-ones where nothing is
/// mapped, drops writes there, and counts both. Nothing fails at run time; only map() can. With a lock (the machine's),
/// each access holds it; devices never lock.
class Bus {
  public:
    enum class Kind { ports, memory };

    explicit Bus(Kind kind, std::mutex* lock = nullptr);

    /// Puts `device` at [base, base+size). Fails if the range leaves the bus or overlaps a mapped one, naming both.
    Result<void> map(uint64_t base, uint64_t size, BusDevice& device, std::string name);
    /// Takes the region that starts at `base` off the bus; nothing happens when there is none.
    void unmap(uint64_t base);

    /// `size` is 1 to 8 bytes. Unmapped bytes read as FFh.
    uint64_t read(uint64_t address, uint8_t size);
    void write(uint64_t address, uint8_t size, uint64_t value);
    /// As read() and write(), for callers that hold the machine lock already.
    uint64_t read_held(uint64_t address, uint8_t size);
    void write_held(uint64_t address, uint8_t size, uint64_t value);
    /// String I/O of data.size()/element_size elements at one address (element_size 1, 2 or 4).
    void read_block(uint64_t address, uint8_t element_size, std::span<std::byte> data);
    void write_block(uint64_t address, uint8_t element_size, std::span<const std::byte> data);

    /// True when any byte of the range is mapped.
    [[nodiscard]] bool covers(uint64_t address, uint64_t size) const;
    [[nodiscard]] const BusCounters& counters() const { return counters_; }

    struct Region {
        uint64_t base = 0;
        uint64_t size = 0;
        BusDevice* device = nullptr;
        std::string name;
        uint64_t accesses = 0;
    };
    /// The mapped regions in ascending order, for statistics and listings.
    [[nodiscard]] std::vector<Region> regions() const;

  private:
    Region* find(uint64_t address);

    Kind kind_;
    std::mutex* lock_;
    uint64_t limit_;                                // last address of the bus
    std::vector<std::unique_ptr<Region>> regions_;  // sorted by base
    std::vector<Region*> by_port_;                  // ports only: one slot a port
    Region* last_hit_ = nullptr;
    BusCounters counters_;
};

}  // namespace viv
