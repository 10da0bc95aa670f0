#include "devices/storage/ata_disk.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "devices/storage/ata_disk_command.hpp"
#include "devices/storage/ata_identity.hpp"
#include "devices/storage/image/disk_queue.hpp"

namespace viv {
namespace {

using Command = AtaDiskCommand;

enum class Feature : uint8_t {
    byte_wide_on = 0x01,
    write_cache_on = 0x02,
    set_transfer_mode = 0x03,
    look_ahead_off = 0x55,
    keep_over_reset = 0x66,
    byte_wide_off = 0x81,
    write_cache_off = 0x82,
    look_ahead_on = 0xAA,
    revert_at_reset = 0xCC,
};

constexpr uint64_t lba28_limit = 0x0FFFFFFF;
constexpr uint32_t verify_sectors = 128;

}  // namespace

AtaDisk::AtaDisk(AtaDeviceState& state, std::unique_ptr<DiskImage> image, Place place, AtaWire wire)
    : AtaDisk(state, std::make_unique<DiskQueue>(std::move(image)), std::move(place), wire) {}

AtaDisk::AtaDisk(AtaDeviceState& state, std::unique_ptr<DiskQueue> image, Place place, AtaWire wire)
    : AtaDevice(state, wire),
      image_(std::move(image)),
      place_(std::move(place)),
      sectors_(image_->sectors()),
      geometry_(geometry_of_disk(*image_)) {}

AtaDisk::~AtaDisk() = default;

DiskImage* AtaDisk::medium() {
    return image_.get();
}

void AtaDisk::execute(uint8_t command) {
    if (execute_serial(command)) return;
    // Opcodes of ATA-1 whose low bits were step rates.
    if ((command & 0xF0) == std::to_underlying(Command::recalibrate)) return finish();
    if ((command & 0xF0) == std::to_underlying(Command::seek)) {
        if (take_address(Addressing::short_form)) finish();
        return;
    }
    using Power = AtaDeviceState::Power;
    switch (static_cast<Command>(command)) {
        case Command::read_sectors:
        case Command::read_sectors_once: return start_read(Addressing::short_form, 1);
        case Command::read_sectors_ext: return start_read(Addressing::extended, 1);
        case Command::read_multiple: return start_read(Addressing::short_form, state_.multiple);
        case Command::read_multiple_ext: return start_read(Addressing::extended, state_.multiple);
        case Command::write_sectors:
        case Command::write_sectors_once:
        case Command::write_verify: return start_write(Addressing::short_form, 1);
        case Command::write_sectors_ext: return start_write(Addressing::extended, 1);
        case Command::write_multiple: return start_write(Addressing::short_form, state_.multiple);
        case Command::write_multiple_ext: return start_write(Addressing::extended, state_.multiple);
        case Command::read_dma:
        case Command::read_dma_once: return start_read(Addressing::short_form, ata_dma_sectors, Transfer::dma);
        case Command::read_dma_ext: return start_read(Addressing::extended, ata_dma_sectors, Transfer::dma);
        case Command::write_dma:
        case Command::write_dma_once: return start_write(Addressing::short_form, ata_dma_sectors, Transfer::dma);
        case Command::write_dma_ext: return start_write(Addressing::extended, ata_dma_sectors, Transfer::dma);
        case Command::read_verify:
        case Command::read_verify_once: return verify(Addressing::short_form);
        case Command::read_verify_ext: return verify(Addressing::extended);
        case Command::initialize_parameters: return initialize_parameters();
        case Command::set_multiple: return set_multiple();
        case Command::set_features: return set_features();
        case Command::identify: return identify();
        case Command::read_native_max: return read_native_max(Addressing::short_form);
        case Command::read_native_max_ext: return read_native_max(Addressing::extended);
        case Command::flush_cache:
        case Command::flush_cache_ext: return flush();
        case Command::data_set_management: return start_trim();
        case Command::check_power:
        case Command::check_power_old: return check_power();
        case Command::standby:
        case Command::standby_old:
        case Command::standby_immediate:
        case Command::standby_immediate_old: return set_power(Power::standby);
        case Command::idle:
        case Command::idle_old:
        case Command::idle_immediate:
        case Command::idle_immediate_old: return set_power(Power::idle);
        case Command::sleep:
        case Command::sleep_old: return set_power(Power::sleep);
        default: break;  // also EXECUTE DIAGNOSTIC: the channel has both drives do it
    }
    abort();
}

DriveGeometry AtaDisk::translation() const {
    if (state_.heads == 0) return geometry_.native;
    return {state_.cylinders, state_.heads, state_.sectors};
}

bool AtaDisk::take_address(Addressing addressing) {
    const AtaTaskFile& now = state_.task;
    const AtaTaskFile& before = state_.previous;
    const uint64_t low = uint64_t{now.lba_low} | uint64_t{now.lba_mid} << 8 | uint64_t{now.lba_high} << 16;
    state_.remaining = now.count == 0 ? 256 : now.count;
    if (addressing != Addressing::short_form) {
        const bool queued = addressing == Addressing::queued;
        state_.lba =
            low | uint64_t{before.lba_low} << 24 | uint64_t{before.lba_mid} << 32 | uint64_t{before.lba_high} << 40;
        state_.remaining = static_cast<uint32_t>(queued ? before.features << 8 | now.features  //
                                                        : before.count << 8 | now.count);
        if (state_.remaining == 0) state_.remaining = 65536;
    } else if ((state_.device & ata::device_lba) != 0) {
        state_.lba = low | uint64_t{state_.device & 0x0Fu} << 24;
    } else {
        const DriveGeometry chs = translation();
        const uint32_t cylinder = now.lba_mid | uint32_t{now.lba_high} << 8;
        const uint32_t head = state_.device & 0x0F;
        if (now.lba_low == 0 || now.lba_low > chs.sectors || head >= chs.heads || cylinder >= chs.cylinders) {
            fail_command(ata::error_id_not_found);
            return false;
        }
        state_.lba = (uint64_t{cylinder} * chs.heads + head) * chs.sectors + now.lba_low - 1;
    }
    if (state_.lba < sectors_) return true;
    fail_command(ata::error_id_not_found);
    return false;
}

/// Puts a place into the address registers, in the form that the command used, and the count beside it.
void AtaDisk::report_place(uint64_t lba, uint32_t count) {
    AtaTaskFile& task = state_.task;
    const auto byte = [](uint64_t value, unsigned shift) { return static_cast<uint8_t>(value >> shift); };
    task.count = byte(count, 0);
    const bool extended = has_48_bit_address(static_cast<Command>(state_.command));
    if (!extended && (state_.device & ata::device_lba) == 0) {
        const DriveGeometry chs = translation();
        const uint64_t track = lba / chs.sectors;
        task.lba_low = byte(lba % chs.sectors + 1, 0);
        task.lba_mid = byte(track / chs.heads, 0);
        task.lba_high = byte(track / chs.heads, 8);
        state_.device = static_cast<uint8_t>((state_.device & 0xF0) | track % chs.heads);
        return;
    }
    task.lba_low = byte(lba, 0);
    task.lba_mid = byte(lba, 8);
    task.lba_high = byte(lba, 16);
    if (extended) {
        state_.previous.count = byte(count, 8);
        state_.previous.lba_low = byte(lba, 24);
        state_.previous.lba_mid = byte(lba, 32);
        state_.previous.lba_high = byte(lba, 40);
    } else {
        state_.device = static_cast<uint8_t>((state_.device & 0xF0) | (byte(lba, 24) & 0x0F));
    }
}

void AtaDisk::fail_at(uint64_t lba, DiskStatus status) {
    report_place(lba, state_.remaining);
    const bool reading = state_.phase != AtaDeviceState::Phase::data_out;
    switch (status) {
        case DiskStatus::out_of_range: return fail_command(ata::error_id_not_found);
        case DiskStatus::read_only: return fail_command(ata::error_write_protected | ata::error_abort);
        case DiskStatus::ok:
        case DiskStatus::no_space:
        case DiskStatus::io_error: break;
    }
    if (reading) return fail_command(ata::error_uncorrectable);
    fail_command(ata::error_abort, ata::status_fault);
}

void AtaDisk::start_read(Addressing addressing, unsigned sectors_per_block, Transfer transfer) {
    if (sectors_per_block == 0) return abort();  // READ MULTIPLE before SET MULTIPLE MODE
    if (!take_address(addressing)) return;
    state_.power = AtaDeviceState::Power::active;
    state_.sectors_per_block = static_cast<uint16_t>(sectors_per_block);
    state_.dma = transfer == Transfer::dma;
    fetch_block();
}

void AtaDisk::fetch_block() {
    const auto count = std::min<uint32_t>(state_.remaining, state_.sectors_per_block);
    state_.buffer.resize(size_t{count} * DiskImage::sector_size);
    const auto bytes = std::as_writable_bytes(std::span(state_.buffer));
    DiskStatus status = image_->read(state_.lba * DiskImage::sector_size, bytes);
    if (status != DiskStatus::ok) {
        // Which sector of the block it is.
        for (uint32_t i = 0; i < count; ++i) {
            status = image_->read(state_.lba * DiskImage::sector_size, bytes.first(DiskImage::sector_size));
            if (status != DiskStatus::ok) return fail_at(state_.lba, status);
            ++state_.lba;
            --state_.remaining;
        }
        return fail_at(state_.lba, DiskStatus::io_error);
    }
    state_.lba += count;
    state_.remaining -= count;
    offer_block();
}

void AtaDisk::block_taken() {
    const auto command = static_cast<Command>(state_.command);
    const bool no_sectors = command == Command::identify || command == Command::smart ||
                            command == Command::read_log_ext || command == Command::read_log_dma_ext;
    if (no_sectors) return finish_data_in();
    if (state_.remaining > 0) return fetch_block();
    report_place(state_.lba - 1, 0);
    finish_data_in();
}

void AtaDisk::start_write(Addressing addressing, unsigned sectors_per_block, Transfer transfer) {
    if (sectors_per_block == 0) return abort();
    if (image_->read_only()) return fail_command(ata::error_write_protected | ata::error_abort);
    if (!take_address(addressing)) return;
    state_.power = AtaDeviceState::Power::active;
    state_.sectors_per_block = static_cast<uint16_t>(sectors_per_block);
    state_.dma = transfer == Transfer::dma;
    ask_for_block(std::min<size_t>(state_.remaining, sectors_per_block) * DiskImage::sector_size);
}

void AtaDisk::block_given() {
    if (state_.command == std::to_underlying(Command::data_set_management)) return trim();
    const auto bytes = std::as_bytes(std::span(state_.buffer));
    for (size_t at = 0; at < bytes.size(); at += DiskImage::sector_size) {
        const size_t length = std::min<size_t>(DiskImage::sector_size, bytes.size() - at);
        const DiskStatus status = image_->write(state_.lba * DiskImage::sector_size, bytes.subspan(at, length));
        if (status != DiskStatus::ok) return fail_at(state_.lba, status);
        ++state_.lba;
        if (state_.remaining > 0) --state_.remaining;
    }
    if (state_.remaining > 0) {
        ask_for_block(std::min<size_t>(state_.remaining, state_.sectors_per_block) * DiskImage::sector_size);
        state_.interrupt = !state_.dma;
        return;
    }
    const auto command = static_cast<Command>(state_.command);
    const bool through = !state_.write_cache || command == Command::write_dma_fua_ext ||
                         (command == Command::write_queued && (state_.device & queued_fua) != 0);
    if (through && image_->flush() != DiskStatus::ok) return fail_at(state_.lba - 1, DiskStatus::io_error);
    report_place(state_.lba - 1, 0);
    finish();
}

void AtaDisk::verify(Addressing addressing) {
    if (!take_address(addressing)) return;
    state_.power = AtaDeviceState::Power::active;
    std::vector<std::byte> scratch(size_t{verify_sectors} * DiskImage::sector_size);
    while (state_.remaining > 0) {
        auto count = std::min(state_.remaining, verify_sectors);
        const auto check = [&] {
            return image_->read(state_.lba * DiskImage::sector_size,
                                std::span(scratch).first(size_t{count} * DiskImage::sector_size));
        };
        DiskStatus status = check();
        if (status != DiskStatus::ok && count > 1) {
            count = 1;
            status = check();
        }
        if (status != DiskStatus::ok) return fail_at(state_.lba, status);
        state_.lba += count;
        state_.remaining -= count;
    }
    report_place(state_.lba - 1, 0);
    finish();
}

void AtaDisk::initialize_parameters() {
    const uint32_t per_track = state_.task.count;
    const uint32_t heads = (state_.device & 0x0Fu) + 1;
    if (per_track == 0) return abort();
    const DriveGeometry cut = cut_into_cylinders(sectors_, heads, per_track, 0xFFFF);
    state_.cylinders = cut.cylinders;
    state_.heads = heads;
    state_.sectors = per_track;
    finish();
}

void AtaDisk::set_multiple() {
    const uint8_t count = state_.task.count;
    if (count > max_multiple || (count & (count - 1)) != 0) return abort();
    state_.multiple = count;
    finish();
}

void AtaDisk::set_features() {
    switch (static_cast<Feature>(state_.task.features)) {
        case Feature::byte_wide_on: state_.byte_wide = true; break;
        case Feature::byte_wide_off: state_.byte_wide = false; break;
        case Feature::write_cache_on: state_.write_cache = true; break;
        case Feature::write_cache_off:
            if (image_->flush() != DiskStatus::ok) return fail_command(ata::error_abort, ata::status_fault);
            state_.write_cache = false;
            break;
        case Feature::look_ahead_on: state_.look_ahead = true; break;
        case Feature::look_ahead_off: state_.look_ahead = false; break;
        case Feature::keep_over_reset: state_.keep_over_reset = true; break;
        case Feature::revert_at_reset: state_.keep_over_reset = false; break;
        case Feature::set_transfer_mode:
            if (!set_transfer_mode()) return abort();
            break;
        default: return abort();
    }
    finish();
}

void AtaDisk::read_native_max(Addressing addressing) {
    if (addressing == Addressing::short_form && (state_.device & ata::device_lba) == 0) return abort();
    const uint64_t last = sectors_ - 1;
    const uint8_t count = state_.task.count;
    report_place(addressing == Addressing::extended ? last : std::min(last, lba28_limit), 0);
    state_.task.count = count;
    finish();
}

void AtaDisk::check_power() {
    using Power = AtaDeviceState::Power;
    state_.task.count = state_.power == Power::standby ? 0x00 : state_.power == Power::idle ? 0x80 : 0xFF;
    finish();
}

void AtaDisk::set_power(AtaDeviceState::Power power) {
    if (power != AtaDeviceState::Power::idle && image_->flush() != DiskStatus::ok) {
        return fail_command(ata::error_abort, ata::status_fault);
    }
    finish();
    state_.power = power;
}

void AtaDisk::flush() {
    if (image_->flush() != DiskStatus::ok) return fail_command(ata::error_abort, ata::status_fault);
    finish();
}

/// DATA SET MANAGEMENT (ACS-2, 7.10).
void AtaDisk::start_trim() {
    constexpr uint8_t feature_trim = 0x01;
    const unsigned blocks = state_.task.count | state_.previous.count << 8;
    if (state_.task.features != feature_trim || blocks == 0 || blocks > max_trim_blocks) return abort();
    if (image_->read_only()) return fail_command(ata::error_write_protected | ata::error_abort);
    state_.power = AtaDeviceState::Power::active;
    state_.dma = true;
    ask_for_block(size_t{blocks} * DiskImage::sector_size);
}

void AtaDisk::trim() {
    for (size_t at = 0; at + 8 <= state_.buffer.size(); at += 8) {
        uint64_t range = 0;
        for (size_t i = 0; i < 8; ++i) range |= uint64_t{state_.buffer[at + i]} << (8 * i);
        const uint64_t first = range & 0xFFFF'FFFFFFFF;
        const uint64_t count = range >> 48;
        if (count == 0) continue;
        if (first >= sectors_ || count > sectors_ - first) return fail_at(first, DiskStatus::out_of_range);
        const DiskStatus status = image_->discard(first * DiskImage::sector_size, count * DiskImage::sector_size);
        // The part of a sector that an image of odd size ends with cannot be discarded, and need not be.
        if (status != DiskStatus::ok && status != DiskStatus::out_of_range) return fail_at(first, status);
    }
    finish();
}

/// ATA/ATAPI-6, 8.15; ACS-2, 7.16 for TRIM.
void AtaDisk::identify() {
    AtaIdentity identity;
    auto& words = identity.words;
    const DriveGeometry current = translation();
    words[0] = 0x0040;  // fixed
    words[1] = static_cast<uint16_t>(geometry_.native.cylinders);
    words[3] = static_cast<uint16_t>(geometry_.native.heads);
    words[6] = static_cast<uint16_t>(geometry_.native.sectors);
    identity.put_text(10, 10, place_.serial);
    identity.put_text(23, 4, "1.0");
    identity.put_text(27, 20, "Vivarium disk");
    words[47] = 0x8000 | max_multiple;
    words[48] = 0x0001;  // 32-bit port accesses
    words[49] = 0x0F00;  // IORDY, may be disabled; LBA; DMA
    words[50] = 0x4000;
    words[51] = 0x0200;  // PIO mode 2 without flow control
    words[53] = 0x0007;  // words 54-58, 64-70 and 88 are valid
    words[54] = static_cast<uint16_t>(current.cylinders);
    words[55] = static_cast<uint16_t>(current.heads);
    words[56] = static_cast<uint16_t>(current.sectors);
    identity.put_number(57, 2, uint64_t{current.cylinders} * current.heads * current.sectors);
    words[59] = static_cast<uint16_t>(state_.multiple != 0 ? 0x0100 | state_.multiple : 0);
    identity.put_number(60, 2, std::min(sectors_, lba28_limit));
    words[63] = multiword_modes();
    words[64] = 0x0003;  // PIO modes 3 and 4
    words[65] = words[66] = 120;
    words[67] = words[68] = 120;
    words[69] = 0x4000;  // what was trimmed reads the same every time
    words[80] = 0x00FE;  // ATA-1 to ATA/ATAPI-7: drivers take word 169 to mean something from there on
    words[82] = 0x4068;  // NOP, look-ahead, write cache, power management
    words[83] = 0x7400;  // FLUSH CACHE (EXT), 48-bit addresses
    words[84] = 0x4000;
    words[85] = static_cast<uint16_t>(0x4008 | (state_.write_cache ? 0x20 : 0) | (state_.look_ahead ? 0x40 : 0));
    words[86] = 0x3400;
    words[87] = 0x4000;
    words[88] = ultra_modes();
    words[93] = 0x6001;  // hardware reset: a cable of 80 wires
    identity.put_number(100, 4, sectors_);
    words[105] = max_trim_blocks;
    words[169] = 0x0001;  // TRIM
    words[217] = 0x0001;  // nothing rotates
    if (serial()) identify_serial(words);
    identity.write_to(state_.buffer);
    state_.remaining = 0;
    offer_block();
}

}  // namespace viv
