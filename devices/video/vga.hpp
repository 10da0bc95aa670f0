// Models: IBM VGA: sequencer, CRT controller, graphics and attribute controller, DAC, 256 KiB in four maps; with linear
//   memory, the DISPI registers too (dispi.hpp).
// Not modelled: the vertical retrace interrupt, light pen, feature connector, horizontal skew, the diagnostic bits of
//   input status 1, palette accesses that collide with the screen's, vertical timing doubled by CR17 bit 2.
// Ignored bits: SR4 bit 1 (memory is always 256 KiB), CR3 bit 7, misc bits 5-7 (page select, sync polarities), feature
//   control.
// Reference: IBM Personal System/2 Hardware Interface Technical Reference: Video Subsystems (1991), VGA Function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/pci/pci_function.hpp"
#include "devices/video/screen.hpp"
#include "devices/video/vga_memory.hpp"
#include "devices/video/vga_state.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// The IBM Video Graphics Array. What the guest reaches: ports() at 3B0h-3DFh, memory() at A0000h-BFFFFh; with linear
/// memory also dispi_ports() at 1CEh, and registers(), which hold all of them in memory.
class Vga final : public StatefulDevice<VgaState>, public Screen {
  public:
    static constexpr uint16_t first_port = 0x3B0;
    static constexpr uint64_t port_count = 0x30;
    static constexpr uint16_t first_dispi_port = 0x1CE;
    static constexpr uint64_t dispi_port_count = 4;
    static constexpr uint64_t registers_size = 0x1000;
    static constexpr size_t linear_unit = 4 * size_t{dispi_bank_size};  // a bank of four maps

    /// `linear` is the memory of the pictures that the DISPI registers make, in multiples of linear_unit; the guest
    /// writes it past this device. Without it there are no such registers: a plain VGA.
    explicit Vga(Clock& clock, std::span<std::byte> linear = {}) : clock_(clock), linear_(linear) {}

    /// As PCI function 1234:1111: BAR 0 is all of `store`, which is the linear memory, BAR 2 is registers(), and `rom`
    /// is the chip with the video BIOS. What a VGA has at fixed places is decoded as the command register says; a bank
    /// of linear memory at A0000h is memory for the guest like any other. Once, before reset().
    PciFunction& join_pci(GuestMemory::Store store, GuestMemory::Store rom);

    [[nodiscard]] BusDevice& ports() { return ports_; }
    [[nodiscard]] BusDevice& memory() { return memory_; }
    /// Index at 1CEh, data at 1CFh and 1D0h; words only.
    [[nodiscard]] BusDevice& dispi_ports() { return dispi_ports_; }
    /// 0: EDID, 400h: ports 3C0h-3DFh, 500h: the DISPI registers, a word each, 600h: size and byte order.
    [[nodiscard]] BusDevice& registers() { return registers_; }
    [[nodiscard]] const VgaState& state() const { return state_; }

    void reset(ResetKind kind) override;

    [[nodiscard]] TextScreen text() const override;
    [[nodiscard]] std::move_only_function<Image()> freeze() const override;
    [[nodiscard]] std::vector<uint8_t> font_memory() const override;
    [[nodiscard]] uint64_t generation() const override;
    void on_changes(uint64_t changes, std::move_only_function<void()> handler) override;

  protected:
    Result<void> validate(const VgaState& staged) const override;
    void after_load() override;

  private:
    class Ports final : public ByteDevice {
      public:
        explicit Ports(Vga& vga) : vga_(vga) {}
        uint8_t read8(uint64_t offset) override;
        void write8(uint64_t offset, uint8_t value) override;

      private:
        Vga& vga_;
    };
    class Memory final : public BusDevice {
      public:
        explicit Memory(Vga& vga) : vga_(vga) {}
        uint64_t read(Access access) override;
        void write(Access access, uint64_t value) override;

      private:
        Vga& vga_;
    };
    class DispiPorts final : public BusDevice {
      public:
        explicit DispiPorts(Vga& vga) : vga_(vga) {}
        uint64_t read(Access access) override;
        void write(Access access, uint64_t value) override;

      private:
        Vga& vga_;
    };
    class Registers final : public BusDevice {
      public:
        explicit Registers(Vga& vga) : vga_(vga) {}
        uint64_t read(Access access) override;
        void write(Access access, uint64_t value) override;

      private:
        Vga& vga_;
    };

    uint8_t read_port(VgaPort port);
    void write_port(VgaPort port, uint8_t value);
    /// False for the CRTC ports of the other (monochrome or colour) half, and for all while the subsystem is off.
    [[nodiscard]] bool decodes(VgaPort port) const;
    /// Derives what depends on registers, and moves the generation.
    void registers_changed();
    void picture_changed();
    uint8_t read_status_1();
    void write_crtc(uint8_t value);
    void write_attribute(uint8_t value);
    uint8_t read_dac();
    void write_dac(uint8_t value);
    /// The cells behind the window at A0000h.
    [[nodiscard]] VgaCells cells();
    /// The bytes of the linear memory that an access to the window at A0000h reaches; none beyond the bank.
    [[nodiscard]] std::span<std::byte> banked(Access access);
    void write_dispi(uint16_t value);
    /// What is decoded at fixed places.
    void decode(std::vector<PciWindow>& windows);
    /// The number of the bank that the window at A0000h shows, if it shows one.
    [[nodiscard]] std::optional<uint16_t> shown_bank() const;

    Clock& clock_;
    std::span<std::byte> linear_;
    Ports ports_{*this};
    Memory memory_{*this};
    DispiPorts dispi_ports_{*this};
    Registers registers_{*this};
    std::unique_ptr<PciFunction> pci_;  // nullptr when it is not on PCI
    GuestMemory::Store store_;          // of linear_, then
    std::optional<uint16_t> decoded_bank_;
    VgaFastPath fast_path_;
    // Who looks at the screen asks for the generation: then linear memory is compared with what it was.
    mutable uint64_t generation_ = 0;
    mutable uint64_t seen_linear_ = 0;
    // Who wants to look every so many changes, and when the next time is.
    std::move_only_function<void()> watcher_;
    uint64_t watch_period_ = 0;
    uint64_t watch_at_ = ~uint64_t{0};
};

/// Node ibm,vga: on the ISA bus. Provides Screen.
Result<std::unique_ptr<Device>> make_vga(DeviceContext& context);
/// Node bochs,vga: on PCI, with 16 MiB of linear memory. Provides Screen.
Result<std::unique_ptr<Device>> make_pci_vga(DeviceContext& context);

}  // namespace viv
