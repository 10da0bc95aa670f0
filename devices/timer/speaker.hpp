#pragma once

#include <cstdint>

namespace viv {

/// The PC speaker: port 61h and counter 2 of the 8254. Service, provided by the intel,i8254 node.
class Speaker {
  public:
    virtual ~Speaker() = default;
    /// Whether a tone sounds: the speaker is connected, and counter 2 makes a wave in the range of hearing.
    [[nodiscard]] virtual bool on() const = 0;
    /// The tone in Hz, rounded; 0 when off.
    [[nodiscard]] virtual uint32_t frequency() const = 0;
};

}  // namespace viv
