#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// The processor's FERR# and IGNNE# wires. Service, provided by the viv,coprocessor-errors node.
class CoprocessorErrors {
  public:
    virtual ~CoprocessorErrors() = default;
    /// FERR#: an x87 exception is pending that CR0.NE does not make a #MF. Returns IGNNE#: whether the processor shall
    /// go on in spite of it.
    virtual bool set_ferr(bool asserted) = 0;
};

/// Node viv,coprocessor-errors: reg = port F0h, interrupts = 13.
Result<std::unique_ptr<Device>> make_coprocessor_errors(DeviceContext& context);

}  // namespace viv
