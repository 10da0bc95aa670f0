// Models: Novell's NE2000 on the ISA bus, and Realtek's RTL8029AS, which is one on PCI
// Not modelled: jumpers and plug and play; of the RTL8029AS page 3, full duplex and its EEPROM
// Ignored bits: as the DP8390
// Reference: DP8390D/NS32490D NIC, National Semiconductor, July 1995; RTL8029AS, Realtek
#pragma once

#include <memory>

#include "devices/network/dp8390.hpp"
#include "devices/pci/pci_function.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"

namespace viv {

class Ne2000 final : public StatefulDevice<Dp8390State> {
  public:
    Ne2000(NetworkPort port, IrqLine line, Clock& clock);
    void reset(ResetKind kind) override;
    [[nodiscard]] BusDevice& ports() { return chip_; }

  protected:
    Result<void> validate(const Dp8390State& staged) const override { return Dp8390::validate(staged); }
    void after_load() override { chip_.after_load(); }

  private:
    IrqLine line_;
    Dp8390 chip_;
};

struct Rtl8029State {
    Dp8390State chip;
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("chip", self.chip);
        visit("pci", self.pci);
    }
    bool operator==(const Rtl8029State&) const = default;
};

class Rtl8029 final : public StatefulDevice<Rtl8029State> {
  public:
    Rtl8029(NetworkPort port, Clock& clock);
    void reset(ResetKind kind) override;
    [[nodiscard]] PciFunction& pci() { return pci_; }

  protected:
    Result<void> validate(const Rtl8029State& staged) const override;
    void after_load() override {
        pci_.after_load();
        chip_.after_load();
    }

  private:
    PciFunction pci_;
    Dp8390 chip_;
};

/// Makes `novell,ne2000`: `reg` = 32 ports, an interrupt, local-mac-address, viv,link.
Result<std::unique_ptr<Device>> make_ne2000(DeviceContext& context);
/// Makes `realtek,8029`: `reg` = <device function>, local-mac-address, viv,link. Needs PciBus.
Result<std::unique_ptr<Device>> make_rtl8029(DeviceContext& context);

}  // namespace viv
