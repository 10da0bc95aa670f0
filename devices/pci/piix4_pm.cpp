#include "devices/pci/piix4_pm.hpp"

#include <algorithm>

namespace viv {
namespace {

constexpr PciIdentity identity{
    .vendor = 0x8086, .device = 0x7113, .class_code = 0x068000, .revision = 0x03, .interrupt_pin = 1};

// Configuration space (7.1).
enum Config : uint8_t {
    PMBASE = 0x40,
    DEVACTB = 0x58,
    PMREGMISC = 0x80,
    SMBBA = 0x90,
    SMBHSTCFG = 0xD2,
};
constexpr uint8_t PMIOSE = 0x01;          // PMREGMISC: the block at PMBASE is decoded
constexpr uint8_t SMB_HST_EN = 0x01;      // SMBHSTCFG: likewise that at SMBBA
constexpr uint32_t APMC_EN = 0x02000000;  // DEVACTB: writes to APMC are an SMI

enum class Register : uint8_t {
    PMSTS = 0x00,    // rw1c
    PMEN = 0x02,     // rw
    PMCNTRL = 0x04,  // rw
    PMTMR = 0x08,    // r-  32 bits
    PMTMR_HIGH = 0x0A,
    GPSTS = 0x0C,  // rw1c
    GPEN = 0x0E,   // rw
};

constexpr uint16_t TMR_STS = 0x0001;  // bit 23 of the timer changed
constexpr uint16_t GBL_STS = 0x0020;  // the firmware released the global lock: never, there is no SMI
constexpr uint16_t PWRBTN_STS = 0x0100;
constexpr uint16_t PMSTS_BITS = TMR_STS | GBL_STS | PWRBTN_STS;

constexpr uint16_t RTC_EN = 0x0400;
constexpr uint16_t PMEN_BITS = PMSTS_BITS | RTC_EN;

constexpr uint16_t SCI_EN = 0x0001;
constexpr uint16_t SUS_TYP = 0x1C00;
constexpr uint16_t SUS_EN = 0x2000;  // -w: enters the state of SUS_TYP
constexpr uint16_t PMCNTRL_BITS = SCI_EN | SUS_TYP;
constexpr uint16_t soft_off = 0;  // SUS_TYP of S5

constexpr uint16_t GPSTS_BITS = 0x0F01;  // THRM, LID, RI, USB, GPI1
constexpr uint16_t GPEN_BITS = 0x0F01;

/// First byte, last byte, reset value of what only keeps what is written.
struct Storage {
    uint8_t offset;
    uint8_t size;
    uint32_t reset_value;
    uint32_t writable;
};
constexpr Storage storage[] = {
    {0x10, 4, 0, 0x00022E1E},           // PCNTRL
    {0x20, 4, 0, 0x00000D0F},           // GLBEN
    {0x28, 4, 0, 0x0503FF0F},           // GLBCTL
    {0x2C, 4, 0, 0x07FFFFFF},           // DEVCTL
    {0x30, 4, 0x0000FFFF, 0},           // GPIREG: inputs pulled up
    {0x34, 4, 0x7FFFBFFF, 0x7FFFFFFF},  // GPOREG
};

constexpr uint64_t timer_hertz = 3'579'545;
constexpr uint64_t timer_mask = 0xFFFFFF;
constexpr unsigned timer_status_bit = 23;

constexpr uint64_t APMC = 0;
// What the firmware's SMI handler does for the FADT's command port.
constexpr uint8_t ACPI_ENABLE = 0xF1, ACPI_DISABLE = 0xF0;

// The SMBus host controller (7.2.2), as offsets from SMBBA.
enum Smbus : uint8_t { SMBHSTSTS = 0, SMBSLVSTS = 1, SMBHSTCNT = 2, SMBBLKDAT = 7, SMBSLVEVT = 0xA, SMBSLVDAT = 0xC };
constexpr uint8_t SMB_DEV_ERR = 0x04, SMB_STATUS_BITS = 0x1E;
constexpr uint8_t SMB_START = 0x40, SMB_CONTROL_BITS = 0x1D;

constexpr uint8_t storage_mask(uint64_t offset) {
    for (const Storage& one : storage) {
        if (offset - one.offset < one.size) return static_cast<uint8_t>(one.writable >> (8 * (offset - one.offset)));
    }
    return 0;
}

constexpr uint8_t storage_reset(uint64_t offset) {
    for (const Storage& one : storage) {
        if (offset - one.offset < one.size) return static_cast<uint8_t>(one.reset_value >> (8 * (offset - one.offset)));
    }
    return 0;
}

}  // namespace

Piix4Pm::Piix4Pm(Clock& clock, SystemControl& system, IrqLine sci)
    : clock_(clock),
      system_(system),
      sci_(std::move(sci)),
      timer_(clock, [this](VirtualTime) { update(); }),
      pci_(identity, state_.pci) {
    pci_.add_register(pci::COMMAND, 2, 0, pci::IO_SPACE);
    // The SCI is a wire of its own; the PCI pin is never driven.
    pci_.add_register(pci::INTERRUPT_LINE, 1, 9);
    pci_.add_register(PMBASE, 4, 1, 0xFFC0);
    for (uint8_t at = 0x44; at <= 0x7C; at = static_cast<uint8_t>(at + 4)) pci_.add_register(at, 4, 0, 0xFFFFFFFF);
    // No SMI can be set up on this board, so firmware that would finds that it has been.
    pci_.add_register(DEVACTB, 4, APMC_EN, 0xFFFFFFFF);
    pci_.add_register(PMREGMISC, 1, 0, PMIOSE);
    pci_.add_register(SMBBA, 4, 1, 0xFFF0);
    pci_.add_register(SMBHSTCFG, 4, 0, 0xFFFFFF0F);
    pci_.on_config_write([this](unsigned, unsigned) { pci_.remap(); });
    pci_.add_decoder([this](std::vector<PciWindow>& windows) { decode(windows); });
    reset(ResetKind::power_on);
}

void Piix4Pm::reset(ResetKind /*kind*/) {
    state_ = {};
    for (unsigned i = 0; i < state_.storage.size(); ++i) state_.storage[i] = storage_reset(i);
    state_.timer_seen = clock_.now();
    pci_.reset();
    update();
}

void Piix4Pm::decode(std::vector<PciWindow>& windows) {
    const auto base = [this](uint8_t offset, uint32_t mask) { return pci_.config_read(offset, 4) & mask; };
    const auto add = [&windows](uint64_t at, uint64_t size, BusDevice& device) {
        windows.push_back({PciWindow::Space::ports, at, size, &device});
    };
    if (pci_.config_read(PMREGMISC, 1) & PMIOSE) add(base(PMBASE, 0xFFC0), block_size, *this);
    if (pci_.config_read(SMBHSTCFG, 1) & SMB_HST_EN) add(base(SMBBA, 0xFFF0), smbus_size, smbus_);
}

void Piix4Pm::press() {
    if (!(state_.pmcntrl & SCI_EN)) return system_.request_power_off("power button");
    state_.pmsts |= PWRBTN_STS;
    update();
}

uint64_t Piix4Pm::read(Access access) {
    update();
    uint64_t value = 0;
    for (unsigned i = access.size; i-- > 0;) value = value << 8 | byte_at(access.offset + i);
    return value;
}

void Piix4Pm::write(Access access, uint64_t value) {
    for (unsigned i = 0; i < access.size; ++i) write8(access.offset + i, static_cast<uint8_t>(value >> (8 * i)));
}

/// As of the last update().
uint8_t Piix4Pm::byte_at(uint64_t offset) const {
    const unsigned shift = 8 * (offset & 1);
    switch (static_cast<Register>(offset & ~uint64_t{1})) {
        case Register::PMSTS: return static_cast<uint8_t>(state_.pmsts >> shift);
        case Register::PMEN: return static_cast<uint8_t>(state_.pmen >> shift);
        case Register::PMCNTRL: return static_cast<uint8_t>(state_.pmcntrl >> shift);
        case Register::GPSTS: return static_cast<uint8_t>(state_.gpsts >> shift);
        case Register::GPEN: return static_cast<uint8_t>(state_.gpen >> shift);
        case Register::PMTMR:
        case Register::PMTMR_HIGH: {
            const uint64_t count = ticks_in(state_.timer_seen.ns, timer_hertz) & timer_mask;
            return static_cast<uint8_t>(count >> (8 * (offset & 3)));
        }
    }
    return offset < block_size ? state_.storage[offset] : 0;
}

void Piix4Pm::write8(uint64_t offset, uint8_t value) {
    update();
    const unsigned shift = 8 * (offset & 1);
    const auto bits = static_cast<uint16_t>(value << shift);
    const auto others = static_cast<uint16_t>(0xFF00 >> shift);
    const auto replace = [&](uint16_t& target, uint16_t existing) {
        target = static_cast<uint16_t>((target & others) | (bits & existing));
    };
    switch (static_cast<Register>(offset & ~uint64_t{1})) {
        case Register::PMSTS: state_.pmsts = static_cast<uint16_t>(state_.pmsts & ~bits); break;
        case Register::PMEN: replace(state_.pmen, PMEN_BITS); break;
        case Register::PMCNTRL:
            replace(state_.pmcntrl, PMCNTRL_BITS);
            if ((bits & SUS_EN) && (state_.pmcntrl & SUS_TYP) == soft_off) system_.request_power_off("ACPI S5");
            break;
        case Register::GPSTS: state_.gpsts = static_cast<uint16_t>(state_.gpsts & ~bits); break;
        case Register::GPEN: replace(state_.gpen, GPEN_BITS); break;
        case Register::PMTMR:
        case Register::PMTMR_HIGH: break;
        default:
            if (const uint8_t mask = offset < block_size ? storage_mask(offset) : 0) {
                uint8_t& byte = state_.storage[offset];
                byte = static_cast<uint8_t>((byte & ~mask) | (value & mask));
            }
    }
    update();
}

/// Brings TMR_STS up to now and derives the rest: when it will change next, and the SCI.
void Piix4Pm::update() {
    const VirtualTime now = clock_.now();
    const uint64_t half_periods = ticks_in(now.ns, timer_hertz) >> timer_status_bit;
    if (half_periods != ticks_in(state_.timer_seen.ns, timer_hertz) >> timer_status_bit) state_.pmsts |= TMR_STS;
    state_.timer_seen = now;
    if ((state_.pmen & TMR_STS) && !(state_.pmsts & TMR_STS)) {
        timer_.arm({ns_of_ticks((half_periods + 1) << timer_status_bit, timer_hertz)});
    } else {
        timer_.cancel();
    }
    const bool event = (state_.pmsts & state_.pmen) || (state_.gpsts & state_.gpen);
    sci_.set((state_.pmcntrl & SCI_EN) && event);
}

uint8_t Piix4Pm::read_smi_port(uint64_t offset) {
    return state_.smi_ports[offset & 1];
}

void Piix4Pm::write_smi_port(uint64_t offset, uint8_t value) {
    state_.smi_ports[offset & 1] = value;
    if (offset != APMC || !(pci_.config_read(DEVACTB, 4) & APMC_EN)) return;
    if (value == ACPI_ENABLE) state_.pmcntrl |= SCI_EN;
    if (value == ACPI_DISABLE) state_.pmcntrl = static_cast<uint16_t>(state_.pmcntrl & ~SCI_EN);
    update();
}

uint8_t Piix4Pm::read_smbus(uint64_t offset) {
    return state_.smbus[offset % smbus_size];
}

/// Nobody is on the bus: every transaction ends at once without an acknowledgement.
void Piix4Pm::write_smbus(uint64_t offset, uint8_t value) {
    uint8_t& byte = state_.smbus[offset % smbus_size];
    switch (offset) {
        case SMBHSTSTS: byte = static_cast<uint8_t>(byte & ~value); break;
        case SMBSLVSTS:
        case 0x0B:
        case 0x0D:
        case 0x0E:
        case 0x0F: break;
        case SMBHSTCNT:
            byte = value & SMB_CONTROL_BITS;
            if (value & SMB_START) state_.smbus[SMBHSTSTS] |= SMB_DEV_ERR;
            break;
        default: byte = value;
    }
}

Result<void> Piix4Pm::validate(const Piix4PmState& staged) const {
    if ((staged.pmsts & ~PMSTS_BITS) || (staged.pmen & ~PMEN_BITS) || (staged.pmcntrl & ~PMCNTRL_BITS))
        return fail("PM1: the saved state has bits that do not exist");
    if ((staged.gpsts & ~GPSTS_BITS) || (staged.gpen & ~GPEN_BITS))
        return fail("GPE: the saved state has bits that do not exist");
    if (staged.timer_seen.ns < 0) return fail("PMTMR: the saved time is before power-on");
    for (unsigned i = 0; i < staged.storage.size(); ++i) {
        if ((staged.storage[i] ^ storage_reset(i)) & ~storage_mask(i))
            return fail("PM block: the saved state has bits that do not exist");
    }
    if ((staged.smbus[SMBHSTSTS] & ~SMB_STATUS_BITS) || (staged.smbus[SMBHSTCNT] & ~SMB_CONTROL_BITS))
        return fail("SMBus: the saved state has bits that do not exist");
    return pci_.validate(staged.pci);
}

void Piix4Pm::after_load() {
    pci_.after_load();
    update();
}

Result<std::unique_ptr<Device>> make_piix4_pm(DeviceContext& context) {
    auto pm = std::make_unique<Piix4Pm>(context.clock, context.system, TRY(context.irq(0)));
    TRY(context.map(0, pm->smi_ports()));
    TRY(pm->pci().attach(context));
    context.services.provide<PowerButton>(*pm);
    return pm;
}

}  // namespace viv
