#include <cstdint>

#include "devices/fuzz_board_test.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/pci/pci_bus.hpp"
#include "devices/pci/piix4_pm.hpp"

using namespace viv;

namespace {

constexpr uint16_t block = 0x600, smbus = 0x700, smi = 0xB2;
constexpr PciAddress at{0, 1, 3};

}  // namespace

// The input is a row of operations on the power management function: its block, the SMBus and SMI ports, configuration
// space, the power button, time, saves and loads. The SCI must be what the registers say.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    const auto bridge = board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    const auto pm = board.make(make_piix4_pm, {{DeviceRange::Space::ports, smi, 2}}, at.device, at.function);
    PowerButton& button = *board.services.find<PowerButton>();
    PciBus& bus = *board.services.find<PciBus>();
    Bus& ports = board.ports;
    const auto place = [&bus] {
        bus.config_write(at, 0x40, 4, block);
        bus.config_write(at, 0x80, 1, 1);
        bus.config_write(at, 0x90, 4, smbus);
        bus.config_write(at, 0xD2, 1, 1);
    };
    place();

    FuzzInput input(data, size);
    for (unsigned steps = 0; steps < 500 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        const auto width = static_cast<uint8_t>(1u << (kind >> 3 & 3));
        switch (kind & 7) {
            case 0:
            case 1: ports.write(block + input.byte() % 16, width, input.number(width)); break;
            case 2: ports.write(block + input.byte() % 64, width, input.number(width)); break;
            case 3: ports.read((kind & 0x20 ? smbus : block) + input.byte() % 64, width); break;
            case 4: ports.write(kind & 0x20 ? smi : smbus + input.byte() % 16, width, input.number(width)); break;
            case 5:
                bus.config_write(at, input.byte(), width, input.number(4));
                if (kind & 0x80) place();
                break;
            case 6:
                if (kind & 8) button.press();
                board.clock.advance(std::chrono::milliseconds(int64_t{input.byte()} << (kind >> 4)));
                break;
            case 7: board.save_and_load(*pm); break;
        }
        // Where the block is decoded, the SCI is status and enable and SCI_EN.
        if ((bus.config_read(at, 0x80, 1) & 1) == 0 || (bus.config_read(at, 0x40, 4) & 0xFFC0) != block) continue;
        const auto status = ports.read(block, 2), enabled = ports.read(block + 2, 2);
        const auto events = ports.read(block + 0xC, 2) & ports.read(block + 0xE, 2);
        const bool sci = (ports.read(block + 4, 2) & 1) && ((status & enabled) || events);
        if (bus.config_read(at, 4, 2) & 1) VIV_ASSERT(board.isa.pins[9].level() == sci);
    }
    return 0;
}
