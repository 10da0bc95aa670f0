#pragma once

#include <cstdint>

#include "vmm/core/bus.hpp"

namespace viv {

/// One of several register windows of a device: hands byte accesses to two of its member functions.
template <class Owner>
class BytePorts final : public ByteDevice {
  public:
    using Read = uint8_t (Owner::*)(uint64_t offset);
    using Write = void (Owner::*)(uint64_t offset, uint8_t value);
    BytePorts(Owner& owner, Read on_read, Write on_write) : owner_(owner), read_(on_read), write_(on_write) {}

    uint8_t read8(uint64_t offset) override { return (owner_.*read_)(offset); }
    void write8(uint64_t offset, uint8_t value) override { (owner_.*write_)(offset, value); }

  private:
    Owner& owner_;
    Read read_;
    Write write_;
};

}  // namespace viv
