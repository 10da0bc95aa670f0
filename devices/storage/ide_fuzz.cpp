#include <array>
#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/storage/ata_disk.hpp"
#include "devices/storage/ide.hpp"
#include "devices/storage/image/memory_image_test.hpp"

using namespace viv;

// The input is a row of operations: register and data accesses, string transfers, resets, save and load.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    StateTrips state;
    IdeChannel channel{IrqLine{}};
    for (uint8_t unit = 0; unit < 2; ++unit) {
        auto image = std::make_unique<MemoryImage>(size_t{unit == 0 ? 300u : 5u} * 512);
        image->bad_sector = 33;
        channel.attach(unit, std::make_unique<AtaDisk>(channel.device_state(unit), std::move(image), AtaDisk::Place{}));
    }
    BusDevice& ports = channel.command_block();
    FuzzInput input(data, size);
    const auto take = [&input] { return input.byte(); };
    for (unsigned steps = 0; steps < 2000 && !input.empty(); ++steps) {
        const uint8_t kind = take();
        const uint8_t offset = kind >> 3 & 7;
        switch (kind & 7) {
            case 0:
            case 1: ports.write({offset, 1}, take()); break;
            case 2: ports.read({offset, static_cast<uint8_t>(1u << (kind >> 6))}); break;
            case 3: {
                std::array<std::byte, 8192> block{};
                const size_t length = 512u * (1u + offset);
                ports.read_block({0, static_cast<uint8_t>(1u << (kind >> 6 & 1) << 1)}, std::span(block).first(length));
                break;
            }
            case 4: {
                const std::array<std::byte, 8192> block{};
                ports.write_block({0, 2}, std::span(block).first(512u * (1u + offset) + kind % 2));
                break;
            }
            case 5: channel.control_block().write({0, 1}, take()); break;
            case 6: {
                state.save_and_load(channel);
                break;
            }
            case 7: {
                // A command that the drive has, at an address that it may have.
                constexpr uint8_t opcodes[] = {0x20, 0x24, 0x29, 0x30, 0x34, 0x39, 0x40, 0x42,
                                               0x91, 0xC4, 0xC5, 0xC6, 0xEC, 0xEF, 0x90, 0xE6};
                ports.write({6, 1}, take());
                for (const uint64_t at : {2u, 3u, 1u}) ports.write({at, 1}, take());
                ports.write({7, 1}, opcodes[kind >> 4]);
                break;
            }
        }
    }
    return 0;
}
