// Models: a made-up PCI card with every kind of BAR, MSI and MSI-X, for tests
// Not modelled: a purpose
// Ignored bits: none
// Reference: none
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "devices/pci/pci_function.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct TestCardState {
    uint32_t scratch = 0;
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("scratch", self.scratch);
        visit("pci", self.pci);
    }
    bool operator==(const TestCardState&) const = default;
};

/// BAR 0: 16 ports; BAR 1: 4 KiB of registers; BAR 2 and 3: 64 KiB of memory, 64-bit; BAR 4: MSI-X; a ROM of 8 KiB.
/// Its one register raises the interrupt while bit 0 is set, and sends message (value >> 8) when bit 1 is written.
class TestCard final : public StatefulDevice<TestCardState>, public BusDevice {
  public:
    TestCard(GuestMemory::Store memory, GuestMemory::Store rom) : pci_(identity, state_.pci), memory_(memory) {
        pci_.add_io_bar(0, 16, *this);
        pci_.add_memory_bar(1, 0x1000, *this);
        pci_.add_ram_bar(2, memory, PciFunction::BarKind::prefetchable_64);
        pci_.add_msix(5, 4);
        pci_.add_msi(4);
        pci_.add_rom_bar(rom);
        reset(ResetKind::power_on);
    }

    [[nodiscard]] PciFunction& pci() { return pci_; }
    [[nodiscard]] GuestMemory::Store memory() const { return memory_; }

    void reset(ResetKind /*kind*/) override {
        state_ = {};
        pci_.reset();
    }
    uint64_t read(Access access) override { return access.offset == 0 ? state_.scratch : 0; }
    void write(Access access, uint64_t value) override {
        if (access.offset != 0) return;
        state_.scratch = static_cast<uint32_t>(value) & 0xFF01;
        pci_.set_interrupt(value & 1);
        if (value & 2) pci_.notify(static_cast<uint8_t>(value >> 8));
    }

    static Result<std::unique_ptr<Device>> make(DeviceContext& context) {
        const auto memory = TRY(context.memory.add_store(0x10000, "card memory"));
        const auto rom = TRY(context.memory.add_store(0x2000, "card ROM"));
        auto card = std::make_unique<TestCard>(memory, rom);
        TRY(card->pci().attach(context));
        return card;
    }

  protected:
    Result<void> validate(const TestCardState& staged) const override {
        if ((staged.scratch & 1) != (staged.pci.interrupt ? 1u : 0u)) return fail("scratch does not fit");
        return pci_.validate(staged.pci);
    }
    void after_load() override { pci_.after_load(); }

  private:
    static constexpr PciIdentity identity{.vendor = 0x1234,
                                          .device = 0x5678,
                                          .class_code = 0x088000,
                                          .revision = 0x9A,
                                          .subsystem_vendor = 0x1AF4,
                                          .subsystem = 0x1100,
                                          .interrupt_pin = 1};
    PciFunction pci_;
    GuestMemory::Store memory_;
};

}  // namespace viv
