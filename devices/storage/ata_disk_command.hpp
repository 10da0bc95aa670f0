#pragma once

#include <cstdint>

namespace viv {

/// ATA/ATAPI-6, 8, and ACS-2, 7; those of ATA-1 to ATA-3 by their names there.
enum class AtaDiskCommand : uint8_t {
    nop = 0x00,
    data_set_management = 0x06,
    recalibrate = 0x10,  // to 1Fh
    read_sectors = 0x20,
    read_sectors_once = 0x21,
    read_sectors_ext = 0x24,
    read_dma_ext = 0x25,
    read_native_max_ext = 0x27,
    read_multiple_ext = 0x29,
    read_log_ext = 0x2F,
    write_sectors = 0x30,
    write_sectors_once = 0x31,
    write_sectors_ext = 0x34,
    write_dma_ext = 0x35,
    write_multiple_ext = 0x39,
    write_verify = 0x3C,
    write_dma_fua_ext = 0x3D,
    read_verify = 0x40,
    read_verify_once = 0x41,
    read_verify_ext = 0x42,
    read_log_dma_ext = 0x47,
    read_queued = 0x60,   // READ FPDMA QUEUED
    write_queued = 0x61,  // WRITE FPDMA QUEUED
    seek = 0x70,          // to 7Fh
    execute_diagnostic = 0x90,
    initialize_parameters = 0x91,
    standby_immediate_old = 0x94,
    idle_immediate_old = 0x95,
    standby_old = 0x96,
    idle_old = 0x97,
    check_power_old = 0x98,
    sleep_old = 0x99,
    smart = 0xB0,
    read_multiple = 0xC4,
    write_multiple = 0xC5,
    set_multiple = 0xC6,
    read_dma = 0xC8,
    read_dma_once = 0xC9,
    write_dma = 0xCA,
    write_dma_once = 0xCB,
    standby_immediate = 0xE0,
    idle_immediate = 0xE1,
    standby = 0xE2,
    idle = 0xE3,
    check_power = 0xE5,
    sleep = 0xE6,
    flush_cache = 0xE7,
    flush_cache_ext = 0xEA,
    identify = 0xEC,
    set_features = 0xEF,
    read_native_max = 0xF8,
};

/// Whether the command's place is in both halves of the address registers.
constexpr bool has_48_bit_address(AtaDiskCommand command) {
    using enum AtaDiskCommand;
    switch (command) {
        case read_sectors_ext:
        case read_multiple_ext:
        case write_sectors_ext:
        case write_multiple_ext:
        case read_dma_ext:
        case write_dma_ext:
        case write_dma_fua_ext:
        case read_verify_ext:
        case read_native_max_ext:
        case read_queued:
        case write_queued:
        case data_set_management: return true;
        default: return false;
    }
}

/// Sectors that a DMA command moves at a time.
inline constexpr unsigned ata_dma_sectors = 128;
/// Device register of a queued write: not done before the medium has it.
inline constexpr uint8_t queued_fua = 0x80;

}  // namespace viv
