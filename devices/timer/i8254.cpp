// Models: the three counters of an 8254 at 1193182 Hz and system control port B (61h) of a PC, with the speaker.
// Not modelled: parity and I/O channel errors (61h bits 7 and 6 read 0). The refresh toggle runs at the rate a BIOS
// programs into counter 1 (18 ticks), whatever is programmed. OUT strobes of one tick reach the interrupt wire as its
// rise. Rises that the processor could not take, because the host kept it from running, come late instead of never.
// Ignored bits: 61h D7-D4 on writes; the control word's D0 in read-back commands.
// Reference: Intel 8254 data sheet (231164); Intel 82371SB (290550), 2.5.2 and 2.5.6 (NMI status and control).
#include "devices/timer/i8254.hpp"

#include <algorithm>
#include <array>

#include "devices/byte_ports.hpp"
#include "devices/interrupt/interrupt_controller.hpp"
#include "devices/timer/hpet.hpp"
#include "devices/timer/i8254_counter.hpp"
#include "devices/timer/speaker.hpp"

namespace viv {
namespace {

constexpr uint64_t clock_hertz = 1'193'182;
constexpr uint64_t refresh_ticks = 18;
/// Interrupts come no closer than this (10 us), so that a guest's silly count does not keep the host busy; edges in
/// between count as lost to the one that is pending. No PC could serve them.
constexpr uint64_t shortest_period = 12;
/// Rises of a clock tick (any slower than 1165 Hz) that the processor had no time to take are made up for, up to
/// ten seconds of them, at four times their rate: a guest counts them, and its time of day must not fall behind.
constexpr uint64_t shortest_owed_period = 1024;
constexpr uint64_t most_owed_ticks = 10 * clock_hertz;

enum class Register : uint64_t {
    Counter0 = 0,     // rw
    Counter1 = 1,     // rw
    Counter2 = 2,     // rw
    ControlWord = 3,  // -w
};

constexpr unsigned SC_READ_BACK = 3;
constexpr uint8_t READ_BACK_NOT_COUNT = 0x20;
constexpr uint8_t READ_BACK_NOT_STATUS = 0x10;

// Port 61h.
constexpr uint8_t TIMER_COUNTER_2_ENABLE = 0x01;  // rw  gate of counter 2
constexpr uint8_t SPEAKER_DATA_ENABLE = 0x02;     // rw
constexpr uint8_t NMI_DISABLE = 0x0C;             // rw  parity and IOCHK# NMIs off
constexpr uint8_t REFRESH_CYCLE_TOGGLE = 0x10;    // r-
constexpr uint8_t TIMER_COUNTER_2_OUT = 0x20;     // r-

struct State {
    std::array<I8254Counter, 3> counters;
    uint8_t port_b = 0;
    bool irq = false;             // the level of the IRQ 0 wire
    uint64_t irq_high_until = 0;  // no fall of the wire before this tick
    uint64_t irq_rose = 0;        // tick of its last rise
    uint64_t owed = 0;            // rises that have not reached the wire

    State() { counters[2].gate = false; }
    static void fields(auto& self, auto&& visit) {
        visit("counters", self.counters);
        visit("port_b", self.port_b);
        visit("irq", self.irq);
        visit("irq_high_until", self.irq_high_until);
        visit("irq_rose", self.irq_rose);
        visit("owed", self.owed);
    }
    bool operator==(const State&) const = default;
};

class I8254 final : public StatefulDevice<State>, public Speaker {
  public:
    explicit I8254(Clock& clock) : clock_(clock) {}

    void reset(ResetKind /*kind*/) override {
        state_ = State{};
        for (auto& counter : state_.counters) counter.seen = now();
        after_load();
    }

    [[nodiscard]] bool on() const override { return frequency() != 0; }
    [[nodiscard]] uint32_t frequency() const override {
        I8254Counter counter = state_.counters[2];
        counter.advance(now());
        const bool periodic = counter.mode() == 2 || counter.mode() == 3;
        if (!(state_.port_b & SPEAKER_DATA_ENABLE) || !counter.running || !periodic) return 0;
        const auto hertz = static_cast<uint32_t>((clock_hertz + counter.period / 2) / counter.period);
        return hertz >= 20 && hertz <= 20'000 ? hertz : 0;
    }

    Result<void> attach(const DeviceContext& context) {
        TRY(context.map(0, counter_ports_));
        TRY(context.map(1, port_b_ports_));
        irq_ = TRY(context.irq(0));
        if (auto* inputs = context.services.find<LegacyTimerInputs>()) irq_ = IrqLine(inputs->timer);
        context.services.provide<Speaker>(*this);
        controller_ = context.services.find<InterruptController>();
        return {};
    }

  protected:
    Result<void> validate(const State& staged) const override {
        for (const auto& counter : staged.counters) {
            if (!counter.valid()) return fail("8254: the saved state holds a counter that cannot be");
        }
        if (!staged.counters[0].gate || !staged.counters[1].gate ||
            staged.counters[2].gate != ((staged.port_b & TIMER_COUNTER_2_ENABLE) != 0) || staged.port_b > 0x0F ||
            staged.irq_high_until > staged.counters[0].seen + 65536 || staged.irq_rose > staged.counters[0].seen ||
            staged.owed > most_owed_ticks) {
            return fail("8254: the saved state contradicts itself");
        }
        return {};
    }
    void after_load() override {
        irq_.set(state_.irq);
        arm();
    }

  private:
    [[nodiscard]] uint64_t now() const { return ticks_in(clock_.now().ns, clock_hertz); }

    /// The level of IRQ 0 by the registers alone.
    [[nodiscard]] bool wire_level() const {
        const I8254Counter& counter = state_.counters[0];
        return counter.mode() == 2 || counter.mode() >= 4 || counter.out();
    }

    void set_irq(bool level) {
        state_.irq = level;
        irq_.set(level);
    }

    void pulse_irq() {
        set_irq(false);
        set_irq(true);
        state_.irq_rose = state_.counters[0].seen;
    }

    /// The controller has shown the last rise to the processor, which has not taken it.
    [[nodiscard]] bool untaken() const { return state_.irq && controller_ && controller_->waits(0); }

    /// The tick from which the wire may rise again.
    [[nodiscard]] uint64_t next_owed() const {
        return state_.irq_rose + std::max<uint64_t>(state_.counters[0].period / 4, shortest_period);
    }

    /// Whether counter 0 makes ticks that a guest counts.
    [[nodiscard]] bool counted() const {
        const I8254Counter& counter = state_.counters[0];
        return (counter.mode() == 2 || counter.mode() == 3) && counter.period >= shortest_owed_period;
    }

    /// Brings counter 0 and its wire up to now. However late that is, every rise of OUT reaches the controller, and a
    /// wire that rose late stays high for as long as OUT did, so that the processor gets the time to take the
    /// interrupt.
    void update_irq(uint64_t tick) {
        I8254Counter& counter = state_.counters[0];
        const uint64_t rises = counter.advance(tick);
        state_.owed = std::min(state_.owed + rises, counted() ? most_owed_ticks / counter.period : 1);
        const bool due = state_.owed != 0 && (!counted() || (counter.seen >= next_owed() && !untaken()));
        if (due) {
            --state_.owed;
            pulse_irq();
            state_.irq_high_until = counter.mode() == 3 ? counter.seen + counter.high_ticks() : 0;
        } else if (state_.irq && !wire_level() && counter.seen >= state_.irq_high_until && !untaken()) {
            set_irq(false);
        }
        arm();
    }

    void arm() {
        const I8254Counter& counter = state_.counters[0];
        auto next = counter.next_rise();
        const bool held = untaken() && !wire_level() && counter.seen >= state_.irq_high_until;
        if (state_.irq && counter.mode() == 3 && !held) {
            auto fall = wire_level() ? counter.next_fall() : counter.seen + 1;
            if (fall) fall = std::max(*fall, state_.irq_high_until);
            if (fall && (!next || *fall < *next)) next = fall;
        }
        const bool periodic = counter.mode() == 2 || counter.mode() == 3;
        if (next && periodic && counter.counting && counter.period < shortest_period) {
            next = std::max(*next, counter.seen + shortest_period);
        }
        if (state_.owed) {
            // Nobody tells when the processor takes an interrupt, so look again.
            const auto again = std::max(next_owed(), counter.seen + shortest_owed_period / 2);
            next = next ? std::min(*next, again) : again;
        }
        if (next) {
            timer_.arm({ns_of_ticks(*next, clock_hertz)});
        } else {
            timer_.cancel();
        }
    }

    uint8_t read_counter(uint64_t offset) {
        if (static_cast<Register>(offset) == Register::ControlWord) return 0xFF;  // nothing drives the bus
        return state_.counters[offset].read(look());
    }

    void write_counter(uint64_t offset, uint8_t value) {
        if (static_cast<Register>(offset) == Register::ControlWord) return write_control(value);
        if (offset != 0) return state_.counters[offset].write_count(value, now());
        change_counter_0([&](I8254Counter& counter, uint64_t tick) { counter.write_count(value, tick); });
    }

    void write_control(uint8_t value) {
        const unsigned select = value >> 6;
        if (select == SC_READ_BACK) {
            const uint64_t tick = look();
            for (unsigned i = 0; i < 3; ++i) {
                if (!(value & 2u << i)) continue;
                if (!(value & READ_BACK_NOT_COUNT)) state_.counters[i].latch_count(tick);
                if (!(value & READ_BACK_NOT_STATUS)) state_.counters[i].latch_status(tick);
            }
        } else if (!(value & I8254Counter::RW1_RW0)) {
            state_.counters[select].latch_count(look());
        } else if (select != 0) {
            state_.counters[select].write_control(value, now());
        } else {
            change_counter_0([&](I8254Counter& counter, uint64_t tick) { counter.write_control(value, tick); });
        }
    }

    /// The present tick, for a guest that looks at a counter; a rise of counter 0 up to then is not lost in looking.
    uint64_t look() {
        const uint64_t tick = now();
        const auto rise = state_.counters[0].next_rise();
        if (rise && *rise <= tick) update_irq(tick);
        return tick;
    }

    /// A guest's write moves OUT at once, and the wire with it.
    void change_counter_0(auto&& change) {
        const uint64_t tick = now();
        update_irq(tick);
        const bool before = wire_level();
        change(state_.counters[0], tick);
        state_.irq_high_until = 0;
        state_.owed = 0;
        if (!wire_level()) {
            set_irq(false);
        } else if (!before) {
            pulse_irq();
        } else {
            set_irq(true);
        }
        arm();
    }

    uint8_t read_port_b(uint64_t /*offset*/) {
        I8254Counter& counter = state_.counters[2];
        counter.advance(now());
        const bool refresh = now() / refresh_ticks & 1;
        return static_cast<uint8_t>(state_.port_b | (refresh ? REFRESH_CYCLE_TOGGLE : 0) |
                                    (counter.out() ? TIMER_COUNTER_2_OUT : 0));
    }

    void write_port_b(uint64_t /*offset*/, uint8_t value) {
        state_.port_b = value & (TIMER_COUNTER_2_ENABLE | SPEAKER_DATA_ENABLE | NMI_DISABLE);
        state_.counters[2].set_gate(value & TIMER_COUNTER_2_ENABLE, now());
    }

    Clock& clock_;
    BytePorts<I8254> counter_ports_{*this, &I8254::read_counter, &I8254::write_counter};
    BytePorts<I8254> port_b_ports_{*this, &I8254::read_port_b, &I8254::write_port_b};
    IrqLine irq_;
    InterruptController* controller_ = nullptr;
    Timer timer_{clock_, [this](VirtualTime) { update_irq(now()); }};
};

}  // namespace

Result<std::unique_ptr<Device>> make_i8254(DeviceContext& context) {
    auto timer = std::make_unique<I8254>(context.clock);
    TRY(timer->attach(context));
    timer->reset(ResetKind::power_on);
    return timer;
}

}  // namespace viv
