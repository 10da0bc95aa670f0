#include <cstdint>

#include "devices/fuzz_board_test.hpp"
#include "devices/network/ne2000.hpp"

using namespace viv;

// The input is a row of port accesses, frames that come back, saves and loads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint16_t base = 0x300;
    FuzzBoard board;
    board.node.set("local-mac-address",
                   {std::byte{2}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{1}});
    board.node.set_string("viv,link", "loopback");
    const auto card = board.make(make_ne2000, {{DeviceRange::Space::ports, base, 32}});
    // A driver's start, so that frames move.
    for (const auto& [number, value] : {std::pair<uint16_t, uint8_t>{0, 0x21},
                                        {14, 0x49},
                                        {12, 0x1C},
                                        {13, 0},
                                        {1, 0x46},
                                        {2, 0x80},
                                        {3, 0x46},
                                        {0, 0x61},
                                        {7, 0x47},
                                        {0, 0x22},
                                        {4, 0x40},
                                        {5, 60},
                                        {15, 0x3F}}) {
        board.ports.write(base + number, 1, value);
    }
    FuzzInput input(data, size);
    for (unsigned steps = 0; steps < 400 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        switch (kind & 7) {
            case 0: board.ports.write(base, 1, kind & 8 ? 0x26 : input.byte()); break;
            case 1:
            case 2:
            case 3: board.ports.write(base + (kind >> 3 & 0xF), 1, input.byte()); break;
            case 4: board.ports.write(base + 16, static_cast<uint8_t>(1u << (kind >> 6)), input.number(4)); break;
            case 5: board.ports.read(base + (kind >> 3), static_cast<uint8_t>(1u << (kind >> 6))); break;
            case 6: board.loop.poll(); break;
            case 7:
                if (kind >> 3 == 0) board.save_and_load(*card);
                break;
        }
    }
    return 0;
}
