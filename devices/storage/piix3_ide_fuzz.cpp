#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/storage/ata_disk.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/piix3_ide.hpp"

using namespace viv;

// The input is the descriptor table, then a row of operations: commands of the drive, registers of the bus master,
// data port accesses, saves and loads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    GuestMemory& memory = board.memory;
    Bus& ports = board.ports;
    static_cast<void>(memory.add(Gpa{0}, 0x40000, GuestMemory::Kind::ram, "RAM"));
    IdeChannel channel{IrqLine{}};
    auto image = std::make_unique<MemoryImage>(size_t{300} * 512);
    image->bad_sector = 33;
    channel.attach(0, std::make_unique<AtaDisk>(channel.device_state(0), std::move(image), AtaDisk::Place{}));
    board.services.provide(channel, "primary");
    const auto bridge = board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    const auto ide = board.make(make_piix3_ide, {}, 1, 1);
    PciBus& bus = *board.services.find<PciBus>();
    bus.config_write({0, 1, 1}, pci::BAR0 + 16, 4, 0xC000);
    bus.config_write({0, 1, 1}, pci::COMMAND, 2, pci::IO_SPACE | pci::BUS_MASTER);

    FuzzInput input(data, size);
    const auto take = [&input] { return input.byte(); };
    memory.write(Gpa{0x1000}, std::as_bytes(input.some(64)));
    ports.write(0xC004, 4, 0x1000);
    BusDevice& block = channel.command_block();
    for (unsigned steps = 0; steps < 300 && !input.empty(); ++steps) {
        const uint8_t kind = take();
        switch (kind & 7) {
            case 0:
            case 1: {
                constexpr uint8_t opcodes[] = {0xC8, 0xCA, 0x25, 0x35, 0x20, 0x30, 0xEC, 0xEF};
                block.write({6, 1}, 0xE0);
                for (const uint64_t at : {2u, 3u}) block.write({at, 1}, take());
                block.write({7, 1}, opcodes[kind >> 5]);
                break;
            }
            case 2: ports.write(0xC000, 1, kind >> 3); break;
            case 3: ports.write(0xC000 + (take() & 15), static_cast<uint8_t>(1u << (kind >> 3 & 3)), take()); break;
            case 4: ports.read(0xC000 + (take() & 15), static_cast<uint8_t>(1u << (kind >> 3 & 3))); break;
            case 5: block.read({0, 2}); break;
            case 6: memory.store(Gpa{0x1000u + (kind >> 3) * 4}, uint32_t{take()} << 24 | uint32_t{take()} << 8); break;
            case 7: {
                board.save_and_load(*ide);
                break;
            }
        }
    }
    return 0;
}
