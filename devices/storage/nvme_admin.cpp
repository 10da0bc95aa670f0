// Admin commands (NVM Express 1.4, chapter 5).
#include <algorithm>
#include <string_view>
#include <utility>

#include "devices/storage/nvme.hpp"

namespace viv {
namespace {

using namespace nvme;

constexpr uint64_t page_offset = page_size - 1;
constexpr size_t identify_size = 4096;
constexpr std::string_view model = "Vivarium NVMe disk", revision = "1.0";

/// A number, the lowest byte first.
void put(std::vector<uint8_t>& data, size_t at, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) data[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

/// Text, padded with blanks.
void put_text(std::vector<uint8_t>& data, size_t at, size_t size, std::string_view text) {
    for (size_t i = 0; i < size; ++i) data[at + i] = static_cast<uint8_t>(i < text.size() ? text[i] : ' ');
}

}  // namespace

Nvme::Completion Nvme::execute_admin(const Command& command, GuestMemory& memory) {
    switch (static_cast<AdminCommand>(command.opcode())) {
        case AdminCommand::delete_submission_queue: return delete_submissions(command);
        case AdminCommand::create_submission_queue: return create_submissions(command);
        case AdminCommand::get_log_page: return get_log_page(command, memory);
        case AdminCommand::delete_completion_queue: return delete_completions(command);
        case AdminCommand::create_completion_queue: return create_completions(command);
        case AdminCommand::identify: return identify(command, memory);
        case AdminCommand::abort: return {Status::success, 1};  // what is under way ends by itself
        case AdminCommand::set_features: return set_features(command);
        case AdminCommand::get_features: return get_features(command);
        case AdminCommand::asynchronous_event_request: return request_event(command);
    }
    return Status::invalid_opcode;
}

// ---- Queues (5.3 to 5.6) -------------------------------------------------------------------------------------------

Nvme::Completion Nvme::create_completions(const Command& command) {
    const uint32_t index = command.words[10] & 0xFFFF;
    const uint32_t size = (command.words[10] >> 16) + 1;
    const uint32_t vector = command.words[11] >> 16;
    const bool contiguous = command.words[11] & 1, interrupts = command.words[11] & 2;
    if (index == 0 || index >= queue_count || state_.session.completions[index].size != 0) return Status::invalid_queue;
    if (size < 2 || size > most_entries) return Status::invalid_queue_size;
    if (vector >= queue_count) return Status::invalid_vector;
    if (command.prp1() & page_offset) return Status::invalid_prp_offset;
    if (!contiguous || (state_.configuration & entry_sizes_mask) != entry_sizes) return Status::invalid_field;
    state_.session.completions[index] = {
        .base = command.prp1(), .size = size, .interrupts = interrupts, .vector = static_cast<uint16_t>(vector)};
    return Status::success;
}

Nvme::Completion Nvme::create_submissions(const Command& command) {
    const uint32_t index = command.words[10] & 0xFFFF;
    const uint32_t size = (command.words[10] >> 16) + 1;
    const uint32_t completions = command.words[11] >> 16;
    const bool contiguous = command.words[11] & 1;
    if (index == 0 || index >= queue_count || state_.session.submissions[index].size != 0) return Status::invalid_queue;
    if (size < 2 || size > most_entries) return Status::invalid_queue_size;
    if (completions == 0 || completions >= queue_count || state_.session.completions[completions].size == 0) {
        return Status::invalid_completion_queue;
    }
    if (command.prp1() & page_offset) return Status::invalid_prp_offset;
    if (!contiguous || (state_.configuration & entry_sizes_mask) != entry_sizes) return Status::invalid_field;
    state_.session.submissions[index] = {
        .base = command.prp1(), .size = size, .completions = static_cast<uint16_t>(completions)};
    return Status::success;
}

Nvme::Completion Nvme::delete_submissions(const Command& command) {
    const uint32_t index = command.words[10] & 0xFFFF;
    if (index == 0 || index >= queue_count || state_.session.submissions[index].size == 0) return Status::invalid_queue;
    settle();
    state_.session.submissions[index] = {};
    return Status::success;
}

Nvme::Completion Nvme::delete_completions(const Command& command) {
    const uint32_t index = command.words[10] & 0xFFFF;
    if (index == 0 || index >= queue_count || state_.session.completions[index].size == 0) return Status::invalid_queue;
    const auto uses = [index](const NvmeSubmissionQueue& queue) {
        return queue.size != 0 && queue.completions == index;
    };
    if (std::ranges::any_of(state_.session.submissions, uses)) return Status::invalid_deletion;
    state_.session.completions[index] = {};
    return Status::success;
}

// ---- Identify (5.15) -----------------------------------------------------------------------------------------------

Nvme::Completion Nvme::identify(const Command& command, GuestMemory& memory) {
    enum class Structure : uint8_t { name_space = 0, controller = 1, active_list = 2, names = 3 };
    std::vector<uint8_t> data;
    switch (static_cast<Structure>(command.words[10] & 0xFF)) {
        case Structure::name_space:
            if (command.name_space() != namespace_id) return Status::invalid_namespace;
            data = namespace_data();
            break;
        case Structure::controller: data = controller_data(); break;
        case Structure::active_list:
            if (command.name_space() >= 0xFFFFFFFE) return Status::invalid_namespace;
            data.assign(identify_size, 0);
            if (command.name_space() < namespace_id) put(data, 0, namespace_id, 4);
            break;
        case Structure::names:
            if (command.name_space() != namespace_id) return Status::invalid_namespace;
            data = namespace_names();
            break;
        default: return Status::invalid_field;
    }
    return put_data(command, std::as_bytes(std::span(data)), memory);
}

/// Figure 247.
std::vector<uint8_t> Nvme::controller_data() const {
    std::vector<uint8_t> data(identify_size);
    put(data, 0, pci_.config_read(pci::VENDOR_ID, 2), 2);
    put_text(data, 4, 20, disk_->serial());
    put_text(data, 24, 40, model);
    put_text(data, 64, 8, revision);
    data[77] = transfer_shift;
    put(data, 80, version, 4);
    data[111] = 1;  // an I/O controller
    data[258] = 3;  // aborts at a time, less one
    data[259] = most_event_requests - 1;
    data[260] = 0x03;        // one firmware slot, read-only
    data[261] = 0x04;        // log pages have offsets
    put(data, 266, 343, 2);  // warning and critical temperature, kelvin
    put(data, 268, 373, 2);
    data[512] = 0x66;  // entries of 64 and of 16 bytes
    data[513] = 0x44;
    put(data, 516, 1, 4);     // namespaces
    put(data, 520, 0x0D, 2);  // Compare, Dataset Management, Write Zeroes
    data[525] = 0x07;         // a volatile write cache; Flush takes every namespace
    // The name of the subsystem as 7.9 makes it of vendor, serial number and model.
    const std::string name = "nqn.2014.08.org.nvmexpress:12340000" + disk_->serial() + std::string(model);
    std::ranges::copy(name.substr(0, 223), data.begin() + 768);
    put(data, 2048, 500, 2);  // power state 0: 5 W
    return data;
}

/// Figure 245.
std::vector<uint8_t> Nvme::namespace_data() const {
    std::vector<uint8_t> data(identify_size);
    const uint64_t blocks = disk_->image().sectors();
    for (const size_t at : {0u, 8u, 16u}) put(data, at, blocks, 8);  // size, capacity, utilisation
    if (disk_->image().read_only()) data[99] = 1;
    const uint64_t name = unique_name();
    for (size_t i = 0; i < 8; ++i) data[120 + i] = static_cast<uint8_t>(name >> (56 - 8 * i));
    data[130] = 9;  // format 0: blocks of 2^9 bytes, no metadata
    return data;
}

/// Figure 250.
std::vector<uint8_t> Nvme::namespace_names() const {
    std::vector<uint8_t> data(identify_size);
    data[0] = 1;  // an EUI-64
    data[1] = 8;
    const uint64_t name = unique_name();
    for (size_t i = 0; i < 8; ++i) data[4 + i] = static_cast<uint8_t>(name >> (56 - 8 * i));
    return data;
}

/// An EUI-64 that is locally administered: made of the serial number (FNV-1a).
uint64_t Nvme::unique_name() const {
    uint64_t hash = 0xCBF29CE484222325;
    for (const char c : disk_->serial()) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
    return (hash & 0x00FFFFFF'FFFFFFFF) | uint64_t{0x02} << 56;
}

// ---- Log pages (5.14) ----------------------------------------------------------------------------------------------

/// Figure 196.
std::vector<uint8_t> Nvme::health_log() const {
    constexpr uint64_t unit = 1000;  // blocks
    std::vector<uint8_t> log(512);
    put(log, 1, 310, 2);  // kelvin
    log[3] = 100;         // percent of spare blocks, and the least
    log[4] = 10;
    put(log, 32, (state_.blocks_read + unit - 1) / unit, 8);
    put(log, 48, (state_.blocks_written + unit - 1) / unit, 8);
    put(log, 64, state_.reads, 8);
    put(log, 80, state_.writes, 8);
    return log;
}

Nvme::Completion Nvme::get_log_page(const Command& command, GuestMemory& memory) {
    enum class Page : uint8_t { errors = 0x01, health = 0x02, firmware = 0x03 };
    const uint64_t bytes = ((uint64_t{command.words[11] & 0xFFFF} << 16 | command.words[10] >> 16) + 1) * 4;
    const uint64_t offset = command.wide(12);
    const bool retain = command.words[10] >> 15 & 1;
    if (bytes > most_transfer || (offset & 3)) return Status::invalid_field;
    std::vector<uint8_t> log;
    switch (static_cast<Page>(command.words[10] & 0xFF)) {
        case Page::errors: log.assign(64, 0); break;  // errors are told where they happen
        case Page::health: log = health_log(); break;
        case Page::firmware:
            log.assign(512, 0);
            log[0] = 1;
            put_text(log, 8, 8, revision);
            break;
        default: return Status::invalid_log_page;
    }
    if (offset > log.size()) return Status::invalid_field;
    log.erase(log.begin(), log.begin() + static_cast<ptrdiff_t>(offset));
    log.resize(bytes);
    const Status status = put_data(command, std::as_bytes(std::span(log)), memory);
    const bool frees = static_cast<Page>(command.words[10] & 0xFF) == Page::errors && !retain;
    if (status == Status::success && frees) state_.session.events_held = false;
    return status;
}

// ---- Features (5.21, 5.9) ------------------------------------------------------------------------------------------

Nvme::Completion Nvme::set_features(const Command& command) {
    constexpr uint32_t save = 1u << 31;
    const uint32_t number = command.words[10] & 0xFF;
    const uint32_t value = command.words[11];
    if (command.words[10] & save) return Status::not_saveable;
    const auto has_queues = [](const auto& queues) {
        return std::ranges::any_of(queues.begin() + 1, queues.end(), [](const auto& queue) { return queue.size != 0; });
    };
    switch (static_cast<Feature>(number)) {
        case Feature::number_of_queues:
            if (has_queues(state_.session.submissions) || has_queues(state_.session.completions)) {
                return Status::sequence_error;
            }
            if ((value & 0xFFFF) == 0xFFFF || value >> 16 == 0xFFFF) return Status::invalid_field;
            return {Status::success, (io_queues - 1) << 16 | (io_queues - 1)};
        case Feature::interrupt_vector:
            if ((value & 0xFFFF) >= queue_count) return Status::invalid_field;
            return Status::success;
        case Feature::power_management:
            if (value & 0x1F) return Status::invalid_field;
            return Status::success;
        case Feature::volatile_write_cache:
            if (!(value & 1) && disk_->image().flush() != DiskStatus::ok) return Status::write_fault;
            state_.session.features[number] = value & 1;
            return Status::success;
        case Feature::arbitration:
        case Feature::temperature_threshold:
        case Feature::error_recovery:
        case Feature::interrupt_coalescing:
        case Feature::write_atomicity:
        case Feature::asynchronous_events: state_.session.features[number] = value; return Status::success;
    }
    return Status::invalid_field;
}

Nvme::Completion Nvme::get_features(const Command& command) {
    const uint32_t number = command.words[10] & 0xFF;
    switch (static_cast<Feature>(number)) {
        case Feature::number_of_queues: return {Status::success, (io_queues - 1) << 16 | (io_queues - 1)};
        case Feature::interrupt_vector: {
            const uint32_t vector = command.words[11] & 0xFFFF;
            if (vector >= queue_count) return Status::invalid_field;
            return {Status::success, vector};
        }
        case Feature::arbitration:
        case Feature::power_management:
        case Feature::temperature_threshold:
        case Feature::error_recovery:
        case Feature::volatile_write_cache:
        case Feature::interrupt_coalescing:
        case Feature::write_atomicity:
        case Feature::asynchronous_events: return {Status::success, state_.session.features[number]};
    }
    return Status::invalid_field;
}

/// Ends when there is something to tell.
Nvme::Completion Nvme::request_event(const Command& command) {
    if (state_.session.event_requests.size() == most_event_requests) return Status::too_many_event_requests;
    state_.session.event_requests.push_back(command.identifier());
    return {Status::success, 0, true};
}

}  // namespace viv
