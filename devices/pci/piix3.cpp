#include "devices/pci/piix3.hpp"

#include "devices/pci/i440fx.hpp"

namespace viv {
namespace {

constexpr PciIdentity identity{.vendor = 0x8086, .device = 0x7000, .class_code = 0x060100};

constexpr uint8_t PIRQRC = 0x60;  // four of them
constexpr uint8_t PIRQ_NOT_ROUTED = 0x80, PIRQ_IRQ = 0x0F;

constexpr uint8_t SYSTEM_RESET = 0x02;  // rw  1: hard reset of the board, 0: soft reset of the processor
constexpr uint8_t RESET_CPU = 0x04;     // rw  a rise resets

struct Storage {
    uint8_t offset;
    uint8_t size;
    uint32_t reset_value;
    uint32_t writable;
};
constexpr Storage storage[] = {
    {0x4C, 1, 0x4D, 0xFF},              // IORT
    {0x4E, 2, 0x0003, 0x0FFF},          // XBCS
    {0x69, 1, 0x02, 0xFE},              // TOM
    {0x6A, 2, 0x0000, 0x8002},          // MSTAT
    {0x70, 1, 0x80, 0xEF},              // MBIRQ0
    {0x71, 1, 0x80, 0xEF},              // MBIRQ1
    {0x76, 1, 0x0C, 0x8F},              // MBDMA0
    {0x77, 1, 0x0C, 0x8F},              // MBDMA1
    {0x78, 2, 0x0002, 0xFFFF},          // PCSC
    {0x80, 1, 0x00, 0x7F},              // APICBASE
    {0x82, 1, 0x00, 0x0F},              // DLC
    {0xA0, 1, 0x08, 0x1F},              // SMICNTL
    {0xA2, 2, 0x0000, 0x00FF},          // SMIEN
    {0xA4, 4, 0x00000000, 0xE000FFFF},  // SEE
    {0xA8, 1, 0x0F, 0xFF},              // FTMR
    {0xAC, 1, 0x00, 0xFF},              // CTLTMR
    {0xAE, 1, 0x00, 0xFF},              // CTHTMR
};

/// IRQ 0, 1, 2, 8 and 13 belong to the board (2.2.12).
constexpr bool is_routable(unsigned irq) {
    return irq >= 3 && irq != 8 && irq != 13;
}

}  // namespace

Piix3::Piix3(PciBus& bus, IsaIrqs& irqs, SystemControl& system)
    : bus_(bus), system_(system), pci_(identity, state_.pci) {
    // Memory and I/O cycles go to the ISA bus, and its masters work, whatever the guest says (2.2.3).
    pci_.add_register(pci::COMMAND, 2, pci::IO_SPACE | pci::MEMORY_SPACE | pci::BUS_MASTER, pci::SERR);
    for (const Storage& one : storage) pci_.add_register(one.offset, one.size, one.reset_value, one.writable);
    for (uint8_t i = 0; i < PciBus::pirq_count; ++i) {
        pci_.add_register(static_cast<uint8_t>(PIRQRC + i), 1, PIRQ_NOT_ROUTED, PIRQ_NOT_ROUTED | PIRQ_IRQ);
    }
    pci_.on_config_write([this](unsigned, unsigned) { update_irqs(); });
    for (unsigned irq = 0; irq < lines_.size(); ++irq) {
        if (is_routable(irq)) lines_[irq] = IrqLine(irqs.pins[irq]);
    }
    reset(ResetKind::power_on);
    for (unsigned i = 0; i < PciBus::pirq_count; ++i) bus.pirq(i).connect(*this, i);
}

void Piix3::reset(ResetKind /*kind*/) {
    state_ = {};
    pci_.reset();
    update_irqs();
}

uint8_t Piix3::read8(uint64_t /*offset*/) {
    return state_.rc;
}

void Piix3::write8(uint64_t /*offset*/, uint8_t value) {
    const bool resets = (value & RESET_CPU) && !(state_.rc & RESET_CPU);
    state_.rc = value & (SYSTEM_RESET | RESET_CPU);
    if (!resets) return;
    if (value & SYSTEM_RESET) {
        system_.request_reset("reset control register");
    } else {
        system_.request_cpu_init("reset control register");
    }
}

Result<void> Piix3::validate(const Piix3State& staged) const {
    if (staged.rc & ~(SYSTEM_RESET | RESET_CPU)) return fail("RC: the saved state has bits that do not exist");
    return pci_.validate(staged.pci);
}

void Piix3::after_load() {
    pci_.after_load();
    update_irqs();
}

void Piix3::set_irq_level(unsigned /*pin*/, bool /*level*/) {
    update_irqs();
}

void Piix3::update_irqs() {
    std::array<bool, 16> levels{};
    for (unsigned i = 0; i < PciBus::pirq_count; ++i) {
        const uint32_t route = pci_.config_read(PIRQRC + i, 1);
        if (!(route & PIRQ_NOT_ROUTED) && bus_.pirq(i).level()) levels[route & PIRQ_IRQ] = true;
    }
    for (unsigned irq = 0; irq < levels.size(); ++irq) {
        if (is_routable(irq)) lines_[irq].set(levels[irq]);
    }
}

Result<std::unique_ptr<Device>> make_piix3(DeviceContext& context) {
    PciBus& bus = *TRY(context.need<PciBus>("a PCI bus"));
    PciHost& host = *TRY(context.need<PciHost>("a PCI host bridge"));
    IsaIrqs& irqs = *TRY(context.need<IsaIrqs>("the ISA bus's interrupts"));
    auto bridge = std::make_unique<Piix3>(bus, irqs, context.system);
    TRY(bridge->pci().attach(context));
    host.connect_reset_port(*bridge);
    return bridge;
}

}  // namespace viv
