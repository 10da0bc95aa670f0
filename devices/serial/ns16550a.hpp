#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/serial/char_backend.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/byte_queue.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/irq_line.hpp"
#include "vmm/core/types.hpp"

namespace viv {

struct Ns16550aState {
    uint8_t ier = 0;
    uint8_t fcr = 0;
    uint8_t lcr = 0;
    uint8_t mcr = 0;
    uint8_t scr = 0;
    uint8_t dll = 0x0C;  // 9600 baud: the chip leaves the divisor undefined
    uint8_t dlm = 0;
    uint8_t modem_lines = 0xB0;  // MSR bits 7:4 as last seen: CTS, DSR, DCD
    uint8_t modem_deltas = 0;    // MSR bits 3:0
    bool overrun = false;        // LSR bit 1
    bool thre_pending = true;    // the transmitter's interrupt has not been seen since it became empty
    bool rx_timed_out = false;
    ByteQueue<16> rx;
    ByteQueue<16> rx_errors;  // LSR bits 4:2 of each byte in rx
    ByteQueue<16> tx;         // what the host has not yet taken
    VirtualTime rx_next;      // no character arrives before this time
    std::optional<VirtualTime> rx_timeout_due;

    static void fields(auto& self, auto&& visit) {
        visit("ier", self.ier);
        visit("fcr", self.fcr);
        visit("lcr", self.lcr);
        visit("mcr", self.mcr);
        visit("scr", self.scr);
        visit("dll", self.dll);
        visit("dlm", self.dlm);
        visit("modem-lines", self.modem_lines);
        visit("modem-deltas", self.modem_deltas);
        visit("overrun", self.overrun);
        visit("thre-pending", self.thre_pending);
        visit("rx-timed-out", self.rx_timed_out);
        visit("rx", self.rx);
        visit("rx-errors", self.rx_errors);
        visit("tx", self.tx);
        visit("rx-next", self.rx_next);
        visit("rx-timeout-due", self.rx_timeout_due);
    }
    bool operator==(const Ns16550aState&) const = default;
};

/// A serial port of a PC: the UART, its 1.8432 MHz crystal, and the gate that OUT2 opens between it and the IRQ line.
class Ns16550a final : public StatefulDevice<Ns16550aState>, public ByteDevice, public SerialTap {
  public:
    Ns16550a(Clock& clock, std::unique_ptr<CharBackend> backend);

    void connect(IrqLine irq);

    uint8_t read8(uint64_t offset) override;
    void write8(uint64_t offset, uint8_t value) override;
    void reset(ResetKind kind) override;

    void on_output(std::move_only_function<void(uint8_t)> listener) override;
    size_t inject(std::span<const uint8_t> bytes) override;
    [[nodiscard]] size_t injected_pending() const override { return injected_.size(); }
    [[nodiscard]] std::string description() const override { return backend_->description(); }
    /// Bytes that the guest wrote while the transmitter was full, and that are lost as on the chip.
    [[nodiscard]] uint64_t lost_output() const { return lost_output_; }

  protected:
    Result<void> validate(const Ns16550aState& staged) const override;
    void after_load() override;

  private:
    [[nodiscard]] bool fifo_enabled() const;
    [[nodiscard]] bool looped_back() const;
    [[nodiscard]] size_t receiver_size() const;
    [[nodiscard]] size_t trigger_level() const;
    [[nodiscard]] Duration character_time() const;
    [[nodiscard]] uint8_t interrupt_id() const;
    void update_irq();

    uint8_t read_rbr();
    uint8_t read_iir();
    uint8_t read_lsr();
    uint8_t read_msr();
    void write_thr(uint8_t value);
    void write_ier(uint8_t value);
    void write_fcr(uint8_t value);
    void write_lcr(uint8_t value);
    void update_modem();

    void transmit(uint8_t value);
    void drain_transmitter();
    void receive(uint8_t value, uint8_t errors);
    void restart_receive_timeout();
    void clear_receiver();
    [[nodiscard]] bool input_waits() const;
    /// Lets the next character arrive when the receiver has room and the line's time has come.
    void listen();
    void arrive();

    Clock& clock_;
    std::unique_ptr<CharBackend> backend_;
    IrqLine irq_;
    Timer arrival_;
    Timer receive_timeout_;
    Timer drain_;
    std::deque<uint8_t> injected_;
    std::vector<std::move_only_function<void(uint8_t)>> listeners_;
    uint64_t lost_output_ = 0;
};

/// The node's `reg` is eight ports, its first interrupt the IRQ; `viv,chardev` names the host's end ("null" when
/// absent). Provides SerialTap.
Result<std::unique_ptr<Device>> make_ns16550a(DeviceContext& context);

}  // namespace viv
