#include "devices/virtio/virtio_entropy.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"

using namespace viv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzInput input(data, size);
    SeededEntropy source{1};
    VirtioFuzz fuzz(input);
    fuzz.run(std::make_unique<VirtioEntropy>(source));
    return 0;
}
