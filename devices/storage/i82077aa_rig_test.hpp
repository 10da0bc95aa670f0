#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "devices/storage/i82077aa.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

namespace viv {

/// Channel 2 with a buffer behind it.
struct FakeDma final : DmaController {
    size_t write_memory(unsigned, std::span<const std::byte> data) override {
        const size_t moved = std::min(data.size(), limit - position);
        std::copy_n(data.begin(), moved, memory.begin() + static_cast<ptrdiff_t>(position));
        return finish(moved);
    }
    size_t read_memory(unsigned, std::span<std::byte> data) override {
        const size_t moved = std::min(data.size(), limit - position);
        std::copy_n(memory.begin() + static_cast<ptrdiff_t>(position), moved, data.begin());
        return finish(moved);
    }
    [[nodiscard]] bool terminal_count(unsigned) const override { return tc; }
    [[nodiscard]] bool ready(unsigned) const override { return !masked; }
    void set_request(unsigned, bool asserted) override { request = asserted; }
    void on_ready(unsigned, std::move_only_function<void()> callback) override { listener = std::move(callback); }

    void program(size_t bytes) {
        limit = bytes;
        memory.resize(bytes);
        position = 0;
        tc = masked = false;
        if (listener) listener();
    }
    size_t finish(size_t moved) {
        position += moved;
        tc = masked = position == limit;
        return moved;
    }

    std::vector<std::byte> memory;
    size_t limit = 0;
    size_t position = 0;
    bool tc = false;
    bool masked = true;
    bool request = false;
    std::move_only_function<void()> listener;
};

/// The controller with a driver for it.
struct FloppyRig : ContractRig {
    explicit FloppyRig(FloppyType type = FloppyType::d1440k, FloppyType second = FloppyType::none) {
        chip.attach(0, std::make_unique<FloppyDrive>(chip.drive_state(0), uint8_t{0}, type));
        if (second != FloppyType::none) {
            chip.attach(1, std::make_unique<FloppyDrive>(chip.drive_state(1), uint8_t{1}, second));
        }
        device = &chip;
        windows = {{&chip.main_ports(), 6}, {&chip.rate_port(), 1}};
        pins = {&pin};
    }

    MemoryImage& insert(size_t sectors, unsigned unit = 0, ImageAccess access = ImageAccess::writable) {
        auto image = std::make_unique<MemoryImage>(numbered_sectors(sectors), access);
        MemoryImage& medium = *image;
        REQUIRE(chip.drive(unit)->load(std::move(image)));
        return medium;
    }

    uint8_t in(uint16_t port) {
        return static_cast<uint8_t>(port == 0x3F7 ? chip.rate_port().read({0, 1})
                                                  : chip.main_ports().read({port - 0x3F0u, 1}));
    }
    void out(uint16_t port, uint8_t value) {
        if (port == 0x3F7) {
            chip.rate_port().write({0, 1}, value);
        } else {
            chip.main_ports().write({port - 0x3F0u, 1}, value);
        }
    }
    [[nodiscard]] bool irq() const { return pin.level(); }
    void wait() { clock.advance(std::chrono::milliseconds(20)); }

    void command(std::initializer_list<unsigned> bytes) {
        for (const unsigned byte : bytes) {
            REQUIRE((in(0x3F4) & 0xC0) == 0x80);
            out(0x3F5, static_cast<uint8_t>(byte));
        }
    }
    std::vector<int> result() {
        std::vector<int> bytes;
        while ((in(0x3F4) & 0xD0) == 0xD0) bytes.push_back(in(0x3F5));
        CHECK((in(0x3F4) & 0xF0) == 0x80);
        return bytes;
    }
    std::vector<int> sense() {
        command({0x08});
        return result();
    }
    /// What drivers do at their start, for 1.44M media unless told otherwise.
    void start(uint8_t rate = 0) {
        out(0x3F2, 0x00);
        out(0x3F2, 0x0C);
        wait();
        REQUIRE(irq());
        for (int i = 0; i < 4; ++i) CHECK(sense() == std::vector<int>{0xC0 | i, 0});
        command({0x03, 0xAF, 0x02});
        out(0x3F7, rate);
        out(0x3F2, 0x3C);
    }
    void seek(unsigned unit, unsigned cylinder) {
        command({0x0F, unit, cylinder});
        wait();
        CHECK(sense() == std::vector<int>{static_cast<int>(0x20 | unit), static_cast<int>(cylinder)});
    }
    /// A data command on 512-byte sectors.
    void transfer(unsigned opcode, unsigned unit, unsigned cylinder, unsigned head, unsigned sector, unsigned last,
                  unsigned length = 0xFF) {
        command({opcode, head << 2 | unit, cylinder, head, sector, 2, last, 0x1B, length});
    }
    bool read_sectors_match(const MemoryImage& medium, size_t first, size_t count) {
        return dma.memory.size() >= count * 512 &&
               std::equal(dma.memory.begin(), dma.memory.begin() + static_cast<ptrdiff_t>(count * 512),
                          medium.bytes.begin() + static_cast<ptrdiff_t>(first * 512));
    }

    IrqPin pin;
    FakeDma dma;
    I82077aa chip{clock, IrqLine(pin), dma, 2};
};

}  // namespace viv
