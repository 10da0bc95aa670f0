#pragma once

#include <array>

#include "vmm/core/irq_line.hpp"

namespace viv {

/// The sixteen interrupt wires of the ISA bus, by IRQ number. Service, provided by the machine before any device is
/// made; DeviceContext::irqs points into it. Pin 2 is the cascade inside the 8259A pair: nothing else drives or sees
/// it.
struct IsaIrqs {
    std::array<IrqPin, 16> pins;
};

}  // namespace viv
