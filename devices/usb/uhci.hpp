// Models: function 2 of the Intel 82371SB (PIIX3), a UHCI host controller with two ports: frame list, queues and
// transfer
//   descriptors, short packets, errors, suspend and resume, software debug mode
// Not modelled: SMIs of the legacy keyboard support, isochronous devices, preemption by bandwidth reclamation, hot plug
// Ignored bits: CF and MAXP of USBCMD, SMI and trap enables of LEGSUP, the data toggle of descriptors: all read back
// Reference: Intel, Universal Host Controller Interface Design Guide 1.1; 82371SB (290550), 2.4 and 2.5
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "devices/input/keyboard_port.hpp"
#include "devices/input/tablet_port.hpp"
#include "devices/pci/pci_function.hpp"
#include "devices/usb/uhci_registers.hpp"
#include "devices/usb/usb_hid.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct UhciPortState {
    uint16_t status = 0;  // the bits of PORTSC that are not the cable's
    UsbHidState device;
    static void fields(auto& self, auto&& visit) {
        visit("status", self.status);
        visit("device", self.device);
    }
    bool operator==(const UhciPortState&) const = default;
};

struct UhciState {
    uint16_t command = 0;
    uint16_t status = uhci::HCHALTED;
    uint16_t interrupts = 0;
    uint16_t frame = 0;
    uint32_t base = 0;
    uint8_t sof_modify = 0x40;
    bool completed = false;                // of what USBINT tells: a descriptor with IOC
    bool short_packet = false;             // likewise
    std::optional<VirtualTime> frame_end;  // of the frame that runs
    uint16_t idle_frames = 0;              // so many in a row did nothing
    // In software debug mode: where in the frame the next transaction is.
    std::optional<uint32_t> debug_link;
    std::optional<uint32_t> debug_queue;
    std::array<UhciPortState, uhci::port_count> ports;
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("command", self.command);
        visit("status", self.status);
        visit("interrupts", self.interrupts);
        visit("frame", self.frame);
        visit("base", self.base);
        visit("sof-modify", self.sof_modify);
        visit("completed", self.completed);
        visit("short-packet", self.short_packet);
        visit("frame-end", self.frame_end);
        visit("idle-frames", self.idle_frames);
        visit("debug-link", self.debug_link);
        visit("debug-queue", self.debug_queue);
        visit("ports", self.ports);
        visit("pci", self.pci);
    }
    bool operator==(const UhciState&) const = default;
};

/// Frames are worked off at their ends. While frames do nothing, several are worked off at once, so that a guest whose
/// devices have nothing to say costs little; a device's news, and any access to the registers, end that.
class Uhci final : public StatefulDevice<UhciState>, public BusDevice {
  public:
    explicit Uhci(Clock& clock);
    ~Uhci() override;

    [[nodiscard]] PciFunction& pci() { return pci_; }
    /// Where a device's changeable part lives, for the device's maker. Ports count from 0.
    UsbHidState& device_state(unsigned port) { return state_.ports.at(port).device; }
    void attach(unsigned port, std::unique_ptr<UsbHid> device);
    /// Keeps what decides between its devices and others as long as the devices.
    KeyboardPort& keep(std::unique_ptr<KeyboardPort> choice) { return *keyboards_.emplace_back(std::move(choice)); }
    MousePort& keep(std::unique_ptr<MousePort> choice) { return *mice_.emplace_back(std::move(choice)); }
    TabletPort& keep(std::unique_ptr<TabletPort> choice) { return *tablets_.emplace_back(std::move(choice)); }

    void reset(ResetKind kind) override;

    /// The registers of BAR 4.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

    /// After so many frames that did nothing, `idle_batch` are worked off at once.
    static constexpr uint16_t idle_limit = 64, idle_batch = 8;
    /// The most frames that are made up for when the host was late; the others pass empty.
    static constexpr unsigned most_frames_at_once = 32;
    /// What fits into a frame, in byte times at full speed, and what a packet takes besides its data.
    static constexpr unsigned frame_bytes = 1500, packet_overhead = 13;
    /// Links that are followed in a frame.
    static constexpr unsigned most_links = 256;

  protected:
    Result<void> validate(const UhciState& staged) const override;
    void after_load() override;

  private:
    class Port;
    struct Descriptor {
        uint32_t address = 0;
        std::array<uint32_t, 4> words{};
    };
    /// How it went with a descriptor.
    enum class Progress : uint8_t { none, tried, retired, done };
    struct Frame;

    [[nodiscard]] uint16_t read_register(uint64_t offset) const;
    void write_register(uint64_t offset, uint16_t value, uint16_t mask);
    void command(uint16_t value);
    void halt();
    void reset_controller();
    void reset_registers();
    [[nodiscard]] Duration frame_length() const;

    // Ports
    [[nodiscard]] uint16_t port_status(unsigned port) const;
    void write_port(unsigned port, uint16_t value, uint16_t mask);
    [[nodiscard]] bool reaches(unsigned port) const;
    void news(unsigned port, bool remote_wakeup);
    void note_use();

    // Time
    void catch_up();
    void arm();

    // Schedule, uhci_schedule.cpp
    void run_frame();
    bool walk_frame(GuestMemory& memory);
    Progress execute(Descriptor& descriptor, GuestMemory& memory, Frame& frame);
    Progress conclude(Descriptor& descriptor, UsbReply reply, bool in_queue, GuestMemory& memory);
    bool retire(Descriptor& descriptor, uint32_t status, GuestMemory& memory);
    [[nodiscard]] UsbDevice* find_device(uint8_t address, bool low_speed) const;
    UsbReply transact(const Descriptor& descriptor, UsbDevice* device, GuestMemory& memory);
    bool fail_system();
    bool fail_process();

    void update_irq();

    std::array<std::unique_ptr<Port>, uhci::port_count> ports_;
    std::vector<std::unique_ptr<KeyboardPort>> keyboards_;
    std::vector<std::unique_ptr<MousePort>> mice_;
    std::vector<std::unique_ptr<TabletPort>> tablets_;
    PciFunction pci_;
    Clock& clock_;
    Timer timer_;
    std::array<uint8_t, usb_largest_packet> packet_{};  // of the transaction that runs
};

/// Makes `intel,piix3-uhci`: `reg` = <device function>; children `port@1` and `port@2`, `reg` = <1> or <2>,
/// viv,device-type = "tablet", "keyboard" or "mouse". Needs PciBus. Provides TabletPort, and takes the place of an
/// earlier KeyboardPort or MousePort, to which it sends what its own devices do not get.
Result<std::unique_ptr<Device>> make_uhci(DeviceContext& context);

}  // namespace viv
