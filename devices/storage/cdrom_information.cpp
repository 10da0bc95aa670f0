// What the drive tells about itself and its medium.

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "devices/storage/cd_frame.hpp"
#include "devices/storage/cdrom_command.hpp"
#include "devices/storage/cdrom_drive.hpp"
#include "devices/storage/scsi.hpp"

namespace viv {
namespace {

using scsi::get16;
using scsi::get32;
using scsi::put16;
using scsi::put32;
using MediaEvent = OpticalState::MediaEvent;

constexpr uint16_t profile_none = 0, profile_cdrom = 0x0008, profile_dvdrom = 0x0010;
constexpr uint8_t data_track = 0x14;  // ADR 1, a data track that may not be copied
constexpr uint8_t track_lead_out = 0xAA;
constexpr uint16_t fastest = 4234;  // kilobytes a second: 24 times
constexpr uint8_t all_pages = 0x3F;

void put_text(std::span<uint8_t> bytes, size_t at, size_t size, std::string_view text) {
    for (size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<uint8_t>(i < text.size() ? text[i] : ' ');
}

/// A place on the disc as MSF or LBA, as the command asked for.
void put_address(std::span<uint8_t> bytes, size_t at, uint32_t block, bool as_time) {
    if (!as_time) return put32(bytes, at, block);
    const CdTime time = cd_time(block);
    bytes[at] = 0;
    bytes[at + 1] = time.minute;
    bytes[at + 2] = time.second;
    bytes[at + 3] = time.frame;
}

}  // namespace

bool CdromDrive::is_dvd() const {
    constexpr uint32_t longest_cd = (99 * 60 + 59) * 75 + 75 - cd_gap;
    return blocks() > longest_cd;
}

CdromDrive::Outcome CdromDrive::request_sense(Packet packet) {
    if (state_.sense_key == 0) {
        const Sense attention = take_attention();
        if (attention != Sense::none) set_sense(attention);
    }
    Bytes data(18);
    data[0] = static_cast<uint8_t>(0x70 | (state_.sense_has_address ? 0x80 : 0));
    data[2] = state_.sense_key;
    put32(data, 3, state_.sense_address);
    data[7] = 10;
    data[12] = state_.sense_code;
    data[13] = state_.sense_qualifier;
    set_sense(Sense::none);
    return respond(std::move(data), packet[4]);
}

CdromDrive::Outcome CdromDrive::inquiry(Packet packet) {
    constexpr uint8_t vital_data = 0x01;
    const size_t allocation = get16(packet, 3);
    if ((packet[1] & vital_data) != 0) return vital_product_data(packet[2], allocation);
    if (packet[2] != 0) return fail_with(Sense::bad_field);
    Bytes data(36);
    data[0] = 0x05;  // CD/DVD
    data[1] = 0x80;  // removable
    data[3] = 0x32;  // ATAPI; this data format
    data[4] = 31;
    put_text(data, 8, 8, "VIVARIUM");
    put_text(data, 16, 16, "CD-ROM");
    put_text(data, 32, 4, "1.0");
    return respond(std::move(data), allocation);
}

/// SPC-2, 8.4.
CdromDrive::Outcome CdromDrive::vital_product_data(uint8_t page, size_t allocation) {
    constexpr uint8_t supported = 0x00, serial_number = 0x80;
    Bytes data{0x05, page, 0, 0};
    if (page == supported) {
        data.insert(data.end(), {supported, serial_number});
    } else if (page == serial_number) {
        data.insert(data.end(), place_.serial.begin(), place_.serial.end());
    } else {
        return fail_with(Sense::bad_field);
    }
    data[3] = static_cast<uint8_t>(data.size() - 4);
    return respond(std::move(data), allocation);
}

CdromDrive::Outcome CdromDrive::read_capacity() {
    Bytes data(8);
    put32(data, 0, blocks() == 0 ? 0 : blocks() - 1);
    put32(data, 4, cd_block_size);
    return respond(std::move(data), 8);
}

CdromDrive::Outcome CdromDrive::read_header(Packet packet) {
    const uint32_t block = get32(packet, 2);
    if (block >= blocks()) return fail_with(Sense::address_out_of_range);
    Bytes data(8);
    data[0] = 1;  // mode 1
    put_address(data, 4, block, (packet[1] & 0x02) != 0);
    return respond(std::move(data), get16(packet, 7));
}

/// MMC-5, 6.26.
CdromDrive::Outcome CdromDrive::read_toc(Packet packet) {
    const bool as_time = (packet[1] & 0x02) != 0;
    const size_t allocation = get16(packet, 7);
    // SFF-8020i has the format at the top of the control byte.
    const uint8_t format = (packet[2] & 0x0F) != 0 ? packet[2] & 0x0F : packet[9] >> 6;
    const uint8_t first_track = packet[6];
    Bytes data{0, 0, 1, 1};  // length, first and last track or session
    const auto add_track = [&](uint8_t track, uint32_t block) {
        data.insert(data.end(), {0, data_track, track, 0, 0, 0, 0, 0});
        put_address(data, data.size() - 4, block, as_time);
    };
    switch (format) {
        case 0:  // tracks
            if (first_track > 1 && first_track != track_lead_out) return fail_with(Sense::bad_field);
            if (first_track <= 1) add_track(1, 0);
            add_track(track_lead_out, blocks());
            break;
        case 1:  // the last session's first track
            add_track(1, 0);
            break;
        case 2: {  // the lead-in as it is on the disc
            if (first_track > 1) return fail_with(Sense::bad_field);
            const auto add_point = [&data](uint8_t point, CdTime time) {
                data.insert(data.end(), {1, data_track, 0, point, 0, 0, 0, 0, time.minute, time.second, time.frame});
            };
            add_point(0xA0, {1, 0, 0});
            add_point(0xA1, {1, 0, 0});
            add_point(0xA2, cd_time(blocks()));
            add_point(1, cd_time(0));
            break;
        }
        default: return fail_with(Sense::bad_field);
    }
    put16(data, 0, static_cast<uint32_t>(data.size() - 2));
    return respond(std::move(data), allocation);
}

/// MMC-4, 6.31. Nothing is ever played.
CdromDrive::Outcome CdromDrive::read_sub_channel(Packet packet) {
    constexpr uint8_t position = 1, catalogue_number = 2, recording_code = 3, no_audio_status = 0x15;
    const bool as_time = (packet[1] & 0x02) != 0;
    Bytes data{0, no_audio_status, 0, 0};
    if ((packet[2] & 0x40) != 0) {
        switch (packet[3]) {
            case position:
                data.insert(data.end(), {position, data_track, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0});
                put_address(data, 8, std::min(state_.position, blocks()), as_time);
                put_address(data, 12, std::min(state_.position, blocks()), as_time);
                break;
            case catalogue_number:
            case recording_code:
                if (packet[3] == recording_code && packet[6] != 1) return fail_with(Sense::bad_field);
                data.resize(24);
                data[4] = packet[3];
                if (packet[3] == recording_code) {
                    data[5] = data_track;
                    data[6] = 1;
                }
                break;
            default: return fail_with(Sense::bad_field);
        }
        data[3] = static_cast<uint8_t>(data.size() - 4);
    }
    return respond(std::move(data), get16(packet, 7));
}

CdromDrive::Outcome CdromDrive::read_disc_information(Packet packet) {
    if ((packet[1] & 0x07) != 0) return fail_with(Sense::bad_field);
    Bytes data(34);
    put16(data, 0, 32);
    data[2] = 0x0E;  // a complete disc, a complete session
    data[3] = 1;     // first track
    data[4] = 1;     // sessions
    data[5] = 1;     // first and last track of the last session
    data[6] = 1;
    data[7] = 0x20;                                    // unrestricted use
    std::fill_n(data.begin() + 16, 8, uint8_t{0xFF});  // no further session can begin
    return respond(std::move(data), get16(packet, 7));
}

CdromDrive::Outcome CdromDrive::read_track_information(Packet packet) {
    constexpr uint8_t by_block = 0, by_track = 1, by_session = 2;
    const uint32_t wanted = get32(packet, 2);
    switch (packet[1] & 0x03) {
        case by_block:
            if (wanted >= blocks()) return fail_with(Sense::address_out_of_range);
            break;
        case by_track:
        case by_session:
            if (wanted != 1) return fail_with(Sense::bad_field);
            break;
        default: return fail_with(Sense::bad_field);
    }
    Bytes data(36);
    put16(data, 0, 34);
    data[2] = 1;  // track
    data[3] = 1;  // session
    data[5] = data_track & 0x0F;
    data[6] = 0x01;  // mode 1
    put32(data, 24, blocks());
    return respond(std::move(data), get16(packet, 7));
}

/// MMC-5, 5.3 and 6.6.
CdromDrive::Outcome CdromDrive::get_configuration(Packet packet) {
    enum class Asked : uint8_t { all = 0, current = 1, one = 2 };
    const auto asked = static_cast<Asked>(packet[1] & 0x03);
    if (asked > Asked::one) return fail_with(Sense::bad_field);
    const uint32_t first = get16(packet, 2);
    const uint16_t profile = !medium() ? profile_none : is_dvd() ? profile_dvdrom : profile_cdrom;
    Bytes data(8);
    put16(data, 6, profile);
    const auto add = [&](uint16_t code, uint8_t version, bool persistent, bool current, const Bytes& more) {
        if (code < first || (asked == Asked::one && code != first) || (asked == Asked::current && !current)) return;
        Bytes feature(4);
        put16(feature, 0, code);
        feature[2] = static_cast<uint8_t>(version << 2 | (persistent ? 2 : 0) | (current ? 1 : 0));
        feature[3] = static_cast<uint8_t>(more.size());
        data.insert(data.end(), feature.begin(), feature.end());
        data.insert(data.end(), more.begin(), more.end());
    };
    const bool cd = profile == profile_cdrom, dvd = profile == profile_dvdrom, any = cd || dvd;
    const auto flag = [](bool set) { return static_cast<uint8_t>(set ? 1 : 0); };
    add(0x0000, 0, true, true, {0x00, 0x10, flag(dvd), 0, 0x00, 0x08, flag(cd), 0});  // profiles
    add(0x0001, 2, true, true, {0, 0, 0, 2, 1, 0, 0, 0});  // core: ATAPI, with events for state changes
    add(0x0002, 1, true, true, {0x02, 0, 0, 0});           // morphing: events by polling
    add(0x0003, 1, true, true, {0x29, 0, 0, 0});           // removable: a tray, ejects and locks
    add(0x0010, 0, false, any, {0, 0, 8, 0, 0, 1, 0, 0});  // random readable: 2048 bytes
    add(0x001D, 0, false, cd, {});                         // multi-read
    add(0x001E, 2, false, cd, {0, 0, 0, 0});               // CD read
    add(0x001F, 1, false, dvd, {0, 0, 0, 0});              // DVD read
    add(0x0100, 0, true, true, {});                        // power management
    add(0x0105, 0, true, true, {});                        // timeout
    put32(data, 0, static_cast<uint32_t>(data.size() - 4));
    return respond(std::move(data), get16(packet, 7));
}

/// MMC-5, 6.7. Of the classes only media events exist.
CdromDrive::Outcome CdromDrive::get_event_status(Packet packet) {
    constexpr uint8_t polled = 0x01, media_bit = 0x10, media_class = 4, no_such_class = 0x80;
    if ((packet[1] & polled) == 0) return fail_with(Sense::bad_field);
    const size_t allocation = get16(packet, 7);
    if ((packet[4] & media_bit) == 0) return respond({0, 2, no_such_class, media_bit}, allocation);
    const uint8_t present = static_cast<uint8_t>((state_.tray_open ? 1 : 0) | (medium() ? 2 : 0));
    Bytes data{0, 6, media_class, media_bit, std::to_underlying(state_.event), present, 0, 0};
    // An event that the host's buffer has no room for is not reported yet.
    if (allocation > 4) state_.event = MediaEvent::none;
    return respond(std::move(data), allocation);
}

CdromDrive::Outcome CdromDrive::mechanism_status(Packet packet) {
    Bytes data(8);
    data[1] = state_.tray_open ? 0x10 : 0;
    data[2] = static_cast<uint8_t>(state_.position >> 16);
    put16(data, 3, state_.position);
    return respond(std::move(data), get16(packet, 8));
}

CdromDrive::Outcome CdromDrive::set_speed(Packet packet) {
    state_.speed = static_cast<uint16_t>(std::min<uint32_t>(get16(packet, 2), fastest));
    return Outcome::done;
}

/// MMC-5, 6.22: the physical layer, copyright and manufacturer of a DVD-ROM, without protection.
CdromDrive::Outcome CdromDrive::read_dvd_structure(Packet packet) {
    enum class Format : uint8_t { physical = 0, copyright = 1, manufacturer = 4, list = 0xFF };
    if (!is_dvd()) return fail_with(Sense::incompatible_medium);
    if (packet[6] != 0) return fail_with(Sense::bad_field);  // one layer
    constexpr uint32_t first_sector = 0x30000;
    Bytes data(4);
    switch (static_cast<Format>(packet[7])) {
        case Format::physical:
            data.resize(4 + 2048);
            data[4] = 0x01;  // DVD-ROM, version 1
            data[5] = 0x0F;  // 120 mm, no maximum rate
            data[6] = 0x01;  // one layer, embossed
            put32(data, 8, first_sector);
            put32(data, 12, first_sector + blocks() - 1);
            break;
        case Format::copyright: data.resize(4 + 4); break;
        case Format::manufacturer: data.resize(4 + 2048); break;
        case Format::list:
            data.insert(data.end(), {0x00, 0x40, 0x08, 0x02, 0x01, 0x40, 0, 6, 0x04, 0x40, 0x08, 0x02});
            break;
        default: return fail_with(Sense::bad_field);
    }
    put16(data, 0, static_cast<uint32_t>(data.size() - 2));
    return respond(std::move(data), get16(packet, 8));
}

// ---- Mode pages (SPC-2, 8.3; MMC-5, 7; SFF-8020i, 10.8) -------------------------------------------------------------

std::span<uint8_t> CdromDrive::changeable_page(uint8_t page) {
    switch (page) {
        case 0x01: return state_.error_recovery;
        case 0x0D: return state_.device_parameters;
        case 0x0E: return state_.audio_control;
        default: return {};
    }
}

/// Appends a page, or all of them; false when there is none of that number. `control` 1 asks for what can be changed,
/// 2 for the defaults.
bool CdromDrive::put_mode_page(Bytes& out, uint8_t page, uint8_t control) const {
    constexpr uint8_t changeable = 1, defaults = 2;
    const OpticalState fresh;
    const OpticalState& shown = control == defaults ? fresh : state_;
    const auto add = [&](uint8_t number, std::span<const uint8_t> values, std::span<const uint8_t> masks) {
        if (page != number && page != all_pages) return;
        out.push_back(number);
        out.push_back(static_cast<uint8_t>(values.size()));
        const auto content = control == changeable ? masks : values;
        out.insert(out.end(), content.begin(), content.end());
    };
    constexpr std::array<uint8_t, 10> recovery_mask{0x3F, 0xFF};
    constexpr std::array<uint8_t, 6> parameters_mask{0, 0x0F};
    constexpr std::array<uint8_t, 14> audio_mask{0x06, 0, 0, 0, 0, 0, 0x0F, 0xFF, 0x0F, 0xFF};
    std::array<uint8_t, 20> capabilities{};
    capabilities[0] = 0x0F;  // reads CD-R, CD-RW, packets of fixed length, DVD-ROM
    capabilities[2] = 0x70;  // mode 2 forms 1 and 2, several sessions
    capabilities[4] = static_cast<uint8_t>(0x29 | (shown.locked ? 0x02 : 0));  // a tray; locks, ejects
    put16(capabilities, 6, fastest);
    put16(capabilities, 8, 2);     // volume levels: on and off
    put16(capabilities, 10, 512);  // KiB of buffer
    put16(capabilities, 12, shown.speed == 0 ? fastest : shown.speed);
    const std::array<uint8_t, 20> nothing{};
    const size_t before = out.size();
    add(0x01, shown.error_recovery, recovery_mask);
    add(0x0D, shown.device_parameters, parameters_mask);
    add(0x0E, shown.audio_control, audio_mask);
    add(0x2A, capabilities, nothing);
    return out.size() > before;
}

CdromDrive::Outcome CdromDrive::mode_sense(Packet packet, bool short_form) {
    constexpr uint8_t saved = 3;
    // SFF-8020i, table 94.
    constexpr uint8_t medium_data_cd = 0x01, medium_none = 0x70, medium_tray_open = 0x71;
    const uint8_t control = packet[2] >> 6;
    if (control == saved) return fail_with(Sense::no_saved_pages);
    const size_t allocation = short_form ? packet[4] : get16(packet, 7);
    const uint8_t type = medium() ? medium_data_cd : state_.tray_open ? medium_tray_open : medium_none;
    Bytes data(short_form ? 4 : 8);
    data[short_form ? 1 : 2] = type;
    if (!put_mode_page(data, packet[2] & 0x3F, control)) return fail_with(Sense::bad_field);
    if (short_form) {
        data[0] = static_cast<uint8_t>(data.size() - 1);
    } else {
        put16(data, 0, static_cast<uint32_t>(data.size() - 2));
    }
    return respond(std::move(data), allocation);
}

CdromDrive::Outcome CdromDrive::start_mode_select(Packet packet, bool short_form) {
    constexpr uint8_t save_pages = 0x01;
    if ((packet[1] & save_pages) != 0) return fail_with(Sense::bad_field);
    const uint32_t length = short_form ? packet[4] : get16(packet, 7);
    if (length == 0) return Outcome::done;
    state_.transfer = OpticalState::Transfer::parameters;
    state_.length = length;
    return Outcome::data_out;
}

void CdromDrive::set_mode_page(uint8_t number, std::span<uint8_t> page, std::span<const uint8_t> wanted) {
    Bytes masks;
    put_mode_page(masks, number, 1);
    for (size_t i = 0; i < wanted.size(); ++i) {
        const uint8_t mask = masks[2 + i];
        page[i] = static_cast<uint8_t>((page[i] & ~mask) | (wanted[i] & mask));
    }
}

CdromDrive::Outcome CdromDrive::finish_mode_select() {
    const Bytes data = std::move(state_.data);
    const bool short_form = state_.opcode == std::to_underlying(MmcCommand::mode_select_6);
    abandon_transfer();
    const size_t header = short_form ? 4 : 8;
    if (data.size() < header) return fail_with(Sense::parameter_length);
    const size_t descriptors = short_form ? data[3] : get16(data, 6);
    if (descriptors > data.size() - header) return fail_with(Sense::parameter_length);
    for (const bool apply : {false, true}) {
        auto pages = std::span<const uint8_t>(data).subspan(header + descriptors);
        while (!pages.empty()) {
            if (pages.size() < 2 || pages[1] + 2u > pages.size()) return fail_with(Sense::parameter_length);
            const uint8_t number = pages[0] & 0x3F;
            const auto wanted = pages.subspan(2, pages[1]);
            const auto page = changeable_page(number);
            // Hosts know the error recovery page in two lengths.
            if (page.empty() || wanted.empty() || wanted.size() > page.size()) return fail_with(Sense::bad_parameter);
            if (apply) set_mode_page(number, page, wanted);
            pages = pages.subspan(2 + wanted.size());
        }
    }
    return Outcome::done;
}

}  // namespace viv
