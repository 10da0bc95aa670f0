#include "vmm/core/irq_line.hpp"

#include <utility>

#include "vmm/core/result.hpp"

namespace viv {

void IrqPin::connect(IrqSink& sink, unsigned pin) {
    inputs_.push_back({&sink, pin});
    if (level()) sink.set_irq_level(pin, true);
}

void IrqPin::drive(bool level) {
    VIV_ASSERT(level || asserted_ > 0);
    const bool before = asserted_ != 0;
    asserted_ = level ? asserted_ + 1 : asserted_ - 1;
    const bool after = asserted_ != 0;
    if (before == after) return;
    for (const Input& input : inputs_) input.sink->set_irq_level(input.pin, after);
}

IrqLine::IrqLine(IrqLine&& other) noexcept
    : pin_(std::exchange(other.pin_, nullptr)), level_(std::exchange(other.level_, false)) {}

IrqLine& IrqLine::operator=(IrqLine&& other) noexcept {
    if (this != &other) {
        set(false);
        pin_ = std::exchange(other.pin_, nullptr);
        level_ = std::exchange(other.level_, false);
    }
    return *this;
}

IrqLine::~IrqLine() {
    set(false);
}

void IrqLine::set(bool level) {
    if (level == level_) return;
    level_ = level;
    if (pin_) pin_->drive(level);
}

}  // namespace viv
