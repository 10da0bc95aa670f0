#include "devices/network/pcnet.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "devices/network/pcnet_registers.hpp"

namespace viv {
namespace {

using namespace pcnet;

constexpr PciIdentity identity{.vendor = 0x1022,
                               .device = 0x2000,
                               .class_code = 0x020000,
                               .revision = 0x16,
                               .subsystem_vendor = 0x1022,
                               .subsystem = 0x2000,
                               .interrupt_pin = 1};
constexpr uint32_t port_count = 32;
constexpr uint16_t chip_id_low = 0x1003, chip_id_high = 0x0262;

/// The address PROM: the address, the marks of a card that is as the datasheet says, and the sum of its bytes.
std::array<uint8_t, 16> prom_of(const MacAddress& mac) {
    std::array<uint8_t, 16> prom{};
    std::copy(mac.begin(), mac.end(), prom.begin());
    prom[9] = 0x11;
    prom[14] = prom[15] = 'W';
    const unsigned sum = std::accumulate(prom.begin(), prom.end(), 0u);
    prom[12] = static_cast<uint8_t>(sum);
    prom[13] = static_cast<uint8_t>(sum >> 8);
    return prom;
}

template <size_t size>
uint16_t word_of(const std::array<uint8_t, size>& bytes, size_t word) {
    return static_cast<uint16_t>(bytes[2 * word] | bytes[2 * word + 1] << 8);
}

template <size_t size>
void set_word(std::array<uint8_t, size>& bytes, size_t word, uint16_t value) {
    bytes[2 * word] = static_cast<uint8_t>(value);
    bytes[2 * word + 1] = static_cast<uint8_t>(value >> 8);
}

uint32_t with_word(uint32_t old, bool high, uint16_t value) {
    return high ? (old & 0xFFFF) | uint32_t{value} << 16 : (old & 0xFFFF0000) | value;
}

uint16_t half(uint32_t value, bool high) {
    return static_cast<uint16_t>(high ? value >> 16 : value);
}

}  // namespace

Pcnet::Pcnet(NetworkPort port, Clock& clock)
    : port_(std::move(port)),
      prom_(prom_of(port_.mac)),
      pci_(identity, state_.pci),
      clock_(clock),
      timer_(clock, [this](VirtualTime) {
          state_.resume.reset();
          go_on();
      }) {
    pci_.add_io_bar(0, port_count, *this);
    pci_.add_memory_bar(1, port_count, *this);
    // What waited for the permission to be bus master goes on.
    pci_.on_config_write([this](unsigned, unsigned) { go_on(); });
    port_.link->on_receive([this] { go_on(); });
    reset(ResetKind::power_on);
}

void Pcnet::reset(ResetKind /*kind*/) {
    state_ = {};
    pci_.reset();
    soft_reset();
    state_.wide = false;
    update_irq();
}

/// A read of the reset port: all but the BCRs that the EEPROM fills, the size of registers and the address (H_RESET
/// does these, too).
void Pcnet::soft_reset() {
    PcnetState fresh;
    fresh.wide = state_.wide;
    fresh.software_style = state_.software_style;
    fresh.miscellaneous = state_.miscellaneous;
    fresh.leds = state_.leds;
    fresh.full_duplex = state_.full_duplex;
    fresh.burst = state_.burst;
    fresh.pci = std::move(state_.pci);
    std::copy(port_.mac.begin(), port_.mac.end(), fresh.physical.begin());
    state_ = std::move(fresh);
    timer_.cancel();
}

// ---- Ports ---------------------------------------------------------------------------------------------------------

uint64_t Pcnet::read(Access access) {
    uint64_t value = 0;
    const auto at = static_cast<uint32_t>(access.offset);
    if (at < prom_.size()) {
        for (unsigned i = 0; i < access.size && at + i < prom_.size(); ++i) value |= uint64_t{prom_[at + i]} << (8 * i);
        return value;
    }
    const unsigned step = state_.wide ? 4 : 2;
    if (at % step != 0 || access.size < step) return ~uint64_t{0} >> (64 - 8 * access.size);
    for (unsigned done = 0; done < access.size; done += step)
        value |= uint64_t{read_port(at + done, step)} << (8 * done);
    update_irq();
    return value;
}

void Pcnet::write(Access access, uint64_t value) {
    const auto at = static_cast<uint32_t>(access.offset);
    if (at < prom_.size()) return;
    if (!state_.wide && at == dword_RDP && access.size == 4) {
        state_.wide = true;
        return;
    }
    const unsigned step = state_.wide ? 4 : 2;
    if (at % step != 0) return;
    for (unsigned done = 0; done + step <= access.size; done += step)
        write_port(at + done, step, static_cast<uint32_t>(value >> (8 * done)));
    go_on();
}

uint32_t Pcnet::read_port(uint32_t at, unsigned size) {
    if (at == (size == 4 ? dword_RDP : word_RDP)) return read_csr(state_.address);
    if (at == (size == 4 ? dword_RAP : word_RAP)) return state_.address;
    if (at == (size == 4 ? dword_BDP : word_BDP)) return read_bcr(state_.address);
    if (at == (size == 4 ? dword_RESET : word_RESET)) soft_reset();
    return 0;
}

void Pcnet::write_port(uint32_t at, unsigned size, uint32_t value) {
    const auto word = static_cast<uint16_t>(value);
    if (at == (size == 4 ? dword_RDP : word_RDP)) return write_csr(state_.address, word);
    if (at == (size == 4 ? dword_RAP : word_RAP)) state_.address = word & 0x7F;
    if (at == (size == 4 ? dword_BDP : word_BDP)) return write_bcr(state_.address, word);
}

// ---- CSRs ----------------------------------------------------------------------------------------------------------

/// CSR0 with what follows of the other bits.
uint16_t Pcnet::status() const {
    const unsigned unmasked = state_.status & CSR0_events & ~(state_.interrupt_masks & CSR3_masks);
    const unsigned more =
        state_.features & (CSR4_MFCO | CSR4_TXSTRT) & ~((state_.features & (CSR4_MFCOM | CSR4_TXSTRTM)) << 1);
    const bool interrupt = unmasked != 0 || more != 0 || (state_.features & CSR4_UINT) != 0;
    const bool error = state_.status & CSR0_errors;
    return static_cast<uint16_t>(state_.status | (interrupt ? CSR0_INTR : 0) | (error ? CSR0_ERR : 0));
}

void Pcnet::update_irq() {
    constexpr uint16_t both = CSR0_INTR | CSR0_IENA;
    pci_.set_interrupt((status() & both) == both);
}

uint16_t Pcnet::read_csr(uint16_t number) const {
    if (number >= 8 && number <= 11) return word_of(state_.filter, number - 8u);
    if (number >= 12 && number <= 14) return word_of(state_.physical, number - 12u);
    switch (number) {
        case 0: return status();
        case 1:
        case 16: return half(state_.initialization_block, false);
        case 2:
        case 17: return half(state_.initialization_block, true);
        case 3: return state_.interrupt_masks;
        case 4: return state_.features & static_cast<uint16_t>(~CSR4_UINTCMD);
        case 5: return state_.extended;
        case 15: return state_.mode;
        case 24:
        case 25: return half(state_.receive.base, number == 25);
        case 30:
        case 31: return half(state_.transmit.base, number == 31);
        case 47: return state_.poll_interval;
        case 58: return read_bcr(20);
        case 72: return static_cast<uint16_t>(0u - state_.receive.next);
        case 74: return static_cast<uint16_t>(0u - state_.transmit.next);
        case 76: return state_.receive.length;
        case 78: return state_.transmit.length;
        case 80: return state_.thresholds;
        case 82: return state_.bus_timer;
        case 88: return chip_id_low;
        case 89: return chip_id_high;
        case 112: return state_.missed;
        default: return 0;
    }
}

void Pcnet::write_csr(uint16_t number, uint16_t value) {
    switch (number) {
        case 0: return write_status(value);
        case 3: state_.interrupt_masks = value & CSR3_writable; return;
        case 4:
            state_.features = static_cast<uint16_t>((value & CSR4_writable) | (state_.features & ~value & CSR4_events));
            if (value & CSR4_UINT) state_.features &= static_cast<uint16_t>(~CSR4_UINT);
            if (value & CSR4_UINTCMD) state_.features |= CSR4_UINT;
            return;
        case 5: state_.extended = value & CSR5_writable; return;
        default: break;
    }
    // The rest is the driver's while the chip stands still (the mode of the filter also while it waits).
    if (!(state_.status & CSR0_STOP) && !(state_.extended & CSR5_SPND)) return;
    if (number >= 8 && number <= 11) return set_word(state_.filter, number - 8u, value);
    if (number >= 12 && number <= 14) return set_word(state_.physical, number - 12u, value);
    switch (number) {
        case 1:
        case 2:
        case 16:
        case 17:
            state_.initialization_block =
                with_word(state_.initialization_block, number == 2 || number == 17, value) & ~1u;
            return;
        case 15: state_.mode = value; return;
        case 24:
        case 25: state_.receive.base = with_word(state_.receive.base, number == 25, value); return;
        case 30:
        case 31: state_.transmit.base = with_word(state_.transmit.base, number == 31, value); return;
        case 47: state_.poll_interval = value; return;
        case 58: return write_bcr(20, value);
        case 72: state_.receive.next = static_cast<uint16_t>(0u - value) % state_.receive.count(); return;
        case 74: state_.transmit.next = static_cast<uint16_t>(0u - value) % state_.transmit.count(); return;
        case 76:
            state_.receive.length = value;
            state_.receive.next = 0;
            return;
        case 78:
            state_.transmit.length = value;
            state_.transmit.next = 0;
            return;
        case 80: state_.thresholds = value; return;
        case 82: state_.bus_timer = value; return;
        case 112: state_.missed = value; return;
        default: return;
    }
}

/// Events are cleared by ones; STOP wins over STRT and INIT, which begin nothing anew until STOP clears them: drivers
/// write back what they read.
void Pcnet::write_status(uint16_t value) {
    state_.status &= static_cast<uint16_t>(~(value & CSR0_events));
    state_.status = static_cast<uint16_t>((state_.status & ~CSR0_IENA) | (value & CSR0_IENA));
    if (value & CSR0_STOP) {
        state_.status = CSR0_STOP;
        state_.packet.clear();
        state_.started = state_.too_long = false;
        state_.extended &= static_cast<uint16_t>(~CSR5_SPND);
        return;
    }
    if ((value & CSR0_INIT) && !(state_.status & CSR0_INIT)) {
        state_.status &= static_cast<uint16_t>(~CSR0_STOP);
        initialize();
    }
    if ((value & CSR0_STRT) && !(state_.status & CSR0_STRT)) {
        state_.status &= static_cast<uint16_t>(~CSR0_STOP);
        state_.status |= CSR0_STRT;
        if (!(state_.mode & MODE_DTX)) state_.status |= CSR0_TXON;
        if (!(state_.mode & MODE_DRX)) state_.status |= CSR0_RXON;
        state_.receive.next = state_.transmit.next = 0;
    }
}

bool Pcnet::wide_structures() const {
    return (state_.software_style & BCR20_SWSTYLE) != 0;
}

/// Structures of 16 bits have addresses of 24; the rest of each is that of the initialization block (CSR2, IADR).
uint32_t Pcnet::upper_address() const {
    return state_.initialization_block & 0xFF000000;
}

/// Reads the initialization block (5.3): of 24 bytes, or of 28 with structures of 32 bits.
void Pcnet::initialize() {
    GuestMemory* memory = pci_.dma();
    if (!memory) {
        state_.status |= CSR0_MERR;
        return;
    }
    const Gpa at{state_.initialization_block};
    const auto ring = [](uint32_t base, unsigned exponent) {
        PcnetRing made;
        made.base = base;
        made.length = static_cast<uint16_t>(0x10000u - (1u << std::min(exponent, 9u)));
        return made;
    };
    state_.mode = memory->load<uint16_t>(at);
    if (wide_structures()) {
        const auto lengths = memory->load<uint16_t>(at + 2);
        memory->read(at + 4, std::as_writable_bytes(std::span(state_.physical)));
        memory->read(at + 12, std::as_writable_bytes(std::span(state_.filter)));
        state_.receive = ring(memory->load<uint32_t>(at + 20) & ~0xFu, lengths >> 4 & 0xF);
        state_.transmit = ring(memory->load<uint32_t>(at + 24) & ~0xFu, lengths >> 12);
    } else {
        memory->read(at + 2, std::as_writable_bytes(std::span(state_.physical)));
        memory->read(at + 8, std::as_writable_bytes(std::span(state_.filter)));
        const auto receive = memory->load<uint32_t>(at + 16), transmit = memory->load<uint32_t>(at + 20);
        state_.receive = ring(upper_address() | (receive & 0x00FFFFF8), receive >> 29);
        state_.transmit = ring(upper_address() | (transmit & 0x00FFFFF8), transmit >> 29);
    }
    state_.status |= CSR0_IDON | CSR0_INIT;
}

// ---- BCRs ----------------------------------------------------------------------------------------------------------

uint16_t Pcnet::read_bcr(uint16_t number) const {
    switch (number) {
        case 0:
        case 1: return 0x0005;
        case 2: return state_.miscellaneous;
        case 4: {
            const bool lit = (state_.leds[0] & BCR4_LNKSTE) && port_.link->up();
            return static_cast<uint16_t>(state_.leds[0] | (lit ? BCR4_LEDOUT : 0));
        }
        case 5:
        case 6:
        case 7: return state_.leds[number - 4u];
        case 9: return state_.full_duplex;
        case 18: return state_.burst;
        case 20: return state_.software_style;
        default: return 0;
    }
}

void Pcnet::write_bcr(uint16_t number, uint16_t value) {
    switch (number) {
        case 2: state_.miscellaneous = value; return;
        case 4:
        case 5:
        case 6:
        case 7: state_.leds[number - 4u] = value & 0x7FFF; return;
        case 9: state_.full_duplex = value & 7; return;
        case 18: state_.burst = value; return;
        case 20: {
            if (!(state_.status & CSR0_STOP)) return;
            const uint16_t style = value & BCR20_SWSTYLE;
            // The sizes follow of the style; those that are none are style 0.
            constexpr std::array<uint16_t, 4> with_style{BCR20_CSRPCNET, BCR20_SSIZE32 | 1,
                                                         BCR20_SSIZE32 | BCR20_CSRPCNET | 2,
                                                         BCR20_SSIZE32 | BCR20_CSRPCNET | 3};
            state_.software_style =
                static_cast<uint16_t>((value & BCR20_APERREN) | with_style[style < with_style.size() ? style : 0]);
            return;
        }
        default: return;
    }
}

// ---- Time and state ------------------------------------------------------------------------------------------------

/// What can move now, moves.
void Pcnet::go_on() {
    transmit();
    receive();
    update_irq();
}

void Pcnet::look_again(Duration after) {
    if (state_.resume) return;
    state_.resume = clock_.now() + after;
    timer_.arm(*state_.resume);
}

Result<void> Pcnet::validate(const PcnetState& staged) const {
    const auto good_ring = [](const PcnetRing& ring) { return ring.next < ring.count(); };
    const uint16_t style = staged.software_style & BCR20_SWSTYLE;
    const bool good = !(staged.address & ~0x7F) && !(staged.status & (CSR0_INTR | CSR0_ERR | CSR0_TDMD)) &&
                      good_ring(staged.receive) && good_ring(staged.transmit) && style <= 3 &&
                      !(staged.initialization_block & 1) && staged.packet.size() <= most_bytes;
    if (!good) return fail("the saved state of the PCnet cannot be");
    return pci_.validate(staged.pci);
}

void Pcnet::after_load() {
    pci_.after_load();
    timer_.cancel();
    if (state_.resume) timer_.arm(*state_.resume);
    update_irq();
}

Result<std::unique_ptr<Device>> make_pcnet(DeviceContext& context) {
    auto card = std::make_unique<Pcnet>(TRY(open_network_port(context)), context.clock);
    TRY(card->pci().attach(context));
    return card;
}

}  // namespace viv
