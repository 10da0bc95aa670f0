#pragma once

#include <cstdint>
#include <optional>

namespace viv {

/// The commands of the 82077AA (data sheet, table 5-1). The low five bits of the first byte, except RELATIVE SEEK's.
enum class FloppyCommand : uint8_t {
    read_track = 0x02,
    specify = 0x03,
    sense_drive_status = 0x04,
    write_data = 0x05,
    read_data = 0x06,
    recalibrate = 0x07,
    sense_interrupt_status = 0x08,
    write_deleted_data = 0x09,
    read_id = 0x0A,
    read_deleted_data = 0x0C,
    format_track = 0x0D,
    dump_registers = 0x0E,
    seek = 0x0F,
    version = 0x10,
    scan_equal = 0x11,
    perpendicular_mode = 0x12,
    configure = 0x13,
    lock = 0x14,
    verify = 0x16,
    scan_low_or_equal = 0x19,
    scan_high_or_equal = 0x1D,
    relative_seek = 0x8F,
};

/// The option bits of a command's first byte.
inline constexpr uint8_t command_multi_track = 0x80;
inline constexpr uint8_t command_mfm = 0x40;
inline constexpr uint8_t command_skip = 0x20;

struct FloppyCommandForm {
    FloppyCommand command;
    uint8_t length;   // bytes, the first one counted
    uint8_t options;  // bits of the first byte that may be set besides the command's own
    bool transfers;   // has an execution phase
};

/// What the first byte of a command asks for; nothing for an invalid command.
constexpr std::optional<FloppyCommandForm> floppy_command_form(uint8_t first) {
    constexpr uint8_t mt = command_multi_track;
    constexpr uint8_t mfm = command_mfm;
    constexpr uint8_t sk = command_skip;
    constexpr FloppyCommandForm forms[] = {
        {FloppyCommand::read_track, 9, mfm, true},
        {FloppyCommand::specify, 3, 0, false},
        {FloppyCommand::sense_drive_status, 2, 0, false},
        {FloppyCommand::write_data, 9, mt | mfm, true},
        {FloppyCommand::read_data, 9, mt | mfm | sk, true},
        {FloppyCommand::recalibrate, 2, 0, false},
        {FloppyCommand::sense_interrupt_status, 1, 0, false},
        {FloppyCommand::write_deleted_data, 9, mt | mfm, true},
        {FloppyCommand::read_id, 2, mfm, true},
        {FloppyCommand::read_deleted_data, 9, mt | mfm | sk, true},
        {FloppyCommand::format_track, 6, mfm, true},
        {FloppyCommand::dump_registers, 1, 0, false},
        {FloppyCommand::seek, 3, 0, false},
        {FloppyCommand::version, 1, 0, false},
        {FloppyCommand::scan_equal, 9, mt | mfm | sk, true},
        {FloppyCommand::perpendicular_mode, 2, 0, false},
        {FloppyCommand::configure, 4, 0, false},
        {FloppyCommand::lock, 1, 0x80, false},
        {FloppyCommand::verify, 9, mt | mfm | sk, true},
        {FloppyCommand::scan_low_or_equal, 9, mt | mfm | sk, true},
        {FloppyCommand::scan_high_or_equal, 9, mt | mfm | sk, true},
        {FloppyCommand::relative_seek, 3, 0x40, false},
    };
    for (const FloppyCommandForm& form : forms) {
        if ((first & ~form.options) == static_cast<uint8_t>(form.command)) return form;
    }
    return std::nullopt;
}

/// Status register bits that several parts set (data sheet, tables 6-1 to 6-4).
namespace floppy_status {
inline constexpr uint8_t st0_seek_end = 0x20;
inline constexpr uint8_t st0_equipment_check = 0x10;
inline constexpr uint8_t st0_abnormal = 0x40;
inline constexpr uint8_t st0_invalid = 0x80;
inline constexpr uint8_t st0_ready_changed = 0xC0;
inline constexpr uint8_t st1_end_of_cylinder = 0x80;
inline constexpr uint8_t st1_data_error = 0x20;
inline constexpr uint8_t st1_overrun = 0x10;
inline constexpr uint8_t st1_no_data = 0x04;
inline constexpr uint8_t st1_not_writable = 0x02;
inline constexpr uint8_t st1_missing_address_mark = 0x01;
inline constexpr uint8_t st2_control_mark = 0x40;
inline constexpr uint8_t st2_data_error_in_data = 0x20;
inline constexpr uint8_t st2_wrong_cylinder = 0x10;
inline constexpr uint8_t st2_scan_equal_hit = 0x08;
inline constexpr uint8_t st2_scan_not_satisfied = 0x04;
}  // namespace floppy_status

}  // namespace viv
