#pragma once

#include <cstdint>
#include <optional>

namespace viv {

/// One counter of an 8254, computed from the tick of its clock when somebody looks. Ticks count CLK pulses since
/// power-on, so a count is exact however long it runs. Every function is given the present tick, which never goes back.
/// Reference: Intel 8254 data sheet (231164), "Operational Description" and "Mode Definitions".
struct I8254Counter {
    // The control word's D5-D0 as written, and as the status byte shows them.
    static constexpr uint8_t RW1_RW0 = 0x30;
    static constexpr uint8_t BCD = 0x01;
    static constexpr uint8_t STATUS_OUTPUT = 0x80;
    static constexpr uint8_t STATUS_NULL_COUNT = 0x40;

    uint8_t control = RW1_RW0;     // mode 0, two bytes: undefined before the first control word, we choose
    uint16_t count_register = 0;   // CR, as written
    bool count_written = false;    // CR holds a count of this mode
    bool null_count = true;        // CR is newer than CE
    uint8_t low_byte = 0;          // of a two-byte write
    bool write_high_next = false;  // byte pointers
    bool read_high_next = false;
    uint8_t latched_bytes = 0;  // bytes of OL not yet read
    uint16_t output_latch = 0;  // OL
    bool status_latched = false;
    uint8_t status_latch = 0;
    bool gate = true;

    bool counting = false;      // CE was loaded from CR in this mode
    bool running = false;       // and the gate lets it count
    uint32_t period = 1;        // the count that was loaded, 1 to 65536
    uint64_t start = 0;         // while running: the tick at which CE held `period`
    uint64_t held = 0;          // while not running: ticks counted before the gate stopped it
    bool starts_low = false;    // mode 3: `start` begins a low half
    uint16_t frozen = 0;        // CE while not counting
    bool load_pending = false;  // CR goes into CE at tick load_at
    uint64_t load_at = 0;
    uint64_t seen = 0;  // the last tick the counter was brought up to

    static void fields(auto& self, auto&& visit) {
        visit("control", self.control);
        visit("count_register", self.count_register);
        visit("count_written", self.count_written);
        visit("null_count", self.null_count);
        visit("low_byte", self.low_byte);
        visit("write_high_next", self.write_high_next);
        visit("read_high_next", self.read_high_next);
        visit("latched_bytes", self.latched_bytes);
        visit("output_latch", self.output_latch);
        visit("status_latched", self.status_latched);
        visit("status_latch", self.status_latch);
        visit("gate", self.gate);
        visit("counting", self.counting);
        visit("running", self.running);
        visit("period", self.period);
        visit("start", self.start);
        visit("held", self.held);
        visit("starts_low", self.starts_low);
        visit("frozen", self.frozen);
        visit("load_pending", self.load_pending);
        visit("load_at", self.load_at);
        visit("seen", self.seen);
    }
    bool operator==(const I8254Counter&) const = default;
    /// Whether a counter can get into this state; for loads.
    [[nodiscard]] bool valid() const;

    /// 0 to 5.
    [[nodiscard]] unsigned mode() const;

    /// Brings the counter to `tick`; returns how often OUT rose since the last time.
    uint64_t advance(uint64_t tick);
    void write_control(uint8_t value, uint64_t tick);
    void write_count(uint8_t value, uint64_t tick);
    uint8_t read(uint64_t tick);
    void latch_count(uint64_t tick);
    void latch_status(uint64_t tick);
    void set_gate(bool level, uint64_t tick);

    // Of the tick last advanced to:
    [[nodiscard]] bool out() const;
    /// CE as a read gives it (BCD where programmed).
    [[nodiscard]] uint16_t count() const;
    /// The next tick at which OUT may rise or fall by itself, or a count is loaded.
    [[nodiscard]] std::optional<uint64_t> next_rise() const;
    [[nodiscard]] std::optional<uint64_t> next_fall() const;
    /// How long OUT is high in a period of the square wave, in ticks.
    [[nodiscard]] uint32_t high_ticks() const { return (period + 1) / 2; }

  private:
    struct SquareWave {
        bool low = false;
        uint64_t since = 0;  // ticks since OUT toggled
    };
    [[nodiscard]] SquareWave square_wave(uint64_t elapsed) const;
    [[nodiscard]] uint64_t elapsed() const { return running ? seen - start : held; }
    [[nodiscard]] uint32_t modulus() const { return control & BCD ? 10000 : 65536; }
    [[nodiscard]] uint64_t rises_within(uint64_t after, uint64_t until) const;
    [[nodiscard]] bool one_shot_ends_at(uint64_t& tick) const;
    void load();
    void stop_counting();
    void accept_count(uint16_t value);
    [[nodiscard]] uint64_t next_reload() const;
};

}  // namespace viv
