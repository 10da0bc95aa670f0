#include "devices/pci/pci_rig_test.hpp"
#include "devices/video/vga.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/device_contract.hpp"

namespace viv {
namespace {

constexpr PciAddress display{0, 2, 0};
constexpr uint64_t frame_buffer = 0xE0000000;

struct PciVgaRig final : PciBoard {
    PciVgaRig() { make_function(make_pci_vga, 2); }
    void decode(uint16_t spaces) {
        set_config(display, pci::BAR0, 4, static_cast<uint32_t>(frame_buffer));
        set_config(display, pci::BAR0 + 8, 4, 0xFEB00000);
        set_config(display, pci::COMMAND, 2, spaces);
    }
    void dispi(Dispi index, uint16_t value) {
        ports.write(dispi_index_port, 2, std::to_underlying(index));
        ports.write(dispi_data_port, 2, value);
    }
    void set_linear(uint16_t width, uint16_t height, uint16_t bits) {
        dispi(Dispi::enable, 0);
        dispi(Dispi::x_resolution, width);
        dispi(Dispi::y_resolution, height);
        dispi(Dispi::bits_per_pixel, bits);
        dispi(Dispi::enable, dispi_enabled);
    }
};

TEST_CASE("the display adapter on PCI fulfils the device contract") {
    check_device_contract([] { return std::make_unique<PciVgaRig>(); });
}

TEST_CASE("drivers know the display adapter by its numbers and class") {
    PciVgaRig rig;
    CHECK(rig.config(display, pci::VENDOR_ID) == 0x11111234);
    CHECK(rig.config(display, 0x08) >> 8 == 0x030000);
    rig.set_config(display, pci::BAR0, 4, 0xFFFFFFFF);
    CHECK((rig.config(display, pci::BAR0) & 0xFFFFFFF0) == 0xFF000000);
    rig.set_config(display, pci::BAR0 + 8, 4, 0xFFFFFFFF);
    CHECK(rig.config(display, pci::BAR0 + 8) == 0xFFFFF000);
}

TEST_CASE("the video BIOS is behind the ROM BAR") {
    PciVgaRig rig;
    rig.decode(pci::MEMORY_SPACE);
    rig.set_config(display, pci::ROM_BAR, 4, 0xFE000000 | pci::ROM_ENABLE);
    CHECK(rig.memory.load<uint16_t>(Gpa{0xFE000000}) == 0xAA55);
    const uint64_t data = 0xFE000000 + rig.memory.load<uint16_t>(Gpa{0xFE000018});
    CHECK(rig.memory.load<uint32_t>(Gpa{data}) == 0x52494350);  // "PCIR"
    CHECK(rig.memory.load<uint32_t>(Gpa{data + 4}) == rig.config(display, pci::VENDOR_ID));
    CHECK(rig.memory.load<uint16_t>(Gpa{data + 16}) == rig.memory.load<uint8_t>(Gpa{0xFE000002}));
}

TEST_CASE("the fixed places of a VGA are decoded as the command register says") {
    PciVgaRig rig;
    CHECK(rig.ports.read(0x3CC, 1) == 0xFF);
    rig.decode(pci::IO_SPACE);
    CHECK(rig.ports.read(0x3CC, 1) == 0x00);
    CHECK_FALSE(rig.memory_bus.covers(0xA0000, 0x20000));
    rig.decode(pci::IO_SPACE | pci::MEMORY_SPACE);
    rig.ports.write(0x3C2, 1, 0x67);
    rig.ports.write(0x3CE, 2, 0x0406);
    rig.ports.write(0x3C4, 2, 0x0F02);
    rig.ports.write(0x3CE, 2, 0xFF08);
    rig.memory_bus.write(0xA0000, 1, 0x5A);
    CHECK(rig.memory_bus.read(0xA0000, 1) == 0x5A);
}

TEST_CASE("BAR 0 shows the linear memory, and the registers are in BAR 2") {
    PciVgaRig rig;
    rig.decode(pci::IO_SPACE | pci::MEMORY_SPACE);
    rig.memory_bus.write(0xFEB00500 + 2 * std::to_underlying(Dispi::x_resolution), 2, 64);
    rig.memory_bus.write(0xFEB00500 + 2 * std::to_underlying(Dispi::y_resolution), 2, 48);
    rig.memory_bus.write(0xFEB00500 + 2 * std::to_underlying(Dispi::bits_per_pixel), 2, 32);
    rig.memory_bus.write(0xFEB00500 + 2 * std::to_underlying(Dispi::enable), 2, dispi_enabled);
    rig.memory_bus.write(0xFEB00400, 1, 0x20);
    REQUIRE(rig.memory.store(Gpa{frame_buffer + 4 * 64}, uint32_t{0x00FF8001}));
    const Image image = rig.services.find<Screen>()->pixels();
    REQUIRE(image.width == 64);
    CHECK(image.at(0, 1) == Rgb{0xFF, 0x80, 0x01});
}

TEST_CASE("a bank of linear memory at A0000h is memory like any other") {
    PciVgaRig rig;
    rig.decode(pci::IO_SPACE | pci::MEMORY_SPACE);
    rig.ports.write(0x3C2, 1, 0x67);
    rig.set_linear(640, 480, 8);
    REQUIRE(rig.memory.store(Gpa{0xA0010}, uint8_t{0x11}));
    rig.dispi(Dispi::bank, 3);
    REQUIRE(rig.memory.store(Gpa{0xAFFFF}, uint8_t{0x33}));
    CHECK(rig.memory.load<uint8_t>(Gpa{frame_buffer + 0x10}) == 0x11);
    CHECK(rig.memory.load<uint8_t>(Gpa{frame_buffer + 0x3FFFF}) == 0x33);
    rig.dispi(Dispi::enable, 0);
    CHECK_FALSE(rig.memory.store(Gpa{0xA0010}, uint8_t{0x11}));
    CHECK(rig.memory_bus.covers(0xA0000, 1));
    rig.set_linear(640, 480, 8);
    rig.device->reset(ResetKind::hard);
    CHECK(rig.memory.find(Gpa{0xA0000}) == nullptr);
}

}  // namespace
}  // namespace viv
