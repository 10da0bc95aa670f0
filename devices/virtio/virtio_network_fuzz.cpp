#include "devices/virtio/test_link_test.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"
#include "devices/virtio/virtio_network.hpp"

using namespace viv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    auto made = std::make_unique<TestLink>();
    TestLink& link = *made;
    VirtioFuzz fuzz(input);
    fuzz.run(std::make_unique<VirtioNetwork>(NetworkPort{{2, 0, 0, 0, 0, 1}, std::move(made)}, uint16_t{1500},
                                             1 + input.byte() % 2u),
             [&](uint8_t choice) {
                 if (choice == 0) return link.set_up(!link.up());
                 if (link.waiting.size() > 8) return;
                 TestLink::Frame frame(14 + input.number(2) % 3000);
                 input.bytes(frame.data(), 6);
                 link.arrive(std::move(frame));
                 link.sent.clear();
             });
    return 0;
}
