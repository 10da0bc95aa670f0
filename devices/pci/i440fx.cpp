#include "devices/pci/i440fx.hpp"

namespace viv {
namespace {

constexpr PciIdentity identity{.vendor = 0x8086, .device = 0x1237, .class_code = 0x060000, .revision = 0x02};

constexpr uint32_t CONE = 0x80000000;  // configuration accesses are enabled
constexpr uint32_t CONFADD_BITS = 0x80FFFFFC;

enum Register : uint8_t {
    PMCCFG = 0x50,
    DETURBO = 0x52,
    DBC = 0x53,
    AXC = 0x54,
    DRT = 0x55,
    DRAMC = 0x57,
    DRAMT = 0x58,
    PAM0 = 0x59,
    PAM6 = 0x5F,
    DRB0 = 0x60,
    FDHC = 0x68,
    MTT = 0x70,
    CLT = 0x71,
    SMRAM = 0x72,
    ERRCMD = 0x90,
    ERRSTS = 0x91,
    TRC = 0x93,
};

constexpr uint8_t PAM_RE = 0x1, PAM_WE = 0x2;  // of a nibble
constexpr uint8_t DOPEN = 0x40, DCLS = 0x20, DLCK = 0x10, GSMRAME = 0x08, C_BASE_SEG = 0x02;
constexpr uint8_t SMRAM_BITS = DOPEN | DCLS | DLCK | GSMRAME;

}  // namespace

I440fx::I440fx(DeviceContext& context, std::unique_ptr<ShadowMemory> shadow)
    : bus_(context.ports, context.memory_bus, context.memory), pci_(identity, state_.pci), shadow_(std::move(shadow)) {
    // The bridge answers memory cycles and is master whatever the guest says (3.2.3).
    pci_.add_register(pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER, pci::PARITY_RESPONSE | pci::SERR);
    pci_.add_register(PMCCFG, 2, 0, 0xFFFF);
    pci_.add_register(DETURBO, 1, 0, 0xFF);
    pci_.add_register(DBC, 1, 0x80, 0xFF);
    pci_.add_register(AXC, 1, 0, 0xFF);
    pci_.add_register(DRT, 2, 0, 0xFFFF);
    pci_.add_register(DRAMC, 1, 0x01, 0xFF);
    pci_.add_register(DRAMT, 1, 0x10, 0xFF);
    pci_.add_register(PAM0, 1, 0, 0x70);
    for (uint8_t at = PAM0 + 1; at <= PAM6; ++at) pci_.add_register(at, 1, 0, 0x77);
    for (uint8_t i = 0; i < 8; ++i) pci_.add_register(static_cast<uint8_t>(DRB0 + i), 1, 0x01, 0xFF);
    pci_.add_register(FDHC, 1, 0, 0xFF);
    pci_.add_register(MTT, 1, 0, 0xFF);
    pci_.add_register(CLT, 1, 0, 0xFF);
    pci_.add_register(SMRAM, 1, C_BASE_SEG, SMRAM_BITS, SMRAM_BITS);
    pci_.add_register(ERRCMD, 1, 0, 0xFF);
    pci_.add_register(TRC, 1, 0, 0x0F);
    pci_.on_config_write([this](unsigned first, unsigned last) { config_written(first, last); });
    reset(ResetKind::power_on);
}

void I440fx::reset(ResetKind /*kind*/) {
    state_ = {};
    pci_.reset();
    update_shadow();
}

PciAddress I440fx::selected() const {
    return {static_cast<uint8_t>(state_.confadd >> 16), static_cast<uint8_t>(state_.confadd >> 11 & 0x1F),
            static_cast<uint8_t>(state_.confadd >> 8 & 7)};
}

uint64_t I440fx::read(Access access) {
    if (access.size == 8) return read({access.offset, 4}) | read({access.offset + 4, 4}) << 32;
    if (access.offset == 0 && access.size == 4) return state_.confadd;
    if (access.offset >= 4) {
        if (!(state_.confadd & CONE)) return ~uint64_t{0};
        const auto offset = static_cast<unsigned>((state_.confadd & 0xFC) + access.offset - 4);
        return bus_.config_read(selected(), offset, access.size);
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) {
        const uint64_t at = access.offset + i;
        const uint8_t byte = at == 1 && reset_port_ ? reset_port_->read8(0) : 0xFF;
        value |= uint64_t{byte} << (8 * i);
    }
    return value;
}

void I440fx::write(Access access, uint64_t value) {
    if (access.size == 8) {
        write({access.offset, 4}, value & 0xFFFFFFFF);
        write({access.offset + 4, 4}, value >> 32);
        return;
    }
    if (access.offset == 0 && access.size == 4) {
        state_.confadd = static_cast<uint32_t>(value) & CONFADD_BITS;
    } else if (access.offset >= 4) {
        if (!(state_.confadd & CONE)) return;
        const auto offset = static_cast<unsigned>((state_.confadd & 0xFC) + access.offset - 4);
        bus_.config_write(selected(), offset, access.size, static_cast<uint32_t>(value));
    } else if (reset_port_ && access.offset <= 1 && access.offset + access.size > 1) {
        reset_port_->write8(0, static_cast<uint8_t>(value >> (8 * (1 - access.offset))));
    }
}

void I440fx::config_written(unsigned first, unsigned last) {
    if (first <= SMRAM && last >= SMRAM) accept_smram();
    if (first <= SMRAM && last >= PAM0) update_shadow();
}

/// Once DLCK is set, the register stays as it is until the next reset, with SMRAM closed.
void I440fx::accept_smram() {
    if (!(state_.smram & DLCK)) {
        state_.smram = static_cast<uint8_t>(pci_.config_read(SMRAM, 1));
        if (state_.smram & DLCK) state_.smram = static_cast<uint8_t>(state_.smram & ~DOPEN);
    }
    pci_.poke(SMRAM, state_.smram);
}

void I440fx::update_shadow() {
    ShadowMemory::View view;
    const auto set = [&](unsigned segment, unsigned nibble) {
        view.segments[segment] = {(nibble & PAM_RE) != 0, (nibble & PAM_WE) != 0};
    };
    set(ShadowMemory::segment_count - 1, pci_.config_read(PAM0, 1) >> 4);
    for (unsigned i = 0; i < 6; ++i) {
        const uint32_t pam = pci_.config_read(PAM0 + 1 + i, 1);
        set(2 * i, pam & 0xF);
        set(2 * i + 1, pam >> 4);
    }
    view.smram_open = (state_.smram & GSMRAME) && (state_.smram & DOPEN) && !(state_.smram & DCLS);
    shadow_->set(view);
}

Result<void> I440fx::validate(const I440fxState& staged) const {
    if (staged.confadd & ~CONFADD_BITS) return fail("CONFADD: the saved state has bits that do not exist");
    if (staged.smram != staged.pci.config[SMRAM] || ((staged.smram & DLCK) && (staged.smram & DOPEN)))
        return fail("SMRAM: the saved state is one that the lock does not allow");
    return pci_.validate(staged.pci);
}

void I440fx::after_load() {
    pci_.after_load();
    update_shadow();
}

Result<std::unique_ptr<Device>> make_i440fx(DeviceContext& context) {
    auto bridge = std::make_unique<I440fx>(context, TRY(ShadowMemory::make(context.memory)));
    TRY(context.map(0, *bridge));
    TRY(context.memory_bus.map(ShadowMemory::base, ShadowMemory::size, bridge->shadow(), context.path));
    context.services.provide(bridge->bus());
    context.services.provide<PciHost>(*bridge);
    TRY(bridge->pci().attach(context));
    return bridge;
}

}  // namespace viv
