// Models: function 3 of the Intel 82371AB (PIIX4): PM1 status, enable and control, the 24-bit PM timer, general purpose
//   events, S5, the power button, the SMI command port, the SMBus host controller on an empty bus
// Not modelled: SMI, device monitors, clock control, sleep states but S5, wake events, the SMBus slave
// Ignored bits: all that reads back without effect: PCNTRL, GLBEN, GLBCTL, DEVCTL, GPO, CNTA, CNTB, GPICTL, DEVRES*,
//   DEVACTA; BM_RLD and GBL_RLS; what is written to the timer
// Reference: Intel 82371AB (290562), chapter 7 "Power management"; ACPI Specification 6.4, 4.8.3
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "devices/byte_ports.hpp"
#include "devices/pci/pci_function.hpp"
#include "devices/pci/power_button.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/system_control.hpp"

namespace viv {

struct Piix4PmState {
    uint16_t pmsts = 0;
    uint16_t pmen = 0;
    uint16_t pmcntrl = 0;
    uint16_t gpsts = 0;
    uint16_t gpen = 0;
    VirtualTime timer_seen;              // changes of the timer's bit 23 up to here are in pmsts
    std::array<uint8_t, 64> storage{};   // the bytes of the block that only keep what is written
    std::array<uint8_t, 2> smi_ports{};  // APMC, APMS
    std::array<uint8_t, 16> smbus{};
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("pmsts", self.pmsts);
        visit("pmen", self.pmen);
        visit("pmcntrl", self.pmcntrl);
        visit("gpsts", self.gpsts);
        visit("gpen", self.gpen);
        visit("timer-seen", self.timer_seen);
        visit("storage", self.storage);
        visit("smi-ports", self.smi_ports);
        visit("smbus", self.smbus);
        visit("pci", self.pci);
    }
    bool operator==(const Piix4PmState&) const = default;
};

class Piix4Pm final : public StatefulDevice<Piix4PmState>, public BusDevice, public PowerButton {
  public:
    static constexpr uint64_t block_size = 64;
    static constexpr uint64_t smbus_size = 16;

    Piix4Pm(Clock& clock, SystemControl& system, IrqLine sci);

    [[nodiscard]] PciFunction& pci() { return pci_; }
    /// B2h and B3h.
    [[nodiscard]] BusDevice& smi_ports() { return smi_ports_; }

    void reset(ResetKind kind) override;
    void press() override;

    /// The block at PMBASE. All bytes of an access show one moment: the timer runs on meanwhile.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

  protected:
    void before_save() override { update(); }
    Result<void> validate(const Piix4PmState& staged) const override;
    void after_load() override;

  private:
    [[nodiscard]] uint8_t byte_at(uint64_t offset) const;
    void write8(uint64_t offset, uint8_t value);
    void update();
    void decode(std::vector<PciWindow>& windows);
    uint8_t read_smi_port(uint64_t offset);
    void write_smi_port(uint64_t offset, uint8_t value);
    uint8_t read_smbus(uint64_t offset);
    void write_smbus(uint64_t offset, uint8_t value);

    Clock& clock_;
    SystemControl& system_;
    IrqLine sci_;
    Timer timer_;
    BytePorts<Piix4Pm> smi_ports_{*this, &Piix4Pm::read_smi_port, &Piix4Pm::write_smi_port};
    BytePorts<Piix4Pm> smbus_{*this, &Piix4Pm::read_smbus, &Piix4Pm::write_smbus};
    PciFunction pci_;
};

/// Node intel,piix4-pm: reg = <device function>; viv,legacy = ports B2h-B3h; interrupts = the SCI's IRQ. Provides
/// PowerButton.
Result<std::unique_ptr<Device>> make_piix4_pm(DeviceContext& context);

}  // namespace viv
