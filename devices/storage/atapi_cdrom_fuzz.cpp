#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/storage/atapi_cdrom.hpp"
#include "devices/storage/ide.hpp"
#include "devices/storage/image/memory_image_test.hpp"

using namespace viv;

// The input is a row of operations: packets of any content, register and data accesses, resets, a person at the tray,
// save and load.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    StateTrips state;
    IdeChannel channel{IrqLine{}};
    auto made = std::make_unique<AtapiCdrom>(channel.device_state(0), CdromDrive::Place{0x170, 0, "serial"});
    CdromDrive& drive = made->drive();
    const auto disc = [](uint8_t blocks) {
        auto image = std::make_unique<MemoryImage>(size_t{blocks} * 1536, ImageAccess::read_only);
        image->bad_sector = 33;
        return image;
    };
    drive.load(disc(100));
    channel.attach(0, std::move(made));
    BusDevice& ports = channel.command_block();
    FuzzInput input(data, size);
    const auto take = [&input] { return input.byte(); };
    for (unsigned steps = 0; steps < 1000 && !input.empty(); ++steps) {
        const uint8_t kind = take();
        const uint8_t offset = kind >> 3 & 7;
        switch (kind & 7) {
            case 0: ports.write({offset, 1}, take()); break;
            case 1: ports.read({offset, static_cast<uint8_t>(1u << (kind >> 6))}); break;
            case 2:
            case 3: {
                // A packet; what is behind the given bytes is zero, as in most packets.
                constexpr uint8_t opcodes[] = {0x00, 0x03, 0x12, 0x15, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x42, 0x43,
                                               0x44, 0x46, 0x4A, 0x51, 0x52, 0x55, 0x5A, 0xA8, 0xAD, 0xB9, 0xBB,
                                               0xBD, 0xBE, 0x2B, 0x2F, 0x4E, 0x1B, 0x28, 0xBE, 0x55, 0x4A};
                ports.write({1, 1}, 0);
                ports.write({4, 1}, take());
                ports.write({5, 1}, take());
                ports.write({7, 1}, 0xA0);
                std::array<std::byte, 12> packet{};
                packet[0] = static_cast<std::byte>(opcodes[kind >> 3]);
                for (uint8_t count = take() % 12; count > 0; --count) packet[count] = static_cast<std::byte>(take());
                ports.write_block({0, 2}, packet);
                break;
            }
            case 4: {
                std::array<std::byte, 8192> block{};
                ports.read_block({0, 2}, std::span(block).first(1024u * (1u + offset)));
                break;
            }
            case 5: {
                std::array<std::byte, 64> block{};
                for (size_t i = 0; i < 8u * (1u + offset); ++i) block[i] = static_cast<std::byte>(take());
                ports.write_block({0, 2}, std::span(block).first(8u * (1u + offset)));
                break;
            }
            case 6:
                switch (offset) {
                    case 0: channel.control_block().write({0, 1}, take()); break;
                    case 1: ports.write({7, 1}, 0x08); break;
                    case 2: channel.reset((kind & 0x40) != 0 ? ResetKind::hard : ResetKind::power_on); break;
                    case 3: [[maybe_unused]] const auto out = drive.eject(); break;
                }
                if (offset >= 4) [[maybe_unused]]
                    const auto done = drive.insert(disc(take()));
                break;
            case 7: {
                state.save_and_load(channel);
                break;
            }
        }
    }
    return 0;
}
