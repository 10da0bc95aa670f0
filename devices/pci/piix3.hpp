// Models: function 0 of the Intel 82371SB (PIIX3): PIRQ routing to the ISA wires, the reset control register, and its
//   other configuration registers as storage
// Not modelled: X-bus chip selects, wait states, SMI, the motherboard interrupt routing, USB clocks
// Ignored bits: all that reads back without effect: IORT, XBCS, TOM, MSTAT, MBIRQ, MBDMA, PCSC, APICBASE, DLC, SMICNTL,
//   SMIEN, SEE, FTMR, CTLTMR, CTHTMR; RC 7:3
// Reference: Intel 82371SB (290550), 2.2 "PCI to ISA bridge registers", 2.5.8.3 "RC - Reset Control Register"
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "devices/interrupt/isa_irqs.hpp"
#include "devices/pci/pci_bus.hpp"
#include "devices/pci/pci_function.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/system_control.hpp"

namespace viv {

struct Piix3State {
    uint8_t rc = 0;
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("rc", self.rc);
        visit("pci", self.pci);
    }
    bool operator==(const Piix3State&) const = default;
};

class Piix3 final : public StatefulDevice<Piix3State>, public ByteDevice, private IrqSink {
  public:
    Piix3(PciBus& bus, IsaIrqs& irqs, SystemControl& system);

    [[nodiscard]] PciFunction& pci() { return pci_; }

    void reset(ResetKind kind) override;

    /// RC, port CF9h.
    uint8_t read8(uint64_t offset) override;
    void write8(uint64_t offset, uint8_t value) override;

  protected:
    Result<void> validate(const Piix3State& staged) const override;
    void after_load() override;

  private:
    void set_irq_level(unsigned pin, bool level) override;
    void update_irqs();

    PciBus& bus_;
    SystemControl& system_;
    PciFunction pci_;
    std::array<IrqLine, 16> lines_;
};

/// Node intel,piix3: reg = <device function>. Needs the PCI bus, and comes before the functions that interrupt.
Result<std::unique_ptr<Device>> make_piix3(DeviceContext& context);

}  // namespace viv
