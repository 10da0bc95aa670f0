#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/irq_line.hpp"

namespace viv {

/// A bare device with all that it needs, for the contract tests. Every call of the factory must build an equal one.
class ContractRig {
  public:
    virtual ~ContractRig() = default;
    ManualClock clock;
    Device* device = nullptr;
    struct Window {
        BusDevice* device;
        uint64_t size;
    };
    std::vector<Window> windows;  // what the guest reaches
    std::vector<IrqPin*> pins;    // the wires that the device drives
};

/// The contracts that hold for every device; each is a section of the calling Catch2 test case:
/// power-on reset equals fresh; save, load, save is identical; any size at any offset is survived; a load moves no line
/// twice and none needlessly; a damaged state is refused and changes nothing.
void check_device_contract(const std::function<std::unique_ptr<ContractRig>()>& make);

}  // namespace viv
