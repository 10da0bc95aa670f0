#include "devices/network/pcnet.hpp"

#include <array>
#include <cstdint>
#include <span>

#include "devices/network/nic_fuzz_rig_test.hpp"
#include "devices/network/pcnet_registers.hpp"

using namespace viv;

// The first byte chooses the style of descriptors. The rest is a row of operations: descriptors, register accesses,
// bytes of memory, frames, time, saves and loads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace pcnet;
    constexpr uint16_t base = NicFuzz::io;
    constexpr uint32_t block = 0x8000, receive_ring = 0x10000, transmit_ring = 0x11000;
    FuzzInput input(data, size);
    NicFuzz fuzz(input);
    fuzz.insert(make_on_wire<Pcnet>);
    const uint8_t style = input.byte() & 3;
    const auto set = [&fuzz](uint16_t number, uint16_t value, uint16_t port = word_RDP) {
        fuzz.ports.write(base + word_RAP, 2, number);
        fuzz.ports.write(base + port, 2, value);
    };
    set(20, style, word_BDP);
    const uint32_t step = style ? 16 : 8;
    fuzz.memory.store(Gpa{block}, std::array<uint16_t, 2>{0x8000, 0x3030});
    fuzz.memory.store(Gpa{block + (style ? 20 : 16)}, receive_ring | (style ? 0 : 3u << 29));
    fuzz.memory.store(Gpa{block + (style ? 24 : 20)}, transmit_ring | (style ? 0 : 3u << 29));
    for (uint32_t i = 0; i < 8; ++i) {
        const Gpa place{receive_ring + step * i};
        if (style) {
            fuzz.memory.store(place + (style == 3 ? 8 : 0), 0x20000 + 0x600 * i);
            fuzz.memory.store(place + 4, 0x8000FA00u);
        } else {
            fuzz.memory.store(place, std::array<uint16_t, 4>{static_cast<uint16_t>(0x600 * i), 0x8002, 0xFA00, 0});
        }
    }
    set(1, block);
    set(0, CSR0_INIT);
    set(0, CSR0_STRT | CSR0_IENA);
    uint32_t tail = 0;
    for (unsigned steps = 0; steps < 200 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        switch (kind & 7) {
            case 0:
            case 1: {
                std::array<uint32_t, 4> words{input.number(2), input.number(4) ^ 0x83000000,
                                              input.number(kind & 8 ? 4 : 1), 0};
                if (!style) words[0] |= 0x83000000, words[1] &= 0xFFFF;
                fuzz.memory.write(Gpa{transmit_ring + step * tail}, std::as_bytes(std::span(words)).first(step));
                tail = (tail + 1) % 8;
                if (kind & 0x10) set(0, CSR0_TDMD | CSR0_IENA);
                break;
            }
            case 2:
                set(kind >> 3 & 0x1F, static_cast<uint16_t>(input.number(2)), kind & 0x80 ? word_BDP : word_RDP);
                break;
            case 3: set(input.byte(), static_cast<uint16_t>(input.number(2))); break;
            case 4: fuzz.ports.read(base + (input.byte() & 0x1F), static_cast<uint8_t>(1u << (kind >> 3) % 3)); break;
            case 5: {
                const auto bytes = input.some(kind >> 3);
                fuzz.memory.write(Gpa{(kind & 8 ? receive_ring : block) + input.byte()}, std::as_bytes(bytes));
                break;
            }
            case 6: fuzz.other_end(kind >> 3); break;
            case 7:
                fuzz.clock.advance(std::chrono::microseconds(kind * 4));
                if (kind >> 3 == 0) fuzz.save_and_load_card();
                if (kind >> 3 == 1) fuzz.ports.write(base + (input.byte() & 0x1F), 4, input.number(4));
                break;
        }
    }
    return 0;
}
