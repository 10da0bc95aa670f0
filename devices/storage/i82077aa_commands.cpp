// The commands of the 82077AA that move no sectors: set-up, status and seeks (data sheet, section 5.2).

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "devices/storage/i82077aa.hpp"
#include "devices/storage/i82077aa_command.hpp"

namespace viv {
namespace {

constexpr uint8_t version_enhanced = 0x90;
constexpr uint8_t st3_always = 0x28;  // the drive is ready, two-sided: the chip has no pins for them
constexpr uint8_t st3_write_protected = 0x40;
constexpr uint8_t st3_track_0 = 0x10;
constexpr uint8_t perpendicular_overwrite = 0x80;
constexpr int recalibrate_pulses = 79;

/// A seek's time: much shorter than a real one, which takes milliseconds a step.
constexpr Duration seek_time(int steps) {
    return std::chrono::microseconds(50 + 20 * std::abs(steps));
}

}  // namespace

void I82077aa::start_command() {
    const auto& bytes = state_.command;
    const unsigned unit = bytes[1] & 3;
    switch (floppy_command_form(bytes[0])->command) {
        case FloppyCommand::specify: state_.specify = {bytes[1], bytes[2]}; return end_command();
        case FloppyCommand::sense_drive_status: return sense_drive();
        case FloppyCommand::recalibrate: return start_recalibrate(unit);
        case FloppyCommand::sense_interrupt_status: return sense_interrupt();
        case FloppyCommand::dump_registers: return dump_registers();
        case FloppyCommand::seek: return start_seek(unit, bytes[2] - state_.present_cylinder[unit], bytes[2]);
        case FloppyCommand::relative_seek: {
            const int steps = (bytes[0] & 0x40) != 0 ? bytes[2] : -bytes[2];
            return start_seek(unit, steps, static_cast<uint8_t>(state_.present_cylinder[unit] + steps));
        }
        case FloppyCommand::version: return answer({version_enhanced});
        case FloppyCommand::perpendicular_mode:
            // D3-D0 change only together with OW.
            if ((bytes[1] & perpendicular_overwrite) != 0) {
                state_.perpendicular = bytes[1] & 0x3F;
            } else {
                state_.perpendicular = static_cast<uint8_t>((state_.perpendicular & 0x3C) | (bytes[1] & 3));
            }
            return end_command();
        case FloppyCommand::configure:
            state_.configure = bytes[2] & 0x7F;
            state_.precompensation = bytes[3];
            return end_command();
        case FloppyCommand::lock:
            state_.locked = (bytes[0] & 0x80) != 0;
            return answer({static_cast<uint8_t>(state_.locked ? 0x10 : 0x00)});
        default: break;
    }
    end_command();
}

void I82077aa::answer(std::initializer_list<uint8_t> bytes) {
    std::ranges::copy(bytes, state_.result.begin());
    state_.result_length = static_cast<uint8_t>(bytes.size());
    state_.result_position = 0;
    state_.phase = State::Phase::result;
}

/// Back to waiting for a command. A seek that ended meanwhile asks for its SENSE INTERRUPT STATUS now.
void I82077aa::end_command() {
    state_.phase = State::Phase::command;
    state_.command_length = 0;
    if (std::ranges::any_of(state_.seeks, &FloppySeek::interrupt)) state_.interrupt = true;
}

void I82077aa::sense_interrupt() {
    state_.interrupt = false;
    for (unsigned unit = 0; unit < state_.seeks.size(); ++unit) {
        FloppySeek& seek = state_.seeks[unit];
        if (std::exchange(seek.interrupt, false)) return answer({seek.status, state_.present_cylinder[unit]});
    }
    for (unsigned unit = 0; unit < state_.seeks.size(); ++unit) {
        const auto bit = static_cast<uint8_t>(1u << unit);
        if ((state_.polled & bit) == 0) continue;
        state_.polled = static_cast<uint8_t>(state_.polled & ~bit);
        return answer({static_cast<uint8_t>(floppy_status::st0_ready_changed | unit), state_.present_cylinder[unit]});
    }
    ++state_.invalid_commands;
    answer({floppy_status::st0_invalid});
}

void I82077aa::sense_drive() {
    auto status = static_cast<uint8_t>(st3_always | (state_.command[1] & 7));
    if (const FloppyDrive* selected = drive(state_.command[1] & 3)) {
        if (selected->write_protected()) status |= st3_write_protected;
        if (selected->at_track_0()) status |= st3_track_0;
    }
    answer({status});
}

void I82077aa::dump_registers() {
    const auto& cylinders = state_.present_cylinder;
    answer({cylinders[0], cylinders[1], cylinders[2], cylinders[3], state_.specify[0], state_.specify[1],
            state_.last_end_of_track, static_cast<uint8_t>((state_.locked ? 0x80 : 0) | state_.perpendicular),
            state_.configure, state_.precompensation});
}

void I82077aa::start_seek(unsigned unit, int steps, uint8_t target) {
    state_.seeks[unit] = {
        .end = clock_.now() + seek_time(steps), .steps = static_cast<int16_t>(steps), .target = target};
    end_command();
}

/// Steps out until TRK0, at most 79 times.
void I82077aa::start_recalibrate(unsigned unit) {
    const FloppyDrive* mechanism = drive(unit);
    const int position = mechanism ? state_.drives[unit].cylinder : recalibrate_pulses;
    start_seek(unit, -std::min(position, recalibrate_pulses), 0);
    state_.seeks[unit].recalibrate = true;
}

}  // namespace viv
