#include <array>
#include <cstdint>
#include <span>

#include "devices/fuzz_board_test.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/nvme.hpp"

using namespace viv;

namespace {

constexpr uint64_t base = 0xE0000000, vectors = 0xE1000000;
constexpr PciAddress at{0, 4, 0};

}  // namespace

// The first byte chooses: commands within the access, or beside the machine, where the input says when they may end.
// The rest is a row of operations: commands into the admin queue and two others, register accesses, bytes of memory,
// time, saves and loads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzBoard board;
    GuestMemory& memory = board.memory;
    Bus& memory_bus = board.memory_bus;
    static_cast<void>(memory.add(Gpa{0}, 0x40000, GuestMemory::Kind::ram, "RAM"));
    const auto bridge = board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    auto image = std::make_unique<MemoryImage>(size_t{300} * 512);
    image->bad_sector = 33;
    FuzzInput input(data, size);
    const auto take = [&input] { return input.byte(); };
    const bool beside = take() & 1;
    DiskWork work(board.loop, memory);
    auto disk = std::make_unique<DiskQueue>(std::move(image), beside ? &work : nullptr);
    Nvme nvme(std::make_unique<DiskDrive>(std::move(disk), "FUZZ"), board.clock);
    auto context = board.context_at(at.device);
    VIV_ASSERT(nvme.pci().attach(context).has_value());
    PciBus& bus = *board.services.find<PciBus>();
    bus.config_write(at, pci::BAR0, 4, base);
    bus.config_write(at, pci::BAR0 + 16, 4, vectors);
    bus.config_write(at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);

    // Queues of eight entries, one page each.
    const auto commands_of = [](uint64_t queue) { return 0x2000 + queue * 0x2000; };
    std::array<uint32_t, 3> tails{};
    const auto put = [&](unsigned queue, const std::array<uint32_t, 16>& words) {
        memory.write(Gpa{commands_of(queue) + tails[queue] * 64}, std::as_bytes(std::span(words)));
        tails[queue] = (tails[queue] + 1) % 8;
        memory_bus.write(base + nvme::DOORBELLS + 8 * queue, 4, tails[queue]);
    };
    const auto start = [&] {
        tails = {};
        memory_bus.write(base + nvme::CC, 4, 0);
        memory_bus.write(base + nvme::AQA, 4, 0x00070007);
        memory_bus.write(base + nvme::ASQ, 8, commands_of(0));
        memory_bus.write(base + nvme::ACQ, 8, commands_of(0) + 0x1000);
        memory_bus.write(base + nvme::CC, 4, nvme::entry_sizes | nvme::CC_EN);
        for (uint32_t queue = 1; queue < 3; ++queue) {
            std::array<uint32_t, 16> words{};
            words[0] = 5;
            words[6] = static_cast<uint32_t>(commands_of(queue) + 0x1000);
            words[10] = 7u << 16 | queue;
            words[11] = queue << 16 | 3;
            put(0, words);
            words[0] = 1;
            words[6] = static_cast<uint32_t>(commands_of(queue));
            words[11] = queue << 16 | 1;
            put(0, words);
        }
    };
    start();
    for (unsigned steps = 0; steps < 200 && !input.empty(); ++steps) {
        const uint8_t kind = take();
        switch (kind & 7) {
            case 0:
            case 1:
            case 2: {
                std::array<uint32_t, 16> words{};
                const unsigned queue = (kind >> 3) % 3;
                words[0] = take() & (queue == 0 ? 0x1F : 0xCF0F);
                words[1] = kind & 0x80 ? take() : 1;
                words[6] = uint32_t{take()} << 10 | (kind & 4);
                words[8] = uint32_t{take()} << 10;
                words[10] = uint32_t{take()} | uint32_t{take()} << 16;
                words[11] = uint32_t{take()} & (queue == 0 ? 0xFF : 7);
                words[12] = uint32_t{take()} | uint32_t{take()} << 24;
                put(queue, words);
                break;
            }
            case 3: memory_bus.write(base + nvme::DOORBELLS + 4 * (kind >> 3), 4, take()); break;
            case 4: memory_bus.write(base + (take() & 0x3F), static_cast<uint8_t>(1u << (kind >> 6)), take()); break;
            case 5: memory_bus.read(base + take() * 16, 8); break;
            case 6:
                if (kind & 8) {
                    start();
                } else {
                    memory.store(Gpa{uint64_t{take()} << 10 | take()}, uint64_t{take()} << 12);
                }
                break;
            case 7: {
                board.clock.advance(std::chrono::microseconds(kind));
                if (kind & 0x40) board.loop.poll();
                if (kind >> 3 != 0) break;
                work.drain();
                board.save_and_load(nvme);
                break;
            }
        }
    }
    return 0;
}
