#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "devices/storage/ata_disk.hpp"
#include "devices/storage/ide.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

namespace viv {

/// The primary channel with a driver for it.
struct IdeRig : ContractRig {
    /// Sectors of the master and of the slave; 0 for none.
    explicit IdeRig(size_t master, size_t slave = 0, ImageAccess access = ImageAccess::writable) {
        const size_t sizes[] = {master, slave};
        for (uint8_t unit = 0; unit < 2; ++unit) {
            if (sizes[unit] == 0) continue;
            attach(unit, std::make_unique<MemoryImage>(numbered_sectors(sizes[unit]), access));
        }
        device = &channel;
        windows = {{&channel.command_block(), 8}, {&channel.control_block(), 1}};
        pins = {&pin};
    }

    void attach(uint8_t unit, std::unique_ptr<MemoryImage> image) {
        images[unit] = image.get();
        auto disk = std::make_unique<AtaDisk>(channel.device_state(unit), std::move(image),
                                              AtaDisk::Place{0x1F0, unit, "VIV" + std::to_string(unit)});
        disks[unit] = disk.get();
        channel.attach(unit, std::move(disk));
    }

    uint8_t in(uint16_t port) {
        return static_cast<uint8_t>(port == 0x3F6 ? channel.control_block().read({0, 1})
                                                  : channel.command_block().read({port - 0x1F0u, 1}));
    }
    void out(uint16_t port, unsigned value) {
        if (port == 0x3F6) {
            channel.control_block().write({0, 1}, value);
        } else {
            channel.command_block().write({port - 0x1F0u, 1}, value);
        }
    }
    [[nodiscard]] bool irq() const { return pin.level(); }

    /// What a driver writes for an LBA28 command.
    void command28(unsigned opcode, uint32_t lba, unsigned count, unsigned unit = 0) {
        out(0x1F6, 0xE0 | unit << 4 | (lba >> 24 & 0x0F));
        out(0x1F2, count & 0xFF);
        out(0x1F3, lba & 0xFF);
        out(0x1F4, lba >> 8 & 0xFF);
        out(0x1F5, lba >> 16 & 0xFF);
        out(0x1F7, opcode);
    }
    void command48(unsigned opcode, uint64_t lba, unsigned count) {
        out(0x1F6, 0x40);
        out(0x1F2, count >> 8 & 0xFF);
        out(0x1F3, lba >> 24 & 0xFF);
        out(0x1F4, lba >> 32 & 0xFF);
        out(0x1F5, lba >> 40 & 0xFF);
        out(0x1F2, count & 0xFF);
        out(0x1F3, lba & 0xFF);
        out(0x1F4, lba >> 8 & 0xFF);
        out(0x1F5, lba >> 16 & 0xFF);
        out(0x1F7, opcode);
    }
    void command_chs(unsigned opcode, unsigned cylinder, unsigned head, unsigned sector, unsigned count) {
        out(0x1F6, 0xA0 | head);
        out(0x1F2, count);
        out(0x1F3, sector);
        out(0x1F4, cylinder & 0xFF);
        out(0x1F5, cylinder >> 8);
        out(0x1F7, opcode);
    }
    /// Reads 16-bit words one by one.
    std::vector<std::byte> data_in(size_t bytes) {
        std::vector<std::byte> data;
        for (size_t i = 0; i < bytes; i += 2) {
            const uint64_t word = channel.command_block().read({0, 2});
            data.push_back(static_cast<std::byte>(word));
            data.push_back(static_cast<std::byte>(word >> 8));
        }
        return data;
    }
    /// As REP OUTSW does.
    void data_out(std::span<const std::byte> data) { channel.command_block().write_block({0, 2}, data); }
    [[nodiscard]] bool same(std::span<const std::byte> data, size_t first, unsigned unit = 0) const {
        return std::equal(data.begin(), data.end(), images[unit]->bytes.begin() + static_cast<ptrdiff_t>(first * 512));
    }
    std::vector<uint16_t> identify(unsigned unit = 0) {
        out(0x1F6, 0xA0 | unit << 4);
        out(0x1F7, 0xEC);
        REQUIRE(in(0x1F7) == 0x58);
        const auto data = data_in(512);
        std::vector<uint16_t> words(256);
        for (size_t i = 0; i < 512; ++i) {
            words[i / 2] = static_cast<uint16_t>(words[i / 2] | std::to_integer<unsigned>(data[i]) << (i % 2 * 8));
        }
        return words;
    }

    IrqPin pin;
    IdeChannel channel{IrqLine(pin)};
    MemoryImage* images[2] = {};
    AtaDisk* disks[2] = {};
};

}  // namespace viv
