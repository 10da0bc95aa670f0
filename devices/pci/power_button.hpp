#pragma once

namespace viv {

/// The button at the front of the case. Service, provided by the board's power management.
class PowerButton {
  public:
    virtual ~PowerButton() = default;
    /// A short press: a system in ACPI mode notices it and, as a rule, shuts down; else the machine goes off at once.
    virtual void press() = 0;
};

}  // namespace viv
