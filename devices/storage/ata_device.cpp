#include "devices/storage/ata_device.hpp"

#include <algorithm>
#include <cstring>

#include "devices/storage/cdrom_drive.hpp"

namespace viv {

void AtaDevice::write_register(AtaRegister at, uint8_t value) {
    const auto push = [&](uint8_t AtaTaskFile::*field) {
        state_.previous.*field = state_.task.*field;
        state_.task.*field = value;
    };
    switch (at) {
        case AtaRegister::features: return push(&AtaTaskFile::features);
        case AtaRegister::count: return push(&AtaTaskFile::count);
        case AtaRegister::lba_low: return push(&AtaTaskFile::lba_low);
        case AtaRegister::lba_mid: return push(&AtaTaskFile::lba_mid);
        case AtaRegister::lba_high: return push(&AtaTaskFile::lba_high);
        case AtaRegister::device: state_.device = value; return;
        case AtaRegister::data:
        case AtaRegister::command: return;
    }
}

uint8_t AtaDevice::read_register(AtaRegister at, bool high_order) {
    const AtaTaskFile& task = high_order ? state_.previous : state_.task;
    switch (at) {
        case AtaRegister::error: return state_.error;
        case AtaRegister::count: return task.count;
        case AtaRegister::lba_low: return task.lba_low;
        case AtaRegister::lba_mid: return task.lba_mid;
        case AtaRegister::lba_high: return task.lba_high;
        case AtaRegister::device: return state_.device | ata::device_obsolete;
        case AtaRegister::status: state_.interrupt = false; return state_.status;
        case AtaRegister::data: break;
    }
    return 0xFF;
}

void AtaDevice::write_command(uint8_t command) {
    // Only a reset wakes it (ATA/ATAPI-6, 6.12).
    if (state_.power == AtaDeviceState::Power::sleep && !wakes_up(command)) return;
    state_.command = command;
    ++state_.commands;
    state_.interrupt = false;
    state_.phase = AtaDeviceState::Phase::idle;
    state_.buffer.clear();
    state_.position = 0;
    state_.error = 0;
    execute(command);
}

void AtaDevice::read_data(std::span<std::byte> out) {
    while (!out.empty()) {
        if (state_.phase != AtaDeviceState::Phase::data_in) {
            std::ranges::fill(out, std::byte{0xFF});
            return;
        }
        const size_t piece = std::min(out.size(), state_.buffer.size() - state_.position);
        std::memcpy(out.data(), state_.buffer.data() + state_.position, piece);
        state_.position += static_cast<uint32_t>(piece);
        out = out.subspan(piece);
        if (state_.position == state_.buffer.size()) block_taken();
    }
}

void AtaDevice::write_data(std::span<const std::byte> in) {
    while (!in.empty() && state_.phase == AtaDeviceState::Phase::data_out) {
        const size_t piece = std::min(in.size(), state_.buffer.size() - state_.position);
        std::memcpy(state_.buffer.data() + state_.position, in.data(), piece);
        state_.position += static_cast<uint32_t>(piece);
        in = in.subspan(piece);
        if (state_.position == state_.buffer.size()) block_given();
    }
}

void AtaDevice::hold_in_reset() {
    state_.phase = AtaDeviceState::Phase::idle;
    state_.interrupt = false;
    state_.status = ata::status_busy;
}

void AtaDevice::software_reset() {
    if (!state_.keep_over_reset) {
        state_.multiple = 0;
        state_.cylinders = state_.heads = state_.sectors = 0;
        state_.byte_wide = false;
        state_.write_cache = state_.look_ahead = true;
    }
    state_.power = AtaDeviceState::Power::active;
    diagnose();
}

void AtaDevice::diagnose() {
    state_.phase = AtaDeviceState::Phase::idle;
    state_.buffer.clear();
    state_.position = 0;
    state_.remaining = 0;
    state_.interrupt = false;
    state_.packet = AtaDeviceState::Packet::none;
    state_.error = ata::diagnostic_passed;
    state_.status = reset_status();
    set_signature();
}

/// ATA/ATAPI-6, 9.12.
void AtaDevice::set_signature() {
    const auto [mid, high] = signature();
    state_.task = {.features = state_.task.features, .count = 1, .lba_low = 1, .lba_mid = mid, .lba_high = high};
    state_.previous = {};
    state_.device = 0;
}

void AtaDevice::finish() {
    finish_data_in();
    state_.interrupt = true;
}

void AtaDevice::finish_data_in() {
    state_.phase = AtaDeviceState::Phase::idle;
    state_.buffer.clear();
    state_.position = 0;
    state_.status = ata::status_ready | ata::status_seek_complete;
}

void AtaDevice::fail_command(uint8_t error, uint8_t extra_status) {
    finish();
    ++state_.aborted;
    state_.error = error;
    state_.status |= ata::status_error | extra_status;
}

void AtaDevice::offer_block() {
    state_.phase = AtaDeviceState::Phase::data_in;
    state_.position = 0;
    state_.status = ata::status_ready | ata::status_seek_complete | ata::status_data_request;
    state_.interrupt = true;
}

void AtaDevice::ask_for_block(size_t bytes) {
    state_.phase = AtaDeviceState::Phase::data_out;
    state_.buffer.assign(bytes, 0);
    state_.position = 0;
    state_.status = ata::status_ready | ata::status_seek_complete | ata::status_data_request;
}

Result<void> AtaDevice::validate(const AtaDeviceState& staged) {
    using Phase = AtaDeviceState::Phase;
    const auto refuse_if = [](bool wrong, const char* what) -> Result<void> {
        if (wrong) return fail(std::string("the drive's ") + what + " cannot be");
        return {};
    };
    TRY(refuse_if(staged.phase > Phase::data_out, "phase"));
    TRY(refuse_if(staged.power > AtaDeviceState::Power::sleep, "power mode"));
    TRY(refuse_if(staged.packet > AtaDeviceState::Packet::data_out, "part of a packet command"));
    TRY(refuse_if(staged.buffer.size() > max_block_bytes || staged.position > staged.buffer.size(), "data block"));
    TRY(refuse_if(staged.phase != Phase::idle && staged.position == staged.buffer.size(), "place in the data block"));
    TRY(refuse_if(staged.multiple > 128 || staged.sectors_per_block < 1 || staged.sectors_per_block > 128,
                  "sectors per block"));
    TRY(refuse_if(staged.remaining > 65536, "number of sectors"));
    const bool translated = staged.cylinders != 0 || staged.heads != 0 || staged.sectors != 0;
    const bool whole = staged.cylinders > 0 && staged.cylinders <= 0xFFFF && staged.heads > 0 && staged.heads <= 16 &&
                       staged.sectors > 0 && staged.sectors <= 255;
    TRY(refuse_if(translated && !whole, "translation"));
    return CdromDrive::validate(staged.optical);
}

}  // namespace viv
