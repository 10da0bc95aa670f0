// Models: a Serial ATA controller with AHCI and 6 ports, as in the ICH9 (8086:2922): 32 command slots, native queueing,
//   ATA and ATAPI drives, INTx and MSI
// Not modelled: port multipliers, power management of the link, enclosures, command completion coalescing, hot plug,
//   legacy (IDE) mode, index and data ports
// Ignored bits: of command headers CFL, W, P, B and PMP; DLAE and ATAPI of PxCMD and IPM of PxSCTL, which read back
// Reference: Serial ATA AHCI 1.3.1 Specification; Intel I/O Controller Hub 9 (316972), chapter 14
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "devices/pci/pci_function.hpp"
#include "devices/storage/ahci_port.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct AhciState {
    uint32_t control = ahci::GHC_AE;
    uint32_t interrupts = 0;  // IS
    std::array<AhciPortState, ahci::port_count> ports;
    std::optional<VirtualTime> resume;  // when the commands go on that were too many at once
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("control", self.control);
        visit("interrupts", self.interrupts);
        visit("ports", self.ports);
        visit("resume", self.resume);
        visit("pci", self.pci);
    }
    bool operator==(const AhciState&) const = default;
};

class Ahci final : public StatefulDevice<AhciState>, public BusDevice {
  public:
    explicit Ahci(Clock& clock);

    [[nodiscard]] PciFunction& pci() { return pci_; }
    /// Where a drive's changeable part lives, for the drive's maker.
    AtaDeviceState& device_state(unsigned port) { return state_.ports.at(port).drive; }
    void attach(unsigned port, std::unique_ptr<AtaDevice> drive);

    void reset(ResetKind kind) override;

    /// The memory of BAR 5.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

    /// What the commands of one access may move before the others have to wait a moment, in bytes.
    static constexpr uint64_t bytes_at_once = 64u << 20;

  protected:
    Result<void> validate(const AhciState& staged) const override;
    void after_load() override;

  private:
    [[nodiscard]] uint32_t read_register(uint64_t offset) const;
    void write_register(uint64_t offset, uint32_t value, uint32_t mask);
    void reset_controller();
    void run();
    void settle();
    void update_irq();

    std::array<AhciPort, ahci::port_count> ports_;
    PciFunction pci_;
    Clock& clock_;
    Timer timer_;
    bool running_now_ = false;
};

/// Makes `intel,ich9-ahci`: `reg` = <device function>; children `drive@0` to `drive@5` as IDE channels have them. Needs
/// DriveRegistry and PciBus.
Result<std::unique_ptr<Device>> make_ahci(DeviceContext& context);

}  // namespace viv
