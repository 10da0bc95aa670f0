#include <cstdint>
#include <span>

#include "devices/video/vga.hpp"

// A guest that writes any register and any memory, and then looks at its picture. Commands of three bytes: what, where,
// value.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace viv;
    ManualClock clock;
    Vga vga(clock);
    constexpr uint8_t sizes[] = {1, 2, 4, 8};
    for (auto input = std::span(data, size); input.size() >= 3; input = input.subspan(3)) {
        const uint8_t what = input[0];
        const uint8_t bytes = sizes[what >> 6];
        const uint64_t value = input[2] * 0x0101'0101'0101'0101u >> (64 - 8 * bytes);
        const uint64_t port = input[1] % (Vga::port_count - 7);
        const uint64_t address =
            (uint64_t{input[1]} << 9 | uint64_t{input[2]} << 1 | (what >> 5 & 1u)) % (0x20000u - 7);
        switch (what % 8) {
            case 0:
            case 1:
            case 2: vga.ports().write({port, bytes}, value); break;
            case 3: vga.ports().read({port, bytes}); break;
            case 4:
            case 5: vga.memory().write({address, bytes}, value); break;
            case 6: vga.memory().read({address, bytes}); break;
            default: clock.advance(Duration{input[1] << 16}); break;
        }
    }
    const TextScreen text = vga.text();
    VIV_ASSERT(text.cells.size() == size_t{text.columns} * text.rows);
    VIV_ASSERT(!text.cursor.visible || (text.cursor.column < text.columns && text.cursor.row < text.rows));
    const Image image = vga.pixels();
    VIV_ASSERT(image.width > 0 && image.width <= 4608 && image.height > 0 && image.height <= 1024);
    VIV_ASSERT(image.pixels.size() == size_t{image.width} * image.height);
    VIV_ASSERT(vga.prepare_load(vga.save()).has_value());
    return 0;
}
