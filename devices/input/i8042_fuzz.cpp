// A guest gone mad on ports 60h and 64h, with fingers on the keyboard and a hand on the mouse.
#include <cstddef>
#include <cstdint>

#include "devices/input/i8042.hpp"
#include "vmm/core/result.hpp"

namespace {

struct NoSystem final : viv::SystemControl {
    void request_reset(std::string_view) override {}
    void request_power_off(std::string_view) override {}
    void request_exit(uint8_t) override {}
    void set_a20(A20Gate, bool) override {}
    [[nodiscard]] bool a20() const override { return true; }
    void request_cpu_init(std::string_view) override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    viv::ManualClock clock;
    NoSystem system;
    viv::I8042 controller(clock, system, viv::I8042::Aux::mouse);
    for (size_t i = 0; i + 1 < size; i += 2) {
        const uint8_t value = data[i + 1];
        switch (data[i] % 8) {
            case 0: controller.data_port().write({0, 1}, value); break;
            case 1: controller.command_port().write({0, 1}, value); break;
            case 2: controller.data_port().read({0, 1}); break;
            case 3: controller.keyboard().press(viv::Key{value}); break;
            case 4: controller.keyboard().release(viv::Key{value}); break;
            case 5: controller.mouse().move(value * 1000 - 128'000, 127 - value, value % 16 - 8); break;
            case 6: controller.mouse().press(viv::MouseButton{static_cast<uint8_t>(1 << value % 5)}); break;
            case 7: clock.advance(std::chrono::microseconds(value * 20)); break;
        }
    }
    // Whatever the guest did is a state that can be saved and loaded.
    VIV_ASSERT(controller.prepare_load(controller.save()).has_value());
    return 0;
}
