#include "devices/virtio/virtio_console.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"

using namespace viv;

namespace {

/// Gives what it is told to, and takes a byte now and then.
class FuzzBackend final : public CharBackend {
  public:
    [[nodiscard]] bool write(uint8_t byte) override { return room > 0 && room-- > byte % 4u; }
    void on_writable(std::move_only_function<void()> callback) override { writable = std::move(callback); }
    [[nodiscard]] bool readable() const override { return waiting > 0; }
    [[nodiscard]] std::optional<uint8_t> read() override {
        if (waiting == 0) return std::nullopt;
        --waiting;
        return uint8_t{0x55};
    }
    void on_readable(std::move_only_function<void()> callback) override { has_some = std::move(callback); }
    [[nodiscard]] std::string description() const override { return {}; }
    unsigned room = 100, waiting = 0;
    std::move_only_function<void()> writable, has_some;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    std::vector<VirtioConsole::Port> ports(2);
    for (auto& port : ports) port.backend = std::make_unique<FuzzBackend>();
    ports[1].name = "name";
    auto& backend = static_cast<FuzzBackend&>(*ports[1].backend);
    auto console = std::make_unique<VirtioConsole>(std::move(ports), VirtioConsole::Size{80, 25});
    VirtioConsole& made = *console;
    VirtioFuzz fuzz(input);
    fuzz.run(std::move(console), [&](uint8_t choice) {
        if (choice == 0) return made.resize({input.byte(), input.byte()});
        if (choice & 1) {
            backend.room = input.byte();
            backend.writable();
        } else {
            backend.waiting = input.byte();
            if (backend.waiting) backend.has_some();
        }
    });
    return 0;
}
