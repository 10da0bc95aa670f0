#include "devices/network/ne2000.hpp"

#include <utility>

namespace viv {
namespace {

constexpr PciIdentity identity{.vendor = 0x10EC,
                               .device = 0x8029,
                               .class_code = 0x020000,
                               .subsystem_vendor = 0x10EC,
                               .subsystem = 0x8029,
                               .interrupt_pin = 1};
constexpr uint32_t port_count = 32;

}  // namespace

Ne2000::Ne2000(NetworkPort port, IrqLine line, Clock& clock)
    : line_(std::move(line)),
      chip_(std::move(port), state_, Dp8390::Identity::none, clock, [this](bool level) { line_.set(level); }) {
    reset(ResetKind::power_on);
}

void Ne2000::reset(ResetKind /*kind*/) {
    chip_.reset();
}

Rtl8029::Rtl8029(NetworkPort port, Clock& clock)
    : pci_(identity, state_.pci),
      chip_(std::move(port), state_.chip, Dp8390::Identity::rtl8029, clock,
            [this](bool level) { pci_.set_interrupt(level); }) {
    pci_.add_io_bar(0, port_count, chip_);
    reset(ResetKind::power_on);
}

void Rtl8029::reset(ResetKind /*kind*/) {
    pci_.reset();
    chip_.reset();
}

Result<void> Rtl8029::validate(const Rtl8029State& staged) const {
    TRY(Dp8390::validate(staged.chip));
    if (staged.pci.interrupt != ((staged.chip.interrupts & staged.chip.mask & 0x7F) != 0))
        return fail("the saved interrupt of the RTL8029AS is not that of its registers");
    return pci_.validate(staged.pci);
}

Result<std::unique_ptr<Device>> make_ne2000(DeviceContext& context) {
    auto line = TRY(context.irq(0));
    auto card = std::make_unique<Ne2000>(TRY(open_network_port(context)), std::move(line), context.clock);
    TRY(context.map(0, card->ports()));
    return card;
}

Result<std::unique_ptr<Device>> make_rtl8029(DeviceContext& context) {
    auto card = std::make_unique<Rtl8029>(TRY(open_network_port(context)), context.clock);
    TRY(card->pci().attach(context));
    return card;
}

}  // namespace viv
