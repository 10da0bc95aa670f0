#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/pci/pci_card_test.hpp"
#include "devices/pci/piix3.hpp"
#include "devices/pci/piix4_pm.hpp"

using namespace viv;

// The input is a row of operations on a bus with bridges and two cards: configuration, port and memory accesses, saves
// and loads. What is decoded must always be what the registers say.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    board.services.provide(board.isa);
    static_cast<void>(board.memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "RAM"));
    std::vector<std::unique_ptr<Device>> devices;
    devices.push_back(board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}}));
    devices.push_back(board.make(make_piix3, {}, 1));
    devices.push_back(board.make(make_piix4_pm, {{DeviceRange::Space::ports, 0xB2, 2}}, 1, 3));
    devices.push_back(board.make(TestCard::make, {}, 2));
    devices.push_back(board.make(TestCard::make, {}, 3));

    FuzzInput input(data, size);
    const auto take = [&input](unsigned bytes) { return input.number(bytes); };
    for (unsigned steps = 0; steps < 500 && !input.empty(); ++steps) {
        const uint32_t kind = take(1);
        const auto width = static_cast<uint8_t>(1u << (kind >> 3 & 3));
        switch (kind & 7) {
            case 0:
            case 1:
            case 2: {
                // A configuration write, mostly to what is there.
                const uint32_t where = take(1), offset = take(1);
                board.ports.write(0xCF8, 4, 0x80000000 | (where & 3) << 11 | (where & 0x30) << 4 | offset);
                board.ports.write(0xCFC + (kind >> 6), width, take(kind & 0x20 ? 4 : 1));
                break;
            }
            case 3: board.ports.read(0xCF8 + (take(1) & 7), width); break;
            case 4: board.ports.write(0xCF8 + (take(1) & 7), width, take(4)); break;
            case 5: {
                const auto& windows = board.services.find<PciBus>()->windows();
                if (windows.empty()) break;
                const PciWindow& window = windows[take(1) % windows.size()];
                // Within the window, as all that reaches a device is.
                const uint64_t offset = take(1) % 16 * 4;
                if (window.device && offset + 4 <= window.size) window.device->write({offset, 4}, take(4));
                break;
            }
            case 6:
                board.memory_bus.write(take(4), width, take(4));
                board.clock.advance(std::chrono::milliseconds(kind));
                break;
            case 7: {
                Device& device = *devices[(kind >> 3) % devices.size()];
                auto commit = device.prepare_load(device.save());
                VIV_ASSERT(commit.has_value());
                const auto before = board.services.find<PciBus>()->windows().size();
                (*commit)();
                VIV_ASSERT(board.services.find<PciBus>()->windows().size() == before);
                break;
            }
        }
    }
    while (!devices.empty()) devices.pop_back();
    return 0;
}
