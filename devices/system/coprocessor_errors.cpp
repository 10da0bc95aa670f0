// Models: how a PC reports x87 exceptions: FERR# latches IRQ 13, a write to port F0h releases it and asserts IGNNE#
// until FERR# goes away. Not modelled: port F1h, the reset of a coprocessor chip of its own. Ignored bits: all of the
// byte that is written. Reference: Intel 82371SB (PIIX3) datasheet, 290550, "Coprocessor Error Register"; SDM 1,
// appendix D.
#include "devices/system/coprocessor_errors.hpp"

namespace viv {
namespace {

struct State {
    bool ferr = false;
    bool irq = false;
    bool ignne = false;
    static void fields(auto& self, auto&& visit) {
        visit("ferr", self.ferr);
        visit("irq", self.irq);
        visit("ignne", self.ignne);
    }
    bool operator==(const State&) const = default;
};

class Errors final : public StatefulDevice<State>, public ByteDevice, public CoprocessorErrors {
  public:
    explicit Errors(IrqLine line) : line_(std::move(line)) {}

    void reset(ResetKind /*kind*/) override {
        state_ = State{};
        update_irq();
    }
    uint8_t read8(uint64_t /*offset*/) override { return 0xFF; }
    void write8(uint64_t /*offset*/, uint8_t /*value*/) override {
        state_.irq = false;
        state_.ignne = state_.ferr;
        update_irq();
    }
    bool set_ferr(bool asserted) override {
        if (asserted && !state_.ferr) state_.irq = true;
        if (!asserted) state_.ignne = false;
        state_.ferr = asserted;
        update_irq();
        return state_.ignne;
    }

  protected:
    void after_load() override { update_irq(); }

  private:
    void update_irq() { line_.set(state_.irq); }

    IrqLine line_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_coprocessor_errors(DeviceContext& context) {
    auto errors = std::make_unique<Errors>(TRY(context.irq(0)));
    TRY(context.map(0, *errors));
    context.services.provide<CoprocessorErrors>(*errors);
    return errors;
}

}  // namespace viv
