#include "devices/virtio/virtio_balloon.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"

using namespace viv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    VirtioFuzz fuzz(input);
    auto made = std::make_unique<VirtioBalloon>(
        fuzz.board.clock, VirtioBalloon::Settings{.size = 0x10000, .interval = std::chrono::microseconds(100)});
    VirtioBalloon& balloon = *made;
    fuzz.run(std::move(made), [&](uint8_t) {
        balloon.set_size(input.number(4));
        static_cast<void>(balloon.statistics());
    });
    return 0;
}
