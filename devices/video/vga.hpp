// Models: IBM VGA: sequencer, CRT controller, graphics and attribute controller, DAC, 256 KiB in four maps.
// Not modelled: the vertical retrace interrupt, light pen, feature connector, horizontal skew, the diagnostic bits of
//   input status 1, palette accesses that collide with the screen's, vertical timing doubled by CR17 bit 2.
// Ignored bits: SR4 bit 1 (memory is always 256 KiB), CR3 bit 7, misc bits 5-7 (page select, sync polarities), feature
//   control.
// Reference: IBM Personal System/2 Hardware Interface Technical Reference: Video Subsystems (1991), VGA Function.
#pragma once

#include <cstdint>
#include <memory>

#include "devices/video/screen.hpp"
#include "devices/video/vga_memory.hpp"
#include "devices/video/vga_state.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// The IBM Video Graphics Array on the ISA bus. What the guest reaches: ports() at 3B0h-3DFh, memory() at
/// A0000h-BFFFFh.
class Vga final : public StatefulDevice<VgaState>, public Screen {
  public:
    static constexpr uint16_t first_port = 0x3B0;
    static constexpr uint64_t port_count = 0x30;

    explicit Vga(Clock& clock) : clock_(clock) {}

    [[nodiscard]] BusDevice& ports() { return ports_; }
    [[nodiscard]] BusDevice& memory() { return memory_; }
    [[nodiscard]] const VgaState& state() const { return state_; }

    void reset(ResetKind kind) override;

    [[nodiscard]] TextScreen text() const override;
    [[nodiscard]] std::move_only_function<Image()> freeze() const override;
    [[nodiscard]] uint64_t generation() const override { return generation_; }
    void on_changes(uint64_t changes, std::move_only_function<void()> handler) override;

  protected:
    Result<void> validate(const VgaState& staged) const override;
    void after_load() override { registers_changed(); }

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

    Clock& clock_;
    Ports ports_{*this};
    Memory memory_{*this};
    VgaFastPath fast_path_;
    uint64_t generation_ = 0;
    // Who wants to look every so many changes, and when the next time is.
    std::move_only_function<void()> watcher_;
    uint64_t watch_period_ = 0;
    uint64_t watch_at_ = ~uint64_t{0};
};

/// Maps memory and ports, and provides the service Screen.
Result<std::unique_ptr<Device>> make_vga(DeviceContext& context);

}  // namespace viv
