#pragma once

#include <cstdint>
#include <vector>

#include "devices/virtio/virtio_registers.hpp"
#include "vmm/core/device.hpp"

namespace viv {

class VirtioTransport;

/// What never changes of a function.
struct VirtioIdentity {
    virtio::DeviceId id = virtio::DeviceId::entropy;
    uint32_t class_code = 0;              // of its PCI function
    std::vector<uint16_t> queue_sizes{};  // the most entries of each queue; powers of two
    bool transitional = true;             // whether drivers of before version 1.0 know it too
};

/// What a virtio device does, whatever transport it is behind: a disk, a network card. Its own state is that of a
/// Device, which its transport saves, loads and resets with its own.
class VirtioFunction {
  public:
    virtual ~VirtioFunction() = default;
    [[nodiscard]] virtual const VirtioIdentity& identity() const = 0;
    /// Feature bits besides those of queues. They may not change once the machine runs.
    [[nodiscard]] virtual uint64_t features() const { return 0; }
    /// Whether these make sense together; asked before the driver learns that they are taken.
    [[nodiscard]] virtual bool accepts(uint64_t /*features*/) const { return true; }
    /// The whole configuration space (2.5).
    [[nodiscard]] virtual std::vector<uint8_t> configuration() const { return {}; }
    virtual void write_configuration(uint64_t /*offset*/, uint8_t /*value*/) {}
    /// The driver told of buffers in a queue, or the device has just been started and may have some.
    virtual void notified(unsigned queue) = 0;
    /// The driver is about to take queues or memory away: what is under way ends now, and buffers are given back.
    virtual void settle() {}
    /// The driver resets the device: all that it set is gone.
    virtual void driver_reset() {}
    /// Its own state.
    [[nodiscard]] virtual Device& device() = 0;

    /// Called once, by the transport.
    void connect(VirtioTransport& transport) { transport_ = &transport; }

  protected:
    [[nodiscard]] VirtioTransport& transport() const { return *transport_; }

  private:
    VirtioTransport* transport_ = nullptr;
};

}  // namespace viv
