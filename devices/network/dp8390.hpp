// Models: the DP8390 on a card like Novell's NE2000: ring of received frames, transmission, remote DMA in bytes or
// words,
//   filters, 16 KiB of memory and the address PROM behind it
// Not modelled: loopback, collisions, time that frames take, frames that overwrite the ring (they wait on the link)
// Ignored bits: DCR but WTS, TCR but LB, RCR.SEP and AR
// Reference: DP8390D/NS32490D NIC, National Semiconductor, July 1995; RTL8029AS, Realtek
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "devices/network/link/link.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"

namespace viv {

struct Dp8390State {
    uint8_t command = 0x21;
    uint8_t start = 0;     // PSTART
    uint8_t stop = 0;      // PSTOP
    uint8_t boundary = 0;  // BNRY
    uint8_t current = 0;   // CURR
    uint8_t transmit = 0;  // TPSR
    uint16_t transmit_count = 0;
    uint8_t transmit_status = 0;
    uint8_t receive_status = 0;
    uint8_t interrupts = 0x80;  // ISR
    uint8_t mask = 0;           // IMR
    uint8_t receive_control = 0;
    uint8_t transmit_control = 0;
    uint8_t data_control = 0;
    uint16_t remote_start = 0;
    uint16_t remote_address = 0;
    uint16_t remote_count = 0;
    uint8_t missed = 0;                   // CNTR2
    std::optional<VirtualTime> reminder;  // when PRX tells again of what is in the ring
    std::array<uint8_t, 6> physical{};
    std::array<uint8_t, 8> multicast{};
    std::array<uint8_t, 0x4000> memory{};
    static void fields(auto& self, auto&& visit) {
        visit("command", self.command);
        visit("start", self.start);
        visit("stop", self.stop);
        visit("boundary", self.boundary);
        visit("current", self.current);
        visit("transmit", self.transmit);
        visit("transmit-count", self.transmit_count);
        visit("transmit-status", self.transmit_status);
        visit("receive-status", self.receive_status);
        visit("interrupts", self.interrupts);
        visit("mask", self.mask);
        visit("receive-control", self.receive_control);
        visit("transmit-control", self.transmit_control);
        visit("data-control", self.data_control);
        visit("remote-start", self.remote_start);
        visit("remote-address", self.remote_address);
        visit("remote-count", self.remote_count);
        visit("missed", self.missed);
        visit("reminder", self.reminder);
        visit("physical", self.physical);
        visit("multicast", self.multicast);
        visit("memory", self.memory);
    }
    bool operator==(const Dp8390State&) const = default;
};

/// The chip and its card, 32 ports: registers, the data port from 10h on, the reset port from 18h on. A part of the
/// device whose state it works on.
class Dp8390 final : public BusDevice {
  public:
    /// What registers 0Ah and 0Bh of page 0 read as.
    enum class Identity : uint16_t { none = 0xFFFF, rtl8029 = 0x4350 };
    Dp8390(NetworkPort port, Dp8390State& state, Identity identity, Clock& clock, std::function<void(bool)> interrupt);

    void reset();
    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;
    [[nodiscard]] bool interrupt_level() const { return (state_.interrupts & state_.mask & 0x7F) != 0; }
    void update_irq() { interrupt_(interrupt_level()); }
    [[nodiscard]] static Result<void> validate(const Dp8390State& staged);
    void after_load();

  private:
    uint8_t read_register(unsigned number) const;
    void write_register(unsigned number, uint8_t value);
    void write_command(uint8_t value);
    void reset_chip();
    void clear_interrupts(uint8_t causes);
    void remind();
    /// One element of remote DMA: a byte, or a word with DCR.WTS.
    [[nodiscard]] unsigned element() const { return state_.data_control & 1 ? 2 : 1; }
    uint16_t read_data();
    void write_data(uint16_t value);
    void advance_remote();
    [[nodiscard]] uint8_t load(uint16_t address) const;
    void store(uint16_t address, uint8_t value);
    void transmit();
    void receive();
    [[nodiscard]] bool accepts(std::span<const uint8_t> frame) const;
    bool receive_frame(std::span<const uint8_t> frame);
    [[nodiscard]] std::optional<unsigned> free_pages() const;
    [[nodiscard]] bool has_frames() const;

    NetworkPort port_;
    Dp8390State& state_;
    Identity identity_;
    Clock& clock_;
    Timer reminder_;
    std::function<void(bool)> interrupt_;
    std::array<uint8_t, 32> prom_{};
};

}  // namespace viv
