// Models: the Intel 82441FX host bridge: configuration mechanism 1, PAM and SMRAM, and its other registers as storage
// Not modelled: system management mode (SMRAM is all open or closed), error reporting, turbo reset, DRAM timing
// Ignored bits: all that reads back without effect: PMCCFG, DETURBO, DBC, AXC, DRT, DRAMC, DRAMT, DRB, FDHC, MTT, CLT,
//   ERRCMD
// Reference: Intel 82441FX (290549), chapter 3 "Register description"
#pragma once

#include <cstdint>
#include <memory>

#include "devices/pci/pci_bus.hpp"
#include "devices/pci/pci_function.hpp"
#include "devices/pci/shadow_memory.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// What the PIIX3 needs of the host bridge: accesses to CF8h-CFBh that are not 32 bits wide go on to the ISA bridge,
/// whose reset control register is at CF9h. Service.
class PciHost {
  public:
    virtual ~PciHost() = default;
    virtual void connect_reset_port(ByteDevice& port) = 0;
};

struct I440fxState {
    uint32_t confadd = 0;
    uint8_t smram = 0x02;  // the register, for its lock
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("confadd", self.confadd);
        visit("smram", self.smram);
        visit("pci", self.pci);
    }
    bool operator==(const I440fxState&) const = default;
};

class I440fx final : public StatefulDevice<I440fxState>, public BusDevice, public PciHost {
  public:
    I440fx(DeviceContext& context, std::unique_ptr<ShadowMemory> shadow);

    [[nodiscard]] PciBus& bus() { return bus_; }
    [[nodiscard]] PciFunction& pci() { return pci_; }
    [[nodiscard]] ShadowMemory& shadow() { return *shadow_; }
    void connect_reset_port(ByteDevice& port) override { reset_port_ = &port; }

    void reset(ResetKind kind) override;

    /// The ports from CF8h on.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

  protected:
    Result<void> validate(const I440fxState& staged) const override;
    void after_load() override;

  private:
    /// The function that CONFADD selects.
    [[nodiscard]] PciAddress selected() const;
    void config_written(unsigned first, unsigned last);
    void accept_smram();
    void update_shadow();

    PciBus bus_;
    PciFunction pci_;
    std::unique_ptr<ShadowMemory> shadow_;
    ByteDevice* reset_port_ = nullptr;
};

/// Node intel,i440fx: reg = <0 0>; viv,legacy = ports CF8h-CFFh. Provides PciBus and PciHost. The nodes below it are
/// the bus's functions, made after it.
Result<std::unique_ptr<Device>> make_i440fx(DeviceContext& context);

}  // namespace viv
