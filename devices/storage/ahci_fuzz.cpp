#include <array>
#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/storage/ahci.hpp"
#include "devices/storage/ata_disk.hpp"
#include "devices/storage/atapi_cdrom.hpp"
#include "devices/storage/image/disk_queue.hpp"
#include "devices/storage/image/memory_image_test.hpp"

using namespace viv;

namespace {

constexpr uint64_t base = 0xE0000000, list = 0x1000, received = 0x2000, table = 0x4000;

}  // namespace

// The first byte chooses: commands within the access, or beside the machine, where the input says when they may end.
// The rest is a row of operations: commands with a FIS, a packet and a table from the input, register accesses, bytes
// of memory, time, saves and loads. Port 0 has a disk with a bad sector, port 1 a CD-ROM drive.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    GuestMemory& memory = board.memory;
    Bus& memory_bus = board.memory_bus;
    static_cast<void>(memory.add(Gpa{0}, 0x40000, GuestMemory::Kind::ram, "RAM"));
    const auto bridge = board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    FuzzInput input(data, size);
    const auto take = [&input] { return input.byte(); };
    const bool beside = take() & 1;
    DiskWork work(board.loop, memory);
    Ahci ahci(board.clock);
    auto image = std::make_unique<MemoryImage>(size_t{300} * 512);
    image->bad_sector = 33;
    auto disk = std::make_unique<DiskQueue>(std::move(image), beside ? &work : nullptr);
    ahci.attach(0, std::make_unique<AtaDisk>(ahci.device_state(0), std::move(disk), AtaDisk::Place{}, AtaWire::serial));
    auto cdrom = std::make_unique<AtapiCdrom>(ahci.device_state(1), CdromDrive::Place{}, AtaWire::serial);
    cdrom->drive().load(std::make_unique<MemoryImage>(size_t{50} * 2048, ImageAccess::read_only));
    ahci.attach(1, std::move(cdrom));
    auto context = board.context_at(3);
    VIV_ASSERT(ahci.pci().attach(context).has_value());
    PciBus& bus = *board.services.find<PciBus>();
    bus.config_write({0, 3, 0}, pci::BAR0 + 20, 4, base);
    bus.config_write({0, 3, 0}, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);

    const auto port_write = [&](unsigned port, uint64_t offset, uint32_t value) {
        memory_bus.write(base + ahci::first_port + port * ahci::port_span + offset, 4, value);
    };
    for (unsigned port = 0; port < 2; ++port) {
        port_write(port, ahci::PxCLB, list);
        port_write(port, ahci::PxFB, received);
        port_write(port, ahci::PxCMD, ahci::SUD | ahci::FRE | ahci::ST);
    }
    for (unsigned steps = 0; steps < 200 && !input.empty(); ++steps) {
        const uint8_t kind = take();
        const unsigned port = kind >> 3 & 1;
        switch (kind & 7) {
            case 0:
            case 1:
            case 2: {
                constexpr uint8_t opcodes[] = {0x25, 0x35, 0x60, 0x61, 0x06, 0x2F, 0xB0, 0x20, 0x30, 0xEC, 0xEF, 0xC4};
                const uint8_t chosen = take();
                std::array<uint8_t, 20> fis{0x27, static_cast<uint8_t>(chosen >= 0xF8 ? 0 : 0x80)};
                fis[2] = port == 1 ? 0xA0 : chosen < std::size(opcodes) ? opcodes[chosen] : chosen;
                for (const size_t at : {3u, 4u, 5u, 7u, 12u, 15u}) fis[at] = take();
                memory.write(Gpa{table}, std::as_bytes(std::span(fis)));
                std::array<uint8_t, 12> packet{};
                if (port == 1) {
                    for (const size_t at : {0u, 1u, 2u, 5u, 8u, 9u}) packet[at] = take();
                }
                memory.write(Gpa{table + 0x40}, std::as_bytes(std::span(packet)));
                const uint32_t entries = kind >> 4;
                for (uint32_t i = 0; i < entries; ++i) {
                    const uint64_t entry = table + 0x80 + 16 * i;
                    memory.store(Gpa{entry}, uint64_t{take()} << 10);
                    memory.store(Gpa{entry + 12}, uint32_t{take()} << 6 | 1);
                }
                memory.store(Gpa{list}, uint32_t{5} | (port == 1 ? ahci::header_packet : 0) | entries << 16);
                memory.store(Gpa{list + 8}, uint64_t{table});
                port_write(port, ahci::PxSACT, 1);
                port_write(port, ahci::PxCI, 1);
                break;
            }
            case 3:
                port_write(port, ahci::PxCMD, ahci::SUD | ahci::FRE);
                port_write(port, ahci::PxCMD, ahci::SUD | ahci::FRE | ahci::ST);
                break;
            case 4:
                memory_bus.write(base + take() * 4, static_cast<uint8_t>(1u << (kind >> 6)), take() * 0x01010101u);
                break;
            case 5: memory_bus.read(base + take() * 4 + (kind >> 6), 4); break;
            case 6: memory.store(Gpa{list + take()}, take()); break;
            case 7: {
                board.clock.advance(std::chrono::microseconds(kind));
                if (kind & 0x40) board.loop.poll();
                if (kind >> 3 != 0) break;
                work.drain();
                board.save_and_load(ahci);
                break;
            }
        }
    }
    return 0;
}
