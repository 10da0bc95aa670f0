#pragma once

#include <cstdint>
#include <string_view>

namespace viv {

/// What board logic can ask of the machine. Requests are carried out when the current device access is over.
class SystemControl {
  public:
    virtual ~SystemControl() = default;
    /// RESET# of the whole board. `source` names the asker in logs and --json: "keyboard controller", "port 92h", ...
    virtual void request_reset(std::string_view source) = 0;
    virtual void request_power_off(std::string_view source) = 0;
    /// The guest ends the run with this exit code (the test exit port).
    virtual void request_exit(uint8_t code) = 0;
    /// The two A20 gates are ORed, as on PS/2-style boards. The state holds from the next guest instruction.
    enum class A20Gate { keyboard_controller, port_92 };
    virtual void set_a20(A20Gate gate, bool enabled) = 0;
    [[nodiscard]] virtual bool a20() const = 0;
    /// INIT# of the bootstrap processor only (a fast CPU reset that leaves devices alone).
    virtual void request_cpu_init(std::string_view source) = 0;
};

}  // namespace viv
