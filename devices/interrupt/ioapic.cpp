// Models: the 82093AA IOAPIC with 24 pins, as version 20h with the directed EOI register. Pins 0 to 15 carry the ISA
// wires (IRQ 0 on pin 2); the 8259A pair puts its INTR on pin 0, for ExtINT.
// Not modelled: the APIC bus (messages are MSIs and arrive at once: delivery status reads 0), the arbitration ID (it
// follows the ID), pin polarity (a wire carries "asserted", not a voltage).
// Ignored bits: index register D31-D8, ID outside D27-D24, read-only and reserved bits of the redirection entries;
// writes to the window and the EOI register that are not 32 bits wide.
// Reference: Intel 82093AA data sheet (290566), 3; Intel 631xESB/632xESB EDS for version 20h (EOI register).
#include "devices/interrupt/ioapic.hpp"

#include <array>
#include <utility>
#include <vector>

#include "devices/interrupt/isa_irqs.hpp"

namespace viv {
namespace {

// Memory-mapped registers.
enum class Window : uint64_t {
    IOREGSEL = 0x00,  // rw
    IOWIN = 0x10,     // rw  the register that IOREGSEL selects
    IOEOI = 0x40,     // -w  ends the interrupts of a vector
};

// Registers behind IOWIN.
enum class Index : uint8_t {
    IOAPICID = 0x00,   // rw
    IOAPICVER = 0x01,  // r-
    IOAPICARB = 0x02,  // r-
    IOREDTBL = 0x10,   // rw  two for each pin: low, high
};

constexpr uint32_t version = 0x20;
constexpr uint32_t ID_MASK = 0x0F00'0000;

// IOREDTBL, low 32 bits.
constexpr uint32_t INTVEC = 0x000000FF;
constexpr uint32_t DELMOD_SHIFT = 8;
constexpr uint32_t DELMOD_MASK = 7;
constexpr uint32_t DESTMOD = 1u << 11;
constexpr uint32_t REMOTE_IRR = 1u << 14;
constexpr uint32_t TRIGGER_MODE = 1u << 15;
constexpr uint32_t INTERRUPT_MASK = 1u << 16;
constexpr uint32_t writable_low = 0x0001'AFFF;
constexpr uint32_t writable_high = 0xFF00'0000;

enum class DeliveryMode : uint8_t { Fixed = 0, LowestPriority = 1, Smi = 2, Nmi = 4, Init = 5, ExtInt = 7 };

// MSI address and data (Intel SDM 3A, 11.11).
constexpr uint64_t MSI_ADDRESS = 0xFEE0'0000;
constexpr uint64_t MSI_DESTINATION_MODE_LOGICAL = 1u << 2;
constexpr uint64_t MSI_REDIRECTION_HINT = 1u << 3;
constexpr uint32_t MSI_LEVEL_ASSERT = 1u << 14;
constexpr uint32_t MSI_TRIGGER_LEVEL = 1u << 15;

constexpr unsigned pin_count = IoApicControl::pin_count;
constexpr unsigned isa_timer_pin = 2;

struct Entry {
    uint32_t low = INTERRUPT_MASK;
    uint32_t high = 0;
    static void fields(auto& self, auto&& visit) {
        visit("low", self.low);
        visit("high", self.high);
    }
    bool operator==(const Entry&) const = default;

    [[nodiscard]] DeliveryMode delivery_mode() const {
        return static_cast<DeliveryMode>(low >> DELMOD_SHIFT & DELMOD_MASK);
    }
    /// Only Fixed and LowestPriority can be level-triggered: "NMI and INIT are treated as edge-triggered even if
    /// programmed as level"; SMI and ExtINT require edge.
    [[nodiscard]] bool level() const { return (low & TRIGGER_MODE) && delivery_mode() <= DeliveryMode::LowestPriority; }
    [[nodiscard]] bool masked() const { return low & INTERRUPT_MASK; }
    [[nodiscard]] bool remote_irr() const { return low & REMOTE_IRR; }
    [[nodiscard]] uint8_t vector() const { return low & INTVEC; }

    [[nodiscard]] uint64_t msi_address() const {
        return MSI_ADDRESS | uint64_t{high >> 24} << 12 | (low & DESTMOD ? MSI_DESTINATION_MODE_LOGICAL : 0) |
               (delivery_mode() == DeliveryMode::LowestPriority ? MSI_REDIRECTION_HINT : 0);
    }
    [[nodiscard]] uint32_t msi_data() const {
        return (low & (INTVEC | DELMOD_MASK << DELMOD_SHIFT)) | (level() ? MSI_TRIGGER_LEVEL | MSI_LEVEL_ASSERT : 0);
    }
};

struct State {
    uint32_t lines = 0;  // levels of the pins
    uint8_t index = 0;
    uint32_t id = 0;
    std::array<Entry, pin_count> entries;
    static void fields(auto& self, auto&& visit) {
        visit("lines", self.lines);
        visit("index", self.index);
        visit("id", self.id);
        visit("entries", self.entries);
    }
    bool operator==(const State&) const = default;
};

class IoApic final : public StatefulDevice<State>, public IoApicControl, private IrqSink, private BusDevice {
  public:
    void reset(ResetKind /*kind*/) override {
        state_ = State{.lines = state_.lines};
        routes_changed();
    }

    void connect(MsiSink& sink) override { sink_ = &sink; }

    void end_of_interrupt(uint8_t vector) override {
        for (unsigned pin = 0; pin < pin_count; ++pin) {
            Entry& entry = state_.entries[pin];
            if (!entry.remote_irr() || entry.vector() != vector) continue;
            entry.low &= ~REMOTE_IRR;
            deliver_level(pin);
        }
    }

    [[nodiscard]] std::array<Route, pin_count> routes() const override {
        std::array<Route, pin_count> result;
        for (unsigned pin = 0; pin < pin_count; ++pin) {
            const Entry& entry = state_.entries[pin];
            result[pin] = {entry.msi_address(), entry.msi_data(), entry.level(), entry.masked()};
        }
        return result;
    }
    void on_route_change(std::move_only_function<void()> listener) override {
        listeners_.push_back(std::move(listener));
    }
    IrqSink& inputs() override { return *this; }

    Result<void> attach(const DeviceContext& context) {
        TRY(context.map(0, *this));
        IsaIrqs& isa = *TRY(context.need<IsaIrqs>("the ISA interrupt wires"));
        for (unsigned irq = 0; irq < isa.pins.size(); ++irq) {
            if (irq != isa_timer_pin) isa.pins[irq].connect(*this, irq == 0 ? isa_timer_pin : irq);
        }
        context.services.provide<IoApicControl>(*this);
        return {};
    }

  protected:
    Result<void> validate(const State& staged) const override {
        if (staged.lines >> pin_count || staged.id & ~ID_MASK) return fail("IOAPIC: the saved state has too many pins");
        for (const Entry& entry : staged.entries) {
            if (entry.low & ~(writable_low | REMOTE_IRR) || entry.high & ~writable_high ||
                (entry.remote_irr() && !entry.level())) {
                return fail("IOAPIC: the saved state has a redirection entry that cannot be");
            }
        }
        return {};
    }
    void after_load() override { routes_changed(); }

  private:
    void set_irq_level(unsigned pin, bool level) override {
        const uint32_t bit = 1u << pin;
        const bool before = state_.lines & bit;
        state_.lines = level ? state_.lines | bit : state_.lines & ~bit;
        const Entry& entry = state_.entries[pin];
        if (entry.level()) return deliver_level(pin);
        // "Edge-sensitive interrupts signaled on a masked interrupt pin are ignored (not delivered or held pending)."
        if (level && !before && !entry.masked()) send(entry);
    }

    /// A level-triggered pin fires while it is asserted, once for each EOI.
    void deliver_level(unsigned pin) {
        Entry& entry = state_.entries[pin];
        if (!entry.level() || entry.masked() || entry.remote_irr() || !(state_.lines & 1u << pin)) return;
        entry.low |= REMOTE_IRR;
        send(entry);
    }

    void send(const Entry& entry) {
        if (sink_) sink_->send(entry.msi_address(), entry.msi_data());
    }

    void routes_changed() {
        for (auto& listener : listeners_) listener();
    }

    [[nodiscard]] uint32_t read_index() const {
        switch (static_cast<Index>(state_.index)) {
            case Index::IOAPICID:
            case Index::IOAPICARB: return state_.id;
            case Index::IOAPICVER: return (pin_count - 1) << 16 | version;
            case Index::IOREDTBL: break;
        }
        const unsigned pin = (state_.index - std::to_underlying(Index::IOREDTBL)) / 2;
        if (state_.index < std::to_underlying(Index::IOREDTBL) || pin >= pin_count) return 0xFFFF'FFFF;
        return state_.index & 1 ? state_.entries[pin].high : state_.entries[pin].low;
    }

    void write_index(uint32_t value) {
        if (static_cast<Index>(state_.index) == Index::IOAPICID) {
            state_.id = value & ID_MASK;
            return;
        }
        const unsigned pin = (state_.index - std::to_underlying(Index::IOREDTBL)) / 2;
        if (state_.index < std::to_underlying(Index::IOREDTBL) || pin >= pin_count) return;
        Entry& entry = state_.entries[pin];
        const Entry before = entry;
        if (state_.index & 1) {
            entry.high = value & writable_high;
        } else {
            entry.low = (value & writable_low) | (entry.low & REMOTE_IRR);
            // The way to drop a stuck remote IRR on chips without the EOI register: through edge and back.
            if (!entry.level()) entry.low &= ~REMOTE_IRR;
        }
        if (entry == before) return;
        routes_changed();
        deliver_level(pin);
    }

    // A narrower or wider read sees the bytes of the 32-bit register; nothing is behind the registers.
    uint64_t read(Access access) override {
        uint64_t value = 0xFFFF'FFFF;
        switch (static_cast<Window>(access.offset & ~uint64_t{3})) {
            case Window::IOREGSEL: value = state_.index; break;
            case Window::IOWIN: value = read_index(); break;
            case Window::IOEOI: break;
        }
        return (value | 0xFFFF'FFFF'0000'0000) >> (access.offset & 3) * 8;
    }

    void write(Access access, uint64_t value) override {
        switch (static_cast<Window>(access.offset)) {
            case Window::IOREGSEL: state_.index = static_cast<uint8_t>(value); break;
            case Window::IOWIN:
                if (access.size == 4) write_index(static_cast<uint32_t>(value));
                break;
            case Window::IOEOI:
                if (access.size == 4) end_of_interrupt(static_cast<uint8_t>(value));
                break;
        }
    }

    MsiSink* sink_ = nullptr;
    std::vector<std::move_only_function<void()>> listeners_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_ioapic(DeviceContext& context) {
    auto ioapic = std::make_unique<IoApic>();
    TRY(ioapic->attach(context));
    return ioapic;
}

}  // namespace viv
