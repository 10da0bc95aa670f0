#pragma once

#include <cstdint>

/// Registers, commands and status codes of an NVMe controller, by the names of the specification (NVM Express 1.4).
namespace viv::nvme {

/// I/O queue pairs, as many as a machine has CPUs; with the admin queue one interrupt vector each.
inline constexpr unsigned io_queues = 16;
inline constexpr unsigned queue_count = io_queues + 1;
inline constexpr uint32_t most_entries = 1024;
inline constexpr uint64_t page_size = 4096;
inline constexpr uint32_t block_size = 512;
/// MDTS: a command moves at most 2^7 pages.
inline constexpr uint8_t transfer_shift = 7;
inline constexpr uint64_t most_transfer = page_size << transfer_shift;
inline constexpr uint32_t namespace_id = 1, every_namespace = 0xFFFFFFFF;
inline constexpr uint32_t version = 0x00010400;

enum Register : uint16_t {
    CAP = 0x00,
    CAP_HIGH = 0x04,
    VS = 0x08,
    INTMS = 0x0C,
    INTMC = 0x10,
    CC = 0x14,
    CSTS = 0x1C,
    AQA = 0x24,
    ASQ = 0x28,
    ASQ_HIGH = 0x2C,
    ACQ = 0x30,
    ACQ_HIGH = 0x34,
    DOORBELLS = 0x1000,
};
inline constexpr uint64_t window_size = 0x4000;

/// 1024 entries, contiguous queues, ready within half a second; NVM command set, pages of 4 KiB.
inline constexpr uint32_t capabilities_low = 0x010103FF, capabilities_high = 0x00000020;

// CC
inline constexpr uint32_t CC_EN = 1u << 0, CC_CSS = 7u << 4, CC_MPS = 0xFu << 7, CC_AMS = 7u << 11, CC_SHN = 3u << 14;
inline constexpr uint32_t CC_writable = 0x00FFFFF1;
inline constexpr uint32_t entry_sizes = 4u << 20 | 6u << 16, entry_sizes_mask = 0xFFu << 16;  // IOCQES, IOSQES
// CSTS
inline constexpr uint32_t CSTS_RDY = 1u << 0, CSTS_CFS = 1u << 1, CSTS_SHST = 3u << 2, CSTS_shutdown_complete = 2u << 2;

enum class AdminCommand : uint8_t {
    delete_submission_queue = 0x00,
    create_submission_queue = 0x01,
    get_log_page = 0x02,
    delete_completion_queue = 0x04,
    create_completion_queue = 0x05,
    identify = 0x06,
    abort = 0x08,
    set_features = 0x09,
    get_features = 0x0A,
    asynchronous_event_request = 0x0C,
};

enum class NvmCommand : uint8_t {
    flush = 0x00,
    write = 0x01,
    read = 0x02,
    compare = 0x05,
    write_zeroes = 0x08,
    dataset_management = 0x09,
};

enum class Feature : uint8_t {
    arbitration = 0x01,
    power_management = 0x02,
    temperature_threshold = 0x04,
    error_recovery = 0x05,
    volatile_write_cache = 0x06,
    number_of_queues = 0x07,
    interrupt_coalescing = 0x08,
    interrupt_vector = 0x09,
    write_atomicity = 0x0A,
    asynchronous_events = 0x0B,
};
inline constexpr unsigned feature_count = 0x0C;

/// Type in bits 10:8, code in 7:0; bit 14 says that trying again is of no use.
enum class Status : uint16_t {
    success = 0x0000,
    invalid_opcode = 0x4001,
    invalid_field = 0x4002,
    data_transfer_error = 0x0004,
    invalid_namespace = 0x400B,
    sequence_error = 0x400C,
    invalid_prp_offset = 0x4013,
    write_protected = 0x4020,
    out_of_range = 0x4080,
    capacity_exceeded = 0x0081,
    invalid_completion_queue = 0x4100,
    invalid_queue = 0x4101,
    invalid_queue_size = 0x4102,
    too_many_event_requests = 0x4105,
    invalid_vector = 0x4108,
    invalid_log_page = 0x4109,
    invalid_deletion = 0x410C,
    not_saveable = 0x410D,
    write_fault = 0x0280,
    read_error = 0x0281,
    compare_failure = 0x4285,
};

}  // namespace viv::nvme
