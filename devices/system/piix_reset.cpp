// Models: the reset control register (RC, CF9h) of the PIIX3.
// Not modelled: nothing.
// Ignored bits: D7-D3.
// Reference: Intel 82371SB (290550), 2.5.8.3 "RC - Reset Control Register".
#include "devices/system/piix_reset.hpp"

namespace viv {
namespace {

constexpr uint8_t SYSTEM_RESET = 0x02;  // rw  1: hard reset of the board, 0: soft reset of the processor
constexpr uint8_t RESET_CPU = 0x04;     // rw  a rise resets

struct State {
    uint8_t rc = 0;
    static void fields(auto& self, auto&& visit) { visit("rc", self.rc); }
    bool operator==(const State&) const = default;
};

class PiixReset final : public StatefulDevice<State>, public ByteDevice {
  public:
    explicit PiixReset(SystemControl& system) : system_(system) {}

    void reset(ResetKind /*kind*/) override { state_ = State{}; }

    uint8_t read8(uint64_t /*offset*/) override { return state_.rc; }
    void write8(uint64_t /*offset*/, uint8_t value) override {
        const bool resets = (value & RESET_CPU) && !(state_.rc & RESET_CPU);
        state_.rc = value & (SYSTEM_RESET | RESET_CPU);
        if (!resets) return;
        if (value & SYSTEM_RESET) {
            system_.request_reset("reset control register");
        } else {
            system_.request_cpu_init("reset control register");
        }
    }

  protected:
    Result<void> validate(const State& staged) const override {
        if (staged.rc & ~(SYSTEM_RESET | RESET_CPU)) return fail("RC: the saved state has bits that do not exist");
        return {};
    }
    void after_load() override {}

  private:
    SystemControl& system_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_piix_reset(DeviceContext& context) {
    auto reset = std::make_unique<PiixReset>(context.system);
    TRY(context.map(0, *reset));
    return reset;
}

}  // namespace viv
