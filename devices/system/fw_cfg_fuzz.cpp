#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/system/fw_cfg.hpp"

using namespace viv;

// The input is a row of operations: a kind, then a DMA control block or a port access.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    GuestMemory& memory = board.memory;
    Bus& ports = board.ports;
    VIV_ASSERT(memory.add(Gpa{0}, 0x4000, GuestMemory::Kind::ram, "low"));
    VIV_ASSERT(memory.add(Gpa{0x8000}, 0x1000, GuestMemory::Kind::rom, "rom"));
    const auto device = board.make(make_fw_cfg, {{DeviceRange::Space::ports, 0x510, 12}});
    auto* config = board.services.find<FwCfg>();
    config->add_file("bootorder", std::vector<std::byte>(10, std::byte{1}));
    config->add_file("etc/acpi/tables", std::vector<std::byte>(5000, std::byte{2}));

    FuzzInput input(data, size);
    const auto take = [&input](void* to, size_t bytes) { input.bytes(to, bytes); };
    for (unsigned steps = 0; steps < 256 && !input.empty(); ++steps) {
        uint8_t kind = 0;
        take(&kind, 1);
        if (kind & 1) {
            struct {
                uint8_t control[4], length[4], address[8];
            } block{};
            take(&block.control[1], 3);  // key below 256
            take(&block.length[kind & 2 ? 0 : 2], kind & 2 ? 4 : 2);
            take(&block.address[kind & 4 ? 0 : 6], kind & 4 ? 8 : 2);
            uint64_t at = 0;
            take(&at, kind & 8 ? 8 : 2);
            memory.write(Gpa{at}, std::as_bytes(std::span(&block, 1)));
            ports.write(0x514, 8, std::byteswap(at));
        } else {
            uint32_t value = 0;
            take(&value, 4);
            const uint64_t port = 0x510u + (kind >> 4) % 12;
            const auto width = static_cast<uint8_t>(1u << (kind >> 2 & 3));
            ports.read(port, width);
            ports.write(port, width, value);
        }
    }
    board.save_and_load(*device);
    return 0;
}
