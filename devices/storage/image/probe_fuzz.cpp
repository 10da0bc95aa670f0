#include "devices/storage/image/probe.hpp"

#include <cstdint>
#include <cstring>

#include "devices/storage/image/memory_image_test.hpp"

using namespace viv;

// The input is an image: the first byte chooses where its second half lies, so that small inputs reach far offsets.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    constexpr size_t places[] = {0, 0x1F0, 0x8000, 70'000};
    const size_t far = places[data[0] & 3];
    const size_t first = (size - 1) / 2;
    const size_t second = size - 1 - first;
    std::vector<std::byte> bytes(std::max(far, first) + second);
    std::memcpy(bytes.data(), data + 1, first);
    std::memcpy(bytes.data() + bytes.size() - second, data + 1 + first, second);
    if ((data[0] & 4) != 0) bytes.resize((bytes.size() + 511) / 512 * 512);
    if ((data[0] & 8) != 0 && bytes.size() > 64)
        std::memcpy(bytes.data(),
                    "\x7F"
                    "ELF",
                    4);
    if ((data[0] & 16) != 0 && bytes.size() > 512) std::memcpy(bytes.data() + 510, "\x55\xAA", 2);
    MemoryImage image(std::move(bytes));
    const ImageProbe probe = probe_image(image);
    VIV_ASSERT(!probe.description.empty());
    return 0;
}
