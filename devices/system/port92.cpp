// Models: system control port A of a PS/2-style board: the fast A20 gate and the fast processor reset.
// Not modelled: the security lock and the fixed-disk activity lights (bits 3, 6 and 7 read 0).
// Ignored bits: D7-D2.
// Reference: IBM PS/2 Hardware Interface Technical Reference, "System Control Port A (Hex 0092)".
#include "devices/system/port92.hpp"

namespace viv {
namespace {

constexpr uint8_t FAST_RESET = 0x01;  // rw  a rise resets the processor
constexpr uint8_t FAST_A20 = 0x02;    // rw

struct State {
    uint8_t value = 0;
    static void fields(auto& self, auto&& visit) { visit("value", self.value); }
    bool operator==(const State&) const = default;
};

class Port92 final : public StatefulDevice<State>, public ByteDevice {
  public:
    explicit Port92(SystemControl& system) : system_(system) {}

    void reset(ResetKind /*kind*/) override {
        state_ = State{};
        after_load();
    }

    uint8_t read8(uint64_t /*offset*/) override { return state_.value; }
    void write8(uint64_t /*offset*/, uint8_t value) override {
        const bool resets = (value & FAST_RESET) && !(state_.value & FAST_RESET);
        state_.value = value & (FAST_RESET | FAST_A20);
        after_load();
        if (resets) system_.request_cpu_init("port 92h");
    }

  protected:
    Result<void> validate(const State& staged) const override {
        if (staged.value & ~(FAST_RESET | FAST_A20))
            return fail("port 92h: the saved state has bits that do not exist");
        return {};
    }
    void after_load() override { system_.set_a20(SystemControl::A20Gate::port_92, state_.value & FAST_A20); }

  private:
    SystemControl& system_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_port92(DeviceContext& context) {
    auto port = std::make_unique<Port92>(context.system);
    TRY(context.map(0, *port));
    port->reset(ResetKind::power_on);
    return port;
}

}  // namespace viv
