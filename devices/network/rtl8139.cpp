#include "devices/network/rtl8139.hpp"

#include <algorithm>
#include <utility>

#include "devices/network/rtl8139_registers.hpp"

namespace viv {
namespace {

using namespace rtl8139;

constexpr uint32_t registers_size = 256;
constexpr uint64_t timer_hertz = 33'000'000;  // the PCI clock

constexpr PciIdentity identity_of(Rtl8139::Chip chip) {
    return {.vendor = 0x10EC,
            .device = 0x8139,
            .class_code = 0x020000,
            .revision = static_cast<uint8_t>(chip == Rtl8139::Chip::c ? 0x10 : 0x20),
            .subsystem_vendor = 0x10EC,
            .subsystem = 0x8139,
            .interrupt_pin = 1};
}

/// The words of a card's EEPROM that are read: identification and address (chapter 6).
std::array<uint16_t, Eeprom93c46::words> eeprom_of(const MacAddress& mac) {
    std::array<uint16_t, Eeprom93c46::words> words{};
    words[0] = 0x8129;
    words[1] = words[3] = 0x10EC;
    words[2] = words[4] = 0x8139;
    for (size_t i = 0; i < 3; ++i) words[7 + i] = static_cast<uint16_t>(mac[2 * i] | mac[2 * i + 1] << 8);
    return words;
}

constexpr uint16_t BMCR_negotiate = 0x1000, BMCR_writable = 0x3100, BMSR_fixed = 0x7829, BMSR_link = 0x0004,
                   ANAR_after_reset = 0x01E1, ANLPAR_partner = 0x45E1, ANER_able = 0x0001;

template <size_t size>
uint32_t load_bytes(const std::array<uint8_t, size>& bytes, size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4 && at + i < size; ++i) value |= uint32_t{bytes[at + i]} << (8 * i);
    return value;
}

template <size_t size>
void store_bytes(std::array<uint8_t, size>& bytes, size_t at, uint32_t value) {
    for (size_t i = 0; i < 4 && at + i < size; ++i) bytes[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

/// Registers that an access reaches, each with how many bytes of it are before the access (or after its start).
template <class Visit>
void for_each_place(Access access, Visit visit) {
    for (const Place& place : places) {
        if (place.at >= access.offset + access.size || uint64_t{place.at} + place.size <= access.offset) continue;
        visit(place, 8 * (static_cast<int>(place.at) - static_cast<int>(access.offset)));
    }
}

uint64_t shifted(uint64_t value, int left) {
    return left >= 0 ? value << left : value >> -left;
}

}  // namespace

Rtl8139::Rtl8139(NetworkPort port, Chip chip, Clock& clock)
    : port_(std::move(port)),
      chip_(chip),
      eeprom_(eeprom_of(port_.mac)),
      pci_(identity_of(chip), state_.pci),
      clock_(clock),
      timer_(clock, [this](VirtualTime) { timer_ran(); }) {
    pci_.add_io_bar(0, registers_size, *this);
    pci_.add_memory_bar(1, registers_size, *this);
    // What waited for the permission to be bus master goes on.
    pci_.on_config_write([this](unsigned, unsigned) { go_on(); });
    port_.link->on_receive([this] { go_on(); });
    port_.link->on_state([this] {
        state_.link_changed = true;
        cause(ISR_LinkChg);
        update_irq();
    });
    reset(ResetKind::power_on);
}

void Rtl8139::reset(ResetKind /*kind*/) {
    state_ = {};
    pci_.reset();
    load_address();
    reset_chip();
    update_irq();
}

void Rtl8139::load_address() {
    for (size_t i = 0; i < state_.id.size(); ++i) state_.id[i] = port_.mac[i];
}

/// CR.RST: transmitter, receiver and their registers; the address, the filter, EEPROM lines and PHY stay (6.7).
void Rtl8139::reset_chip() {
    Rtl8139State fresh;
    fresh.id = state_.id;
    fresh.multicast = state_.multicast;
    fresh.eeprom_control = state_.eeprom_control;
    fresh.eeprom = state_.eeprom;
    fresh.config = {0, 0x0C, 0, 0, 0};
    fresh.transmit_status.fill(TSD_OWN);
    fresh.phy_control = 0x3100;
    fresh.phy_advertisement = ANAR_after_reset;
    fresh.pci = std::move(state_.pci);
    state_ = std::move(fresh);
    timer_.cancel();
}

void Rtl8139::update_irq() {
    pci_.set_interrupt((state_.causes & state_.mask) != 0);
}

/// What can move now, moves.
void Rtl8139::go_on() {
    transmit();
    receive();
    update_irq();
}

/// Drivers clear ROK behind each frame, stop after some (Linux after 64), and read on when ROK is set. On a card the
/// next frame sees to that, which here may wait for an answer to what lies in the buffer. So ROK tells again.
void Rtl8139::clear_causes(uint16_t causes) {
    state_.causes &= static_cast<uint16_t>(~causes);
    if ((causes & ISR_ROK) && holds_frames()) look_again();
}

/// A moment later the rings are looked at again.
void Rtl8139::look_again() {
    constexpr Duration moment = std::chrono::milliseconds(1);
    if (state_.retry) return;
    state_.retry = clock_.now() + moment;
    arm_timer();
}

/// The buffer, not the rings of C+ mode, has what the driver did not read.
bool Rtl8139::holds_frames() const {
    return receives() && !plus_receives() && !buffer_is_empty();
}

bool Rtl8139::buffer_is_empty() const {
    return (state_.receive_read + 16u) % buffer_size() == state_.receive_write;
}

bool Rtl8139::unlocked() const {
    return (state_.eeprom_control & CR9346_EEM) == EEM_write_enable;
}
bool Rtl8139::transmits() const {
    return state_.command & CR_TE;
}
bool Rtl8139::receives() const {
    return state_.command & CR_RE;
}
bool Rtl8139::plus_transmits() const {
    return transmits() && (state_.plus_command & CPCR_TxOn);
}
bool Rtl8139::plus_receives() const {
    return receives() && (state_.plus_command & CPCR_RxOn);
}

// ---- Registers (chapter 6) -----------------------------------------------------------------------------------------

uint64_t Rtl8139::read(Access access) {
    uint64_t value = 0;
    for_each_place(access, [&](const Place& place, int left) {
        value |= shifted(read_register(place.at), left);
        if (place.at == CSCR) state_.link_changed = false;
    });
    return access.size >= 8 ? value : value & ((uint64_t{1} << (8 * access.size)) - 1);
}

void Rtl8139::write(Access access, uint64_t value) {
    const uint64_t written = access.size >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * access.size)) - 1;
    for_each_place(access, [&](const Place& place, int left) {
        const uint64_t whole = (uint64_t{1} << (8 * place.size)) - 1;
        const uint64_t mask = shifted(written, -left) & whole;
        write_register(place.at, static_cast<uint32_t>(shifted(value & written, -left) & mask),
                       static_cast<uint32_t>(mask));
    });
    go_on();
}

/// TSAD: what all four descriptors say of OWN, TABT, TUN and TOK.
uint16_t Rtl8139::summary() const {
    uint32_t bits = 0;
    for (unsigned i = 0; i < 4; ++i) {
        const uint32_t status = state_.transmit_status[i];
        bits |= (status & TSD_OWN ? 1u : 0u) << i | (status & TSD_TABT ? 1u : 0u) << (4 + i) |
                (status & TSD_TOK ? 1u : 0u) << (12 + i);
    }
    return static_cast<uint16_t>(bits);
}

uint32_t Rtl8139::read_register(uint8_t at) const {
    const bool plus = chip_ == Chip::c_plus;
    const bool up = port_.link->up();
    if (at >= TSD0 && at <= TSD3) return state_.transmit_status[(at - TSD0) / 4];
    if (at >= TSAD0 && at <= TSAD3) return state_.transmit_address[(at - TSAD0) / 4];
    switch (at) {
        case IDR0: return load_bytes(state_.id, 0);
        case IDR4: return load_bytes(state_.id, 4);
        case MAR0: return load_bytes(state_.multicast, 0);
        case MAR4: return load_bytes(state_.multicast, 4);
        case RBSTART: return state_.receive_start;
        case CR: return state_.command | (buffer_is_empty() ? CR_BUFE : 0u);
        case CAPR: return state_.receive_read;
        case CBR: return state_.receive_write;
        case IMR: return state_.mask;
        case ISR: return state_.causes;
        case TCR: return state_.transmit_control | (plus ? 0x74800000 : 0x74000000);
        case RCR: return state_.receive_control;
        case TCTR: return timer_count();
        case MPC: return state_.missed;
        case CR9346: return state_.eeprom_control | (state_.eeprom.output ? CR9346_EEDO : 0u);
        case CONFIG0: return state_.config[0];
        case CONFIG1: return state_.config[1];
        case CONFIG3: return state_.config[2];
        case CONFIG4: return state_.config[3];
        case CONFIG5: return plus ? state_.config[4] : 0u;
        case TIMERINT: return state_.timer_interrupt;
        case MSR: return MSR_fixed | (up ? 0u : MSR_LINKB);
        case MULINT: return state_.multiple_interrupt;
        case RERID: return 0x10;
        case TSAD: return summary();
        case BMCR: return state_.phy_control;
        case BMSR: return up ? BMSR_fixed | BMSR_link : uint32_t{BMSR_fixed & ~0x20};
        case ANAR: return state_.phy_advertisement;
        case ANLPAR: return up ? ANLPAR_partner : 0;
        case ANER: return up ? ANER_able : 0;
        case CSCR:
            return CSCR_fixed | (up ? CSCR_Con_status | CSCR_link_OK : 0u) |
                   (state_.link_changed ? CSCR_link_changed : 0u);
        case CPCR: return plus ? state_.plus_command : 0u;
        case RDSAR: return plus ? static_cast<uint32_t>(state_.receive_ring) : 0u;
        case RDSAR_high: return plus ? static_cast<uint32_t>(state_.receive_ring >> 32) : 0u;
        case MTPS: return plus ? state_.longest : 0u;
        default: return 0;
    }
}

void Rtl8139::write_register(uint8_t at, uint32_t value, uint32_t mask) {
    const bool plus = chip_ == Chip::c_plus;
    const auto merged = [&](uint32_t old) { return (old & ~mask) | value; };
    const auto merge = [&](auto& field, uint32_t writable) {
        using Field = std::remove_reference_t<decltype(field)>;
        field = static_cast<Field>((field & ~writable) | (merged(field) & writable));
    };
    if (at >= TSD0 && at <= TSD3) return write_transmit_status((at - TSD0) / 4u, merged(read_register(at)));
    if (at >= TSAD0 && at <= TSAD3) {
        // In C+ mode an address that is written begins its ring anew.
        if (at == TNPDS) state_.transmit_index = 0;
        return merge(state_.transmit_address[(at - TSAD0) / 4], plus_transmits() ? ~0u : ~3u);
    }
    switch (at) {
        case IDR0:
        case IDR4:
            if (unlocked()) store_bytes(state_.id, at, merged(read_register(at)));
            return;
        case MAR0:
        case MAR4: return store_bytes(state_.multicast, at - MAR0, merged(read_register(at)));
        case RBSTART: return merge(state_.receive_start, ~3u);
        case CR: return write_command(static_cast<uint8_t>(value));
        case CAPR: return merge(state_.receive_read, 0xFFFF);
        case IMR: return merge(state_.mask, ISR_all);
        case ISR: return clear_causes(static_cast<uint16_t>(value));
        case TCR: return merge(state_.transmit_control, TCR_writable);
        case RCR: return merge(state_.receive_control, RCR_writable);
        case TCTR: state_.timer_start = clock_.now(); return set_timer();
        case TIMERINT: merge(state_.timer_interrupt, ~0u); return set_timer();
        case MPC: state_.missed = 0; return;
        case CR9346: return write_eeprom_control(static_cast<uint8_t>(value));
        case CONFIG1:
            if (unlocked()) merge(state_.config[1], 0xF3);
            return;
        case CONFIG3:
            if (unlocked()) merge(state_.config[2], 0x7E);
            return;
        case CONFIG4:
            if (unlocked()) merge(state_.config[3], 0xFF);
            return;
        case CONFIG5:
            if (unlocked() && plus) merge(state_.config[4], 0xFF);
            return;
        case MULINT: return merge(state_.multiple_interrupt, 0x0FFF);
        case BMCR:
            merge(state_.phy_control, BMCR_writable);
            if (value & 0x8000) state_.phy_control = BMCR_writable;
            return;
        case ANAR: return merge(state_.phy_advertisement, 0xFFFF);
        default: break;
    }
    if (!plus) return;
    switch (at) {
        case TPPOLL:
            if (value & TPPOLL_FSWInt) cause(ISR_SWInt);
            if (value & TPPOLL_NPQ) transmit_ring();
            return;
        case CPCR: return merge(state_.plus_command, CPCR_writable);
        case RDSAR:
            state_.receive_ring = (state_.receive_ring & ~uint64_t{0xFFFFFFFF}) | (merged(read_register(at)) & ~0xFFu);
            state_.receive_index = 0;
            return;
        case RDSAR_high:
            state_.receive_ring = (state_.receive_ring & 0xFFFFFFFF) | uint64_t{merged(read_register(at))} << 32;
            return;
        case MTPS: return merge(state_.longest, 0x3F);
        default: return;
    }
}

void Rtl8139::write_command(uint8_t value) {
    if (value & CR_RST) return reset_chip();
    const uint8_t before = std::exchange(state_.command, value & (CR_RE | CR_TE));
    if (!(before & CR_TE) || !(value & CR_TE)) {
        state_.pending = 0;
        state_.next = 0;
        state_.packet = {};
    }
}

void Rtl8139::write_eeprom_control(uint8_t value) {
    state_.eeprom_control = value & static_cast<uint8_t>(~(CR9346_EEDO | 0x30));
    const uint8_t mode = value & CR9346_EEM;
    if (mode == EEM_auto_load) {
        load_address();
        state_.eeprom_control = 0;
    }
    const bool lines = mode == EEM_programming;
    state_.eeprom.drive(lines && (value & CR9346_EECS), lines && (value & CR9346_EESK), lines && (value & CR9346_EEDI),
                        eeprom_);
}

/// A descriptor is given to the chip by clearing OWN; in C+ mode the first two registers are DTCCR.
void Rtl8139::write_transmit_status(unsigned index, uint32_t value) {
    if (plus_transmits()) {
        state_.transmit_status[index] = value & ~DTCCR_CMD;
        if (index == 0 && (value & DTCCR_CMD)) dump_counters();
        return;
    }
    state_.transmit_status[index] = value & (TSD_SIZE | TSD_OWN | TSD_ERTXTH);
    if (!(value & TSD_OWN) && transmits()) state_.pending = static_cast<uint8_t>(state_.pending | 1u << index);
}

// ---- Timer ---------------------------------------------------------------------------------------------------------

uint32_t Rtl8139::timer_count() const {
    return static_cast<uint32_t>(
        ticks_in(std::max<int64_t>((clock_.now() - state_.timer_start).count(), 0), timer_hertz));
}

/// When TCTR will be TIMERINT, which counts from when either was written.
void Rtl8139::set_timer() {
    state_.timer_due.reset();
    if (state_.timer_interrupt != 0) {
        const uint32_t ticks = state_.timer_interrupt - timer_count();
        state_.timer_due = clock_.now() + Duration{ns_of_ticks(ticks, timer_hertz)};
    }
    arm_timer();
}

void Rtl8139::arm_timer() {
    std::optional<VirtualTime> first = state_.timer_due;
    if (state_.retry && (!first || *state_.retry < *first)) first = state_.retry;
    if (first) {
        timer_.arm(*first);
    } else {
        timer_.cancel();
    }
}

void Rtl8139::timer_ran() {
    const VirtualTime now = clock_.now();
    if (state_.timer_due && *state_.timer_due <= now) {
        state_.timer_due.reset();
        cause(ISR_TimeOut);
    }
    if (state_.retry && *state_.retry <= now) {
        state_.retry.reset();
        if (holds_frames()) cause(ISR_ROK);
    }
    go_on();
    arm_timer();
}

// ---- State ---------------------------------------------------------------------------------------------------------

Result<void> Rtl8139::validate(const Rtl8139State& staged) const {
    const bool good = !(staged.pending & 0xF0) && staged.next < 4 && !(staged.command & ~(CR_RE | CR_TE)) &&
                      !(staged.mask & ~ISR_all) && !(staged.causes & ~ISR_all) &&
                      !(staged.transmit_control & ~TCR_writable) && !(staged.receive_control & ~RCR_writable) &&
                      staged.eeprom.can_be() && !(staged.plus_command & ~CPCR_writable) &&
                      staged.receive_index < ring_entries && staged.transmit_index < ring_entries &&
                      staged.packet.bytes.size() <= most_bytes && !(staged.receive_ring & 0xFF) &&
                      staged.timer_start.ns >= 0 && staged.pci.interrupt == ((staged.causes & staged.mask) != 0);
    if (!good) return fail("the saved state of the RTL8139 cannot be");
    return pci_.validate(staged.pci);
}

void Rtl8139::after_load() {
    pci_.after_load();
    arm_timer();
}

namespace {

Result<std::unique_ptr<Device>> make(DeviceContext& context, Rtl8139::Chip chip) {
    auto card = std::make_unique<Rtl8139>(TRY(open_network_port(context)), chip, context.clock);
    TRY(card->pci().attach(context));
    return card;
}

}  // namespace

Result<std::unique_ptr<Device>> make_rtl8139(DeviceContext& context) {
    return make(context, Rtl8139::Chip::c);
}

Result<std::unique_ptr<Device>> make_rtl8139cp(DeviceContext& context) {
    return make(context, Rtl8139::Chip::c_plus);
}

}  // namespace viv
