#pragma once

#include <cstdint>

namespace viv {

/// The packets that a CD-ROM drive knows (MMC-5, table 242, and SFF-8020i, table 34).
enum class MmcCommand : uint8_t {
    test_unit_ready = 0x00,
    request_sense = 0x03,
    inquiry = 0x12,
    mode_select_6 = 0x15,
    mode_sense_6 = 0x1A,
    start_stop = 0x1B,
    prevent_removal = 0x1E,
    read_capacity = 0x25,
    read_10 = 0x28,
    seek = 0x2B,
    verify = 0x2F,
    read_sub_channel = 0x42,
    read_toc = 0x43,
    read_header = 0x44,
    get_configuration = 0x46,
    get_event_status = 0x4A,
    stop_play = 0x4E,
    read_disc_information = 0x51,
    read_track_information = 0x52,
    mode_select_10 = 0x55,
    mode_sense_10 = 0x5A,
    read_12 = 0xA8,
    read_dvd_structure = 0xAD,
    read_cd_msf = 0xB9,
    set_speed = 0xBB,
    mechanism_status = 0xBD,
    read_cd = 0xBE,
};

}  // namespace viv
