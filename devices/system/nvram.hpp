#pragma once

#include <cstdint>

namespace viv {

/// The battery-backed memory of the RTC, for the firmware. Service, provided by the motorola,mc146818 node.
class Nvram {
  public:
    virtual ~Nvram() = default;
    /// The byte at `index` as a guest would read it: 00h-7Fh through ports 70h/71h (the RTC's registers come first),
    /// 80h-FFh through 72h/73h. Unlike a guest's read it clears nothing.
    [[nodiscard]] virtual uint8_t cmos(uint8_t index) const = 0;
    /// The same as a guest's write.
    virtual void set_cmos(uint8_t index, uint8_t value) = 0;
};

}  // namespace viv
