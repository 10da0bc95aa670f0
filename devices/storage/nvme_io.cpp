// Commands of the namespace (NVM Express 1.4, chapter 6), and where their data are (4.3).
#include <algorithm>
#include <cstring>
#include <utility>

#include "devices/storage/nvme.hpp"

namespace viv {
namespace {

using namespace nvme;

constexpr uint32_t force_unit_access = 1u << 30;
constexpr uint64_t page_offset = page_size - 1;

enum class Way { in, out };

Status status_of(DiskStatus status, Way way) {
    switch (status) {
        case DiskStatus::ok: return Status::success;
        case DiskStatus::out_of_range: return Status::out_of_range;
        case DiskStatus::read_only: return Status::write_protected;
        case DiskStatus::no_space: return Status::capacity_exceeded;
        case DiskStatus::io_error: break;
    }
    return way == Way::in ? Status::read_error : Status::write_fault;
}

std::vector<DiskRequest> one(DiskRequest request) {
    std::vector<DiskRequest> requests;
    requests.push_back(std::move(request));
    return requests;
}

uint64_t blocks_of(uint32_t word) {
    return uint64_t{word & 0xFFFF} + 1;
}

}  // namespace

Nvme::Completion Nvme::execute_io(unsigned queue, const Command& command, GuestMemory& memory, uint64_t& budget) {
    const auto opcode = static_cast<NvmCommand>(command.opcode());
    const bool every = opcode == NvmCommand::flush && command.name_space() == every_namespace;
    if (command.name_space() != namespace_id && !every) return Status::invalid_namespace;
    if (opcode == NvmCommand::compare) return compare(command, memory, budget);
    const auto job = std::make_shared<Job>(Job{.queue = queue, .identifier = command.identifier(), .memory = &memory});
    switch (opcode) {
        case NvmCommand::flush: return start(job, one({.kind = DiskRequest::Kind::flush}));
        case NvmCommand::write: return move_blocks(job, command, DiskRequest::Kind::write, budget);
        case NvmCommand::read: return move_blocks(job, command, DiskRequest::Kind::read, budget);
        case NvmCommand::write_zeroes: return write_zeroes(job, command, budget);
        case NvmCommand::dataset_management: return dataset_management(job, command);
        default: return Status::invalid_opcode;
    }
}

bool Nvme::has_blocks(uint64_t first, uint64_t count) const {
    const uint64_t blocks = disk_->image().sectors();
    return first <= blocks && count <= blocks - first;
}

bool Nvme::is_durable(const Command& command) const {
    const bool cached = state_.session.features[std::to_underlying(Feature::volatile_write_cache)] != 0;
    return !cached || (command.words[12] & force_unit_access);
}

Nvme::Completion Nvme::start(const JobRef& job, std::vector<DiskRequest> requests) {
    ++owed_[state_.session.submissions[job->queue].completions];
    job->parts = static_cast<unsigned>(requests.size());
    for (DiskRequest& request : requests) {
        request.memory = job->memory;
        uint64_t bytes = 0;
        for (const DiskRequest::Piece& piece : request.pieces) bytes += piece.size;
        disk_->queue().start(std::move(request), [this, job, kind = request.kind, bytes](DiskStatus status) {
            end_part(job, kind, bytes, status);
        });
    }
    return {Status::success, 0, true};
}

void Nvme::end_part(const JobRef& job, DiskRequest::Kind kind, uint64_t bytes, DiskStatus status) {
    // The part of a sector that an image of odd size ends with cannot be discarded, and need not be.
    if (kind == DiskRequest::Kind::discard && status == DiskStatus::out_of_range) status = DiskStatus::ok;
    if (status != DiskStatus::ok) {
        job->status = status_of(status, kind == DiskRequest::Kind::read ? Way::in : Way::out);
    } else if (kind == DiskRequest::Kind::read) {
        ++state_.reads;
        state_.blocks_read += bytes / block_size;
    } else if (kind == DiskRequest::Kind::write) {
        ++state_.writes;
        state_.blocks_written += bytes / block_size;
    }
    if (--job->parts > 0) return;
    --owed_[state_.session.submissions[job->queue].completions];
    complete(job->queue, job->identifier, job->status, *job->memory);
}

Nvme::Completion Nvme::move_blocks(const JobRef& job, const Command& command, DiskRequest::Kind kind,
                                   uint64_t& budget) {
    const bool reads = kind == DiskRequest::Kind::read;
    const uint64_t first = command.wide(10), count = blocks_of(command.words[12]);
    const uint64_t bytes = count * block_size;
    if (bytes > most_transfer) return Status::invalid_field;
    if (!has_blocks(first, count)) return Status::out_of_range;
    if (!reads && disk_->image().read_only()) return Status::write_protected;
    budget -= std::min(budget, bytes);
    if (const Status status = find_data(command, bytes, *job->memory); status != Status::success) return status;
    DiskRequest request{.kind = kind, .durable = !reads && is_durable(command), .offset = first * block_size};
    const auto intent = reads ? GuestMemory::Intent::write : GuestMemory::Intent::read;
    for (const Segment& segment : segments_) {
        // None crosses a page.
        if (job->memory->window(segment.base, segment.size, intent).empty()) return Status::data_transfer_error;
        request.pieces.push_back({segment.base, segment.size});
    }
    return start(job, one(std::move(request)));
}

Nvme::Completion Nvme::compare(const Command& command, GuestMemory& memory, uint64_t& budget) {
    const uint64_t first = command.wide(10), count = blocks_of(command.words[12]);
    const uint64_t bytes = count * block_size;
    if (bytes > most_transfer) return Status::invalid_field;
    if (!has_blocks(first, count)) return Status::out_of_range;
    budget -= std::min(budget, bytes);
    scratch_.resize(2 * bytes);
    const auto stored = std::span(scratch_).first(bytes), given = std::span(scratch_).subspan(bytes, bytes);
    if (const Status status = take_data(command, given, memory); status != Status::success) return status;
    const DiskStatus got = disk_->image().read(first * block_size, stored);
    if (got != DiskStatus::ok) return status_of(got, Way::in);
    ++state_.reads;
    state_.blocks_read += count;
    return std::ranges::equal(stored, given) ? Status::success : Status::compare_failure;
}

Nvme::Completion Nvme::write_zeroes(const JobRef& job, const Command& command, uint64_t& budget) {
    const uint64_t first = command.wide(10), count = blocks_of(command.words[12]);
    if (!has_blocks(first, count)) return Status::out_of_range;
    if (disk_->image().read_only()) return Status::write_protected;
    budget -= std::min(budget, count * block_size);
    return start(job, one({.kind = DiskRequest::Kind::write_zeros,
                           .durable = is_durable(command),
                           .offset = first * block_size,
                           .length = count * block_size}));
}

/// Only deallocation is more than a hint.
Nvme::Completion Nvme::dataset_management(const JobRef& job, const Command& command) {
    constexpr uint32_t deallocate = 1u << 2;
    struct Range {
        uint32_t attributes;
        uint32_t count;
        uint64_t first;
    };
    std::vector<Range> ranges((command.words[10] & 0xFF) + 1);
    const Status status = take_data(command, std::as_writable_bytes(std::span(ranges)), *job->memory);
    if (status != Status::success) return status;
    if (!(command.words[11] & deallocate)) return Status::success;
    if (disk_->image().read_only()) return Status::write_protected;
    // What is deallocated twice is not deallocated again and again.
    uint64_t left = disk_->image().sectors();
    std::vector<DiskRequest> requests;
    for (const Range& range : ranges) {
        if (!has_blocks(range.first, range.count)) return Status::out_of_range;
        if (range.count > left) break;
        left -= range.count;
        if (range.count == 0) continue;
        requests.push_back({.kind = DiskRequest::Kind::discard,
                            .offset = range.first * block_size,
                            .length = uint64_t{range.count} * block_size});
    }
    if (requests.empty()) return Status::success;
    return start(job, std::move(requests));
}

// ---- Data (4.3) ----------------------------------------------------------------------------------------------------

Nvme::Status Nvme::find_data(const Command& command, size_t bytes, GuestMemory& memory) {
    segments_.clear();
    const uint64_t first = command.prp1();
    if (first & 3) return Status::invalid_prp_offset;
    const auto add = [&](uint64_t base) {
        const size_t size = std::min<uint64_t>(bytes, page_size - (base & page_offset));
        segments_.push_back({Gpa{base}, size});
        bytes -= size;
    };
    add(first);
    if (bytes == 0) return Status::success;
    uint64_t list = command.prp2();
    if (bytes <= page_size) {
        if (list & page_offset) return Status::invalid_prp_offset;
        add(list);
        return Status::success;
    }
    if (list & 7) return Status::invalid_prp_offset;
    std::vector<uint64_t> entries;
    while (bytes > 0) {
        const uint64_t room = (page_size - (list & page_offset)) / 8;
        const uint64_t wanted = (bytes + page_size - 1) / page_size;
        const bool goes_on = wanted > room;
        entries.resize(std::min(wanted, room));
        if (!memory.read(Gpa{list}, std::as_writable_bytes(std::span(entries)))) return Status::data_transfer_error;
        for (size_t i = 0; i < entries.size(); ++i) {
            if (entries[i] & page_offset) return Status::invalid_prp_offset;
            // The last one of a page leads to the next page of the list.
            if (goes_on && i + 1 == entries.size()) {
                list = entries[i];
            } else {
                add(entries[i]);
            }
        }
    }
    return Status::success;
}

Nvme::Status Nvme::put_data(const Command& command, std::span<const std::byte> data, GuestMemory& memory) {
    if (const Status status = find_data(command, data.size(), memory); status != Status::success) return status;
    for (const Segment& segment : segments_) {
        if (!memory.write(segment.base, data.first(segment.size))) return Status::data_transfer_error;
        data = data.subspan(segment.size);
    }
    return Status::success;
}

Nvme::Status Nvme::take_data(const Command& command, std::span<std::byte> data, GuestMemory& memory) {
    if (const Status status = find_data(command, data.size(), memory); status != Status::success) return status;
    for (const Segment& segment : segments_) {
        if (!memory.read(segment.base, data.first(segment.size))) return Status::data_transfer_error;
        data = data.subspan(segment.size);
    }
    return Status::success;
}

}  // namespace viv
