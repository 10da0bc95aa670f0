// The commands of the 82077AA that move sectors (data sheet, section 5.1). A sector at a time: found, moved between the
// host and a buffer, done with; then the next one.

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "devices/storage/i82077aa.hpp"
#include "devices/storage/i82077aa_command.hpp"

namespace viv {
namespace {

using namespace floppy_status;

constexpr uint8_t size_code_512 = 2;
constexpr uint8_t configure_implied_seek = 0x40;
constexpr uint8_t configure_fifo_off = 0x20;
constexpr uint8_t verify_enable_count = 0x80;

// A real drive takes 200 ms for a turn. Drivers must see the interrupt after their last OUT, and need no more.
constexpr Duration first_sector_time = std::chrono::microseconds(100);
constexpr Duration sector_time = std::chrono::microseconds(100);
constexpr Duration step_time = std::chrono::microseconds(20);
constexpr Duration fifo_byte_time = std::chrono::microseconds(2);

FloppyCommand command_of(uint8_t first) {
    return floppy_command_form(first)->command;
}

bool is_scan(FloppyCommand command) {
    return command == FloppyCommand::scan_equal || command == FloppyCommand::scan_low_or_equal ||
           command == FloppyCommand::scan_high_or_equal;
}

bool is_write(FloppyCommand command) {
    return command == FloppyCommand::write_data || command == FloppyCommand::write_deleted_data;
}

bool reads_to_host(FloppyCommand command) {
    return command == FloppyCommand::read_data || command == FloppyCommand::read_deleted_data ||
           command == FloppyCommand::read_track;
}

}  // namespace

void I82077aa::start_transfer() {
    const auto& bytes = state_.command;
    const FloppyCommand command = command_of(bytes[0]);
    FloppyTransfer transfer;
    transfer.drive = bytes[1] & 3;
    transfer.head = bytes[1] >> 2 & 1;
    Duration delay = first_sector_time;
    if (command == FloppyCommand::format_track) {
        transfer.size_code = bytes[2];
        transfer.remaining = bytes[3];
        transfer.counted = true;
        state_.last_end_of_track = bytes[3];
    } else if (command != FloppyCommand::read_id) {
        transfer.cylinder = bytes[2];
        transfer.head_id = bytes[3];
        transfer.sector = bytes[4];
        transfer.size_code = bytes[5];
        transfer.end_of_track = bytes[6];
        state_.last_end_of_track = bytes[6];
        if (command == FloppyCommand::verify && (bytes[1] & verify_enable_count) != 0) {
            transfer.counted = true;
            transfer.remaining = bytes[8];
        }
        if (command == FloppyCommand::read_track) {
            transfer.counted = true;
            transfer.remaining = bytes[6];
        }
        if ((state_.configure & configure_implied_seek) != 0) {
            const int steps = transfer.cylinder - state_.present_cylinder[transfer.drive];
            if (FloppyDrive* mechanism = drive(transfer.drive)) mechanism->step(steps);
            state_.present_cylinder[transfer.drive] = transfer.cylinder;
            transfer.seek_end = true;
            delay += step_time * std::abs(steps);
        }
    }
    state_.transfer = std::move(transfer);
    state_.phase = State::Phase::execution;
    schedule(delay);
}

void I82077aa::step_transfer() {
    if (command_of(state_.command[0]) == FloppyCommand::read_id) return step_read_id();
    if (state_.transfer.buffer.empty()) return next_buffer();
    if (non_dma()) return offer_to_cpu();
    move_by_dma();
}

/// The drive, if its head reads anything that this command can understand where it is.
FloppyDrive* I82077aa::readable_drive() {
    FloppyDrive* selected = drive(state_.transfer.drive);
    const FloppyFormat* format = selected ? selected->format() : nullptr;
    const bool readable = format && (state_.command[0] & command_mfm) != 0 &&
                          state_.data_rate == selected->data_rate() && state_.transfer.head < format->geometry.heads &&
                          selected->recorded_cylinder();
    if (!readable) state_.transfer.status_1 |= st1_missing_address_mark;
    return readable ? selected : nullptr;
}

/// Looks for the sector whose ID the command gives.
bool I82077aa::find_sector() {
    FloppyTransfer& transfer = state_.transfer;
    const FloppyDrive* selected = readable_drive();
    if (!selected) return false;
    if (transfer.cylinder != *selected->recorded_cylinder()) {
        transfer.status_1 |= st1_no_data;
        transfer.status_2 |= st2_wrong_cylinder;
        return false;
    }
    if (transfer.head_id != transfer.head || transfer.size_code != size_code_512 || transfer.sector < 1 ||
        transfer.sector > selected->format()->geometry.sectors) {
        transfer.status_1 |= st1_no_data;
        return false;
    }
    return true;
}

/// Answers with the ID that passes the head: which one it is goes with the time, as the medium turns.
void I82077aa::step_read_id() {
    FloppyTransfer& transfer = state_.transfer;
    const FloppyDrive* selected = readable_drive();
    if (!selected) return finish_transfer(Outcome::abnormal);
    const auto turn = static_cast<uint64_t>(clock_.now().ns) / static_cast<uint64_t>(sector_time.count());
    transfer.cylinder = static_cast<uint8_t>(*selected->recorded_cylinder());
    transfer.head_id = transfer.head;
    transfer.sector = static_cast<uint8_t>(turn % selected->format()->geometry.sectors + 1);
    transfer.size_code = size_code_512;
    finish_transfer(Outcome::normal);
}

void I82077aa::next_buffer() {
    FloppyTransfer& transfer = state_.transfer;
    const FloppyCommand command = command_of(state_.command[0]);
    const FloppyDrive* selected = drive(transfer.drive);
    if ((is_write(command) || command == FloppyCommand::format_track) && selected && selected->write_protected()) {
        transfer.status_1 |= st1_not_writable;
        return finish_transfer(Outcome::abnormal);
    }
    if (command == FloppyCommand::format_track) {
        // The image has a place for the sectors of its own format only.
        const FloppyDrive* writable = readable_drive();
        if (!writable) return finish_transfer(Outcome::abnormal);
        if (transfer.size_code != size_code_512 || state_.command[3] != writable->format()->geometry.sectors) {
            transfer.status_1 |= st1_no_data;
            return finish_transfer(Outcome::abnormal);
        }
        transfer.buffer.assign(4, 0);
    } else if (command == FloppyCommand::read_track) {
        // The sectors as they pass, whatever their ID; a difference is only reported.
        FloppyDrive* readable = readable_drive();
        if (!readable || transfer.remaining == 0) return finish_transfer(Outcome::abnormal);
        const auto passed = static_cast<uint8_t>(transfer.end_of_track - transfer.remaining);
        const uint32_t sector = passed % readable->format()->geometry.sectors + 1;
        if (transfer.sector != sector || transfer.cylinder != *readable->recorded_cylinder() ||
            transfer.head_id != transfer.head) {
            transfer.status_1 |= st1_no_data;
        }
        transfer.buffer.assign(512, 0);
        if (readable->read_sector(transfer.head, sector, std::as_writable_bytes(std::span(transfer.buffer))) !=
            DiskStatus::ok) {
            transfer.status_1 |= st1_data_error;
            transfer.status_2 |= st2_data_error_in_data;
        }
    } else {
        if (!find_sector()) return finish_transfer(Outcome::abnormal);
        if (command == FloppyCommand::read_deleted_data) {
            // All sectors have normal data marks.
            transfer.status_2 |= st2_control_mark;
            if ((state_.command[0] & command_skip) != 0) return buffer_done(false);
        }
        transfer.buffer.assign(512, 0);
        if (reads_to_host(command) || command == FloppyCommand::verify) {
            const DiskStatus status =
                drive(transfer.drive)
                    ->read_sector(transfer.head, transfer.sector, std::as_writable_bytes(std::span(transfer.buffer)));
            if (status != DiskStatus::ok) {
                transfer.status_1 |= st1_data_error;
                transfer.status_2 |= st2_data_error_in_data;
                return finish_transfer(Outcome::abnormal);
            }
            if (command == FloppyCommand::verify) return buffer_done(false);
        }
    }
    transfer.position = 0;
    if (non_dma()) return offer_to_cpu();
    move_by_dma();
}

void I82077aa::move_by_dma() {
    FloppyTransfer& transfer = state_.transfer;
    if (!dma_.ready(dma_channel_)) {
        // A real drive would run on and overrun. Waiting does no harm and forgives a driver that unmasks late.
        transfer.awaits_dma = true;
        return;
    }
    size_t moved = 0;
    if (reads_to_host(command_of(state_.command[0]))) {
        moved = dma_.write_memory(dma_channel_, std::as_bytes(std::span(transfer.buffer)));
    } else {
        moved = dma_.read_memory(dma_channel_, std::as_writable_bytes(std::span(transfer.buffer)));
    }
    const bool cut = moved < transfer.buffer.size();
    transfer.position = static_cast<uint16_t>(std::min(moved, transfer.buffer.size()));
    buffer_done(cut || dma_.terminal_count(dma_channel_));
}

/// Programmed I/O: lets the CPU at as many bytes as the FIFO holds when it asks for service.
void I82077aa::offer_to_cpu() {
    FloppyTransfer& transfer = state_.transfer;
    const unsigned threshold = (state_.configure & 0x0F) + 1u;
    const size_t chunk = (state_.configure & configure_fifo_off) != 0 ? 1 : std::max(1u, 16 - threshold);
    transfer.available = static_cast<uint16_t>(std::min(chunk, transfer.buffer.size() - transfer.position));
}

uint8_t I82077aa::take_by_cpu() {
    FloppyTransfer& transfer = state_.transfer;
    if (transfer.available == 0 || !reads_to_host(command_of(state_.command[0]))) return 0xFF;
    const uint8_t value = transfer.buffer[transfer.position++];
    --transfer.available;
    if (transfer.position == transfer.buffer.size()) {
        buffer_done(false);
    } else if (transfer.available == 0) {
        schedule(fifo_byte_time);
    }
    return value;
}

void I82077aa::give_by_cpu(uint8_t value) {
    FloppyTransfer& transfer = state_.transfer;
    if (transfer.available == 0 || reads_to_host(command_of(state_.command[0]))) return;
    transfer.buffer[transfer.position++] = value;
    --transfer.available;
    if (transfer.position == transfer.buffer.size()) {
        buffer_done(false);
    } else if (transfer.available == 0) {
        schedule(fifo_byte_time);
    }
}

/// The sector has been read by the host, filled by it, skipped or verified.
void I82077aa::buffer_done(bool terminal_count) {
    FloppyTransfer& transfer = state_.transfer;
    const FloppyCommand command = command_of(state_.command[0]);
    const auto& bytes = state_.command;
    if (command == FloppyCommand::format_track && !(transfer.position == 4 && format_sector())) {
        if (transfer.position < 4) transfer.status_1 |= st1_overrun;
        return finish_transfer(Outcome::abnormal);
    }
    if (is_write(command) && !write_buffer()) return finish_transfer(Outcome::abnormal);
    if (is_scan(command)) {
        if (!find_sector()) return finish_transfer(Outcome::abnormal);
        const bool hit = scan_satisfied();
        if ((transfer.status_1 & st1_data_error) != 0) return finish_transfer(Outcome::abnormal);
        if (hit) return finish_transfer(Outcome::normal);
        transfer.status_2 |= st2_scan_not_satisfied;
    }
    transfer.buffer.clear();
    transfer.position = 0;
    // Of a deleted-data read without SK only this sector counts.
    if (command == FloppyCommand::read_deleted_data && (bytes[0] & command_skip) == 0) terminal_count = true;

    const bool second_side_follows = (bytes[0] & command_multi_track) != 0 && transfer.head == 0;
    const bool last = transfer.sector == transfer.end_of_track && !second_side_follows;
    if (is_scan(command) && bytes[8] == 2 && transfer.sector + 2 > transfer.end_of_track) {
        transfer.sector = transfer.end_of_track;
        if (!second_side_follows) return finish_transfer(Outcome::normal);
    }
    if (command != FloppyCommand::format_track) advance();
    if (transfer.counted && --transfer.remaining == 0) return finish_transfer(Outcome::normal);
    if (terminal_count) return finish_transfer(Outcome::normal);
    if (last && !transfer.counted) {
        const bool skipped = command == FloppyCommand::read_deleted_data;
        if (is_scan(command) || command == FloppyCommand::verify || skipped) return finish_transfer(Outcome::normal);
        // Nobody said that it was enough.
        transfer.status_1 |= st1_end_of_cylinder;
        return finish_transfer(Outcome::abnormal);
    }
    schedule(sector_time);
}

bool I82077aa::write_buffer() {
    FloppyTransfer& transfer = state_.transfer;
    // The medium may have gone, or another seek have moved the heads, while the host was slow.
    if (!find_sector()) return false;
    std::fill(transfer.buffer.begin() + transfer.position, transfer.buffer.end(), uint8_t{0});
    const DiskStatus status =
        drive(transfer.drive)->write_sector(transfer.head, transfer.sector, std::as_bytes(std::span(transfer.buffer)));
    if (status == DiskStatus::ok) return true;
    transfer.status_1 |= status == DiskStatus::read_only ? st1_not_writable : st1_data_error;
    return false;
}

/// One ID of FORMAT TRACK: the sector of the image that has it is filled.
bool I82077aa::format_sector() {
    FloppyTransfer& transfer = state_.transfer;
    transfer.cylinder = transfer.buffer[0];
    transfer.head_id = transfer.buffer[1];
    transfer.sector = transfer.buffer[2];
    transfer.size_code = transfer.buffer[3];
    if (!find_sector()) return false;
    transfer.buffer.assign(512, state_.command[5]);
    transfer.position = 512;
    return write_buffer();
}

/// Compares what the host gave with the medium, as numbers of `position` digits; FFh of the host equals anything.
bool I82077aa::scan_satisfied() {
    FloppyTransfer& transfer = state_.transfer;
    std::vector<uint8_t> sector(512);
    if (drive(transfer.drive)->read_sector(transfer.head, transfer.sector, std::as_writable_bytes(std::span(sector))) !=
        DiskStatus::ok) {
        transfer.status_1 |= st1_data_error;
        transfer.status_2 |= st2_data_error_in_data;
        return false;
    }
    int order = 0;
    for (size_t i = 0; i < transfer.position && order == 0; ++i) {
        if (transfer.buffer[i] != 0xFF) order = sector[i] - transfer.buffer[i];
    }
    transfer.status_2 = 0;
    if (order == 0) transfer.status_2 |= st2_scan_equal_hit;
    switch (command_of(state_.command[0])) {
        case FloppyCommand::scan_low_or_equal: return order <= 0;
        case FloppyCommand::scan_high_or_equal: return order >= 0;
        default: return order == 0;
    }
}

/// The sector after this one (data sheet, table 5-5).
void I82077aa::advance() {
    FloppyTransfer& transfer = state_.transfer;
    const FloppyCommand command = command_of(state_.command[0]);
    if (transfer.sector != transfer.end_of_track) {
        transfer.sector = static_cast<uint8_t>(transfer.sector + (is_scan(command) && state_.command[8] == 2 ? 2 : 1));
        return;
    }
    transfer.sector = 1;
    const bool multi_track = (state_.command[0] & command_multi_track) != 0;
    if (!multi_track || transfer.head == 1) ++transfer.cylinder;
    if (multi_track) {
        transfer.head ^= 1;
        transfer.head_id ^= 1;
    }
}

void I82077aa::finish_transfer(Outcome outcome) {
    const FloppyTransfer done = std::exchange(state_.transfer, {});
    const auto status_0 = static_cast<uint8_t>(std::to_underlying(outcome) | (done.seek_end ? st0_seek_end : 0) |
                                               done.head << 2 | done.drive);
    answer({status_0, done.status_1, done.status_2, done.cylinder, done.head_id, done.sector, done.size_code});
    state_.interrupt = true;
}

}  // namespace viv
