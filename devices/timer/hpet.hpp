#pragma once

#include <memory>

#include "vmm/core/device_context.hpp"

namespace viv {

/// Where the 8254 and the RTC drive their interrupts on a board with an HPET, which can take IRQ 0 and IRQ 8 away from
/// them (LegacyReplacement Route). Service, provided by the intel,hpet node.
struct LegacyTimerInputs {
    IrqPin timer;
    IrqPin rtc;
};

/// Node intel,hpet: reg = 1 KiB of memory; interrupts = IRQ 0 and IRQ 8. After the IOAPIC, before the 8254 and the RTC.
/// Provides LegacyTimerInputs.
Result<std::unique_ptr<Device>> make_hpet(DeviceContext& context);

}  // namespace viv
