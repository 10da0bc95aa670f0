// What a disk has on a serial wire only: queued commands, logs, SMART, and the words of IDENTIFY that tell of them.
#include <algorithm>
#include <array>
#include <utility>

#include "devices/storage/ata_disk.hpp"
#include "devices/storage/ata_disk_command.hpp"
#include "devices/storage/image/disk_queue.hpp"

namespace viv {
namespace {

using Command = AtaDiskCommand;

constexpr uint8_t log_directory = 0x00, log_queue_error = 0x10;
constexpr size_t log_page_size = 512;
constexpr uint32_t most_log_pages = 64;
constexpr uint8_t smart_mid = 0x4F, smart_high = 0xC2;

/// The last byte makes the sum of all zero.
void put_checksum(std::vector<uint8_t>& page) {
    uint8_t sum = 0;
    for (size_t i = 0; i + 1 < page.size(); ++i) sum = static_cast<uint8_t>(sum + page[i]);
    page.back() = static_cast<uint8_t>(-sum);
}

}  // namespace

std::optional<uint8_t> AtaDisk::queued_tag() const {
    const auto command = static_cast<Command>(state_.command);
    const bool queued = serial() && (command == Command::read_queued || command == Command::write_queued);
    return queued ? std::optional(state_.tag) : std::nullopt;
}

bool AtaDisk::execute_serial(uint8_t command) {
    if (!serial()) return false;
    const auto wanted = static_cast<Command>(command);
    const bool queued = wanted == Command::read_queued || wanted == Command::write_queued;
    if (queued) state_.tag = static_cast<uint8_t>(state_.task.count >> 3);
    const bool reads_log = wanted == Command::read_log_ext || wanted == Command::read_log_dma_ext;
    // Until the host knows which queued command failed (ACS-2, 4.15.3).
    if (state_.queue_error.held && !(reads_log && state_.task.lba_low == log_queue_error)) {
        abort();
        return true;
    }
    switch (wanted) {
        case Command::read_queued:
        case Command::write_queued: start_queued(command); return true;
        case Command::read_log_ext: read_log(Transfer::programmed); return true;
        case Command::read_log_dma_ext: read_log(Transfer::dma); return true;
        case Command::write_dma_fua_ext: start_write(Addressing::extended, ata_dma_sectors, Transfer::dma); return true;
        case Command::smart: smart(); return true;
        default: return false;
    }
}

// ---- Queued commands -----------------------------------------------------------------------------------------------

void AtaDisk::start_queued(uint8_t command) {
    if (command == std::to_underlying(Command::read_queued)) {
        start_read(Addressing::queued, ata_dma_sectors, Transfer::dma);
    } else {
        start_write(Addressing::queued, ata_dma_sectors, Transfer::dma);
    }
}

DiskQueue* AtaDisk::queue() const {
    return serial() && image_->beside() ? image_.get() : nullptr;
}

std::optional<AtaTransfer> AtaDisk::transfer_of(uint8_t command) const {
    if (!queue() || state_.power == AtaDeviceState::Power::sleep || state_.queue_error.held) return std::nullopt;
    const auto wanted = static_cast<Command>(command);
    if (wanted == Command::flush_cache || wanted == Command::flush_cache_ext) return AtaTransfer{};
    const bool writes = wanted == Command::write_queued;
    if (!writes && wanted != Command::read_queued) return std::nullopt;
    if (writes && image_->read_only()) return std::nullopt;
    const AtaTaskFile& now = state_.task;
    const AtaTaskFile& before = state_.previous;
    uint64_t lba = 0;
    for (const uint8_t byte :
         {before.lba_high, before.lba_mid, before.lba_low, now.lba_high, now.lba_mid, now.lba_low}) {
        lba = lba << 8 | byte;
    }
    uint32_t count = static_cast<uint32_t>(before.features << 8 | now.features);
    if (count == 0) count = 65536;
    if (lba >= sectors_ || count > sectors_ - lba) return std::nullopt;
    return AtaTransfer{.kind = writes ? AtaTransfer::Kind::write : AtaTransfer::Kind::read,
                       .durable = writes && (!state_.write_cache || (state_.device & queued_fua) != 0),
                       .tag = static_cast<uint8_t>(now.count >> 3),
                       .offset = lba * DiskImage::sector_size,
                       .length = uint64_t{count} * DiskImage::sector_size};
}

void AtaDisk::begin_transfer(uint8_t command) {
    ++state_.commands;
    state_.command = command;
    state_.power = AtaDeviceState::Power::active;
    state_.error = 0;
    finish();
    state_.interrupt = false;
}

void AtaDisk::end_transfer(uint8_t command, DiskStatus status) {
    const auto wanted = transfer_of(command);
    state_.command = command;
    state_.error = 0;
    if (status == DiskStatus::ok) return finish();
    if (!wanted) return abort();
    // Not tried again: a host tells of what it could not make durable only once.
    if (wanted->kind == AtaTransfer::Kind::flush) return fail_command(ata::error_abort, ata::status_fault);
    state_.tag = wanted->tag;
    state_.phase = AtaDeviceState::Phase::data_out;
    state_.remaining = static_cast<uint32_t>(wanted->length / DiskImage::sector_size);
    fail_at(wanted->offset / DiskImage::sector_size, status);
}

void AtaDisk::command_failed() {
    if (!queued_tag() || state_.queue_error.held) return;
    state_.queue_error = {.held = true,
                          .tag = state_.tag,
                          .status = state_.status,
                          .error = state_.error,
                          .device = state_.device,
                          .task = state_.task,
                          .previous = state_.previous};
}

// ---- Logs (ACS-2, annex A) -----------------------------------------------------------------------------------------

std::vector<uint8_t> AtaDisk::log_page(uint8_t log) const {
    std::vector<uint8_t> page(log_page_size);
    if (log == log_directory) {
        page[0] = 1;                    // version 1
        page[2 * log_queue_error] = 1;  // one page
        return page;
    }
    const AtaQueueError& failed = state_.queue_error;
    page[0] = failed.held ? failed.tag : 0x80;  // not of a queued command
    page[2] = failed.status;
    page[3] = failed.error;
    page[4] = failed.task.lba_low;
    page[5] = failed.task.lba_mid;
    page[6] = failed.task.lba_high;
    page[7] = failed.device;
    page[8] = failed.previous.lba_low;
    page[9] = failed.previous.lba_mid;
    page[10] = failed.previous.lba_high;
    page[12] = failed.task.count;
    page[13] = failed.previous.count;
    put_checksum(page);
    return page;
}

void AtaDisk::read_log(Transfer transfer) {
    const uint8_t log = state_.task.lba_low;
    const unsigned first = state_.task.lba_mid | state_.previous.lba_mid << 8;
    const unsigned count = state_.task.count | state_.previous.count << 8;
    const bool there = log == log_directory || log == log_queue_error;
    if (!there || first != 0 || count == 0 || count > most_log_pages) return abort();
    state_.buffer = log_page(log);
    if (log == log_queue_error) state_.queue_error.held = false;
    // Behind the only page there is nothing.
    state_.buffer.resize(count * log_page_size);
    state_.dma = transfer == Transfer::dma;
    offer_block();
}

// ---- SMART (ACS-2, 7.48; SFF-8035i for the data) -------------------------------------------------------------------

void AtaDisk::smart() {
    enum class Feature : uint8_t {
        read_data = 0xD0,
        autosave = 0xD2,
        enable = 0xD8,
        disable = 0xD9,
        return_status = 0xDA,
    };
    if (state_.task.lba_mid != smart_mid || state_.task.lba_high != smart_high) return abort();
    const auto feature = static_cast<Feature>(state_.task.features);
    if (!state_.smart && feature != Feature::enable) return abort();
    switch (feature) {
        case Feature::read_data: return smart_data();
        case Feature::enable: state_.smart = true; break;
        case Feature::disable: state_.smart = false; break;
        case Feature::autosave:
        case Feature::return_status: break;  // the registers stay: no threshold is exceeded
        default: return abort();
    }
    finish();
}

void AtaDisk::smart_data() {
    state_.buffer.assign(log_page_size, 0);
    state_.buffer[0] = 0x10;  // revision, without attributes
    put_checksum(state_.buffer);
    offer_block();
}

// ---- IDENTIFY DEVICE (ACS-2, 7.16) ---------------------------------------------------------------------------------

void AtaDisk::identify_serial(std::array<uint16_t, 256>& words) const {
    words[48] = 0x4000;
    words[75] = 31;      // 32 queued commands
    words[76] = 0x0106;  // queued commands; 1.5 and 3 Gb/s
    words[80] = 0x03FE;  // ATA-1 to ACS-2
    words[82] |= 0x0001;
    words[84] |= 0x0060;  // FUA, logs
    words[85] = static_cast<uint16_t>(words[85] | (state_.smart ? 1 : 0));
    words[86] |= 0x8000;  // words 119 and 120 are valid
    words[87] |= 0x0060;
    words[93] = 0;
    words[119] = 0x4008;  // READ LOG DMA EXT
    words[120] = 0x4008;
    words[222] = 0x101F;  // Serial ATA 2.6
}

}  // namespace viv
