#include "devices/storage/cdrom_drive.hpp"

#include <algorithm>
#include <utility>

#include "devices/storage/cd_frame.hpp"
#include "devices/storage/cdrom_command.hpp"
#include "devices/storage/image/padded_image.hpp"
#include "devices/storage/scsi.hpp"

namespace viv {
namespace {

using MediaEvent = OpticalState::MediaEvent;
using Transfer = OpticalState::Transfer;

constexpr uint64_t max_data = 65536;

}  // namespace

// ---- Tray and medium -----------------------------------------------------------------------------------------------

void CdromDrive::load(std::unique_ptr<DiskImage> image) {
    if (image && image->size() % cd_block_size != 0) {
        const uint64_t whole = (image->size() / cd_block_size + 1) * cd_block_size;
        image = std::make_unique<PaddedImage>(std::move(image), whole);
    }
    image_ = std::move(image);
}

Result<void> CdromDrive::insert(std::unique_ptr<DiskImage> image) {
    TRY(eject());
    load(std::move(image));
    state_.tray_open = false;
    state_.medium_attention = true;
    state_.changed_for_firmware = true;
    state_.event = MediaEvent::new_medium;
    return {};
}

Result<void> CdromDrive::eject() {
    if (!image_) return {};
    if (state_.locked) {
        // What the button at the front does: the guest is told and may unlock.
        state_.event = MediaEvent::eject_request;
        return fail("the guest has locked the medium '" + image_->name() + "' in; eject or unmount it in the guest");
    }
    image_.reset();
    state_.tray_open = false;
    state_.medium_attention = false;
    state_.changed_for_firmware = true;
    state_.event = MediaEvent::medium_removed;
    return {};
}

bool CdromDrive::set_locked(bool locked) {
    state_.locked = locked;
    return true;
}

bool CdromDrive::open_tray() {
    if (state_.locked && image_) return false;
    if (!state_.tray_open && image_) {
        state_.event = MediaEvent::medium_removed;
        state_.medium_attention = false;
        state_.changed_for_firmware = true;
    }
    state_.tray_open = true;
    return true;
}

uint32_t CdromDrive::blocks() const {
    return static_cast<uint32_t>(std::min<uint64_t>(image_->size() / cd_block_size, 0xFFFFFFFF));
}

// ---- Commands ------------------------------------------------------------------------------------------------------

void CdromDrive::reset() {
    OpticalState fresh;
    fresh.tray_open = state_.tray_open;
    fresh.changed_for_firmware = state_.changed_for_firmware;
    fresh.medium_attention = state_.medium_attention;
    fresh.event = state_.event;
    state_ = std::move(fresh);
}

void CdromDrive::abandon_transfer() {
    state_.transfer = Transfer::none;
    state_.data.clear();
    state_.length = state_.done = 0;
}

void CdromDrive::set_sense(Sense sense) {
    const auto value = std::to_underlying(sense);
    state_.sense_key = static_cast<uint8_t>(value >> 16);
    state_.sense_code = static_cast<uint8_t>(value >> 8);
    state_.sense_qualifier = static_cast<uint8_t>(value);
    state_.sense_has_address = false;
    state_.sense_address = 0;
}

CdromDrive::Outcome CdromDrive::fail_with(Sense sense) {
    abandon_transfer();
    set_sense(sense);
    return Outcome::failed;
}

bool CdromDrive::fail_medium(uint32_t block) {
    fail_with(medium() ? Sense::read_error : state_.tray_open ? Sense::no_medium_tray_open : Sense::no_medium);
    if (medium()) {
        state_.sense_has_address = true;
        state_.sense_address = block;
    }
    return false;
}

CdromDrive::Outcome CdromDrive::respond(Bytes data, size_t allocation) {
    if (data.size() > allocation) data.resize(allocation);
    if (data.empty()) return Outcome::done;
    state_.transfer = Transfer::response;
    state_.length = data.size();
    state_.data = std::move(data);
    return Outcome::data_in;
}

CdromDrive::Sense CdromDrive::take_attention() {
    if (std::exchange(state_.reset_attention, false)) return Sense::power_on;
    if (std::exchange(state_.medium_attention, false)) return Sense::medium_changed;
    return Sense::none;
}

CdromDrive::Outcome CdromDrive::execute(Packet packet) {
    abandon_transfer();
    state_.opcode = packet[0];
    const auto command = static_cast<MmcCommand>(packet[0]);
    if (command == MmcCommand::request_sense) return request_sense(packet);
    set_sense(Sense::none);
    // These tell about the drive itself and are answered while something else is to be reported (MMC-5, 4.1.6.1).
    const bool unconditional = command == MmcCommand::inquiry || command == MmcCommand::get_configuration ||
                               command == MmcCommand::get_event_status;
    if (!unconditional) {
        const Sense attention = take_attention();
        if (attention != Sense::none) return fail_with(attention);
    }
    return run(packet);
}

CdromDrive::Outcome CdromDrive::run(Packet packet) {
    switch (static_cast<MmcCommand>(packet[0])) {
        case MmcCommand::inquiry: return inquiry(packet);
        case MmcCommand::start_stop: return start_stop(packet);
        case MmcCommand::prevent_removal: return prevent_removal(packet);
        case MmcCommand::get_configuration: return get_configuration(packet);
        case MmcCommand::get_event_status: return get_event_status(packet);
        case MmcCommand::mode_sense_6: return mode_sense(packet, true);
        case MmcCommand::mode_sense_10: return mode_sense(packet, false);
        case MmcCommand::mode_select_6: return start_mode_select(packet, true);
        case MmcCommand::mode_select_10: return start_mode_select(packet, false);
        case MmcCommand::mechanism_status: return mechanism_status(packet);
        case MmcCommand::set_speed: return set_speed(packet);
        case MmcCommand::request_sense:
        case MmcCommand::test_unit_ready:
        case MmcCommand::read_capacity:
        case MmcCommand::read_10:
        case MmcCommand::read_12:
        case MmcCommand::seek:
        case MmcCommand::verify:
        case MmcCommand::read_sub_channel:
        case MmcCommand::read_toc:
        case MmcCommand::read_header:
        case MmcCommand::stop_play:
        case MmcCommand::read_disc_information:
        case MmcCommand::read_track_information:
        case MmcCommand::read_dvd_structure:
        case MmcCommand::read_cd_msf:
        case MmcCommand::read_cd: return run_on_medium(packet);
    }
    return fail_with(Sense::unknown_command);
}

CdromDrive::Outcome CdromDrive::run_on_medium(Packet packet) {
    if (!medium()) return fail_with(state_.tray_open ? Sense::no_medium_tray_open : Sense::no_medium);
    switch (static_cast<MmcCommand>(packet[0])) {
        case MmcCommand::read_capacity: return read_capacity();
        case MmcCommand::read_10: return read(packet, scsi::get16(packet, 7));
        case MmcCommand::read_12: return read(packet, scsi::get32(packet, 6));
        case MmcCommand::seek: return check_range(packet, 1);
        case MmcCommand::verify: return check_range(packet, scsi::get16(packet, 7));
        case MmcCommand::read_sub_channel: return read_sub_channel(packet);
        case MmcCommand::read_toc: return read_toc(packet);
        case MmcCommand::read_header: return read_header(packet);
        case MmcCommand::read_disc_information: return read_disc_information(packet);
        case MmcCommand::read_track_information: return read_track_information(packet);
        case MmcCommand::read_dvd_structure: return read_dvd_structure(packet);
        case MmcCommand::read_cd_msf: return read_cd_msf(packet);
        case MmcCommand::read_cd: return read_cd(packet);
        default: return Outcome::done;  // TEST UNIT READY; STOP PLAY/SCAN when nothing plays
    }
}

CdromDrive::Outcome CdromDrive::start_stop(Packet packet) {
    constexpr uint8_t start = 0x01, load_eject = 0x02, power_condition = 0xF0;
    if ((packet[4] & power_condition) != 0 || (packet[4] & load_eject) == 0) return Outcome::done;
    if ((packet[4] & start) == 0) return open_tray() ? Outcome::done : fail_with(Sense::removal_prevented);
    if (std::exchange(state_.tray_open, false) && image_) {
        state_.event = MediaEvent::new_medium;
        state_.medium_attention = true;
        state_.changed_for_firmware = true;
    }
    return Outcome::done;
}

CdromDrive::Outcome CdromDrive::prevent_removal(Packet packet) {
    state_.locked = (packet[4] & 0x01) != 0;
    return Outcome::done;
}

// ---- Data ----------------------------------------------------------------------------------------------------------

CdromDrive::Outcome CdromDrive::check_range(Packet packet, uint32_t count) {
    const uint32_t first = scsi::get32(packet, 2);
    if (first >= blocks() || count > blocks() - first) return fail_with(Sense::address_out_of_range);
    state_.position = first;
    return Outcome::done;
}

CdromDrive::Outcome CdromDrive::read(Packet packet, uint32_t count) {
    return read_frames(scsi::get32(packet, 2), count, 0, cd_part_data, 0);
}

CdromDrive::Outcome CdromDrive::read_cd(Packet packet) {
    return read_frames(scsi::get32(packet, 2), scsi::get24(packet, 6), packet[1] >> 2 & 7, packet[9], packet[10]);
}

CdromDrive::Outcome CdromDrive::read_cd_msf(Packet packet) {
    const uint32_t first = cd_block({packet[3], packet[4], packet[5]});
    const uint32_t end = cd_block({packet[6], packet[7], packet[8]});
    if (end < first) return fail_with(Sense::bad_field);
    return read_frames(first, end - first, packet[1] >> 2 & 7, packet[9], packet[10]);
}

CdromDrive::Outcome CdromDrive::read_frames(uint32_t first, uint32_t count, uint8_t sector_type, uint8_t parts,
                                            uint8_t subchannel) {
    constexpr uint8_t any_type = 0, mode_1 = 2, error_flags = 0x06;
    if ((parts & error_flags) != 0 || (subchannel & 7) != 0) return fail_with(Sense::bad_field);
    if (first > blocks() || count > blocks() - first || (first == blocks() && count != 0)) {
        return fail_with(Sense::address_out_of_range);
    }
    if (sector_type != any_type && sector_type != mode_1) return fail_with(Sense::wrong_track_mode);
    const uint64_t length = uint64_t{count} * cd_parts_size(parts);
    if (length == 0) return Outcome::done;
    state_.transfer = Transfer::frames;
    state_.first_block = first;
    state_.frame_parts = parts;
    state_.length = length;
    return Outcome::data_in;
}

bool CdromDrive::give(std::span<uint8_t> out) {
    if (out.size() > remaining() || state_.transfer == Transfer::none) {
        fail_with(Sense::read_error);
        return false;
    }
    if (state_.transfer == Transfer::frames) {
        // The parts never change within a transfer; those of a saved one have been checked.
        const uint32_t size = cd_parts_size(state_.frame_parts);
        if (!(state_.frame_parts == cd_part_data ? read_plain(state_.done, out) : read_composed(state_.done, out))) {
            return false;
        }
        state_.position = state_.first_block + static_cast<uint32_t>((state_.done + out.size() + size - 1) / size);
    } else {
        std::copy_n(state_.data.begin() + static_cast<ptrdiff_t>(state_.done), out.size(), out.begin());
    }
    state_.done += out.size();
    if (remaining() == 0) abandon_transfer();
    return true;
}

bool CdromDrive::read_plain(uint64_t offset, std::span<uint8_t> out) {
    DiskImage* image = medium();
    const auto bytes = std::as_writable_bytes(out);
    const uint64_t place = uint64_t{state_.first_block} * cd_block_size + offset;
    if (image && image->read(place, bytes) == DiskStatus::ok) return true;
    // Which block it is: the first that cannot be read.
    uint64_t at = 0;
    while (image && at < out.size()) {
        const uint64_t piece = std::min<uint64_t>(out.size() - at, cd_block_size - (place + at) % cd_block_size);
        if (image->read(place + at, bytes.subspan(at, piece)) != DiskStatus::ok) break;
        at += piece;
    }
    return fail_medium(static_cast<uint32_t>((place + at) / cd_block_size));
}

bool CdromDrive::read_composed(uint64_t offset, std::span<uint8_t> out) {
    const uint32_t size = cd_parts_size(state_.frame_parts);
    std::array<uint8_t, cd_block_size> data{};
    std::array<uint8_t, cd_frame_size> parts{};
    while (!out.empty()) {
        const auto block = state_.first_block + static_cast<uint32_t>(offset / size);
        DiskImage* image = medium();
        if (!image ||
            image->read(uint64_t{block} * cd_block_size, std::as_writable_bytes(std::span(data))) != DiskStatus::ok) {
            return fail_medium(block);
        }
        cd_copy_parts(cd_mode1_frame(block, data), state_.frame_parts, std::span(parts).first(size));
        const size_t inside = static_cast<size_t>(offset % size);
        const size_t piece = std::min<size_t>(out.size(), size - inside);
        std::copy_n(parts.begin() + static_cast<ptrdiff_t>(inside), piece, out.begin());
        out = out.subspan(piece);
        offset += piece;
    }
    return true;
}

CdromDrive::Outcome CdromDrive::take(std::span<const uint8_t> in) {
    if (state_.transfer != Transfer::parameters || in.size() > remaining()) return fail_with(Sense::parameter_length);
    state_.data.insert(state_.data.end(), in.begin(), in.end());
    state_.done += in.size();
    return remaining() > 0 ? Outcome::data_out : finish_mode_select();
}

Result<void> CdromDrive::validate(const OpticalState& staged) {
    const auto refuse_if = [](bool wrong, const char* what) -> Result<void> {
        if (wrong) return fail(std::string("the CD-ROM drive's ") + what + " cannot be");
        return {};
    };
    TRY(refuse_if(staged.event > MediaEvent::medium_removed, "media event"));
    TRY(refuse_if(staged.transfer > Transfer::parameters, "kind of transfer"));
    TRY(refuse_if(staged.sense_key > 0x0F, "sense key"));
    TRY(refuse_if(staged.data.size() > max_data || staged.done > staged.length, "place in a transfer"));
    switch (staged.transfer) {
        case Transfer::none: return refuse_if(staged.length != 0 || !staged.data.empty(), "idle transfer");
        case Transfer::response: return refuse_if(staged.length != staged.data.size(), "response");
        case Transfer::parameters:
            return refuse_if(staged.length > max_data || staged.done != staged.data.size(), "parameters");
        case Transfer::frames: break;
    }
    const uint64_t frame = cd_parts_size(staged.frame_parts);
    return refuse_if(
        frame == 0 || staged.length % frame != 0 || staged.first_block + staged.length / frame > 0xFFFFFFFF, "frames");
}

}  // namespace viv
