#include "devices/network/rtl8139.hpp"

#include <array>
#include <cstdint>
#include <span>

#include "devices/network/nic_fuzz_rig_test.hpp"
#include "devices/network/rtl8139_registers.hpp"

using namespace viv;

// The first byte chooses the chip's old ways or C+ mode. The rest is a row of operations: descriptors, register
// accesses, bytes of memory, frames, time, saves and loads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace rtl8139;
    constexpr uint64_t base = NicFuzz::base, ring = 0x10000;
    FuzzInput input(data, size);
    NicFuzz fuzz(input);
    const bool plus = input.byte() & 1;
    fuzz.insert(plus ? make_on_wire<Rtl8139, Rtl8139::Chip::c_plus> : make_on_wire<Rtl8139, Rtl8139::Chip::c>);
    const auto set = [&fuzz](uint64_t offset, uint8_t bytes, uint32_t value) {
        fuzz.memory_bus.write(base + offset, bytes, value);
    };
    set(CPCR, 2, plus ? CPCR_TxOn | CPCR_RxOn | CPCR_RxChkSum | CPCR_RxVLAN : 0);
    set(CR, 1, CR_TE | CR_RE);
    set(RCR, 4, RCR_AAP | RCR_AB | RCR_AM);
    set(RBSTART, 4, 0x20000);
    if (plus) set(TNPDS, 4, ring);
    set(RDSAR, 4, ring + 0x1000);
    for (uint32_t i = 0; i < 16; ++i) {
        fuzz.memory.store(Gpa{ring + 0x1000 + 16 * i}, D_OWN | (i == 15 ? D_EOR : 0) | 0x400);
        fuzz.memory.store(Gpa{ring + 0x1008 + 16 * i}, uint64_t{0x20000 + 0x400 * i});
    }
    uint32_t tail = 0;
    for (unsigned steps = 0; steps < 200 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        switch (kind & 7) {
            case 0:
            case 1: {
                if (!plus) {
                    set(TSAD0 + 4 * (kind >> 6), 4, input.number(2));
                    set(TSD0 + 4 * (kind >> 6), 4, input.number(2));
                    break;
                }
                const std::array<uint32_t, 4> words{input.number(4) ^ D_OWN, input.number(kind & 0x80 ? 4 : 1),
                                                    input.number(kind & 0x40 ? 4 : 2), 0};
                fuzz.memory.write(Gpa{ring + 16 * tail}, std::as_bytes(std::span(words)));
                tail = words[0] & D_EOR ? 0 : (tail + 1) % 64;
                if (kind & 8) set(TPPOLL, 1, TPPOLL_NPQ);
                break;
            }
            case 2: set(input.byte(), static_cast<uint8_t>(1u << (kind >> 6)), input.number(4)); break;
            case 3: set(CAPR, 2, input.number(2)); break;
            case 4: fuzz.memory_bus.read(base + input.byte(), static_cast<uint8_t>(1u << (kind >> 6))); break;
            case 5: {
                const auto bytes = input.some(kind >> 3);
                fuzz.memory.write(Gpa{input.number(kind & 8 ? 2 : 1) + (kind & 8 ? 0 : ring + 0x1000)},
                                  std::as_bytes(bytes));
                break;
            }
            case 6: fuzz.other_end(kind >> 3); break;
            case 7:
                fuzz.clock.advance(std::chrono::microseconds(kind * 4));
                if (kind >> 3 == 0) fuzz.save_and_load_card();
                break;
        }
    }
    return 0;
}
