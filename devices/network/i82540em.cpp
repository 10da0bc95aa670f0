#include "devices/network/i82540em.hpp"

#include <algorithm>
#include <utility>

#include "devices/network/ethernet.hpp"

namespace viv {
namespace {

using namespace i82540em;

constexpr PciIdentity identity{.vendor = 0x8086,
                               .device = 0x100E,
                               .class_code = 0x020000,
                               .revision = 0x03,
                               .subsystem_vendor = 0x8086,
                               .subsystem = 0x001E,
                               .interrupt_pin = 1};
constexpr uint32_t registers_size = 0x20000;

constexpr uint16_t PHY_CONTROL_reset_bit = 1u << 15, PHY_CONTROL_restart = 1u << 9;
constexpr uint16_t PHY_STATUS_link = 1u << 2, PHY_STATUS_negotiated = 1u << 5;
constexpr uint16_t PHY_SPECIFIC_STATUS_link = 1u << 10, PHY_SPECIFIC_STATUS_resolved = 0xA800;

/// What the EEPROM of a card holds (5.6): address, initialization control words, identification, checksum.
std::array<uint16_t, 64> eeprom_of(const MacAddress& mac) {
    std::array<uint16_t, 64> words{};
    for (size_t i = 0; i < 3; ++i) words[i] = static_cast<uint16_t>(mac[2 * i] | mac[2 * i + 1] << 8);
    words[0x0A] = 0x4403;  // the identification below is this card's
    words[0x0B] = identity.subsystem;
    words[0x0C] = identity.subsystem_vendor;
    words[0x0D] = identity.device;
    words[0x0E] = identity.vendor;
    words[0x0F] = 0x3040;
    constexpr uint16_t whole = 0xBABA;
    uint16_t sum = 0;
    for (size_t i = 0; i < 63; ++i) sum = static_cast<uint16_t>(sum + words[i]);
    words[63] = static_cast<uint16_t>(whole - sum);
    return words;
}

std::array<uint16_t, 32> phy_after_reset() {
    std::array<uint16_t, 32> phy{};
    phy[PHY_CONTROL] = 0x1140;
    phy[PHY_STATUS] = 0x7949;
    phy[PHY_ID1] = 0x0141;
    phy[PHY_ID2] = 0x0C20;
    phy[PHY_ADVERTISEMENT] = 0x0DE1;
    phy[PHY_1000T_CONTROL] = 0x0E00;
    phy[PHY_EXTENDED_STATUS] = 0x3000;
    phy[PHY_SPECIFIC_CONTROL] = 0x0360;
    phy[PHY_EXTENDED_SPECIFIC_CONTROL] = 0x0D60;
    return phy;
}

template <class Row>
uint32_t* element(Row& row, uint32_t offset, uint32_t first, uint32_t end) {
    return offset >= first && offset < end ? &row[(offset - first) / 4] : nullptr;
}

uint64_t with_low(uint64_t old, uint32_t value) {
    return (old & ~uint64_t{0xFFFFFFFF}) | value;
}

uint64_t with_high(uint64_t old, uint32_t value) {
    return (old & 0xFFFFFFFF) | uint64_t{value} << 32;
}

constexpr uint32_t ring_length_bits = 0xFFF80, ring_base_bits = 0xFFFFFFF0;

}  // namespace

I82540em::I82540em(NetworkPort port, Clock& clock)
    : port_(std::move(port)),
      eeprom_(eeprom_of(port_.mac)),
      pci_(identity, state_.pci),
      clock_(clock),
      timer_(clock, [this](VirtualTime) { timer_ran(); }) {
    pci_.add_memory_bar(0, registers_size, *this);
    pci_.add_io_bar(1, 64, io_);
    // What waited for the permission to be bus master goes on.
    pci_.on_config_write([this](unsigned, unsigned) {
        transmit();
        receive();
        update_irq();
    });
    port_.link->on_receive([this] {
        receive();
        update_irq();
    });
    port_.link->on_state([this] {
        cause(ICR_LSC);
        update_irq();
    });
    reset(ResetKind::power_on);
}

void I82540em::reset(ResetKind /*kind*/) {
    state_ = {};
    pci_.reset();
    reset_card();
    state_.phy = phy_after_reset();
    update_irq();
}

/// CTRL.RST: everything but the PHY, the EEPROM's lines and the PCI configuration (13.4.1).
void I82540em::reset_card() {
    I82540emState fresh;
    fresh.phy = state_.phy;
    fresh.eecd = state_.eecd;
    fresh.eeprom = state_.eeprom;
    fresh.io_address = state_.io_address;
    fresh.pci = std::move(state_.pci);
    // The words of the EEPROM fill the first address.
    fresh.addresses[0] = uint32_t{eeprom_[1]} << 16 | eeprom_[0];
    fresh.addresses[1] = RAH_AV | eeprom_[2];
    fresh.control = CTRL_FD | CTRL_SLU;
    for (size_t i = 0; i < stored_count; ++i) {
        if (stored_registers[i].offset == VET) fresh.stored[i] = 0x8100;
        if (stored_registers[i].offset == PBA) fresh.stored[i] = 0x0030;
    }
    state_ = std::move(fresh);
    timer_.cancel();
}

// ---- Registers (chapter 13) ----------------------------------------------------------------------------------------

bool I82540em::link_up() const {
    return port_.link->up() && (state_.control & CTRL_SLU);
}

uint32_t I82540em::read_register(uint32_t offset) {
    if (offset >= STATISTICS && offset < STATISTICS_END)
        return std::exchange(state_.statistics[(offset - STATISTICS) / 4], 0);
    if (const auto* at = element(state_.multicast, offset, MTA, MTA_END)) return *at;
    if (const auto* at = element(state_.addresses, offset, RAL, RAL_END)) return *at;
    if (const auto* at = element(state_.vlans, offset, VFTA, VFTA_END)) return *at;
    switch (offset) {
        case CTRL: return state_.control;
        case STATUS: return STATUS_fixed | (link_up() ? STATUS_LU : 0);
        case EECD: return read_eecd();
        case EERD: return state_.eerd;
        case MDIC: return state_.mdic;
        case ICR: {
            const uint32_t causes = std::exchange(state_.causes, 0);
            update_irq();
            return causes;
        }
        case ITR: return state_.throttle;
        case ICS:
        case IMS: return state_.mask;
        case RCTL: return state_.receive_control;
        case TCTL: return state_.transmit_control;
        case RXCSUM: return state_.receive_checksum;
        case RDBAL: return static_cast<uint32_t>(state_.receive.base);
        case RDBAH: return static_cast<uint32_t>(state_.receive.base >> 32);
        case RDLEN: return state_.receive.length;
        case RDH: return state_.receive.head;
        case RDT: return state_.receive.tail;
        case TDBAL: return static_cast<uint32_t>(state_.transmit.base);
        case TDBAH: return static_cast<uint32_t>(state_.transmit.base >> 32);
        case TDLEN: return state_.transmit.length;
        case TDH: return state_.transmit.head;
        case TDT: return state_.transmit.tail;
        default: break;
    }
    const auto at = std::ranges::find(stored_registers, offset, &StoredRegister::offset);
    return at == stored_registers.end() ? 0 : state_.stored[static_cast<size_t>(at - stored_registers.begin())];
}

void I82540em::write_register(uint32_t offset, uint32_t value) {
    for (uint32_t* at :
         {element(state_.multicast, offset, MTA, MTA_END), element(state_.addresses, offset, RAL, RAL_END),
          element(state_.vlans, offset, VFTA, VFTA_END)}) {
        if (at) *at = value;
    }
    switch (offset) {
        case CTRL: return write_control(value);
        case EECD: return write_eecd(value);
        case EERD:
            state_.eerd = value & 0xFF00;
            if (value & EERD_START) state_.eerd |= EERD_DONE | uint32_t{eeprom_[value >> 8 & 0x3F]} << 16;
            return;
        case CTRL_EXT:
            // EE_RST loads the address anew; then the word is kept like others, below.
            if (value & CTRL_EXT_EE_RST) {
                state_.addresses[0] = uint32_t{eeprom_[1]} << 16 | eeprom_[0];
                state_.addresses[1] = RAH_AV | eeprom_[2];
            }
            break;
        case MDIC: write_mdic(value); return update_irq();
        case ICR: state_.causes &= ~value; return update_irq();
        case ITR: state_.throttle = value & 0xFFFF; return;
        case ICS: cause(value & ICR_all); return update_irq();
        case IMS: state_.mask |= value & ICR_all; return update_irq();
        case IMC: state_.mask &= ~value; return update_irq();
        case RCTL:
            state_.receive_control = value & 0x06DFF3FE;
            receive();
            return update_irq();
        case TCTL:
            state_.transmit_control = value & 0x01FFFFFA;
            transmit();
            return update_irq();
        case RXCSUM: state_.receive_checksum = value & 0x3FF; return;
        case RDBAL: state_.receive.base = with_low(state_.receive.base, value & ring_base_bits); return;
        case RDBAH: state_.receive.base = with_high(state_.receive.base, value); return;
        case RDLEN: state_.receive.length = value & ring_length_bits; return;
        case RDH: state_.receive.head = value & 0xFFFF; return;
        case RDT:
            state_.receive.tail = value & 0xFFFF;
            receive();
            return update_irq();
        case TDBAL: state_.transmit.base = with_low(state_.transmit.base, value & ring_base_bits); return;
        case TDBAH: state_.transmit.base = with_high(state_.transmit.base, value); return;
        case TDLEN: state_.transmit.length = value & ring_length_bits; return;
        case TDH: state_.transmit.head = value & 0xFFFF; return;
        case TDT:
            state_.transmit.tail = value & 0xFFFF;
            if (state_.resume) return;
            transmit();
            return update_irq();
        default: break;
    }
    const auto at = std::ranges::find(stored_registers, offset, &StoredRegister::offset);
    if (at != stored_registers.end())
        state_.stored[static_cast<size_t>(at - stored_registers.begin())] = value & at->writable;
}

/// Registers are of 32 bits, at every multiple of four.
uint64_t I82540em::read(Access access) {
    uint64_t value = 0;
    for (uint64_t at = access.offset & ~uint64_t{3}; at < access.offset + access.size; at += 4) {
        const uint64_t word = read_register(static_cast<uint32_t>(at));
        value |= at < access.offset ? word >> (8 * (access.offset - at)) : word << (8 * (at - access.offset));
    }
    return value;
}

/// A write of less than a register does nothing (13.2: software accesses 32 bits).
void I82540em::write(Access access, uint64_t value) {
    if (access.offset % 4 != 0) return;
    for (unsigned done = 0; done + 4u <= access.size; done += 4) {
        write_register(static_cast<uint32_t>(access.offset + done), static_cast<uint32_t>(value >> (8 * done)));
    }
}

uint64_t I82540em::IoWindow::read(Access access) {
    if (access.offset == 0) return card_.state_.io_address;
    if (access.offset != 4 || card_.state_.io_address >= registers_size) return 0;
    return card_.read_register(card_.state_.io_address & ~3u);
}

void I82540em::IoWindow::write(Access access, uint64_t value) {
    if (access.size != 4) return;
    if (access.offset == 0) card_.state_.io_address = static_cast<uint32_t>(value);
    if (access.offset == 4 && card_.state_.io_address < registers_size)
        card_.write_register(card_.state_.io_address & ~3u, static_cast<uint32_t>(value));
}

void I82540em::write_control(uint32_t value) {
    if (value & CTRL_RST) {
        reset_card();
        return update_irq();
    }
    const bool was_up = link_up();
    if (value & CTRL_PHY_RST) state_.phy = phy_after_reset();
    state_.control = value & ~(CTRL_RST | CTRL_PHY_RST);
    if (link_up() != was_up) cause(ICR_LSC);
    update_irq();
}

// ---- EEPROM and PHY ------------------------------------------------------------------------------------------------

uint32_t I82540em::read_eecd() const {
    const uint32_t lines = state_.eecd;
    return lines | EECD_PRES | (lines & EECD_REQ ? EECD_GNT : 0) | (state_.eeprom.output ? EECD_DO : 0);
}

void I82540em::write_eecd(uint32_t value) {
    state_.eecd = static_cast<uint8_t>(value & (EECD_SK | EECD_CS | EECD_DI | EECD_REQ));
    state_.eeprom.drive(value & EECD_CS, value & EECD_SK, value & EECD_DI, eeprom_);
}

void I82540em::write_mdic(uint32_t value) {
    constexpr uint32_t phy_address = 1;
    const uint32_t number = value >> 16 & 0x1F;
    state_.mdic = (value & ~MDIC_E) | MDIC_R;
    if ((value >> 21 & 0x1F) != phy_address) {
        state_.mdic |= MDIC_E;
    } else if ((value & MDIC_OP) == MDIC_OP_READ) {
        state_.mdic = (state_.mdic & 0xFFFF0000) | read_phy(number);
    } else if ((value & MDIC_OP) == MDIC_OP_WRITE) {
        write_phy(number, static_cast<uint16_t>(value));
    }
    if (value & MDIC_I) cause(ICR_MDAC);
}

uint16_t I82540em::read_phy(uint32_t number) const {
    const bool carrier = port_.link->up();
    switch (number) {
        case PHY_STATUS:
            return static_cast<uint16_t>(state_.phy[number] | (carrier ? PHY_STATUS_link | PHY_STATUS_negotiated : 0));
        case PHY_PARTNER: return carrier ? 0xCDE1 : 0;
        case PHY_EXPANSION: return carrier ? 0x000F : 0;
        case PHY_1000T_STATUS: return carrier ? 0x3C00 : 0;
        case PHY_SPECIFIC_STATUS:
            return carrier ? PHY_SPECIFIC_STATUS_resolved | PHY_SPECIFIC_STATUS_link : uint16_t{0};
        default: return state_.phy[number];
    }
}

void I82540em::write_phy(uint32_t number, uint16_t value) {
    switch (number) {
        case PHY_CONTROL:
            if (value & PHY_CONTROL_reset_bit) state_.phy = phy_after_reset();
            if (value & (PHY_CONTROL_restart | PHY_CONTROL_reset_bit)) cause(ICR_LSC);
            state_.phy[number] = value & 0x7DFF;
            return;
        case PHY_STATUS:
        case PHY_ID1:
        case PHY_ID2:
        case PHY_PARTNER:
        case PHY_EXPANSION:
        case PHY_1000T_STATUS:
        case PHY_EXTENDED_STATUS:
        case PHY_SPECIFIC_STATUS: return;
        default: state_.phy[number] = value;
    }
}

// ---- Statistics and interrupts -------------------------------------------------------------------------------------

void I82540em::count(uint32_t statistic, uint32_t by) {
    uint32_t& value = state_.statistics[statistic];
    value = by > UINT32_MAX - value ? UINT32_MAX : value + by;  // they stick
}

void I82540em::count_bytes(uint32_t statistic, uint64_t by) {
    uint32_t& low = state_.statistics[statistic];
    uint32_t& high = state_.statistics[statistic + 1];
    const uint64_t sum = (uint64_t{high} << 32 | low) + by;
    low = static_cast<uint32_t>(sum);
    high = static_cast<uint32_t>(sum >> 32);
}

void I82540em::count_frame(const FrameStatistics& which, std::span<const uint8_t> frame, size_t on_wire) {
    count(which.all);
    count(which.good);
    count_bytes(which.all_bytes, on_wire);
    count_bytes(which.good_bytes, on_wire);
    constexpr std::array<size_t, 5> most{64, 127, 255, 511, 1023};
    count(which.sizes + static_cast<uint32_t>(std::ranges::lower_bound(most, on_wire) - most.begin()));
    if (frame[0] & 1) count(is_broadcast(frame) ? which.broadcasts : which.groups);
}

/// The level is a cause that is not masked; with ITR on, it rises again only some time after it last did (13.4.18).
void I82540em::update_irq() {
    constexpr Duration unit{256};
    const bool wanted = (state_.causes & state_.mask) != 0;
    if (wanted && !state_.interrupt && state_.throttle != 0) {
        const VirtualTime now = clock_.now();
        if (!state_.quiet_until || *state_.quiet_until <= now) {
            state_.quiet_until = now + unit * state_.throttle;
            state_.interrupt = true;
        }
    } else {
        state_.interrupt = wanted;
        if (state_.throttle == 0) state_.quiet_until.reset();
    }
    pci_.set_interrupt(state_.interrupt);
    arm_timer();
}

void I82540em::arm_timer() {
    std::optional<VirtualTime> next = state_.resume;
    const bool waits = !state_.interrupt && (state_.causes & state_.mask) && state_.quiet_until;
    if (waits && (!next || *state_.quiet_until < *next)) next = state_.quiet_until;
    if (!next) return timer_.cancel();
    if (timer_.deadline() != next) timer_.arm(*next);
}

void I82540em::timer_ran() {
    if (state_.resume && *state_.resume <= clock_.now()) {
        state_.resume.reset();
        transmit();
    }
    update_irq();
}

// ---- State ---------------------------------------------------------------------------------------------------------

Result<void> I82540em::validate(const I82540emState& staged) const {
    const auto good_ring = [](const I82540emRing& ring) {
        return !(ring.base & 0xF) && !(ring.length & ~ring_length_bits) && ring.head <= 0xFFFF && ring.tail <= 0xFFFF;
    };
    bool good = good_ring(staged.receive) && good_ring(staged.transmit) && staged.packet.bytes.size() <= most_bytes &&
                !(staged.causes & ~ICR_all) && !(staged.mask & ~ICR_all) && staged.throttle <= 0xFFFF &&
                staged.eeprom.can_be() && staged.interrupt == staged.pci.interrupt &&
                (!staged.interrupt || (staged.causes & staged.mask) != 0);
    for (size_t i = 0; i < stored_count; ++i) good = good && !(staged.stored[i] & ~stored_registers[i].writable);
    if (!good) return fail("the saved state of the 82540EM cannot be");
    return pci_.validate(staged.pci);
}

void I82540em::after_load() {
    pci_.after_load();
    timer_.cancel();
    arm_timer();
}

Result<std::unique_ptr<Device>> make_i82540em(DeviceContext& context) {
    auto card = std::make_unique<I82540em>(TRY(open_network_port(context)), context.clock);
    TRY(card->pci().attach(context));
    return card;
}

}  // namespace viv
