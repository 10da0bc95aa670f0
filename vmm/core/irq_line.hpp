#pragma once

#include <cstdint>
#include <vector>

namespace viv {

/// An input side of interrupt wires: an interrupt controller, or the CPU's INTR input.
class IrqSink {
  public:
    virtual ~IrqSink() = default;
    /// The wire at `pin` now has this level. Called on changes only.
    virtual void set_irq_level(unsigned pin, bool level) = 0;
};

/// A wire on the board: any number of lines drive it (wired OR), any number of controllers see it.
class IrqPin {
  public:
    /// From now on `sink` sees this wire as its input `pin`.
    void connect(IrqSink& sink, unsigned pin);
    [[nodiscard]] bool level() const { return asserted_ != 0; }

  private:
    friend class IrqLine;
    void drive(bool level);

    struct Input {
        IrqSink* sink;
        unsigned pin;
    };
    std::vector<Input> inputs_;
    unsigned asserted_ = 0;  // how many lines drive it high
};

/// One device's end of a wire. Its level is derived from the device's registers after every mutation; setting the same
/// level twice does nothing. A line that is not connected keeps its level and nobody sees it.
class IrqLine {
  public:
    IrqLine() = default;
    explicit IrqLine(IrqPin& pin) : pin_(&pin) {}
    IrqLine(IrqLine&& other) noexcept;
    IrqLine& operator=(IrqLine&& other) noexcept;
    ~IrqLine();

    void set(bool level);
    [[nodiscard]] bool level() const { return level_; }

  private:
    IrqPin* pin_ = nullptr;
    bool level_ = false;
};

/// Where message-signalled interrupts go: a 32-bit write of `data` to `address` in the FEExxxxxh range (Intel SDM
/// 3A, 11.11).
class MsiSink {
  public:
    virtual ~MsiSink() = default;
    virtual void send(uint64_t address, uint32_t data) = 0;
};

}  // namespace viv
