// Models: virtio over MMIO, version 2 of its registers
// Not modelled: the registers of version 1 (legacy), shared memory regions
// Ignored bits: accesses to registers that are not 32 bits wide and aligned
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 4.2
#pragma once

#include <cstdint>
#include <memory>

#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"

namespace viv {

struct VirtioMmioState {
    VirtioState virtio;
    static void fields(auto& self, auto&& visit) { visit("virtio", self.virtio); }
    bool operator==(const VirtioMmioState&) const = default;
};

class VirtioMmio final : public StatefulDevice<VirtioMmioState>, public VirtioTransport, public BusDevice {
  public:
    static constexpr uint64_t window = 0x200;

    VirtioMmio(std::unique_ptr<VirtioFunction> function, Clock& clock, GuestMemory& memory, IrqLine irq,
               uint64_t offered = virtio::queue_features);
    ~VirtioMmio() override;

    void reset(ResetKind kind) override;
    [[nodiscard]] TreeNode save() override;
    Result<Commit> prepare_load(const TreeNode& node) override;

    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

  protected:
    Result<void> validate(const VirtioMmioState& staged) const override;
    void after_load() override;
    [[nodiscard]] GuestMemory* memory() override { return &memory_; }
    void interrupt(uint8_t reason, uint16_t vector) override;
    void interrupts_reset() override { update_irq(); }

  private:
    [[nodiscard]] uint32_t read_register(uint64_t offset);
    void write_register(uint64_t offset, uint32_t value);
    void update_irq() { irq_.set(state_.virtio.isr != 0); }

    GuestMemory& memory_;
    IrqLine irq_;
};

}  // namespace viv
