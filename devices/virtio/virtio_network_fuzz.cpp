#include "devices/network/frame_offload.hpp"
#include "devices/virtio/test_link_test.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"
#include "devices/virtio/virtio_network.hpp"

using namespace viv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    auto made = std::make_unique<TestLink>();
    TestLink& link = *made;
    VirtioFuzz fuzz(input);
    fuzz.run(std::make_unique<VirtioNetwork>(NetworkPort{{2, 0, 0, 0, 0, 1}, std::move(made)}, fuzz.board.clock,
                                             uint16_t{1500}, 1 + input.byte() % 2u),
             [&](uint8_t choice) {
                 if (choice == 0) return link.set_up(!link.up());
                 if (choice == 1) {
                     const uint8_t takes = input.byte();
                     link.takes = {.checksum = (takes & 1) != 0,
                                   .tcp4 = (takes & 2) != 0,
                                   .tcp6 = (takes & 4) != 0,
                                   .marks = (takes & 8) != 0};
                     return;
                 }
                 if (link.waiting.size() > 8) return;
                 const bool large = choice & 4;
                 TestLink::Frame frame(14 + input.number(2) % (large ? most_packet - 14 : 3000));
                 input.bytes(frame.data(), std::min<size_t>(frame.size(), 60));
                 // As links do: undone is only what the card takes and what can be done.
                 OffloadHeader header{};
                 if (choice & 8) input.bytes(header.data(), header.size());
                 const auto offload = read_offload(header);
                 const bool good = offload && link.taken.take(*offload) && can_finish(frame, *offload);
                 if (!link.waiting.empty() && (good || !link.left.finished())) return;
                 link.left = good ? *offload : FrameOffload();
                 link.arrive(std::move(frame));
                 link.sent.clear();
                 link.undone.clear();
             });
    return 0;
}
