#include "devices/storage/image/memory_image_test.hpp"
#include "devices/virtio/virtio_block.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"

using namespace viv;

/// The first byte chooses: requests within the access, or beside the machine, where the input says when they may end.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    auto image = std::make_unique<MemoryImage>(size_t{300} * 512);
    image->bad_sector = 33;
    const bool beside = input.byte() & 1;
    VirtioFuzz fuzz(input);
    DiskWork work(fuzz.board.loop, fuzz.board.memory);
    auto queue = std::make_unique<DiskQueue>(std::move(image), beside ? &work : nullptr);
    auto drive = std::make_unique<DiskDrive>(std::move(queue), "FUZZ");
    DiskDrive& disk = *drive;
    auto block = std::make_unique<VirtioBlock>(std::move(drive), 3);
    fuzz.run(std::move(block), [&](uint8_t choice) {
        switch (choice & 3) {
            case 0: fuzz.board.loop.poll(); break;
            case 1: work.drain(); break;
            case 2: static_cast<void>(disk.grow(choice * uint64_t{10} * 512)); break;
            default: break;
        }
    });
    return 0;
}
