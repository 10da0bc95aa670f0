// Models: an IA-PC HPET with a 64-bit counter at 100 MHz and three comparators, each of 64 or 32 bits, one-shot or
//   periodic, edge- or level-triggered, on IOAPIC pins 20-23; LegacyReplacement Route to IRQ 0 and IRQ 8.
// Not modelled: FSB (message-signalled) delivery. Rises that come faster than they are served are one.
// Ignored bits: what is reserved or read-only, Tn_FSB_EN_CNF, Tn_INT_ROUTE_CNF of pins that cannot be routed to.
// Reference: Intel, IA-PC HPET Specification 1.0a, chapter 2.3.
#include "devices/timer/hpet.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "devices/interrupt/ioapic_control.hpp"

namespace viv {
namespace {

enum class Register : uint64_t {
    GCAP_ID = 0x000,    // r-
    GEN_CONF = 0x010,   // rw
    GINTR_STA = 0x020,  // rw1c
    MAIN_CNT = 0x0F0,   // rw
    T0_CONF = 0x100,    // rw  the first of the comparators, 20h apart
};
constexpr uint64_t timer_registers = 0x20;
constexpr uint64_t Tn_CONF = 0x00;  // rw
constexpr uint64_t Tn_COMP = 0x08;  // rw; Tn_FSB_INT_ROUTE behind it reads 0

constexpr unsigned timer_count = 3;
constexpr uint64_t ns_per_tick = 10;
constexpr uint64_t COUNTER_CLK_PERIOD = ns_per_tick * 1'000'000;  // femtoseconds
constexpr uint64_t VENDOR_ID = 0x8086, LEG_RT_CAP = 1u << 15, COUNT_SIZE_CAP = 1u << 13, REV_ID = 1;
constexpr uint64_t capabilities =
    COUNTER_CLK_PERIOD << 32 | VENDOR_ID << 16 | LEG_RT_CAP | COUNT_SIZE_CAP | (timer_count - 1) << 8 | REV_ID;

// GEN_CONF
constexpr uint64_t ENABLE_CNF = 1;
constexpr uint64_t LEG_RT_CNF = 2;

// Tn_CONF
constexpr uint64_t INT_TYPE_CNF = 1u << 1;  // level
constexpr uint64_t INT_ENB_CNF = 1u << 2;
constexpr uint64_t TYPE_CNF = 1u << 3;  // periodic
constexpr uint64_t PER_INT_CAP = 1u << 4;
constexpr uint64_t SIZE_CAP = 1u << 5;
constexpr uint64_t VAL_SET_CNF = 1u << 6;
constexpr uint64_t MODE32_CNF = 1u << 8;
constexpr uint64_t INT_ROUTE_CNF = 0x1F << 9;
constexpr unsigned INT_ROUTE_SHIFT = 9;
constexpr unsigned INT_ROUTE_CAP_SHIFT = 32;
constexpr uint64_t switches = INT_TYPE_CNF | INT_ENB_CNF | TYPE_CNF | VAL_SET_CNF | MODE32_CNF;

/// The pins of the IOAPIC that no other wire of the board goes to.
constexpr unsigned first_pin = 20, routed_pins = 4;
constexpr uint64_t INT_ROUTE_CAP = uint64_t{0xF} << first_pin;
/// The wires that it drives: IRQ 0, IRQ 8, and those of its own.
constexpr unsigned legacy_wires = 2, wire_count = legacy_wires + routed_pins;
/// A periodic comparator interrupts no oftener than this (10 us), so that a guest's silly period does not keep the host
/// busy. No PC could serve it.
constexpr uint64_t shortest_period = 1000;

struct TimerState {
    uint64_t conf = 0;  // what can be written
    uint64_t comparator = ~uint64_t{0};
    uint64_t period = 0;
    bool edge = false;  // its interrupt is edge-triggered, and keeps its wire high until the next one
    static void fields(auto& self, auto&& visit) {
        visit("conf", self.conf);
        visit("comparator", self.comparator);
        visit("period", self.period);
        visit("edge", self.edge);
    }
    bool operator==(const TimerState&) const = default;

    [[nodiscard]] bool level() const { return conf & INT_TYPE_CNF; }
    [[nodiscard]] uint64_t mask() const { return conf & MODE32_CNF ? 0xFFFF'FFFF : ~uint64_t{0}; }
    [[nodiscard]] uint64_t step() const { return conf & TYPE_CNF ? period : 0; }
    /// Ticks until a counter that stands at `counter` matches, at least 1; nothing when that is ages away.
    [[nodiscard]] std::optional<uint64_t> distance(uint64_t counter) const {
        constexpr uint64_t ages = uint64_t{1} << 56;
        const uint64_t ticks = ((comparator - counter - 1) & mask());
        if (ticks >= ages) return std::nullopt;
        return ticks + 1;
    }
};

struct State {
    uint8_t conf = 0;    // GEN_CONF
    uint8_t status = 0;  // GINTR_STA
    uint8_t inputs = 0;  // levels of the 8254's and the RTC's interrupts
    uint64_t counter = 0;
    uint64_t seen = 0;  // ticks since power-on when that was so; matches up to here have happened
    std::array<TimerState, timer_count> timers;
    static void fields(auto& self, auto&& visit) {
        visit("conf", self.conf);
        visit("status", self.status);
        visit("inputs", self.inputs);
        visit("counter", self.counter);
        visit("seen", self.seen);
        visit("timers", self.timers);
    }
    bool operator==(const State&) const = default;
};

/// The bits of `value` that `mask` names, the others of `old`.
constexpr uint64_t merge(uint64_t old, uint64_t value, uint64_t mask) {
    return (old & ~mask) | (value & mask);
}

class Hpet final : public StatefulDevice<State>, private BusDevice, private IrqSink {
  public:
    explicit Hpet(Clock& clock) : clock_(clock) {
        inputs_.timer.connect(*this, 0);
        inputs_.rtc.connect(*this, 1);
    }

    void reset(ResetKind /*kind*/) override {
        state_ = State{.inputs = state_.inputs, .timers = {}};
        state_.seen = now();
        after_load();
    }

    Result<void> attach(const DeviceContext& context) {
        TRY(context.map(0, *this));
        for (unsigned i = 0; i < legacy_wires; ++i) lines_[i] = TRY(context.irq(i));
        if (auto* ioapic = context.services.find<IoApicControl>()) {
            for (unsigned i = 0; i < routed_pins; ++i) {
                pins_[i].connect(ioapic->inputs(), first_pin + i);
                lines_[legacy_wires + i] = IrqLine(pins_[i]);
            }
            routes_ = INT_ROUTE_CAP;
        }
        context.services.provide<LegacyTimerInputs>(inputs_);
        return {};
    }

  protected:
    void before_save() override { update(); }
    Result<void> validate(const State& staged) const override {
        bool sound = !(staged.conf & ~(ENABLE_CNF | LEG_RT_CNF)) && !(staged.status >> timer_count) &&
                     !(staged.inputs >> legacy_wires) && !(staged.seen >> 59);
        for (const TimerState& timer : staged.timers) {
            const uint64_t route = timer.conf >> INT_ROUTE_SHIFT;
            sound = sound && !(timer.conf & ~(switches | INT_ROUTE_CNF)) && (route == 0 || routes_ >> route & 1) &&
                    !((timer.comparator | timer.period) & ~timer.mask()) && !(timer.edge && timer.level());
        }
        if (!sound) return fail("HPET: the saved state holds what the chip cannot");
        return {};
    }
    void after_load() override {
        update_irq();
        arm();
    }

  private:
    [[nodiscard]] uint64_t now() const { return static_cast<uint64_t>(clock_.now().ns) / ns_per_tick; }

    void set_irq_level(unsigned input, bool level) override {
        const auto bit = static_cast<uint8_t>(1u << input);
        state_.inputs = static_cast<uint8_t>(level ? state_.inputs | bit : state_.inputs & ~bit);
        update_irq();
    }

    /// The wire that a comparator's interrupt goes to; nothing when it is on no pin.
    [[nodiscard]] std::optional<unsigned> wire_of(unsigned timer) const {
        if ((state_.conf & LEG_RT_CNF) && timer < legacy_wires) return timer;
        const auto route = static_cast<unsigned>(state_.timers[timer].conf >> INT_ROUTE_SHIFT & 31);
        if (route < first_pin || route >= first_pin + routed_pins) return std::nullopt;
        return legacy_wires + route - first_pin;
    }

    [[nodiscard]] bool interrupts(unsigned timer) const {
        const TimerState& state = state_.timers[timer];
        return (state_.conf & ENABLE_CNF) && (state.conf & INT_ENB_CNF) &&
               (state.level() ? (state_.status >> timer & 1) != 0 : state.edge);
    }

    void update_irq() {
        std::array<bool, wire_count> levels{};
        for (unsigned i = 0; i < legacy_wires; ++i)
            levels[i] = !(state_.conf & LEG_RT_CNF) && (state_.inputs >> i & 1) != 0;
        for (unsigned i = 0; i < timer_count; ++i) {
            if (const auto wire = wire_of(i); wire && interrupts(i)) levels[*wire] = true;
        }
        for (unsigned i = 0; i < wire_count; ++i) lines_[i].set(levels[i]);
    }

    /// Brings counter, comparators and wires up to now.
    void update() {
        const uint64_t tick = now();
        const uint64_t passed = tick - state_.seen;
        state_.seen = tick;
        if (!(state_.conf & ENABLE_CNF) || passed == 0) return arm();
        for (unsigned i = 0; i < timer_count; ++i) {
            TimerState& timer = state_.timers[i];
            const auto distance = timer.distance(state_.counter);
            if (!distance || *distance > passed) continue;
            if (const uint64_t step = timer.step())
                timer.comparator = (timer.comparator + ((passed - *distance) / step + 1) * step) & timer.mask();
            if (timer.level()) {
                state_.status = static_cast<uint8_t>(state_.status | 1u << i);
            } else if (timer.conf & INT_ENB_CNF) {
                // A new edge, whatever the last one has come to.
                if (const auto wire = wire_of(i); wire && timer.edge) lines_[*wire].set(false);
                timer.edge = true;
            }
        }
        state_.counter += passed;
        update_irq();
        arm();
    }

    /// The alarm is for what would move a wire; all else is computed when somebody looks.
    void arm() {
        std::optional<uint64_t> next;
        for (unsigned i = 0; i < timer_count && (state_.conf & ENABLE_CNF); ++i) {
            const TimerState& timer = state_.timers[i];
            if (!(timer.conf & INT_ENB_CNF) || (timer.level() && (state_.status >> i & 1))) continue;
            const auto distance = timer.distance(state_.counter);
            if (!distance) continue;
            const bool fast = timer.step() != 0 && timer.step() < shortest_period;
            const uint64_t ticks = fast ? std::max(*distance, shortest_period) : *distance;
            next = std::min(next.value_or(ticks), ticks);
        }
        if (next) {
            timer_.arm({static_cast<int64_t>((state_.seen + *next) * ns_per_tick)});
        } else {
            timer_.cancel();
        }
    }

    /// As of the last update(). `at` is a multiple of 8.
    [[nodiscard]] uint64_t register_at(uint64_t at) const {
        switch (static_cast<Register>(at)) {
            case Register::GCAP_ID: return capabilities;
            case Register::GEN_CONF: return state_.conf;
            case Register::GINTR_STA: return state_.status;
            case Register::MAIN_CNT: return state_.counter;
            default: break;
        }
        const uint64_t offset = at - std::to_underlying(Register::T0_CONF);
        if (at < std::to_underlying(Register::T0_CONF) || offset >= timer_count * timer_registers) return 0;
        const TimerState& timer = state_.timers[offset / timer_registers];
        switch (offset % timer_registers) {
            case Tn_CONF: return timer.conf | PER_INT_CAP | SIZE_CAP | routes_ << INT_ROUTE_CAP_SHIFT;
            case Tn_COMP: return timer.comparator;
            default: return 0;
        }
    }

    /// Writes the bits of `mask`.
    void write_register(uint64_t at, uint64_t value, uint64_t mask) {
        switch (static_cast<Register>(at)) {
            case Register::GEN_CONF:
                state_.conf = static_cast<uint8_t>(merge(state_.conf, value, mask) & (ENABLE_CNF | LEG_RT_CNF));
                if (!(state_.conf & ENABLE_CNF)) {
                    for (TimerState& timer : state_.timers) timer.edge = false;
                }
                return;
            case Register::GINTR_STA: state_.status = static_cast<uint8_t>(state_.status & ~(value & mask)); return;
            case Register::MAIN_CNT: state_.counter = merge(state_.counter, value, mask); return;
            default: break;
        }
        const uint64_t offset = at - std::to_underlying(Register::T0_CONF);
        if (at < std::to_underlying(Register::T0_CONF) || offset >= timer_count * timer_registers) return;
        const uint64_t number = offset / timer_registers;
        switch (offset % timer_registers) {
            case Tn_CONF: write_conf(static_cast<unsigned>(number), value, mask); break;
            case Tn_COMP: write_comparator(state_.timers[number], value, mask); break;
            default: break;
        }
    }

    void write_conf(unsigned number, uint64_t value, uint64_t mask) {
        TimerState& timer = state_.timers[number];
        const uint64_t wanted = merge(timer.conf, value, mask);
        const uint64_t route = (wanted & INT_ROUTE_CNF) >> INT_ROUTE_SHIFT;
        const uint64_t routed = route == 0 || (routes_ >> route & 1) ? wanted : timer.conf;
        timer.conf = (wanted & switches) | (routed & INT_ROUTE_CNF);
        timer.comparator &= timer.mask();
        timer.period &= timer.mask();
        if (timer.level() || !(timer.conf & INT_ENB_CNF)) timer.edge = false;
        if (!timer.level()) state_.status = static_cast<uint8_t>(state_.status & ~(1u << number));
    }

    /// In periodic mode what is written is the period, and with VAL_SET the next match as well.
    static void write_comparator(TimerState& timer, uint64_t value, uint64_t mask) {
        const bool periodic = timer.conf & TYPE_CNF;
        if (!periodic || (timer.conf & VAL_SET_CNF))
            timer.comparator = merge(timer.comparator, value, mask) & timer.mask();
        if (periodic) timer.period = merge(timer.period, value, mask) & timer.mask();
        timer.conf &= ~VAL_SET_CNF;
    }

    // An access may lie across two registers.
    uint64_t read(Access access) override {
        update();
        const uint64_t at = access.offset & ~uint64_t{7};
        const unsigned shift = 8 * (access.offset & 7);
        const uint64_t low = register_at(at) >> shift;
        return shift ? low | register_at(at + 8) << (64 - shift) : low;
    }

    void write(Access access, uint64_t value) override {
        update();
        const uint64_t at = access.offset & ~uint64_t{7};
        const unsigned shift = 8 * (access.offset & 7);
        const uint64_t mask = ~uint64_t{0} >> (64 - 8 * access.size);
        write_register(at, value << shift, mask << shift);
        if (shift && mask >> (64 - shift)) write_register(at + 8, value >> (64 - shift), mask >> (64 - shift));
        update_irq();
        arm();
    }

    Clock& clock_;
    uint64_t routes_ = 0;  // INT_ROUTE_CAP
    LegacyTimerInputs inputs_;
    std::array<IrqPin, routed_pins> pins_;
    std::array<IrqLine, wire_count> lines_;
    Timer timer_{clock_, [this](VirtualTime) { update(); }};
};

}  // namespace

Result<std::unique_ptr<Device>> make_hpet(DeviceContext& context) {
    auto hpet = std::make_unique<Hpet>(context.clock);
    TRY(hpet->attach(context));
    hpet->reset(ResetKind::power_on);
    return hpet;
}

}  // namespace viv
