#include "devices/timer/i8254_counter.hpp"

#include <algorithm>

namespace viv {
namespace {

constexpr uint8_t latch_command = 0;
enum ReadWrite : uint8_t { least_significant = 1, most_significant = 2, both_bytes = 3 };

constexpr unsigned read_write(uint8_t control) {
    return (control & I8254Counter::RW1_RW0) >> 4;
}

constexpr uint32_t from_bcd(uint16_t digits) {
    return (digits >> 12) * 1000u + (digits >> 8 & 15) * 100u + (digits >> 4 & 15) * 10u + (digits & 15);
}

constexpr uint16_t to_bcd(uint32_t value) {
    return static_cast<uint16_t>((value / 1000 % 10) << 12 | (value / 100 % 10) << 8 | (value / 10 % 10) << 4 |
                                 value % 10);
}
static_assert(from_bcd(0x9876) == 9876 && to_bcd(9876) == 0x9876);

}  // namespace

bool I8254Counter::valid() const {
    constexpr uint64_t ages = uint64_t{1} << 52;  // a century, and no overflow in nanoseconds
    return control < 0x40 && read_write(control) != latch_command && latched_bytes <= 2 && period >= 1 &&
           period <= 65536 && seen < ages && start <= seen && held < ages &&
           (!load_pending || (load_at > seen && load_at - seen <= 65537));
}

unsigned I8254Counter::mode() const {
    const unsigned bits = control >> 1 & 7;
    return bits >= 6 ? bits - 4 : bits;  // D3 is ignored in modes 2 and 3
}

uint64_t I8254Counter::advance(uint64_t tick) {
    tick = std::max(tick, seen);
    uint64_t rises = 0;
    if (load_pending && load_at <= tick) {
        rises = rises_within(seen, load_at);
        seen = load_at;
        load();
    }
    rises += rises_within(seen, tick);
    seen = tick;
    return rises;
}

void I8254Counter::load() {
    // A count that was written in the middle of a square wave begins with the half that is due.
    starts_low = mode() == 3 && counting && running && square_wave(elapsed()).low;
    const uint32_t count = control & BCD ? from_bcd(count_register) : count_register;
    period = count == 0 ? modulus() : count;
    counting = true;
    null_count = false;
    load_pending = false;
    running = gate || mode() == 1 || mode() == 5;
    start = seen;
    held = 0;
}

void I8254Counter::stop_counting() {
    frozen = count();
    counting = false;
    running = false;
    load_pending = false;
}

void I8254Counter::write_control(uint8_t value, uint64_t tick) {
    advance(tick);
    stop_counting();
    control = value & 0x3F;
    count_written = false;
    null_count = true;
    write_high_next = false;
    read_high_next = false;
    latched_bytes = 0;
    status_latched = false;
}

void I8254Counter::write_count(uint8_t value, uint64_t tick) {
    advance(tick);
    switch (read_write(control)) {
        case least_significant: return accept_count(value);
        case most_significant: return accept_count(static_cast<uint16_t>(value << 8));
        default: break;
    }
    if (write_high_next) {
        write_high_next = false;
        return accept_count(static_cast<uint16_t>(value << 8 | low_byte));
    }
    low_byte = value;
    write_high_next = true;
    if (mode() == 0) stop_counting();  // "writing the first byte disables counting; OUT is set low immediately"
}

void I8254Counter::accept_count(uint16_t value) {
    count_register = value;
    count_written = true;
    null_count = true;
    switch (mode()) {
        case 0:
            stop_counting();
            load_pending = true;
            load_at = seen + 1;
            break;
        case 2:
        case 3:
            // The present (half) period ends first; a stopped counter waits for the gate.
            if (counting && !running) break;
            if (!load_pending) load_at = counting ? next_reload() : seen + 1;
            load_pending = true;
            break;
        case 4:
            load_pending = true;
            load_at = seen + 1;
            break;
        default: break;  // modes 1 and 5 load when triggered
    }
}

void I8254Counter::set_gate(bool level, uint64_t tick) {
    advance(tick);
    if (level == gate) return;
    gate = level;
    const bool periodic = mode() == 2 || mode() == 3;
    const bool triggered = mode() == 1 || mode() == 5;
    if (level && (periodic || triggered)) {
        if (!count_written) return;
        load_pending = true;
        load_at = seen + 1;
    } else if (level) {
        if (!counting || running) return;
        start = seen - std::min(held, seen);
        running = true;
    } else if (!triggered && running) {
        held = seen - start;
        running = false;
        if (periodic) load_pending = false;
    }
}

I8254Counter::SquareWave I8254Counter::square_wave(uint64_t elapsed) const {
    const uint32_t low_ticks = period / 2;
    if (starts_low) {
        if (elapsed < low_ticks) return {true, elapsed};
        elapsed -= low_ticks;
    }
    const uint64_t position = elapsed % period;
    if (position < high_ticks()) return {false, position};
    return {true, position - high_ticks()};
}

bool I8254Counter::out() const {
    switch (mode()) {
        case 0: return counting && elapsed() >= period;
        case 1: return !counting || elapsed() >= period;
        // A count of 1 is illegal in modes 2 and 3; OUT then stays high.
        case 2: return !running || period == 1 || elapsed() % period != period - 1;
        case 3: return !running || !square_wave(elapsed()).low;
        default: return !counting || elapsed() != period;  // 4 and 5: a strobe of one tick
    }
}

uint16_t I8254Counter::count() const {
    if (!counting) {
        // A bus cycle of a real PC is no shorter than the tick that loads a first count, so nobody ever read the old
        // one.
        if (!load_pending) return frozen;
        return mode() == 3 ? count_register & 0xFFFE : count_register;
    }
    uint64_t value = 0;
    switch (mode()) {
        case 2: value = period - elapsed() % period; break;
        // Counts down by two from the even number at or below the count.
        case 3: value = (period & ~1u) - 2 * square_wave(elapsed()).since; break;
        default: value = uint64_t{period} + modulus() - elapsed() % modulus(); break;
    }
    value %= modulus();
    return control & BCD ? to_bcd(static_cast<uint32_t>(value)) : static_cast<uint16_t>(value);
}

uint64_t I8254Counter::next_reload() const {
    if (mode() == 2) return start + (elapsed() / period + 1) * period;
    const SquareWave wave = square_wave(elapsed());
    return seen + (wave.low ? period / 2 : high_ticks()) - wave.since;
}

bool I8254Counter::one_shot_ends_at(uint64_t& tick) const {
    const unsigned m = mode();
    if (!running || m == 2 || m == 3) return false;
    tick = start + period + (m >= 4 ? 1 : 0);  // the strobe of modes 4 and 5 ends a tick after it began
    return true;
}

std::optional<uint64_t> I8254Counter::next_rise() const {
    if (load_pending) return load_at;
    uint64_t tick = 0;
    if (one_shot_ends_at(tick)) return tick > seen ? std::optional(tick) : std::nullopt;
    if (!running || period == 1) return std::nullopt;
    if (mode() == 2) return next_reload();
    const SquareWave wave = square_wave(elapsed());
    return wave.low ? next_reload() : next_reload() + period / 2;
}

std::optional<uint64_t> I8254Counter::next_fall() const {
    if (mode() != 3 || !running || period == 1) return std::nullopt;
    const SquareWave wave = square_wave(elapsed());
    return wave.low ? next_reload() + high_ticks() : next_reload();
}

uint64_t I8254Counter::rises_within(uint64_t after, uint64_t until) const {
    uint64_t tick = 0;
    if (one_shot_ends_at(tick)) return tick > after && tick <= until ? 1 : 0;
    if (!running || period == 1) return 0;
    uint64_t first = start + period;  // of the rises, which then come every period
    if (mode() == 3 && starts_low) first = start + period / 2;
    const auto rises_until = [&](uint64_t end) { return end < first ? 0 : (end - first) / period + 1; };
    return rises_until(until) - rises_until(after);
}

uint8_t I8254Counter::read(uint64_t tick) {
    advance(tick);
    if (status_latched) {
        status_latched = false;
        return status_latch;
    }
    const unsigned bytes = read_write(control);
    if (latched_bytes != 0) {
        --latched_bytes;
        const bool high = bytes == most_significant || (bytes == both_bytes && latched_bytes == 0);
        return static_cast<uint8_t>(high ? output_latch >> 8 : output_latch);
    }
    bool high = bytes == most_significant;
    if (bytes == both_bytes) {
        high = read_high_next;
        read_high_next = !read_high_next;
    }
    return static_cast<uint8_t>(high ? count() >> 8 : count());
}

void I8254Counter::latch_count(uint64_t tick) {
    advance(tick);
    if (latched_bytes != 0) return;
    output_latch = count();
    latched_bytes = read_write(control) == both_bytes ? 2 : 1;
}

void I8254Counter::latch_status(uint64_t tick) {
    advance(tick);
    if (status_latched) return;
    status_latched = true;
    status_latch = static_cast<uint8_t>((out() ? STATUS_OUTPUT : 0) | (null_count ? STATUS_NULL_COUNT : 0) | control);
}

}  // namespace viv
