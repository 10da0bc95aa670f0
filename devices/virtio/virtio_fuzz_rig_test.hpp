#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "devices/fuzz_board_test.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/virtio/virtio_pci.hpp"

namespace viv {

/// A virtio device of a fuzz target and what a driver does to it: a row of operations in the input. Buffers are made
/// well enough to be taken, of pieces anywhere in 256 KiB of RAM; the bytes in them are the input's.
class VirtioFuzz {
  public:
    static constexpr uint64_t base = 0xE0000000, rings = 0x8000;
    static constexpr uint16_t entries = 16, io = 0xC000;
    static constexpr PciAddress at{0, 4, 0};

    explicit VirtioFuzz(FuzzInput& input) : input_(input) {
        static_cast<void>(board.memory.add(Gpa{0}, 0x40000, GuestMemory::Kind::ram, "RAM"));
        bridge_ = board.make(make_i440fx, {{DeviceRange::Space::ports, 0xCF8, 8}});
    }

    /// `host` is called for operations of the function's host side, with a byte that chooses.
    void run(std::unique_ptr<VirtioFunction> function, const std::function<void(uint8_t)>& host = {}) {
        VirtioPci device(std::move(function), board.clock);
        auto context = board.context_at(at.device);
        VIV_ASSERT(device.pci().attach(context).has_value());
        PciBus& bus = *board.services.find<PciBus>();
        bus.config_write(at, pci::BAR0, 4, io);
        bus.config_write(at, pci::BAR0 + 16, 4, static_cast<uint32_t>(base));
        bus.config_write(at, pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER);
        start(input_.byte());
        for (unsigned steps = 0; steps < 200 && !input_.empty(); ++steps) {
            const uint8_t kind = input_.byte();
            switch (kind & 7) {
                case 0:
                case 1:
                case 2: give(kind >> 3); break;
                case 3: board.memory_bus.write(base + input_.byte() % 64, 1u << (kind >> 6), input_.byte()); break;
                case 4:
                    set(VirtioPci::configuration + input_.byte(), static_cast<uint8_t>(1u << (kind >> 6)),
                        input_.number(2));
                    break;
                case 5: {
                    if (host) host(kind >> 3);
                    constexpr std::array<uint64_t, 4> parts{VirtioPci::common, VirtioPci::isr, VirtioPci::configuration,
                                                            VirtioPci::notify};
                    board.memory_bus.read(base + parts[kind >> 6] + input_.byte(), 8);
                    board.ports.read(io + input_.byte() % 64, 1u << (kind >> 6));
                    break;
                }
                case 6:
                    if (kind & 8) {
                        start(input_.byte());
                    } else {
                        board.ports.write(io + input_.byte() % 64, 1u << (kind >> 6), input_.number(2));
                    }
                    break;
                case 7:
                    board.clock.advance(std::chrono::microseconds(kind));
                    if (kind >> 3 == 0) board.save_and_load(device);
                    break;
                default: break;
            }
        }
    }

    FuzzBoard board;

  private:
    void set(uint64_t offset, uint8_t size, uint64_t value) { board.memory_bus.write(base + offset, size, value); }

    void start(uint8_t choice) {
        uint64_t wanted = ~uint64_t{0};
        if (choice & 1) wanted &= ~virtio::RING_PACKED;
        if (choice & 2) wanted &= ~virtio::EVENT_IDX;
        if (choice & 4) wanted &= ~uint64_t{0xFFFFFF};  // nothing of the function's own
        packed_ = wanted & virtio::RING_PACKED;
        available_.fill(0);
        wraps_.fill(true);
        set(20, 1, 0);
        set(20, 1, virtio::ACKNOWLEDGE | virtio::DRIVER);
        for (uint32_t half = 0; half < 2; ++half) {
            set(0, 4, half);
            set(8, 4, half);
            set(12, 4, board.memory_bus.read(base + 4, 4) & (wanted >> (32 * half)) & 0xFFFFFFFF);
        }
        set(20, 1, virtio::ACKNOWLEDGE | virtio::DRIVER | virtio::FEATURES_OK);
        for (uint64_t queue = 0; queue < available_.size(); ++queue) {
            for (uint64_t address = ring(queue); address < ring(queue) + 0x1000; address += 8) {
                board.memory.store(Gpa{address}, uint64_t{0});
            }
            set(22, 2, queue);
            set(24, 2, entries);
            set(32, 8, ring(queue));
            set(40, 8, ring(queue) + 0x400);
            set(48, 8, ring(queue) + 0x800);
            set(28, 2, 1);
        }
        set(20, 1, virtio::ACKNOWLEDGE | virtio::DRIVER | virtio::FEATURES_OK | virtio::DRIVER_OK);
    }
    static uint64_t ring(uint64_t queue) { return rings + 0x1000 * queue; }

    /// A buffer of one to four pieces for a queue.
    void give(unsigned choice) {
        const auto queue = static_cast<unsigned>(choice % available_.size());
        const unsigned pieces = 1 + input_.byte() % 4;
        const uint8_t writable = input_.byte();  // from which piece on
        const uint16_t head = available_[queue] % entries;
        for (unsigned i = 0; i < pieces; ++i) {
            const uint8_t page = input_.byte(), length = input_.byte();
            const uint64_t address = uint64_t{page} << 10;
            const uint32_t size = length & 0x80 ? (length & 0x7Fu) << 7 : length & 0x1Fu;
            uint64_t fill = address;
            for (const uint8_t byte : input_.some(std::min<size_t>(size, length & 0x40 ? 24 : 0))) {
                board.memory.store(Gpa{fill++}, byte);
            }
            const unsigned index = (head + i) % entries;
            auto flags = static_cast<uint16_t>((i + 1 < pieces ? virtio::DESC_NEXT : 0) |
                                               (i >= writable % 5u ? virtio::DESC_WRITE : 0));
            const uint64_t descriptor = ring(queue) + uint64_t{16} * index;
            board.memory.store(Gpa{descriptor}, address);
            board.memory.store(Gpa{descriptor + 8}, size);
            if (packed_) {
                flags = static_cast<uint16_t>(flags | (wraps_[queue] ? virtio::DESC_AVAIL : virtio::DESC_USED));
                board.memory.store(Gpa{descriptor + 12}, uint16_t{0});
                board.memory.store(Gpa{descriptor + 14}, flags);
                if (index + 1 == entries) wraps_[queue] = !wraps_[queue];
            } else {
                board.memory.store(Gpa{descriptor + 12}, flags);
                board.memory.store(Gpa{descriptor + 14}, static_cast<uint16_t>((index + 1) % entries));
            }
        }
        if (packed_) {
            available_[queue] = static_cast<uint16_t>((head + pieces) % entries);
        } else {
            board.memory.store(Gpa{ring(queue) + 0x404 + uint64_t{2} * head}, head);
            board.memory.store(Gpa{ring(queue) + 0x402}, ++available_[queue]);
        }
        set(VirtioPci::notify + uint64_t{4} * queue, 2, queue);
    }

    FuzzInput& input_;
    std::unique_ptr<Device> bridge_;
    bool packed_ = false;
    std::array<uint16_t, 6> available_{};
    std::array<bool, 6> wraps_{};
};

}  // namespace viv
