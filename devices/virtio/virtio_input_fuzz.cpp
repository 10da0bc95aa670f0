#include "devices/virtio/virtio_fuzz_rig_test.hpp"
#include "devices/virtio/virtio_input.hpp"

using namespace viv;

namespace {

MouseButton button(uint8_t choice) {
    return static_cast<MouseButton>(1u << choice % 5);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    VirtioFuzz fuzz(input);
    const uint8_t kind = input.byte();
    if (kind % 3 == 0) {
        auto made = std::make_unique<VirtioKeyboard>();
        VirtioKeyboard& keyboard = *made;
        // Fingers press on whenever they may.
        keyboard.on_idle([&] { keyboard.press(static_cast<Key>(kind), KeyboardPort::Repeat::none); });
        fuzz.run(std::move(made), [&](uint8_t choice) {
            const auto key = static_cast<Key>(input.byte());
            if (choice & 1) {
                keyboard.press(key, KeyboardPort::Repeat::none);
            } else {
                keyboard.release(key);
            }
        });
    } else if (kind % 3 == 1) {
        auto made = std::make_unique<VirtioMouse>();
        VirtioMouse& mouse = *made;
        fuzz.run(std::move(made), [&](uint8_t choice) {
            if (choice & 1) mouse.move(static_cast<int>(input.number(4)), choice, static_cast<int8_t>(input.byte()));
            if (choice & 2) mouse.press(button(input.byte()));
            if (choice & 4) mouse.release(button(input.byte()));
        });
    } else {
        auto made = std::make_unique<VirtioTablet>();
        VirtioTablet& tablet = *made;
        fuzz.run(std::move(made), [&](uint8_t choice) {
            if (choice & 1) tablet.move_to(static_cast<int>(input.number(4)), input.byte() << 8);
            if (choice & 2) tablet.press(button(input.byte()));
            if (choice & 4) tablet.release(button(input.byte()));
            if (choice & 8) tablet.scroll(static_cast<int8_t>(input.byte()));
        });
    }
    return 0;
}
