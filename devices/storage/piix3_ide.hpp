// Models: function 1 of the Intel 82371SB (PIIX3): the bus master of both IDE channels
// Not modelled: timing; the channels decode their ports whatever IDETIM says; interleaving with other masters
// Ignored bits: IDETIM and SIDETIM, which read back
// Reference: Intel 82371SB (290550), 2.3 "PCI configuration registers - IDE interface", 2.6 "Bus master IDE registers";
//   Programming Interface for Bus Master IDE Controller 1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "devices/pci/pci_function.hpp"
#include "devices/storage/ide.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// One channel's engine.
struct IdeMasterState {
    uint8_t command = 0;
    uint8_t status = 0;
    uint32_t table = 0;    // the descriptor table
    uint32_t next = 0;     // bytes of it that were used
    uint32_t base = 0;     // where the next byte of the descriptor in use goes
    uint32_t left = 0;     // bytes of that descriptor
    bool is_last = false;  // it is the last one
    static void fields(auto& self, auto&& visit) {
        visit("command", self.command);
        visit("status", self.status);
        visit("table", self.table);
        visit("next", self.next);
        visit("base", self.base);
        visit("left", self.left);
        visit("is-last", self.is_last);
    }
    bool operator==(const IdeMasterState&) const = default;
};

struct Piix3IdeState {
    std::array<IdeMasterState, 2> masters;
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("masters", self.masters);
        visit("pci", self.pci);
    }
    bool operator==(const Piix3IdeState&) const = default;
};

class Piix3Ide final : public StatefulDevice<Piix3IdeState>, public ByteDevice {
  public:
    /// nullptr for a channel that the board does not have.
    explicit Piix3Ide(std::array<IdeChannel*, 2> channels);
    ~Piix3Ide() override;

    [[nodiscard]] PciFunction& pci() { return pci_; }

    void reset(ResetKind kind) override;

    /// The ports of BAR 4: 0-7 of the first channel, 8-15 of the second.
    uint8_t read8(uint64_t offset) override;
    void write8(uint64_t offset, uint8_t value) override;

  protected:
    Result<void> validate(const Piix3IdeState& staged) const override;
    void after_load() override { pci_.after_load(); }

  private:
    class Ear final : public IdeBusMaster {
      public:
        Ear(Piix3Ide& owner, unsigned index) : owner_(owner), index_(index) {}
        void dma_requested() override { owner_.run(index_); }
        void interrupt_rose() override;

      private:
        Piix3Ide& owner_;
        unsigned index_;
    };

    void write_command(unsigned index, uint8_t value);
    void run(unsigned index);
    /// The next descriptor; false, and the engine has stopped, when there is none.
    bool fetch(IdeMasterState& master, GuestMemory& memory);
    bool move(IdeMasterState& master, IdeChannel& channel, GuestMemory& memory);

    std::array<IdeChannel*, 2> channels_;
    std::array<Ear, 2> ears_{Ear{*this, 0}, Ear{*this, 1}};
    std::vector<std::byte> scratch_;
    PciFunction pci_;
};

/// Node intel,piix3-ide: reg = <device function>. Serves the IdeChannels that earlier nodes have made.
Result<std::unique_ptr<Device>> make_piix3_ide(DeviceContext& context);

}  // namespace viv
