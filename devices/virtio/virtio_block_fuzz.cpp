#include "devices/storage/image/memory_image_test.hpp"
#include "devices/virtio/virtio_block.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"

using namespace viv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    auto image = std::make_unique<MemoryImage>(size_t{300} * 512);
    image->bad_sector = 33;
    VirtioFuzz fuzz(input);
    fuzz.run(std::make_unique<VirtioBlock>(std::make_unique<DiskDrive>(std::move(image), "FUZZ"), 3));
    return 0;
}
