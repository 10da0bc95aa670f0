// Models: the MC146818A real-time clock with a 32768 Hz time base, 128 bytes at ports 70h/71h and 128 more at 72h/73h,
// and the century byte at 32h that PCs added.
// Not modelled: the square wave output, daylight saving (DSE), time bases other than 32768 Hz (the divider then
// stands). An update takes no time: UIP covers only the 244 us before it.
// Ignored bits: register A UIP, registers C and D, bit 7 of the seconds on writes; the NMI mask (70h D7) masks nothing,
// for this board has no source of NMI.
// Reference: Motorola MC146818A data sheet (ADI856); Intel 82371SB (290550), 2.5.5.
#include "devices/timer/mc146818.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>

#include "devices/byte_ports.hpp"
#include "devices/system/nvram.hpp"
#include "devices/timer/hpet.hpp"

namespace viv {
namespace {

enum Register : uint8_t {
    Seconds = 0x00,
    SecondsAlarm = 0x01,
    Minutes = 0x02,
    MinutesAlarm = 0x03,
    Hours = 0x04,
    HoursAlarm = 0x05,
    DayOfWeek = 0x06,  // 1 = Sunday
    DateOfMonth = 0x07,
    Month = 0x08,
    Year = 0x09,
    RegisterA = 0x0A,
    RegisterB = 0x0B,
    RegisterC = 0x0C,
    RegisterD = 0x0D,
    Century = 0x32,
};

constexpr uint8_t A_UIP = 0x80;
constexpr uint8_t A_DV = 0x70;
constexpr uint8_t A_DV_32768_HZ = 0x20;
constexpr uint8_t A_RS = 0x0F;
constexpr uint8_t B_SET = 0x80;
constexpr uint8_t B_UIE = 0x10;
constexpr uint8_t B_SQWE = 0x08;
constexpr uint8_t B_DM = 0x04;  // binary, not BCD
constexpr uint8_t B_24_12 = 0x02;
constexpr uint8_t C_IRQF = 0x80;
constexpr uint8_t C_PF = 0x40;  // and PIE in register B; the others likewise
constexpr uint8_t C_AF = 0x20;
constexpr uint8_t C_UF = 0x10;
constexpr uint8_t interrupts = C_PF | C_AF | C_UF;
constexpr uint8_t D_VRT = 0x80;
constexpr uint8_t hours_pm = 0x80;
constexpr uint8_t alarm_wildcard = 0xC0;  // "don't care" codes are C0h to FFh
constexpr uint8_t nmi_mask = 0x80;

constexpr uint64_t base_hertz = 32768;
constexpr Duration update_warning = std::chrono::microseconds(244);
constexpr int64_t day_seconds = 86400;

struct State {
    std::array<uint8_t, 128> bytes{};  // by index; C and D are not kept here
    std::array<uint8_t, 128> extended{};
    uint8_t index = 0;
    uint8_t extended_index = 0;
    bool nmi_masked = false;
    uint8_t flags = 0;        // register C without IRQF
    VirtualTime origin;       // when the divider was at zero; seconds end at whole seconds from here
    uint64_t ticks_seen = 0;  // ticks of the time base since origin that are accounted for

    static void fields(auto& self, auto&& visit) {
        visit("bytes", self.bytes);
        visit("extended", self.extended);
        visit("index", self.index);
        visit("extended_index", self.extended_index);
        visit("nmi_masked", self.nmi_masked);
        visit("flags", self.flags);
        visit("origin", self.origin);
        visit("ticks_seen", self.ticks_seen);
    }
    bool operator==(const State&) const = default;
};

/// The registers as a clock and calendar: how bytes are written, and how time moves them. It does what the chip does
/// with sensible contents; with others it keeps to ranges.
class Calendar {
  public:
    explicit Calendar(State& state) : state_(state) {}

    /// Sets all time bytes from Unix time.
    void set(int64_t unix_time) {
        using namespace std::chrono;
        const sys_seconds time{seconds{unix_time}};
        const sys_days day = floor<days>(time);
        put_time_of_day((time - day).count());
        put_date(day);
        put(DayOfWeek, weekday{day}.c_encoding() + 1);
    }

    /// Moves on by `count` seconds; returns whether the alarm matched in one of them.
    bool advance(int64_t count) {
        const auto alarm = seconds_to_alarm();
        const int64_t total = time_of_day() + count;
        put_time_of_day(total % day_seconds);
        if (const int64_t days_passed = total / day_seconds; days_passed > 0) {
            put_date(date() + std::chrono::days(days_passed));
            const unsigned today = std::clamp(get(DayOfWeek), 1u, 7u) - 1;
            put(DayOfWeek, static_cast<unsigned>((today + static_cast<uint64_t>(days_passed)) % 7) + 1);
        }
        return alarm && *alarm <= count;
    }

    /// Seconds from the present time to the next one that the alarm bytes match, 1 to 86400; nothing if none does.
    [[nodiscard]] std::optional<int64_t> seconds_to_alarm() const {
        if (!alarm_can_match()) return std::nullopt;
        const int64_t now = time_of_day() % day_seconds;
        const auto next = first_match(now + 1);
        if (next) return *next - now;
        const auto tomorrow = first_match(0);
        if (tomorrow) return *tomorrow + day_seconds - now;
        return std::nullopt;
    }

  private:
    [[nodiscard]] bool binary() const { return state_.bytes[RegisterB] & B_DM; }
    [[nodiscard]] unsigned decode(uint8_t byte) const { return binary() ? byte : (byte >> 4) * 10u + (byte & 15); }
    [[nodiscard]] uint8_t encode(unsigned value) const {
        return static_cast<uint8_t>(binary() ? value : value / 10 << 4 | value % 10);
    }
    [[nodiscard]] unsigned get(Register at) const { return decode(state_.bytes[at]); }
    void put(Register at, unsigned value) { state_.bytes[at] = encode(value); }

    [[nodiscard]] uint8_t encode_hour(unsigned hour) const {
        if (state_.bytes[RegisterB] & B_24_12) return encode(hour);
        const uint8_t twelve = encode(hour % 12 == 0 ? 12 : hour % 12);
        return hour >= 12 ? twelve | hours_pm : twelve;
    }
    [[nodiscard]] unsigned hour() const {
        const uint8_t byte = state_.bytes[Hours];
        if (state_.bytes[RegisterB] & B_24_12) return decode(byte);
        return decode(byte & 0x7F) % 12 + (byte & hours_pm ? 12 : 0);
    }
    [[nodiscard]] int64_t time_of_day() const { return (hour() * 60 + get(Minutes)) * 60 + get(Seconds); }
    void put_time_of_day(int64_t seconds) {
        put(Seconds, static_cast<unsigned>(seconds % 60));
        put(Minutes, static_cast<unsigned>(seconds / 60 % 60));
        state_.bytes[Hours] = encode_hour(static_cast<unsigned>(seconds / 3600));
    }

    [[nodiscard]] std::chrono::sys_days date() const {
        using namespace std::chrono;
        const auto full_year = static_cast<int>(get(Century) * 100 + std::min(get(Year), 99u));
        const year_month_day ymd{year{full_year}, month{std::clamp(get(Month), 1u, 12u)},
                                 day{std::clamp(get(DateOfMonth), 1u, 31u)}};
        return sys_days{ymd};  // a 31st of a shorter month runs over into the next
    }
    void put_date(std::chrono::sys_days when) {
        const std::chrono::year_month_day ymd{when};
        const auto full_year = static_cast<unsigned>(std::max(0, static_cast<int>(ymd.year())));
        put(Century, full_year / 100 % 100);
        put(Year, full_year % 100);
        put(Month, static_cast<unsigned>(ymd.month()));
        put(DateOfMonth, static_cast<unsigned>(ymd.day()));
    }

    [[nodiscard]] bool alarm_byte_matches(Register alarm, uint8_t byte) const {
        return state_.bytes[alarm] >= alarm_wildcard || state_.bytes[alarm] == byte;
    }
    /// Whether any time of day matches. Looked at first, so that the search below finds one after few steps.
    [[nodiscard]] bool alarm_can_match() const {
        bool hours = false, minutes = false, seconds = false;
        for (unsigned i = 0; i < 60; ++i) {
            hours |= i < 24 && alarm_byte_matches(HoursAlarm, encode_hour(i));
            minutes |= alarm_byte_matches(MinutesAlarm, encode(i));
            seconds |= alarm_byte_matches(SecondsAlarm, encode(i));
        }
        return hours && minutes && seconds;
    }
    /// The first second of the day at or after `from` that the alarm matches.
    [[nodiscard]] std::optional<int64_t> first_match(int64_t from) const {
        for (int64_t at = from; at < day_seconds;) {
            if (!alarm_byte_matches(HoursAlarm, encode_hour(static_cast<unsigned>(at / 3600)))) {
                at = (at / 3600 + 1) * 3600;
            } else if (!alarm_byte_matches(MinutesAlarm, encode(static_cast<unsigned>(at / 60 % 60)))) {
                at = (at / 60 + 1) * 60;
            } else if (!alarm_byte_matches(SecondsAlarm, encode(static_cast<unsigned>(at % 60)))) {
                ++at;
            } else {
                return at;
            }
        }
        return std::nullopt;
    }

    State& state_;
};

class Mc146818 final : public StatefulDevice<State>, public Nvram {
  public:
    Mc146818(Clock& clock, int64_t wall_time) : clock_(clock), wall_time_(wall_time) {}

    void reset(ResetKind kind) override {
        if (kind == ResetKind::power_on) {
            state_ = State{};
            state_.origin = clock_.now();
            state_.bytes[RegisterA] = A_DV_32768_HZ | 6;  // 1024 Hz
            state_.bytes[RegisterB] = B_24_12;
            Calendar(state_).set(wall_time_ + state_.origin.ns / 1'000'000'000);
        } else {
            update(state_);
            state_.bytes[RegisterB] &= static_cast<uint8_t>(~(interrupts | B_SQWE));
            state_.flags = 0;
        }
        update_irq();
    }

    [[nodiscard]] uint8_t cmos(uint8_t index) const override {
        State now = state_;
        update(now);
        return index < 0x80 ? value(now, index) : now.extended[index & 0x7F];
    }
    void set_cmos(uint8_t index, uint8_t value) override {
        if (index < 0x80) {
            write_register(index, value);
        } else {
            state_.extended[index & 0x7F] = value;
        }
    }

    Result<void> attach(const DeviceContext& context) {
        TRY(context.map(0, ports_));
        irq_ = TRY(context.irq(0));
        if (auto* inputs = context.services.find<LegacyTimerInputs>()) irq_ = IrqLine(inputs->rtc);
        context.services.provide<Nvram>(*this);
        return {};
    }

  protected:
    void before_save() override { on_time(); }
    Result<void> validate(const State& staged) const override {
        constexpr int64_t far = int64_t{1} << 61;
        if (staged.index > 0x7F || staged.extended_index > 0x7F || (staged.flags & ~interrupts) ||
            staged.origin.ns > far || staged.origin.ns < -far || staged.ticks_seen > (uint64_t{1} << 50)) {
            return fail("MC146818: the saved state holds what the chip cannot");
        }
        return {};
    }
    void after_load() override { update_irq(); }

  private:
    static bool divider_runs(const State& state) { return (state.bytes[RegisterA] & A_DV) == A_DV_32768_HZ; }
    static bool updates(const State& state) { return divider_runs(state) && !(state.bytes[RegisterB] & B_SET); }

    /// Ticks of the time base between two periodic interrupts; 0 for none (data sheet, table 5).
    static uint64_t periodic_ticks(const State& state) {
        unsigned rate = state.bytes[RegisterA] & A_RS;
        if (rate == 0) return 0;
        if (rate < 3) rate += 7;
        return uint64_t{1} << (rate - 1);
    }

    [[nodiscard]] uint64_t ticks(const State& state) const {
        const int64_t age = std::max<int64_t>(0, (clock_.now() - state.origin).count());
        return std::max(ticks_in(age, base_hertz), state.ticks_seen);
    }

    /// Brings time and flags up to now.
    void update(State& state) const {
        if (!divider_runs(state)) return;
        const uint64_t now = ticks(state);
        if (const uint64_t period = periodic_ticks(state); period && now / period > state.ticks_seen / period) {
            state.flags |= C_PF;
        }
        const uint64_t seconds = now / base_hertz - state.ticks_seen / base_hertz;
        if (seconds > 0 && updates(state)) {
            if (Calendar(state).advance(static_cast<int64_t>(seconds))) state.flags |= C_AF;
            state.flags |= C_UF;
        }
        state.ticks_seen = now;
    }

    /// The line follows the state as of the last update(). Time must not move on in between: reading register C lowers
    /// the line, and a period that ends just then is another edge, for the 8259A sees edges only.
    void update_irq() {
        irq_.set(state_.flags & state_.bytes[RegisterB] & interrupts);
        arm();
    }

    void on_time() {
        update(state_);
        update_irq();
    }

    /// The timer serves only what would raise the line; all else is computed when somebody looks.
    void arm() {
        timer_.cancel();
        if (!divider_runs(state_)) return;
        const auto waiting = static_cast<uint8_t>(state_.bytes[RegisterB] & ~state_.flags & interrupts);
        std::optional<uint64_t> next;
        const auto consider = [&](uint64_t tick) { next = next ? std::min(*next, tick) : tick; };
        if (const uint64_t period = periodic_ticks(state_); period && (waiting & C_PF)) {
            consider((state_.ticks_seen / period + 1) * period);
        }
        const uint64_t second = state_.ticks_seen / base_hertz;
        if (updates(state_)) {
            if (waiting & C_UF) consider((second + 1) * base_hertz);
            if (waiting & C_AF) {
                const auto alarm = Calendar(state_).seconds_to_alarm();
                if (alarm) consider((second + static_cast<uint64_t>(*alarm)) * base_hertz);
            }
        }
        if (next) timer_.arm(state_.origin + Duration{ns_of_ticks(*next, base_hertz)});
    }

    [[nodiscard]] bool update_in_progress(const State& state) const {
        if (!updates(state)) return false;
        const uint64_t next = (state.ticks_seen / base_hertz + 1) * base_hertz;
        return state.origin + Duration{ns_of_ticks(next, base_hertz)} - clock_.now() <= update_warning;
    }

    /// A byte as a guest reads it, of a state that is up to date.
    [[nodiscard]] uint8_t value(const State& state, uint8_t index) const {
        switch (index) {
            case RegisterA: return state.bytes[RegisterA] | (update_in_progress(state) ? A_UIP : uint8_t{0});
            case RegisterC:
                return state.flags | (state.flags & state.bytes[RegisterB] & interrupts ? C_IRQF : uint8_t{0});
            case RegisterD: return D_VRT;
            default: return state.bytes[index];
        }
    }

    uint8_t read_register(uint8_t index) {
        update(state_);
        const uint8_t result = value(state_, index);
        if (index == RegisterC) state_.flags = 0;
        update_irq();
        return result;
    }

    void write_register(uint8_t index, uint8_t value) {
        update(state_);
        switch (index) {
            case RegisterA: {
                const bool ran = divider_runs(state_);
                state_.bytes[RegisterA] = value & static_cast<uint8_t>(~A_UIP);
                if (!ran && divider_runs(state_)) {
                    // "When the divider reset is removed the first update cycle begins one-half second later."
                    state_.origin = clock_.now() - std::chrono::milliseconds(500);
                    state_.ticks_seen = base_hertz / 2;
                }
                break;
            }
            case RegisterB:
                if (value & B_SET) value &= static_cast<uint8_t>(~B_UIE);
                state_.bytes[RegisterB] = value;
                break;
            case RegisterC:
            case RegisterD: break;
            case Seconds: state_.bytes[Seconds] = value & 0x7F; break;
            default: state_.bytes[index] = value; break;
        }
        update_irq();
    }

    // Ports 70h to 73h.
    uint8_t read_port(uint64_t offset) {
        switch (offset) {
            case 1: return read_register(state_.index);
            case 3: return state_.extended[state_.extended_index];
            default: return 0xFF;  // the index registers are write-only
        }
    }
    void write_port(uint64_t offset, uint8_t value) {
        switch (offset) {
            case 0:
                state_.index = value & 0x7F;
                state_.nmi_masked = value & nmi_mask;
                break;
            case 1: write_register(state_.index, value); break;
            case 2: state_.extended_index = value & 0x7F; break;
            default: state_.extended[state_.extended_index] = value; break;
        }
    }

    Clock& clock_;
    int64_t wall_time_;
    BytePorts<Mc146818> ports_{*this, &Mc146818::read_port, &Mc146818::write_port};
    IrqLine irq_;
    Timer timer_{clock_, [this](VirtualTime) { on_time(); }};
};

}  // namespace

Result<std::unique_ptr<Device>> make_mc146818(DeviceContext& context) {
    auto rtc = std::make_unique<Mc146818>(context.clock, context.wall_time);
    TRY(rtc->attach(context));
    rtc->reset(ResetKind::power_on);
    return rtc;
}

}  // namespace viv
