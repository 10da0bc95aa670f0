// A guest gone mad on a serial port whose host sends, and now and then takes nothing.
#include <cstddef>
#include <cstdint>

#include "devices/serial/ns16550a.hpp"
#include "vmm/core/result.hpp"

namespace {

struct MoodyBackend final : viv::CharBackend {
    bool write(uint8_t) override { return !full; }
    void on_writable(std::move_only_function<void()> callback) override { writable = std::move(callback); }
    [[nodiscard]] bool readable() const override { return input > 0; }
    std::optional<uint8_t> read() override {
        if (input == 0) return std::nullopt;
        return static_cast<uint8_t>(input--);
    }
    void on_readable(std::move_only_function<void()> callback) override { now_readable = std::move(callback); }
    [[nodiscard]] std::string description() const override { return {}; }

    bool full = false;
    unsigned input = 0;
    std::move_only_function<void()> writable;
    std::move_only_function<void()> now_readable;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    viv::ManualClock clock;
    auto owned = std::make_unique<MoodyBackend>();
    MoodyBackend& backend = *owned;
    viv::Ns16550a uart(clock, std::move(owned));
    for (size_t i = 0; i + 1 < size; i += 2) {
        const uint8_t value = data[i + 1];
        switch (data[i] >> 6) {
            case 0: uart.write8(data[i] & 7, value); break;
            case 1: uart.read8(data[i] & 7); break;
            case 2:
                backend.input += value;
                backend.now_readable();
                break;
            case 3:
                clock.advance(std::chrono::microseconds(value * 10));
                backend.full = (value & 1) != 0;
                if (!backend.full) backend.writable();
                break;
        }
    }
    // Whatever the guest did is a state that can be saved and loaded.
    VIV_ASSERT(uart.prepare_load(uart.save()).has_value());
    return 0;
}
