// Models: the fixed ACPI hardware at the PIIX4's offsets: PM1 status, enable and control, the 24-bit PM timer, SCI, S5.
// Not modelled: buttons and wake events (the tables declare none), sleep states but S5, SMI (the tables offer no
// command port), general purpose events. Ignored bits: all of PM1 but those named below, BM_RLD and GBL_RLS, what is
// written to the timer, offsets 6-7. Reference: ACPI Specification 6.4, 4.8.3 "Fixed Hardware Registers"; Intel 82371AB
// (290562), 7.2 "I/O space registers".
#include "devices/system/acpi_pm.hpp"

#include "vmm/core/clock.hpp"

namespace viv {
namespace {

enum class Register : uint8_t {
    PMSTS = 0x00,    // rw1c
    PMEN = 0x02,     // rw
    PMCNTRL = 0x04,  // rw
    PMTMR = 0x08,    // r-  32 bits
    PMTMR_HIGH = 0x0A,
};

constexpr uint16_t TMR_STS = 0x0001;  // bit 23 of the timer changed
constexpr uint16_t GBL_STS = 0x0020;  // the firmware released the global lock: never, there is no SMI

constexpr uint16_t TMR_EN = 0x0001;
constexpr uint16_t GBL_EN = 0x0020;
constexpr uint16_t PWRBTN_EN = 0x0100;
constexpr uint16_t RTC_EN = 0x0400;
constexpr uint16_t PMEN_BITS = TMR_EN | GBL_EN | PWRBTN_EN | RTC_EN;

constexpr uint16_t SCI_EN = 0x0001;
constexpr uint16_t SLP_TYP = 0x1C00;
constexpr uint16_t SLP_EN = 0x2000;  // -w: enters the state of SLP_TYP
constexpr uint16_t PMCNTRL_BITS = SCI_EN | SLP_TYP;
constexpr uint16_t soft_off = 0;  // SLP_TYP of S5

constexpr uint64_t timer_hertz = 3'579'545;
constexpr uint64_t timer_mask = 0xFFFFFF;
constexpr unsigned timer_status_bit = 23;

struct State {
    uint16_t pmsts = 0;
    uint16_t pmen = 0;
    uint16_t pmcntrl = SCI_EN;  // the firmware hands the board over in ACPI mode
    VirtualTime timer_seen;     // changes of the timer's bit 23 up to here are in pmsts
    static void fields(auto& self, auto&& visit) {
        visit("pmsts", self.pmsts);
        visit("pmen", self.pmen);
        visit("pmcntrl", self.pmcntrl);
        visit("timer-seen", self.timer_seen);
    }
    bool operator==(const State&) const = default;
};

class AcpiPm final : public StatefulDevice<State>, public BusDevice {
  public:
    AcpiPm(Clock& clock, SystemControl& system, IrqLine sci)
        : clock_(clock), system_(system), sci_(std::move(sci)), timer_(clock, [this](VirtualTime) { update(); }) {
        reset(ResetKind::power_on);
    }

    void reset(ResetKind /*kind*/) override {
        state_ = State{};
        state_.timer_seen = clock_.now();
        update();
    }

    /// All bytes of an access show one moment: the timer runs on meanwhile.
    uint64_t read(Access access) override {
        update();
        uint64_t value = 0;
        for (unsigned i = access.size; i-- > 0;) value = value << 8 | byte_at(access.offset + i);
        return value;
    }
    void write(Access access, uint64_t value) override {
        for (unsigned i = 0; i < access.size; ++i) write8(access.offset + i, static_cast<uint8_t>(value >> (8 * i)));
    }

  protected:
    void before_save() override { update(); }
    Result<void> validate(const State& staged) const override {
        if ((staged.pmsts & ~(TMR_STS | GBL_STS)) || (staged.pmen & ~PMEN_BITS) || (staged.pmcntrl & ~PMCNTRL_BITS))
            return fail("PM1: the saved state has bits that do not exist");
        if (staged.timer_seen.ns < 0) return fail("PMTMR: the saved time is before power-on");
        return {};
    }
    void after_load() override { update(); }

  private:
    /// As of the last update().
    [[nodiscard]] uint8_t byte_at(uint64_t offset) const {
        const unsigned shift = 8 * (offset & 1);
        switch (static_cast<Register>(offset & ~uint64_t{1})) {
            case Register::PMSTS: return static_cast<uint8_t>(state_.pmsts >> shift);
            case Register::PMEN: return static_cast<uint8_t>(state_.pmen >> shift);
            case Register::PMCNTRL: return static_cast<uint8_t>(state_.pmcntrl >> shift);
            case Register::PMTMR:
            case Register::PMTMR_HIGH: {
                const uint64_t count = ticks_in(state_.timer_seen.ns, timer_hertz) & timer_mask;
                return static_cast<uint8_t>(count >> (8 * (offset & 3)));
            }
        }
        return 0;
    }

    void write8(uint64_t offset, uint8_t value) {
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
                if ((bits & SLP_EN) && (state_.pmcntrl & SLP_TYP) == soft_off) system_.request_power_off("ACPI S5");
                break;
            case Register::PMTMR:
            case Register::PMTMR_HIGH: break;
        }
        update();
    }

    /// Brings TMR_STS up to now and derives the rest: when it will change next, and the SCI.
    void update() {
        const VirtualTime now = clock_.now();
        const uint64_t half_periods = ticks_in(now.ns, timer_hertz) >> timer_status_bit;
        if (half_periods != ticks_in(state_.timer_seen.ns, timer_hertz) >> timer_status_bit) state_.pmsts |= TMR_STS;
        state_.timer_seen = now;
        if ((state_.pmen & TMR_EN) && !(state_.pmsts & TMR_STS)) {
            timer_.arm({ns_of_ticks((half_periods + 1) << timer_status_bit, timer_hertz)});
        } else {
            timer_.cancel();
        }
        sci_.set((state_.pmcntrl & SCI_EN) && (state_.pmsts & state_.pmen & (TMR_STS | GBL_STS)));
    }

    Clock& clock_;
    SystemControl& system_;
    IrqLine sci_;
    Timer timer_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_acpi_pm(DeviceContext& context) {
    auto pm = std::make_unique<AcpiPm>(context.clock, context.system, TRY(context.irq(0)));
    TRY(context.map(0, *pm));
    return pm;
}

}  // namespace viv
