// Feeds the header parser with anything; what it accepts must be placeable or refused, whatever the numbers are.
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/boot/linux_kernel.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace viv;
    const auto image = boot::parse_linux_image(std::as_bytes(std::span(data, size)));
    if (!image) return 0;
    for (const uint64_t end : {uint64_t{1} << 20, uint64_t{16} << 20, uint64_t{3} << 30}) {
        for (const uint64_t initrd : {uint64_t{0}, uint64_t{5000}, uint64_t{1} << 31}) {
            const auto placement = boot::place_linux(*image, initrd, {{0, 0x9F800, 1}, {0x100000, end - 0x100000, 1}});
            if (!placement) continue;
            const bool code_in_ram = placement->code.value >= 0x100000 &&
                                     image->memory_size <= end - placement->code.value &&
                                     image->code.size() <= image->memory_size;
            const bool initrd_in_ram =
                initrd == 0 || (placement->initrd.value >= 0x100000 && placement->initrd.value + initrd <= end);
            VIV_ASSERT(code_in_ram && initrd_in_ram);
        }
    }
    return 0;
}
