#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "devices/input/keyboard_port.hpp"
#include "vmm/core/byte_queue.hpp"
#include "vmm/core/clock.hpp"
#include "vmm/core/result.hpp"
#include "vmm/core/types.hpp"

namespace viv {

/// The mouse at the end of the controller's second wire: it receives commands and has bytes to send. It knows no ports.
class Ps2Mouse {
  public:
    /// What the mouse says to Identify; the guest climbs from one to the next by its sequence of sample rates.
    enum class Id : uint8_t { standard = 0, wheel = 3, five_buttons = 4 };

    static constexpr int counter_limit = 32767;  // counts kept for later reports; beyond it the overflow bit is set

    struct State {
        bool remote = false;
        bool wrap = false;
        bool reporting = false;
        bool scaling_2_to_1 = false;
        uint8_t resolution = 2;     // 4 counts a millimetre
        uint8_t sample_rate = 100;  // reports a second
        Id id = Id::standard;
        std::array<uint8_t, 3> rates{};  // the last sample rates set, newest last
        uint8_t awaiting = 0;            // the command whose argument comes next
        bool refused_once = false;       // the argument was wrong: the next wrong one is answered by FCh
        uint8_t last_sent = 0;
        ByteQueue<4> reply;
        ByteQueue<4> report;
        std::array<uint8_t, 4> last_report{};
        uint8_t last_report_size = 0;  // 0: the last thing sent was a single byte
        uint8_t buttons = 0;
        ByteQueue<8> clicks;  // button states not yet reported, so that a short click is not lost
        int32_t dx = 0;       // counts not yet reported: right
        int32_t dy = 0;       // up
        int32_t dz = 0;       // towards the user
        bool overflow_x = false;
        bool overflow_y = false;
        std::optional<VirtualTime> sample_due;  // no report before this time

        static void fields(auto& self, auto&& visit) {
            visit("remote", self.remote);
            visit("wrap", self.wrap);
            visit("reporting", self.reporting);
            visit("scaling-2-to-1", self.scaling_2_to_1);
            visit("resolution", self.resolution);
            visit("sample-rate", self.sample_rate);
            visit("id", self.id);
            visit("rates", self.rates);
            visit("awaiting", self.awaiting);
            visit("refused-once", self.refused_once);
            visit("last-sent", self.last_sent);
            visit("reply", self.reply);
            visit("report", self.report);
            visit("last-report", self.last_report);
            visit("last-report-size", self.last_report_size);
            visit("buttons", self.buttons);
            visit("clicks", self.clicks);
            visit("dx", self.dx);
            visit("dy", self.dy);
            visit("dz", self.dz);
            visit("overflow-x", self.overflow_x);
            visit("overflow-y", self.overflow_y);
            visit("sample-due", self.sample_due);
        }
        bool operator==(const State&) const = default;
    };

    /// `state` lives in the controller's state; `changed` is called when the sample timer adds a report.
    Ps2Mouse(State& state, Clock& clock, std::move_only_function<void()> changed);

    [[nodiscard]] static Result<void> validate(const State& state);
    void after_load();
    void power_on();

    /// A byte from the controller: a command or its argument.
    void receive(uint8_t byte);
    [[nodiscard]] bool has_byte() const { return !state_.reply.empty() || !state_.report.empty(); }
    /// The next byte to the controller; only when has_byte().
    uint8_t take_byte();

    /// As MousePort::move.
    void move(int dx, int dy, int wheel);
    void set_button(MouseButton button, bool down);
    [[nodiscard]] bool reporting() const { return state_.reporting || state_.remote; }

  private:
    void command(uint8_t byte);
    void argument(uint8_t byte);
    void answer(std::initializer_list<uint8_t> bytes);
    void answer_status();
    void answer_with_report();
    void set_defaults();
    void clear_motion();
    void note_rate(uint8_t rate);
    [[nodiscard]] bool something_new() const;
    ByteQueue<4> make_report();
    void report_if_due();
    void sample(VirtualTime deadline);
    [[nodiscard]] Duration sample_period() const;

    State& state_;
    Clock& clock_;
    std::move_only_function<void()> changed_;
    Timer sample_timer_;
};

}  // namespace viv
