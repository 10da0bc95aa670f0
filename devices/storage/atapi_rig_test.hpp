#pragma once

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "devices/storage/atapi_cdrom.hpp"
#include "devices/storage/ide.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

namespace viv {

using PacketBytes = std::array<uint8_t, 12>;

/// A disc whose blocks begin with their number.
inline std::unique_ptr<MemoryImage> numbered_disc(size_t blocks) {
    auto image = std::make_unique<MemoryImage>(blocks * 2048, ImageAccess::read_only);
    for (size_t block = 0; block < blocks; ++block) {
        for (size_t i = 0; i < 2048; ++i) {
            image->bytes[block * 2048 + i] = static_cast<std::byte>(i < 4 ? block >> (8 * i) : block + i);
        }
    }
    return image;
}

/// The secondary channel with a CD-ROM drive as master, and a driver for it.
struct AtapiRig : ContractRig {
    explicit AtapiRig(size_t blocks) {
        auto made = std::make_unique<AtapiCdrom>(channel.device_state(0), CdromDrive::Place{0x170, 0, "VIV1700"});
        cdrom = made.get();
        if (blocks > 0) load(blocks);
        channel.attach(0, std::move(made));
        device = &channel;
        windows = {{&channel.command_block(), 8}, {&channel.control_block(), 1}};
        pins = {&pin};
    }

    void load(size_t blocks) {
        auto image = numbered_disc(blocks);
        disc = image.get();
        cdrom->drive().load(std::move(image));
    }
    uint8_t in(uint16_t port) {
        return static_cast<uint8_t>(port == 0x376 ? channel.control_block().read({0, 1})
                                                  : channel.command_block().read({port - 0x170u, 1}));
    }
    void out(uint16_t port, unsigned value) {
        if (port == 0x376) {
            channel.control_block().write({0, 1}, value);
        } else {
            channel.command_block().write({port - 0x170u, 1}, value);
        }
    }
    [[nodiscard]] bool irq() const { return pin.level(); }
    [[nodiscard]] unsigned byte_count() { return in(0x174) | in(0x175) << 8; }

    std::vector<uint8_t> data_in(size_t bytes) {
        std::vector<uint8_t> data;
        for (size_t i = 0; i < bytes; i += 2) {
            const uint64_t word = channel.command_block().read({0, 2});
            data.push_back(static_cast<uint8_t>(word));
            if (i + 1 < bytes) data.push_back(static_cast<uint8_t>(word >> 8));
        }
        return data;
    }
    void data_out(std::span<const uint8_t> data) { channel.command_block().write_block({0, 2}, std::as_bytes(data)); }
    /// Up to the place where the drive has the packet.
    void send(const PacketBytes& packet, unsigned limit = 0xFFFE) {
        out(0x176, 0xA0);
        out(0x171, 0);
        out(0x174, limit & 0xFF);
        out(0x175, limit >> 8);
        out(0x177, 0xA0);
        REQUIRE(in(0x376) == 0x58);
        REQUIRE(in(0x172) == 0x01);
        data_out(packet);
    }
    /// A whole command; nothing when it failed.
    std::optional<std::vector<uint8_t>> command(const PacketBytes& packet, unsigned limit = 0xFFFE,
                                                std::span<const uint8_t> parameters = {}) {
        send(packet, limit);
        std::vector<uint8_t> data;
        for (;;) {
            REQUIRE(irq());
            const uint8_t status = in(0x177);
            REQUIRE_FALSE(irq());
            if ((status & 0x08) == 0) {
                REQUIRE(in(0x172) == 0x03);
                if ((status & 0x01) != 0) return std::nullopt;
                REQUIRE(status == 0x50);
                return data;
            }
            const unsigned count = byte_count();
            REQUIRE((count > 0 && count <= limit));
            if (in(0x172) == 0x00) {
                REQUIRE(count <= parameters.size());
                data_out(parameters.first(count));
                parameters = parameters.subspan(count);
            } else {
                REQUIRE(in(0x172) == 0x02);
                const auto piece = data_in(count);
                data.insert(data.end(), piece.begin(), piece.end());
            }
        }
    }
    /// Key, code and qualifier of what REQUEST SENSE says.
    unsigned sense() {
        const auto data = command({0x03, 0, 0, 0, 18});
        REQUIRE(data);
        REQUIRE(data->size() == 18);
        return data->at(2) << 16 | data->at(12) << 8 | data->at(13);
    }
    /// Past what the drive has to report after power-on.
    void settle() {
        while (!command({0x00})) {
            if (const unsigned what = sense(); what >> 16 != 6) break;
        }
    }

    IrqPin pin;
    IdeChannel channel{IrqLine(pin)};
    AtapiCdrom* cdrom = nullptr;
    MemoryImage* disc = nullptr;
};

}  // namespace viv
