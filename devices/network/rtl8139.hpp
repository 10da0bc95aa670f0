// Models: the RTL8139C and RTL8139C+: four transmit descriptors and the ring of received frames, the rings of C+ mode
// with
//   checksums, segments and VLAN tags, filters, loopback, the timer, counters, the EEPROM, the PHY's registers
// Not modelled: power management and wake-up, the boot ROM's pins, early reception, the high priority queue,
// collisions,
//   writes into the EEPROM, time that frames take
// Ignored bits: thresholds and burst sizes of TCR and RCR, CONFIG bits (they keep what is written), MULINT
// Reference: RTL8139C(L) rev 1.6; RTL8139C+ rev 1.6, Realtek
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/network/eeprom_93c46.hpp"
#include "devices/network/link/link.hpp"
#include "devices/pci/pci_function.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// A frame of C+ mode that is not complete yet.
struct Rtl8139Packet {
    std::vector<uint8_t> bytes;
    uint32_t options = 0;  // of its first descriptor
    uint32_t tag = 0;
    bool started = false;
    bool too_long = false;
    static void fields(auto& self, auto&& visit) {
        visit("bytes", self.bytes);
        visit("options", self.options);
        visit("tag", self.tag);
        visit("started", self.started);
        visit("too-long", self.too_long);
    }
    bool operator==(const Rtl8139Packet&) const = default;
};

struct Rtl8139State {
    std::array<uint8_t, 6> id{};
    std::array<uint8_t, 8> multicast{};
    std::array<uint32_t, 4> transmit_status{};
    std::array<uint32_t, 4> transmit_address{};  // in C+ mode two addresses of rings
    uint8_t pending = 0;                         // bits of the descriptors that wait
    uint8_t next = 0;                            // the descriptor whose turn it is
    uint32_t receive_start = 0;
    uint8_t command = 0;  // RE, TE
    uint16_t receive_read = 0xFFF0;
    uint16_t receive_write = 0;
    uint16_t mask = 0;
    uint16_t causes = 0;
    uint32_t transmit_control = 0;
    uint32_t receive_control = 0;
    VirtualTime timer_start{};
    uint32_t timer_interrupt = 0;
    std::optional<VirtualTime> timer_due;
    uint32_t missed = 0;
    uint8_t eeprom_control = 0;  // EEM, EECS, EESK, EEDI of 9346CR
    Eeprom93c46 eeprom;
    std::array<uint8_t, 5> config{};  // CONFIG0, 1, 3, 4, 5
    uint16_t multiple_interrupt = 0;
    uint16_t phy_control = 0;
    uint16_t phy_advertisement = 0;
    bool link_changed = false;  // since CSCR was read
    // C+
    uint16_t plus_command = 0;
    uint64_t receive_ring = 0;
    uint8_t receive_index = 0;
    uint8_t transmit_index = 0;
    uint8_t longest = 0;  // MTPS
    uint64_t sent = 0;
    uint64_t received = 0;
    uint64_t received_broadcasts = 0;
    uint64_t received_groups = 0;
    Rtl8139Packet packet;
    std::optional<VirtualTime> retry;  // when what was received is looked at again
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) {
        visit("id", self.id);
        visit("multicast", self.multicast);
        visit("transmit-status", self.transmit_status);
        visit("transmit-address", self.transmit_address);
        visit("pending", self.pending);
        visit("next", self.next);
        visit("receive-start", self.receive_start);
        visit("command", self.command);
        visit("receive-read", self.receive_read);
        visit("receive-write", self.receive_write);
        visit("mask", self.mask);
        visit("causes", self.causes);
        visit("transmit-control", self.transmit_control);
        visit("receive-control", self.receive_control);
        visit("timer-start", self.timer_start);
        visit("timer-interrupt", self.timer_interrupt);
        visit("timer-due", self.timer_due);
        visit("missed", self.missed);
        visit("eeprom-control", self.eeprom_control);
        visit("eeprom", self.eeprom);
        visit("config", self.config);
        visit("multiple-interrupt", self.multiple_interrupt);
        visit("phy-control", self.phy_control);
        visit("phy-advertisement", self.phy_advertisement);
        visit("link-changed", self.link_changed);
        visit("plus-command", self.plus_command);
        visit("receive-ring", self.receive_ring);
        visit("receive-index", self.receive_index);
        visit("transmit-index", self.transmit_index);
        visit("longest", self.longest);
        visit("sent", self.sent);
        visit("received", self.received);
        visit("received-broadcasts", self.received_broadcasts);
        visit("received-groups", self.received_groups);
        visit("packet", self.packet);
        visit("retry", self.retry);
        visit("pci", self.pci);
    }
    bool operator==(const Rtl8139State&) const = default;
};

class Rtl8139 final : public StatefulDevice<Rtl8139State>, public BusDevice {
  public:
    enum class Chip { c, c_plus };
    Rtl8139(NetworkPort port, Chip chip, Clock& clock);

    [[nodiscard]] PciFunction& pci() { return pci_; }
    void reset(ResetKind kind) override;
    /// The registers, of both BARs.
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

    /// Entries of a ring of C+ mode at most; one look at it does as many.
    static constexpr unsigned ring_entries = 64;
    /// The longest packet of C+ mode, before it is segmented.
    static constexpr size_t most_bytes = 65'536 + 64;
    /// What one packet may become; of more it goes nowhere.
    static constexpr size_t most_segments = 2048;

  protected:
    Result<void> validate(const Rtl8139State& staged) const override;
    void after_load() override;

  private:
    // Registers, rtl8139.cpp
    [[nodiscard]] uint32_t read_register(uint8_t at) const;
    /// `mask` has the bits that are written.
    void write_register(uint8_t at, uint32_t value, uint32_t mask);
    void write_command(uint8_t value);
    void write_eeprom_control(uint8_t value);
    void write_transmit_status(unsigned index, uint32_t value);
    void load_address();
    void reset_chip();
    void clear_causes(uint16_t causes);
    void look_again();
    [[nodiscard]] bool holds_frames() const;
    [[nodiscard]] bool buffer_is_empty() const;
    [[nodiscard]] bool unlocked() const;
    [[nodiscard]] bool transmits() const;
    [[nodiscard]] bool receives() const;
    [[nodiscard]] bool plus_transmits() const;
    [[nodiscard]] bool plus_receives() const;
    [[nodiscard]] uint16_t summary() const;
    [[nodiscard]] uint32_t timer_count() const;
    void set_timer();
    void arm_timer();
    void timer_ran();
    void cause(uint32_t bits) { state_.causes = static_cast<uint16_t>(state_.causes | bits); }
    void update_irq();
    void go_on();

    // rtl8139_transmit.cpp
    void transmit();
    void transmit_ring();
    void send_packet();
    void send_segments(size_t segment);
    void send_frame(std::span<const uint8_t> frame);
    void dump_counters();

    // rtl8139_receive.cpp
    void receive();
    [[nodiscard]] bool accepts(std::span<const uint8_t> frame) const;
    /// False when there is no room for the frame now.
    bool receive_frame(std::span<const uint8_t> frame);
    bool receive_into_buffer(std::span<const uint8_t> frame, GuestMemory& memory);
    bool receive_into_ring(std::span<const uint8_t> frame, GuestMemory& memory);
    [[nodiscard]] uint32_t buffer_size() const;

    NetworkPort port_;
    Chip chip_;
    std::array<uint16_t, Eeprom93c46::words> eeprom_{};
    PciFunction pci_;
    Clock& clock_;
    Timer timer_;
};

/// Make `realtek,8139` and `realtek,8139cp`: `reg` = <device function>, local-mac-address, viv,link. Need PciBus.
Result<std::unique_ptr<Device>> make_rtl8139(DeviceContext& context);
Result<std::unique_ptr<Device>> make_rtl8139cp(DeviceContext& context);

}  // namespace viv
