#include "devices/network/ne2000.hpp"

#include <cstdint>
#include <utility>

#include "devices/network/nic_fuzz_rig_test.hpp"

using namespace viv;

// The first byte chooses the ISA card or the PCI one. The rest is a row of operations: port accesses, remote DMA,
// frames, time, saves and loads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint16_t base = NicFuzz::io, data_port = base + 16;
    FuzzInput input(data, size);
    NicFuzz fuzz(input);
    if (input.byte() & 1) {
        fuzz.insert(make_on_wire<Rtl8029>);
    } else {
        fuzz.insert_isa(make_isa_on_wire<Ne2000>, 32);
    }
    const auto set = [&fuzz](uint8_t number, uint8_t value) { fuzz.ports.write(base + number, 1, value); };
    // A driver's start, so that frames move.
    for (const auto& [number, value] : {std::pair<uint8_t, uint8_t>{0, 0x21},
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
        set(number, value);
    }
    for (unsigned steps = 0; steps < 400 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        const auto width = static_cast<uint8_t>(1u << (kind >> 6));
        switch (kind & 7) {
            case 0: set(0, kind & 8 ? 0x26 : input.byte()); break;
            case 1:
            case 2: set(kind >> 3 & 0xF, input.byte()); break;
            case 3:
                for (uint8_t number = 8; number < 12; ++number) set(number, input.byte());
                set(0, kind & 8 ? 0x12 : 0x0A);
                break;
            case 4: fuzz.ports.write(data_port + (kind & 8), width, input.number(4)); break;
            case 5: fuzz.ports.read(base + (kind >> 3), width); break;
            case 6: fuzz.other_end(kind >> 3); break;
            case 7:
                fuzz.clock.advance(std::chrono::microseconds(kind * 8));
                if (kind >> 3 == 0) fuzz.save_and_load_card();
                break;
        }
    }
    return 0;
}
