#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "vmm/core/irq_line.hpp"

namespace viv {

/// The board's and the engine's side of the IOAPIC. Service, provided by the intel,ioapic node.
class IoApicControl {
  public:
    static constexpr unsigned pin_count = 24;

    /// What a pin sends when it fires: the MSI of its redirection entry.
    struct Route {
        uint64_t address = 0;
        uint32_t data = 0;
        bool level = false;
        bool masked = true;
        bool operator==(const Route&) const = default;
    };

    virtual ~IoApicControl() = default;
    /// Where messages go from now on; without a sink they are lost.
    virtual void connect(MsiSink& sink) = 0;
    /// The EOI broadcast of a local APIC: level-triggered pins of this vector may fire again.
    virtual void end_of_interrupt(uint8_t vector) = 0;
    /// All pins, for engines that keep a copy (KVM's routing table decides by it which EOIs it reports).
    [[nodiscard]] virtual std::array<Route, pin_count> routes() const = 0;
    /// Calls `listener` after each change of routes(), also by a reset or a load.
    virtual void on_route_change(std::move_only_function<void()> listener) = 0;
    /// The input pins 0 to 23, for wires that are not of the ISA bus. ISA wires are connected already: IRQ 0 to pin 2,
    /// the others to the pin of their number.
    virtual IrqSink& inputs() = 0;
};

}  // namespace viv
