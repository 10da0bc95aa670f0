#pragma once

#include <cstddef>
#include <functional>
#include <span>

namespace viv {

/// A device's side of the 8237A pair: what DREQ, DACK# and TC are on the wires. Channels 0-3 move bytes, 5-7 move
/// 16-bit words (byte counts are then even); channel 4 joins the two chips and is nobody's.
/// Service, provided by the intel,i8237 node.
class DmaController {
  public:
    virtual ~DmaController() = default;
    /// Moves `data` from the device into memory: the bytes taken, up to the terminal count. 0 when the channel is not
    /// ready. A channel programmed for verify (or for the other direction) counts without touching memory.
    virtual size_t write_memory(unsigned channel, std::span<const std::byte> data) = 0;
    /// Moves memory to the device: the bytes given, up to the terminal count; FFh where memory does not answer.
    virtual size_t read_memory(unsigned channel, std::span<std::byte> data) = 0;
    /// Whether the last transfer of the channel ended in its terminal count (the TC pin).
    [[nodiscard]] virtual bool terminal_count(unsigned channel) const = 0;
    /// Whether a transfer would be served now: both chips enabled, channel 4 cascading, this channel unmasked.
    [[nodiscard]] virtual bool ready(unsigned channel) const = 0;
    /// The level of DREQ, which a guest sees in the status register.
    virtual void set_request(unsigned channel, bool asserted) = 0;
    /// `listener` is called when a guest's write makes the channel ready(). One listener a channel.
    virtual void on_ready(unsigned channel, std::move_only_function<void()> listener) = 0;
};

}  // namespace viv
