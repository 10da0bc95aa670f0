#include "devices/network/frame_offload.hpp"
#include "devices/network/tcp_packet_rig_test.hpp"
#include "devices/virtio/test_link_test.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"
#include "devices/virtio/virtio_network.hpp"

using namespace viv;

namespace {

TcpPacketRig packet_of(FuzzInput& input) {
    const uint8_t kind = input.byte();
    return {.six = (kind & 1) != 0, .tagged = (kind & 2) != 0, .flags = input.byte(), .size = input.number(2) % 8192};
}

// Both are where buffers may lie.

/// A packet of TCP behind its header.
void put_packet(GuestMemory& memory, FuzzInput& input) {
    const Gpa at{uint64_t{input.byte()} << 10};
    const TcpPacketRig rig = packet_of(input);
    const auto packet = rig.packet();
    const auto header = write_offload(rig.offload(static_cast<uint16_t>(input.number(2))), packet);
    memory.write(at, std::as_bytes(std::span(header)));
    memory.store(at + header.size(), uint16_t{0});
    memory.write(at + header.size() + 2, std::as_bytes(std::span(packet)));
}

/// A command for the control queue, with the beginning of what it is about.
void put_command(GuestMemory& memory, FuzzInput& input) {
    const Gpa at{uint64_t{input.byte()} << 10};
    constexpr uint8_t classes = 6;
    memory.store(at, static_cast<uint8_t>(input.byte() % classes));
    memory.store(at + 1, static_cast<uint8_t>(input.byte() & 7));
    memory.write(at + 2, std::as_bytes(input.some(16)));
}

}  // namespace

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
                 if (choice == 2) return put_packet(fuzz.board.memory, input);
                 if (choice == 3) return put_command(fuzz.board.memory, input);
                 if (link.waiting.size() > 8) return;
                 const bool large = choice & 4;
                 TestLink::Frame frame(14 + input.number(2) % (large ? most_packet - 14 : 3000));
                 input.bytes(frame.data(), std::min<size_t>(frame.size(), 60));
                 // As links do: undone is only what the card takes and what can be done.
                 OffloadHeader header{};
                 if (choice & 8) input.bytes(header.data(), header.size());
                 if (choice & 16) {
                     const TcpPacketRig rig = packet_of(input);
                     frame = rig.packet();
                     header = write_offload(rig.offload(static_cast<uint16_t>(input.number(2))), frame);
                 }
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
