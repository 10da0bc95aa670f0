// Models: the NS16550A with FIFOs, all registers and interrupts, and loopback; the PC's OUT2 gate on its IRQ line.
// Not modelled: line errors, DMA mode pins, the time of transmission (a character is gone as soon as the host takes it,
//   so THRE is low only while the host's reader is slow), DTR and RTS towards the host, break towards the host. CTS,
//   DSR and DCD are always on. Characters arrive at the programmed speed, and only while the receiver has room.
// Ignored bits: IER 7:4, FCR 5:4 and 3, MCR 7:5, writes to LSR and MSR.
// Reference: National Semiconductor, "PC16550D universal asynchronous receiver/transmitter with FIFOs" (1995), 8.
#include "devices/serial/ns16550a.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace viv {
namespace {

enum class Register : uint8_t {
    rbr_thr_dll = 0,
    ier_dlm = 1,
    iir_fcr = 2,
    lcr = 3,
    mcr = 4,
    lsr = 5,
    msr = 6,
    scr = 7,
};

// IER
constexpr uint8_t ier_erbfi = 0x01;
constexpr uint8_t ier_etbei = 0x02;
constexpr uint8_t ier_elsi = 0x04;
constexpr uint8_t ier_edssi = 0x08;
constexpr uint8_t ier_bits = 0x0F;
// IIR
constexpr uint8_t iir_none = 0x01;
constexpr uint8_t iir_line_status = 0x06;
constexpr uint8_t iir_data = 0x04;
constexpr uint8_t iir_timeout = 0x0C;
constexpr uint8_t iir_thre = 0x02;
constexpr uint8_t iir_modem = 0x00;
constexpr uint8_t iir_fifos = 0xC0;
// FCR
constexpr uint8_t fcr_enable = 0x01;
constexpr uint8_t fcr_clear_rx = 0x02;
constexpr uint8_t fcr_clear_tx = 0x04;
constexpr uint8_t fcr_kept = 0xC9;
// LCR
constexpr uint8_t lcr_two_stop_bits = 0x04;
constexpr uint8_t lcr_parity = 0x08;
constexpr uint8_t lcr_break = 0x40;
constexpr uint8_t lcr_dlab = 0x80;
// MCR
constexpr uint8_t mcr_dtr = 0x01;
constexpr uint8_t mcr_rts = 0x02;
constexpr uint8_t mcr_out1 = 0x04;
constexpr uint8_t mcr_out2 = 0x08;
constexpr uint8_t mcr_loop = 0x10;
constexpr uint8_t mcr_bits = 0x1F;
// LSR
constexpr uint8_t lsr_dr = 0x01;
constexpr uint8_t lsr_oe = 0x02;
constexpr uint8_t lsr_fe = 0x08;
constexpr uint8_t lsr_bi = 0x10;
constexpr uint8_t lsr_character_errors = 0x1C;
constexpr uint8_t lsr_thre = 0x20;
constexpr uint8_t lsr_temt = 0x40;
constexpr uint8_t lsr_fifo_error = 0x80;
// MSR
constexpr uint8_t msr_dcts = 0x01;
constexpr uint8_t msr_ddsr = 0x02;
constexpr uint8_t msr_teri = 0x04;
constexpr uint8_t msr_ddcd = 0x08;
constexpr uint8_t msr_cts = 0x10;
constexpr uint8_t msr_dsr = 0x20;
constexpr uint8_t msr_ri = 0x40;
constexpr uint8_t msr_dcd = 0x80;

constexpr uint8_t peer_lines = msr_cts | msr_dsr | msr_dcd;
constexpr size_t fifo_size = 16;
constexpr size_t injected_limit = 64 * 1024;
constexpr uint64_t crystal = 1'843'200;

/// Nanoseconds of one character: start bit, data, parity and stop bits at crystal / (16 * divisor). A divisor of 0,
/// which the data sheet leaves open, counts as 1.
constexpr int64_t character_ns(uint8_t lcr, uint32_t divisor) {
    const unsigned data = 5U + (lcr & 3U);
    const unsigned stop_halves = (lcr & lcr_two_stop_bits) == 0 ? 2 : data == 5 ? 3 : 4;
    const unsigned halves = 2 * (1 + data + ((lcr & lcr_parity) != 0 ? 1U : 0U)) + stop_halves;
    return ns_of_ticks(uint64_t{halves} * 8 * std::max<uint32_t>(divisor, 1), crystal);
}
static_assert(character_ns(0x03, 1) == 86806);     // 8N1 at 115200: ten bits
static_assert(character_ns(0x03, 12) == 1041667);  // 9600
static_assert(character_ns(0x04, 1) == 65105);     // 5 data bits and one and a half stop bits
static_assert(character_ns(0x0F, 0) == 104167);    // 8 data bits, parity, two stop bits

}  // namespace

Ns16550a::Ns16550a(Clock& clock, std::unique_ptr<CharBackend> backend)
    : clock_(clock),
      backend_(std::move(backend)),
      arrival_(clock, [this](VirtualTime) { arrive(); }),
      receive_timeout_(clock,
                       [this](VirtualTime) {
                           state_.rx_timeout_due.reset();
                           state_.rx_timed_out = true;
                           update_irq();
                       }),
      drain_(clock, [this](VirtualTime) { drain_transmitter(); }) {
    backend_->on_writable([this] { drain_transmitter(); });
    backend_->on_readable([this] { listen(); });
    listen();
}

void Ns16550a::connect(IrqLine irq) {
    irq_ = std::move(irq);
    update_irq();
}

void Ns16550a::reset(ResetKind /*kind*/) {
    state_ = {};
    receive_timeout_.cancel();
    update_irq();
    listen();
}

Result<void> Ns16550a::validate(const Ns16550aState& staged) const {
    if (!staged.rx.valid() || !staged.tx.valid() || staged.rx_errors.size != staged.rx.size) {
        return fail("saved state: ns16550a: a FIFO is too long");
    }
    return {};
}

void Ns16550a::after_load() {
    if (state_.rx_timeout_due) {
        receive_timeout_.arm(*state_.rx_timeout_due);
    } else {
        receive_timeout_.cancel();
    }
    // The backend of a restored machine has refused nothing, so nobody else would try again.
    if (!state_.tx.empty()) drain_.arm(clock_.now());
    update_irq();
    arrival_.cancel();
    listen();
}

// ---- Interrupts

bool Ns16550a::fifo_enabled() const {
    return (state_.fcr & fcr_enable) != 0;
}

bool Ns16550a::looped_back() const {
    return (state_.mcr & mcr_loop) != 0;
}

size_t Ns16550a::receiver_size() const {
    return fifo_enabled() ? fifo_size : 1;
}

size_t Ns16550a::trigger_level() const {
    constexpr size_t levels[] = {1, 4, 8, 14};
    return fifo_enabled() ? levels[state_.fcr >> 6] : 1;
}

Duration Ns16550a::character_time() const {
    return Duration{character_ns(state_.lcr, uint32_t{state_.dlm} << 8 | state_.dll)};
}

// The four priorities of table 5, highest first.
uint8_t Ns16550a::interrupt_id() const {
    const uint8_t errors = state_.rx.empty() ? uint8_t{0} : state_.rx_errors.bytes[0];
    if ((state_.ier & ier_elsi) != 0 && (state_.overrun || errors != 0)) return iir_line_status;
    if ((state_.ier & ier_erbfi) != 0) {
        if (state_.rx.size >= trigger_level()) return iir_data;
        if (state_.rx_timed_out) return iir_timeout;
    }
    if ((state_.ier & ier_etbei) != 0 && state_.thre_pending) return iir_thre;
    if ((state_.ier & ier_edssi) != 0 && state_.modem_deltas != 0) return iir_modem;
    return iir_none;
}

// On PCs OUT2 enables the driver of the IRQ line; in loopback the pin itself is off.
void Ns16550a::update_irq() {
    irq_.set(interrupt_id() != iir_none && (state_.mcr & mcr_out2) != 0 && !looped_back());
}

// ---- Registers

uint8_t Ns16550a::read8(uint64_t offset) {
    const bool dlab = (state_.lcr & lcr_dlab) != 0;
    switch (Register{static_cast<uint8_t>(offset & 7)}) {
        case Register::rbr_thr_dll: return dlab ? state_.dll : read_rbr();
        case Register::ier_dlm: return dlab ? state_.dlm : state_.ier;
        case Register::iir_fcr: return read_iir();
        case Register::lcr: return state_.lcr;
        case Register::mcr: return state_.mcr;
        case Register::lsr: return read_lsr();
        case Register::msr: return read_msr();
        case Register::scr: return state_.scr;
    }
    return 0xFF;
}

void Ns16550a::write8(uint64_t offset, uint8_t value) {
    const bool dlab = (state_.lcr & lcr_dlab) != 0;
    switch (Register{static_cast<uint8_t>(offset & 7)}) {
        case Register::rbr_thr_dll:
            if (dlab) {
                state_.dll = value;
            } else {
                write_thr(value);
            }
            break;
        case Register::ier_dlm:
            if (dlab) {
                state_.dlm = value;
            } else {
                write_ier(value);
            }
            break;
        case Register::iir_fcr: write_fcr(value); break;
        case Register::lcr: write_lcr(value); break;
        case Register::mcr:
            state_.mcr = value & mcr_bits;
            update_modem();
            listen();
            break;
        case Register::lsr:
        case Register::msr: break;
        case Register::scr: state_.scr = value; break;
    }
    update_irq();
}

uint8_t Ns16550a::read_rbr() {
    if (state_.rx.empty()) return 0;
    const uint8_t value = state_.rx.pop();
    state_.rx_errors.pop();
    restart_receive_timeout();
    update_irq();
    listen();
    return value;
}

uint8_t Ns16550a::read_iir() {
    const uint8_t id = interrupt_id();
    if (id == iir_thre) {
        state_.thre_pending = false;
        update_irq();
    }
    return static_cast<uint8_t>(id | (fifo_enabled() ? iir_fifos : 0));
}

uint8_t Ns16550a::read_lsr() {
    unsigned value = state_.tx.empty() ? lsr_thre | lsr_temt : 0U;
    if (state_.overrun) value |= lsr_oe;
    if (!state_.rx.empty()) {
        value |= lsr_dr | state_.rx_errors.bytes[0];
        const auto errors = std::span(state_.rx_errors.bytes).first(state_.rx.size);
        if (fifo_enabled() && std::ranges::any_of(errors, [](uint8_t error) { return error != 0; })) {
            value |= lsr_fifo_error;
        }
        state_.rx_errors.bytes[0] = 0;
    }
    state_.overrun = false;
    update_irq();
    return static_cast<uint8_t>(value);
}

uint8_t Ns16550a::read_msr() {
    const auto value = static_cast<uint8_t>(state_.modem_lines | state_.modem_deltas);
    state_.modem_deltas = 0;
    update_irq();
    return value;
}

void Ns16550a::write_thr(uint8_t value) {
    state_.thre_pending = false;
    update_irq();  // falls before it rises again, so that an edge is seen
    if (looped_back()) {
        receive(value, 0);
    } else {
        transmit(value);
    }
    if (state_.tx.empty()) state_.thre_pending = true;
}

// Enabling the transmitter's interrupt while it is empty raises it at once: drivers start, and probe, that way.
void Ns16550a::write_ier(uint8_t value) {
    const bool was_enabled = (state_.ier & ier_etbei) != 0;
    state_.ier = value & ier_bits;
    const bool enabled = (state_.ier & ier_etbei) != 0;
    if (enabled && !was_enabled && state_.tx.empty()) state_.thre_pending = true;
}

void Ns16550a::write_fcr(uint8_t value) {
    const bool enable = (value & fcr_enable) != 0;
    const bool switched = enable != fifo_enabled();
    if (switched || (value & fcr_clear_rx) != 0) clear_receiver();
    if (switched || (value & fcr_clear_tx) != 0) {
        lost_output_ += state_.tx.size;
        if (!state_.tx.empty()) state_.thre_pending = true;
        state_.tx.clear();
    }
    state_.fcr = enable ? value & fcr_kept : uint8_t{0};
    restart_receive_timeout();
    listen();
}

void Ns16550a::write_lcr(uint8_t value) {
    const bool breaks = (value & lcr_break) != 0 && (state_.lcr & lcr_break) == 0;
    state_.lcr = value;
    if (breaks && looped_back()) receive(0, lsr_bi | lsr_fe);
}

void Ns16550a::update_modem() {
    unsigned lines = peer_lines;
    if (looped_back()) {
        lines = ((state_.mcr & mcr_rts) != 0 ? msr_cts : 0U) | ((state_.mcr & mcr_dtr) != 0 ? msr_dsr : 0U) |
                ((state_.mcr & mcr_out1) != 0 ? msr_ri : 0U) | ((state_.mcr & mcr_out2) != 0 ? msr_dcd : 0U);
    }
    const unsigned before = state_.modem_lines;
    const unsigned changed = lines ^ before;
    unsigned deltas = state_.modem_deltas;
    if ((changed & msr_cts) != 0) deltas |= msr_dcts;
    if ((changed & msr_dsr) != 0) deltas |= msr_ddsr;
    if ((changed & before & msr_ri) != 0) deltas |= msr_teri;
    if ((changed & msr_dcd) != 0) deltas |= msr_ddcd;
    state_.modem_lines = static_cast<uint8_t>(lines);
    state_.modem_deltas = static_cast<uint8_t>(deltas);
}

// ---- Transmitter

void Ns16550a::transmit(uint8_t value) {
    if (state_.tx.empty() && backend_->write(value)) {
        for (auto& listener : listeners_) listener(value);
        return;
    }
    // The guest did not wait for THRE: a FIFO loses the new character, a lone holding register the old one.
    if (state_.tx.size >= receiver_size()) {
        ++lost_output_;
        if (fifo_enabled()) return;
        state_.tx.pop();
    }
    state_.tx.push(value);
    for (auto& listener : listeners_) listener(value);
}

void Ns16550a::drain_transmitter() {
    if (state_.tx.empty()) return;
    while (!state_.tx.empty()) {
        if (!backend_->write(state_.tx.bytes[0])) return;
        state_.tx.pop();
    }
    state_.thre_pending = true;
    update_irq();
}

// ---- Receiver

void Ns16550a::receive(uint8_t value, uint8_t errors) {
    if (state_.rx.size >= receiver_size()) {
        state_.overrun = true;
        if (fifo_enabled()) return;
        clear_receiver();
    }
    state_.rx.push(value);
    state_.rx_errors.push(errors & lsr_character_errors);
    restart_receive_timeout();
}

// The timer runs while the FIFO holds characters below the trigger level, from the last arrival or read.
void Ns16550a::restart_receive_timeout() {
    state_.rx_timed_out = false;
    if (!fifo_enabled() || state_.rx.empty() || state_.rx.size >= trigger_level()) {
        state_.rx_timeout_due.reset();
        receive_timeout_.cancel();
        return;
    }
    state_.rx_timeout_due = clock_.now() + 4 * character_time();
    receive_timeout_.arm(*state_.rx_timeout_due);
}

void Ns16550a::clear_receiver() {
    state_.rx.clear();
    state_.rx_errors.clear();
    restart_receive_timeout();
}

bool Ns16550a::input_waits() const {
    return !injected_.empty() || backend_->readable();
}

void Ns16550a::listen() {
    if (arrival_.armed() || looped_back() || state_.rx.size >= receiver_size() || !input_waits()) return;
    arrival_.arm(std::max(clock_.now(), state_.rx_next));
}

void Ns16550a::arrive() {
    if (looped_back() || state_.rx.size >= receiver_size()) return;
    std::optional<uint8_t> byte;
    if (injected_.empty()) {
        byte = backend_->read();
    } else {
        byte = injected_.front();
        injected_.pop_front();
    }
    if (!byte) return;
    receive(*byte, 0);
    state_.rx_next = clock_.now() + character_time();
    update_irq();
    listen();
}

// ---- The host's side

void Ns16550a::on_output(std::move_only_function<void(uint8_t)> listener) {
    listeners_.push_back(std::move(listener));
}

size_t Ns16550a::inject(std::span<const uint8_t> bytes) {
    const size_t taken = std::min(bytes.size(), injected_limit - injected_.size());
    injected_.insert(injected_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    listen();
    return taken;
}

Result<std::unique_ptr<Device>> make_ns16550a(DeviceContext& context) {
    auto backend = open_char_backend(context.node.string("viv,chardev").value_or("null"), context.loop);
    if (!backend) return add_context(backend.error(), context.path);
    auto device = std::make_unique<Ns16550a>(context.clock, std::move(*backend));
    TRY(context.map(0, *device));
    IrqLine irq = TRY(context.irq(0));
    device->connect(std::move(irq));
    constexpr uint64_t bases[] = {0x3F8, 0x2F8, 0x3E8, 0x2E8};
    const uint64_t base = context.ranges[0].base;
    const auto* standard = std::ranges::find(bases, base);
    const std::string name = standard != std::end(bases) ? fmt::format("serial{}", standard - std::begin(bases))
                                                         : fmt::format("serial@{:x}", base);
    context.services.provide<SerialTap>(*device, name);
    return device;
}

}  // namespace viv
