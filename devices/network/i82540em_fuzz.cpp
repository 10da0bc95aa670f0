#include <array>
#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/network/i82540em.hpp"
#include "devices/pci/i440fx.hpp"

using namespace viv;

// The input is a row of operations: descriptors, register accesses, bytes of memory, frames, time, saves and loads.
// What is sent comes back.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint64_t base = 0xE0000000, ring = 0x10000;
    constexpr PciAddress at{0, 4, 0};
    FuzzBoard board;
    static_cast<void>(board.memory.add(Gpa{0}, 0x40000, GuestMemory::Kind::ram, "RAM"));
    const auto bridge = board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    board.node.set("local-mac-address",
                   {std::byte{2}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{1}});
    board.node.set_string("viv,link", "loopback");
    const auto card = board.make(make_i82540em, {}, at.device);
    PciFunction& function = *board.services.find<PciBus>()->find(at);
    function.config_write(pci::BAR0, 4, static_cast<uint32_t>(base));
    function.config_write(pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
    const auto set = [&board](uint32_t offset, uint32_t value) { board.memory_bus.write(base + offset, 4, value); };
    using namespace i82540em;
    set(TDBAL, ring);
    set(TDLEN, 0x100);
    set(TCTL, TCTL_EN);
    set(RDBAL, ring + 0x1000);
    set(RDLEN, 0x100);
    set(RDT, 15);
    set(RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_LPE | RCTL_BAM);
    for (uint32_t i = 0; i < 16; ++i) board.memory.store(Gpa{ring + 0x1000 + 16 * i}, uint64_t{0x20000 + 0x800 * i});

    FuzzInput input(data, size);
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
                board.memory.write(Gpa{ring + 16 * tail}, std::as_bytes(std::span(words)));
                tail = (tail + 1) & 15;
                if (kind & 8) set(TDT, tail);
                break;
            }
            case 2:
                board.memory_bus.write(base + (input.number(2) & 0x1FFFF), static_cast<uint8_t>(1u << (kind >> 6)),
                                       input.number(4));
                break;
            case 3: set((input.byte() & 0x7Fu) * 8 + (kind & 0x80 ? 0x2800 : 0), input.number(4)); break;
            case 4: board.memory_bus.read(base + (input.number(2) & 0x7FFF), 4); break;
            case 5: {
                const auto bytes = input.some(kind >> 3);
                board.memory.write(Gpa{input.number(2)}, std::as_bytes(bytes));
                break;
            }
            case 6: board.loop.poll(); break;
            case 7:
                board.clock.advance(std::chrono::microseconds(kind));
                if (kind >> 3 == 0) board.save_and_load(*card);
                break;
        }
    }
    return 0;
}
