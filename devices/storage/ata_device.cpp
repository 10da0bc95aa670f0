#include "devices/storage/ata_device.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

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

void AtaDevice::load_registers(const AtaTaskFile& now, const AtaTaskFile& before, uint8_t device) {
    state_.task = now;
    state_.previous = before;
    state_.device = device;
}

size_t AtaDevice::block_left() const {
    return state_.phase == AtaDeviceState::Phase::idle ? 0 : state_.buffer.size() - state_.position;
}

bool AtaDevice::write_command(uint8_t command) {
    // Only a reset wakes it (ATA/ATAPI-6, 6.12).
    if (state_.power == AtaDeviceState::Power::sleep && !wakes_up(command)) return false;
    state_.command = command;
    ++state_.commands;
    state_.dma = false;
    state_.interrupt = false;
    state_.phase = AtaDeviceState::Phase::idle;
    state_.buffer.clear();
    state_.position = 0;
    state_.error = 0;
    execute(command);
    return true;
}

size_t AtaDevice::move_in(std::span<std::byte> out) {
    size_t done = 0;
    while (done < out.size() && state_.phase == AtaDeviceState::Phase::data_in) {
        const size_t piece = std::min(out.size() - done, state_.buffer.size() - state_.position);
        std::memcpy(out.data() + done, state_.buffer.data() + state_.position, piece);
        state_.position += static_cast<uint32_t>(piece);
        done += piece;
        if (state_.position == state_.buffer.size()) block_taken();
    }
    return done;
}

size_t AtaDevice::move_out(std::span<const std::byte> in) {
    size_t done = 0;
    while (done < in.size() && state_.phase == AtaDeviceState::Phase::data_out) {
        const size_t piece = std::min(in.size() - done, state_.buffer.size() - state_.position);
        std::memcpy(state_.buffer.data() + state_.position, in.data() + done, piece);
        state_.position += static_cast<uint32_t>(piece);
        done += piece;
        if (state_.position == state_.buffer.size()) block_given();
    }
    return done;
}

void AtaDevice::read_data(std::span<std::byte> out) {
    const size_t done = state_.dma ? 0 : move_in(out);
    std::ranges::fill(out.subspan(done), std::byte{0xFF});
}

void AtaDevice::write_data(std::span<const std::byte> in) {
    if (!state_.dma) move_out(in);
}

AtaDevice::DmaRequest AtaDevice::dma_request() const {
    if (!state_.dma || state_.phase == AtaDeviceState::Phase::idle) return DmaRequest::none;
    return state_.phase == AtaDeviceState::Phase::data_in ? DmaRequest::to_memory : DmaRequest::from_memory;
}

size_t AtaDevice::read_dma(std::span<std::byte> out) {
    return state_.dma ? move_in(out) : 0;
}

size_t AtaDevice::write_dma(std::span<const std::byte> in) {
    return state_.dma ? move_out(in) : 0;
}

/// ATA/ATAPI-6, table 47.
bool AtaDevice::set_transfer_mode() {
    const uint8_t mode = state_.task.count;
    const bool pio = mode <= 1 || (mode >= 0x08 && mode <= 0x0C);
    const bool multiword = mode >= 0x20 && mode <= 0x22;
    const bool ultra = mode >= 0x40 && mode <= 0x45;
    if (multiword || ultra) state_.dma_mode = mode;
    return pio || multiword || ultra;
}

uint16_t AtaDevice::multiword_modes() const {
    const bool selected = (state_.dma_mode & 0xF8) == 0x20;
    return static_cast<uint16_t>(0x0007 | (selected ? 0x0100 << (state_.dma_mode & 7) : 0));
}

uint16_t AtaDevice::ultra_modes() const {
    const bool selected = (state_.dma_mode & 0xF8) == 0x40;
    return static_cast<uint16_t>(0x003F | (selected ? 0x0100 << (state_.dma_mode & 7) : 0));
}

void AtaDevice::hold_in_reset() {
    state_.phase = AtaDeviceState::Phase::idle;
    state_.dma = false;
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
    state_.dma = false;
    state_.interrupt = false;
    state_.packet = AtaDeviceState::Packet::none;
    state_.queue_error = {};
    state_.error = ata::diagnostic_passed;
    state_.status = reset_status();
    set_signature();
}

/// ATA/ATAPI-6, 9.12.
void AtaDevice::set_signature() {
    const auto [mid, high] = signature();
    state_.task = {.features = state_.task.features, .count = 1, .lba_low = 1, .lba_mid = mid, .lba_high = high};
    state_.previous = {.count = 0, .lba_low = 0};
    state_.device = 0;
}

void AtaDevice::finish() {
    finish_data_in();
    state_.interrupt = true;
}

void AtaDevice::finish_data_in() {
    // With DMA there is one INTRQ, at the end.
    if (std::exchange(state_.dma, false)) state_.interrupt = true;
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
    command_failed();
}

void AtaDevice::offer_block() {
    state_.phase = AtaDeviceState::Phase::data_in;
    state_.position = 0;
    state_.status = ata::status_ready | ata::status_seek_complete | ata::status_data_request;
    state_.interrupt = !state_.dma;
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
    TRY(refuse_if(staged.dma && staged.phase == Phase::idle, "DMA request"));
    TRY(refuse_if(staged.multiple > 128 || staged.sectors_per_block < 1 || staged.sectors_per_block > 128,
                  "sectors per block"));
    TRY(refuse_if(staged.remaining > 65536, "number of sectors"));
    TRY(refuse_if(staged.tag > 31 || staged.queue_error.tag > 31, "tag"));
    const bool translated = staged.cylinders != 0 || staged.heads != 0 || staged.sectors != 0;
    const bool whole = staged.cylinders > 0 && staged.cylinders <= 0xFFFF && staged.heads > 0 && staged.heads <= 16 &&
                       staged.sectors > 0 && staged.sectors <= 255;
    TRY(refuse_if(translated && !whole, "translation"));
    return CdromDrive::validate(staged.optical);
}

}  // namespace viv
