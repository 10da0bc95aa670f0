#pragma once

#include <cstdint>

#include "vmm/core/irq_line.hpp"

namespace viv {

/// The processor's side of the 8259A pair. Service, provided by the intel,i8259 node.
class InterruptController {
  public:
    virtual ~InterruptController() = default;
    /// From now on `sink` sees the INTR wire as its input `pin`.
    virtual void connect_intr(IrqSink& sink, unsigned pin) = 0;
    /// The level of INTR: an interrupt that is neither masked nor blocked is requested.
    [[nodiscard]] virtual bool intr() const = 0;
    /// The processor's two INTA cycles: the vector. With nothing requested it is the spurious one (IR7), as on the
    /// chip.
    virtual uint8_t acknowledge() = 0;
    /// Whether ISA wire `irq` (0-15) requests an interrupt, is not masked, and no INTA cycle has taken the request yet.
    [[nodiscard]] virtual bool waits(unsigned irq) const = 0;
};

}  // namespace viv
