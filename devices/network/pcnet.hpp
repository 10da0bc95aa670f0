// Models: the Am79C970A, PCnet-PCI II: initialization block, rings of 16-bit and 32-bit descriptors (software styles 0
// to
//   3), filters, padding and stripping, loopback, CSRs and BCRs by words and double words, the address PROM
// Not modelled: the EEPROM's lines, the expansion ROM's bus, magic packets, full duplex (it has no collisions either
// way),
//   late collisions and other errors of a cable, a transmit ring that is polled while nothing else happens, time that
//   frames take
// Ignored bits: burst and FIFO thresholds of CSR80, BCR18; the LEDs but the link's
// Reference: Am79C970A PCnet-PCI II, AMD 19436
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/network/link/link.hpp"
#include "devices/pci/pci_function.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct PcnetRing {
    uint32_t base = 0;
    uint16_t length = 0;  // CSR76, CSR78: minus the number of descriptors
    uint32_t next = 0;    // the descriptor whose turn it is
    static void fields(auto& self, auto&& visit) {
        visit("base", self.base);
        visit("length", self.length);
        visit("next", self.next);
    }
    [[nodiscard]] uint32_t count() const { return length == 0 ? 0x10000u : 0x10000u - length; }
    bool operator==(const PcnetRing&) const = default;
};

struct PcnetState {
    bool wide = false;  // registers are of 32 bits
    uint16_t address = 0;
    uint16_t status = 0x0004;           // CSR0 without what follows of the rest
    uint32_t initialization_block = 0;  // CSR1, CSR2
    uint16_t interrupt_masks = 0;       // CSR3
    uint16_t features = 0x0115;         // CSR4
    uint16_t extended = 0;              // CSR5
    std::array<uint8_t, 8> filter{};    // CSR8 to 11
    std::array<uint8_t, 6> physical{};  // CSR12 to 14
    uint16_t mode = 0;                  // CSR15
    PcnetRing receive;
    PcnetRing transmit;
    uint16_t poll_interval = 0;    // CSR47
    uint16_t bus_timer = 0;        // CSR82
    uint16_t thresholds = 0x1410;  // CSR80
    uint16_t missed = 0;           // CSR112
    uint16_t software_style = 0x0200;
    uint16_t miscellaneous = 0x0002;                               // BCR2
    std::array<uint16_t, 4> leds{0x00C0, 0x0084, 0x0088, 0x0090};  // BCR4 to 7
    uint16_t full_duplex = 0;                                      // BCR9
    uint16_t burst = 0x9001;                                       // BCR18
    std::vector<uint8_t> packet;                                   // that is not complete yet
    bool started = false;
    bool too_long = false;
    std::optional<VirtualTime> resume;  // when rings are looked at again
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("wide", self.wide);
        visit("address", self.address);
        visit("status", self.status);
        visit("initialization-block", self.initialization_block);
        visit("interrupt-masks", self.interrupt_masks);
        visit("features", self.features);
        visit("extended", self.extended);
        visit("filter", self.filter);
        visit("physical", self.physical);
        visit("mode", self.mode);
        visit("receive", self.receive);
        visit("transmit", self.transmit);
        visit("poll-interval", self.poll_interval);
        visit("bus-timer", self.bus_timer);
        visit("thresholds", self.thresholds);
        visit("missed", self.missed);
        visit("software-style", self.software_style);
        visit("miscellaneous", self.miscellaneous);
        visit("leds", self.leds);
        visit("full-duplex", self.full_duplex);
        visit("burst", self.burst);
        visit("packet", self.packet);
        visit("started", self.started);
        visit("too-long", self.too_long);
        visit("resume", self.resume);
        visit("pci", self.pci);
    }
    bool operator==(const PcnetState&) const = default;
};

class Pcnet final : public StatefulDevice<PcnetState>, public BusDevice {
  public:
    Pcnet(NetworkPort port, Clock& clock);

    [[nodiscard]] PciFunction& pci() { return pci_; }
    void reset(ResetKind kind) override;
    /// The ports, of both BARs.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

    /// What one look at a ring does before the others have to wait a moment.
    static constexpr unsigned descriptors_at_once = 512;
    /// The longest frame in pieces.
    static constexpr size_t most_bytes = 4096;

  protected:
    Result<void> validate(const PcnetState& staged) const override;
    void after_load() override;

  private:
    struct Descriptor {
        uint32_t buffer = 0;
        uint16_t flags = 0;
        uint32_t size = 0;  // of the buffer
    };
    // Registers, pcnet.cpp
    uint32_t read_port(uint32_t at, unsigned size);
    void write_port(uint32_t at, unsigned size, uint32_t value);
    [[nodiscard]] uint16_t read_csr(uint16_t number) const;
    void write_csr(uint16_t number, uint16_t value);
    void write_status(uint16_t value);
    [[nodiscard]] uint16_t read_bcr(uint16_t number) const;
    void write_bcr(uint16_t number, uint16_t value);
    void soft_reset();
    void initialize();
    [[nodiscard]] bool wide_structures() const;
    [[nodiscard]] uint32_t upper_address() const;
    [[nodiscard]] uint16_t status() const;
    void update_irq();
    void go_on();
    void look_again(Duration after);

    // pcnet_rings.cpp
    [[nodiscard]] uint32_t descriptor_at(const PcnetRing& ring, uint32_t index) const;
    [[nodiscard]] Descriptor load(const GuestMemory& memory, uint32_t at) const;
    void finish(GuestMemory& memory, uint32_t at, uint16_t flags, uint32_t count) const;
    void transmit();
    void send_frame();
    void receive();
    /// What of a frame's address lets it in; 0 when nothing does.
    [[nodiscard]] uint16_t match(std::span<const uint8_t> frame) const;
    /// False when there is no room for the frame now.
    bool receive_frame(std::span<const uint8_t> frame, uint16_t matched, GuestMemory& memory);

    NetworkPort port_;
    std::array<uint8_t, 16> prom_{};
    PciFunction pci_;
    Clock& clock_;
    Timer timer_;
};

/// Makes `amd,79c970a`: `reg` = <device function>, local-mac-address, viv,link. Needs PciBus.
Result<std::unique_ptr<Device>> make_pcnet(DeviceContext& context);

}  // namespace viv
