#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/video/vga.hpp"

// A guest that writes any register and any memory, and then looks at its picture. Commands of three bytes: what, where,
// value.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace viv;
    ManualClock clock;
    // Of one size, and kept: clearing megabytes would take longer than what is tried here.
    static std::vector<std::byte> linear(4 * Vga::linear_unit);
    Vga vga(clock, linear);
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
            case 1: vga.ports().write({port, bytes}, value); break;
            case 2:
                // DISPI registers by themselves, or a register in memory.
                if (bytes == 2) {
                    vga.dispi_ports().write({0, 2}, input[1] % 16);
                    vga.dispi_ports().write({1, 2}, input[2] << (what & 0x20 ? 8 : 0));
                    vga.dispi_ports().read({1, 2});
                } else {
                    vga.registers().write({address % (Vga::registers_size - 7), bytes}, value);
                    vga.registers().read({address % (Vga::registers_size - 7), bytes});
                }
                break;
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
    // Both take far longer than what came before: a part of the inputs is enough.
    if (size == 0 || data[size - 1] % 8 != 0) return 0;
    const Image image = vga.pixels();
    VIV_ASSERT(image.width > 0 && image.width <= 4608 && image.height > 0 && image.height <= 1600);
    VIV_ASSERT(image.pixels.size() == size_t{image.width} * image.height);
    VIV_ASSERT(vga.prepare_load(vga.save()).has_value());
    return 0;
}
