#include "devices/network/i82540em.hpp"

#include <array>
#include <cstdint>
#include <span>

#include "devices/network/nic_fuzz_rig_test.hpp"

using namespace viv;

// The first byte is the time between interrupts. The rest is a row of operations: descriptors, register accesses, bytes
// of memory, frames, time, saves and loads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace i82540em;
    constexpr uint64_t base = NicFuzz::base, ring = 0x10000;
    FuzzInput input(data, size);
    NicFuzz fuzz(input);
    fuzz.insert(make_on_wire<I82540em>);
    const auto set = [&fuzz](uint32_t offset, uint32_t value) { fuzz.memory_bus.write(base + offset, 4, value); };
    set(ITR, input.byte());
    set(IMS, ICR_all);
    set(TDBAL, ring);
    set(TDLEN, 0x100);
    set(TCTL, TCTL_EN);
    set(RDBAL, ring + 0x1000);
    set(RDLEN, 0x100);
    set(RDT, 15);
    set(RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_LPE | RCTL_BAM);
    for (uint32_t i = 0; i < 16; ++i) fuzz.memory.store(Gpa{ring + 0x1000 + 16 * i}, uint64_t{0x20000 + 0x800 * i});

    uint32_t tail = 0;
    for (unsigned steps = 0; steps < 200 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        switch (kind & 7) {
            case 0:
            case 1: {
                std::array<uint32_t, 4> words{};
                words[0] = input.number(kind & 0x80 ? 4 : 2);
                words[1] = kind & 0x40 ? input.number(4) : 0;
                words[2] = input.number(4);
                words[3] = input.number(4);
                if (kind & 1) {
                    // A context, or data that are segmented.
                    words[2] =
                        (words[2] & 0x0F00FFFF) | uint32_t{TX_DEXT | TX_TSE} << 24 | (kind & 0x10 ? 1u << 20 : 0);
                }
                fuzz.memory.write(Gpa{ring + 16 * tail}, std::as_bytes(std::span(words)));
                tail = (tail + 1) & 15;
                if (kind & 8) set(TDT, tail);
                break;
            }
            case 2:
                fuzz.memory_bus.write(base + (input.number(2) & 0x1FFFF), static_cast<uint8_t>(1u << (kind >> 6)),
                                      input.number(4));
                break;
            case 3: {
                // Those in general, of reception, of transmission, and the filters.
                constexpr std::array<uint32_t, 4> groups{CTRL, RDBAL, TDBAL, RXCSUM};
                const uint32_t offset = input.byte() * 4u;
                if (kind & 8) {
                    set(MDIC, (offset & 0x80 ? MDIC_OP_READ : MDIC_OP_WRITE) | 1u << 21 | (offset & 0x7C) << 14 |
                                  input.number(2));
                    break;
                }
                set(groups[kind >> 6] + offset, input.number(4));
                break;
            }
            case 4:
                fuzz.memory_bus.read(base + (input.number(2) & 0x7FFF), 4);
                if (!(kind & 8)) break;
                fuzz.ports.write(NicFuzz::io, 4, input.number(2));
                fuzz.ports.write(NicFuzz::io + (kind >> 4 & 7), static_cast<uint8_t>(1u << (kind >> 4) % 3),
                                 input.number(4));
                fuzz.ports.read(NicFuzz::io + (kind >> 4 & 7), 4);
                break;
            case 5: {
                const auto bytes = input.some(kind >> 3);
                fuzz.memory.write(Gpa{input.number(2) * 4}, std::as_bytes(bytes));
                break;
            }
            case 6: fuzz.other_end(kind >> 3); break;
            case 7:
                fuzz.clock.advance(std::chrono::microseconds(kind));
                if (kind >> 3 == 0) fuzz.save_and_load_card();
                break;
        }
    }
    return 0;
}
