// Models: virtio over PCI: the capabilities of version 1.2 with MSI-X, and for functions that had one, the interface of
//   before 1.0 (transitional devices)
// Not modelled: shared memory regions, notification data, administration queues
// Ignored bits: writes to the read-only fields of every structure
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 4.1
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "devices/pci/pci_function.hpp"
#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/doorbells.hpp"
#include "vmm/core/event_loop.hpp"

namespace viv {

struct VirtioPciState {
    VirtioState virtio;
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("virtio", self.virtio);
        visit("pci", self.pci);
    }
    bool operator==(const VirtioPciState&) const = default;
};

class VirtioPci final : public StatefulDevice<VirtioPciState>, public VirtioTransport {
  public:
    // Structures in BAR 4; each notification address is a dword.
    static constexpr uint64_t common = 0x0000, isr = 0x1000, configuration = 0x2000, notify = 0x3000, window = 0x4000;
    static constexpr unsigned legacy_bar = 0, vectors_bar = 1, modern_bar = 4;

    /// `offered` are the queue features.
    VirtioPci(std::unique_ptr<VirtioFunction> function, Clock& clock, uint64_t offered = virtio::queue_features);
    ~VirtioPci() override;

    [[nodiscard]] PciFunction& pci() { return pci_; }
    /// Lets the engine take notifications where it can, so that the CPU goes on while the loop serves the queue.
    void use_doorbells(Doorbells& doorbells, EventLoop& loop);

    void reset(ResetKind kind) override;
    [[nodiscard]] TreeNode save() override;
    Result<Commit> prepare_load(const TreeNode& node) override;

  protected:
    Result<void> validate(const VirtioPciState& staged) const override;
    void after_load() override;
    [[nodiscard]] GuestMemory* memory() override { return pci_.dma(); }
    void interrupt(uint8_t reason, uint16_t vector) override;
    void interrupts_reset() override;

  private:
    /// A queue's notifications, as events.
    struct Bell {
        HostEvent event;
        std::unique_ptr<EventLoop::Watch> watch;
    };
    /// BAR 4.
    class Modern final : public BusDevice {
      public:
        explicit Modern(VirtioPci& owner) : owner_(owner) {}
        uint64_t read(Access access) override;
        void write(Access access, uint64_t value) override;

      private:
        VirtioPci& owner_;
    };
    /// BAR 0 (4.1.4.10).
    class Legacy final : public BusDevice {
      public:
        explicit Legacy(VirtioPci& owner) : owner_(owner) {}
        uint64_t read(Access access) override;
        void write(Access access, uint64_t value) override;

      private:
        VirtioPci& owner_;
    };

    void add_capabilities();
    [[nodiscard]] uint64_t read_common(uint64_t field);
    void write_common(uint64_t field, uint64_t value);
    [[nodiscard]] uint64_t read_legacy(uint64_t field);
    void write_legacy(uint64_t field, uint64_t value);
    [[nodiscard]] uint64_t legacy_header() const;
    uint8_t take_isr();
    void set_vector(uint16_t& vector, uint64_t value) const;
    void config_written(unsigned first, unsigned last);
    void config_read(unsigned first, unsigned last);
    /// The window of the PCI configuration access capability, if it names something (4.1.4.9).
    [[nodiscard]] bool window_access(Access& access) const;
    void update_irq();
    void arm_doorbells();
    /// What of a notification that has come, but was not served yet.
    enum class Rung { kept, forgotten };
    void disarm_doorbells(Rung rung);
    [[nodiscard]] uint64_t notify_address(size_t queue) const;

    PciFunction pci_;
    Modern modern_{*this};
    Legacy legacy_{*this};
    unsigned vectors_;
    uint8_t access_ = 0;  // offset of the PCI configuration access capability
    Doorbells* doorbells_ = nullptr;
    EventLoop* loop_ = nullptr;
    std::vector<Bell> bells_;     // of each queue, while the engine has them
    uint64_t bells_at_ = 0;       // where the notifications are then
    bool bells_refused_ = false;  // by the engine
};

}  // namespace viv
