#include "devices/virtio/virtio_block.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace viv {
namespace {

using namespace virtio;

constexpr uint64_t sector_size = DiskImage::sector_size;

// Feature bits (5.2.3)
constexpr uint64_t SIZE_MAX_BYTES = feature(1), SEG_MAX = feature(2), GEOMETRY = feature(4), RO = feature(5),
                   BLK_SIZE = feature(6), FLUSH = feature(9), TOPOLOGY = feature(10), CONFIG_WCE = feature(11),
                   MQ = feature(12), DISCARD = feature(13), WRITE_ZEROES = feature(14);

// Request types (5.2.6)
enum class Type : uint32_t { in = 0, out = 1, flush = 4, get_id = 8, discard = 11, write_zeroes = 13 };

constexpr size_t configuration_size = 60, writeback_at = 32;
constexpr size_t header_size = 16, identity_size = 20;

constexpr uint32_t range_unmap = 1;

}  // namespace

VirtioBlock::VirtioBlock(std::unique_ptr<DiskDrive> disk, unsigned queues)
    : disk_(std::move(disk)), sectors_(disk_->image().sectors()), queues_(queues) {
    identity_ = {
        .id = DeviceId::block, .class_code = 0x010000, .queue_sizes = std::vector<uint16_t>(queues, queue_size)};
    disk_->queue().on_told([this] { give_back(); });
    disk_->on_grown([this] { resize(); });
}

VirtioBlock::~VirtioBlock() = default;

uint64_t VirtioBlock::features() const {
    uint64_t bits = SIZE_MAX_BYTES | SEG_MAX | GEOMETRY | BLK_SIZE | FLUSH | TOPOLOGY | CONFIG_WCE | MQ;
    bits |= disk_->read_only() ? RO : DISCARD | WRITE_ZEROES;
    return bits;
}

std::vector<uint8_t> VirtioBlock::configuration() const {
    std::vector<uint8_t> bytes(configuration_size);
    const auto put = [&bytes](size_t at, uint64_t value, size_t size) {
        for (size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<uint8_t>(value >> (8 * i));
    };
    const DriveGeometry geometry = disk_->geometry();
    put(0, sectors_, 8);
    put(8, most_segment_size, 4);
    put(12, most_segments, 4);
    put(16, std::min(geometry.cylinders, 0xFFFFu), 2);
    put(18, geometry.heads, 1);
    put(19, geometry.sectors, 1);
    put(20, sector_size, 4);
    put(24, 3, 1);  // the host's pages are blocks of 4096 bytes: 2^3 sectors
    put(26, 1, 2);
    put(writeback_at, writeback_field(), 1);
    put(34, identity_.queue_sizes.size(), 2);
    if (!disk_->read_only()) {
        put(36, most_discard_sectors, 4);
        put(40, most_discard_segments, 4);
        put(44, 8, 4);
        put(48, most_zeroed_sectors, 4);
        put(52, most_zeroed_segments, 4);
        put(56, 1, 1);
    }
    return bytes;
}

void VirtioBlock::write_configuration(uint64_t offset, uint8_t value) {
    if (offset != writeback_at || !transport().has(CONFIG_WCE)) return;
    const bool write_back = value & 1;
    // What was written while it was on is durable once it is off (5.2.5.2).
    if (writeback_field() && !write_back && disk_->image().flush() != DiskStatus::ok) ++state_.failures;
    state_.write_back = write_back;
    state_.chosen = true;
}

void VirtioBlock::driver_reset() {
    state_.write_back = true;
    state_.chosen = false;
}

/// A driver that could switch the cache off, but knows no flush, begins without one (5.2.5.2).
bool VirtioBlock::writeback_field() const {
    const bool begins_without = transport().has(CONFIG_WCE) && !transport().has(FLUSH);
    return state_.chosen ? state_.write_back : !begins_without;
}

/// Without FLUSH a driver counts on every write (5.2.5.2).
bool VirtioBlock::writes_back() const {
    return transport().has(CONFIG_WCE) ? writeback_field() : transport().has(FLUSH);
}

void VirtioBlock::resize() {
    settle();
    sectors_ = disk_->image().sectors();
    transport().configuration_changed();
}

/// A disk may have grown since. What a guest has at the end of one that has not as many any more would be lost to it.
Result<void> VirtioBlock::validate(const VirtioBlockState& staged) const {
    if (staged.sectors <= sectors_) return {};
    return fail(fmt::format("the saved machine's disk '{}' had {} sectors, and has {} now", disk_->image().name(),
                            staged.sectors, sectors_));
}

void VirtioBlock::notified(unsigned queue) {
    transport().take(
        queue, [this, queue](const VirtqueueChain& chain, GuestMemory& memory) { return begin(queue, chain, memory); });
    disk_->queue().submit();
    give_back();
}

VirtioTransport::Start VirtioBlock::begin(unsigned queue, const VirtqueueChain& chain, GuestMemory& memory) {
    queues_[queue].held = disk_->queue().full();
    if (queues_[queue].held) return VirtioTransport::Start::leave;
    ++state_.requests;
    auto job = std::make_shared<Job>();
    job->queue = queue;
    job->id = chain.id;
    job->entries = chain.entries;
    job->memory = queues_[queue].memory = &memory;
    if (transport().has(IN_ORDER)) queues_[queue].in_row.push_back(job);
    if (chain.writable_size > 0) {
        job->has_status = true;
        uint64_t last = chain.writable_size - 1;
        for (const VirtqueueChain::Segment& segment : chain.writable) {
            job->status_at = segment.base + last;
            if (last < segment.size) break;
            last -= segment.size;
        }
    }
    dispatch(job, chain);
    return VirtioTransport::Start::taken;
}

void VirtioBlock::dispatch(const JobRef& job, const VirtqueueChain& chain) {
    struct {
        uint32_t type = 0;
        uint32_t reserved = 0;
        uint64_t sector = 0;
    } header;
    static_assert(sizeof header == header_size);
    if (!job->has_status || !chain.read(*job->memory, 0, std::as_writable_bytes(std::span(&header, 1)))) {
        return end(job, Status::io_error);
    }
    switch (static_cast<Type>(header.type)) {
        case Type::in: return move(job, chain, DiskRequest::Kind::read, header.sector);
        case Type::out: return move(job, chain, DiskRequest::Kind::write, header.sector);
        case Type::flush: return start(job, {.kind = DiskRequest::Kind::flush});
        case Type::get_id: return identify(job, chain);
        case Type::discard: return clear(job, chain, true);
        case Type::write_zeroes: return clear(job, chain, false);
    }
    end(job, Status::unsupported);
}

void VirtioBlock::end(const JobRef& job, Status status) {
    if (status != Status::ok) job->status = status;
    if (--job->parts > 0) return;
    if (job->status != Status::ok) ++state_.failures;
    uint32_t written = 0;
    if (job->has_status) {
        written = (job->status == Status::ok ? job->written : 0) + 1;
        static_cast<void>(job->memory->store(job->status_at, static_cast<uint8_t>(job->status)));
    }
    const Virtqueue::Use use{job->id, job->entries, written};
    Queue& queue = queues_[job->queue];
    if (!transport().has(IN_ORDER)) {
        queue.ended.push_back(use);
        return;
    }
    job->ended = true;
    job->written = written;
    for (; !queue.in_row.empty() && queue.in_row.front()->ended; queue.in_row.pop_front()) {
        const Job& first = *queue.in_row.front();
        queue.ended.push_back({first.id, first.entries, first.written});
    }
}

/// Tells the driver of all that ended, queue by queue.
void VirtioBlock::give_back() {
    for (unsigned index = 0; index < queues_.size(); ++index) {
        Queue& queue = queues_[index];
        if (!queue.ended.empty()) {
            const std::vector<Virtqueue::Use> uses(queue.ended.begin(), queue.ended.end());
            queue.ended.clear();
            transport().give_back(index, uses, *queue.memory);
        }
        if (!queue.held || disk_->queue().full()) continue;
        queue.held = false;
        // Who drains wants an end.
        if (disk_->queue().draining()) {
            transport().go_on_in_a_moment(index);
        } else {
            transport().go_on(index);
        }
    }
}

bool VirtioBlock::has_sectors(uint64_t first, uint64_t count) const {
    return first <= sectors_ && count <= sectors_ - first;
}

void VirtioBlock::start(const JobRef& job, DiskRequest request) {
    request.memory = job->memory;
    disk_->queue().start(std::move(request), [this, job](DiskStatus status) {
        end(job, status == DiskStatus::ok ? Status::ok : Status::io_error);
    });
}

/// Reads or writes sectors.
void VirtioBlock::move(const JobRef& job, const VirtqueueChain& chain, DiskRequest::Kind kind, uint64_t sector) {
    const bool reads = kind == DiskRequest::Kind::read;
    const uint64_t bytes = reads ? chain.writable_size - 1 : chain.readable_size - header_size;
    if (bytes % sector_size != 0 || bytes > most_bytes || !has_sectors(sector, bytes / sector_size)) {
        return end(job, Status::io_error);
    }
    DiskRequest request{.kind = kind, .durable = !reads && !writes_back(), .offset = sector * sector_size};
    uint64_t skip = reads ? 0 : header_size, left = bytes;
    for (const VirtqueueChain::Segment& segment : reads ? chain.writable : chain.readable) {
        const uint64_t skipped = std::min<uint64_t>(skip, segment.size);
        skip -= skipped;
        const uint64_t size = std::min(segment.size - skipped, left);
        if (size > 0) request.pieces.push_back({segment.base + skipped, size});
        left -= size;
    }
    job->written = reads ? static_cast<uint32_t>(bytes) : 0;
    start(job, std::move(request));
}

void VirtioBlock::identify(const JobRef& job, const VirtqueueChain& chain) {
    if (chain.writable_size < identity_size + 1) return end(job, Status::io_error);
    std::array<std::byte, identity_size> text{};
    const std::string& serial = disk_->serial();
    std::ranges::copy(std::as_bytes(std::span(serial)).first(std::min(serial.size(), identity_size)), text.begin());
    job->written = identity_size;
    end(job, chain.write(*job->memory, 0, text) ? Status::ok : Status::io_error);
}

/// Discard and write zeroes.
void VirtioBlock::clear(const JobRef& job, const VirtqueueChain& chain, bool discards) {
    if (!transport().has(discards ? DISCARD : WRITE_ZEROES)) return end(job, Status::unsupported);
    const uint64_t bytes = chain.readable_size - header_size;
    const uint64_t most_ranges = discards ? most_discard_segments : most_zeroed_segments;
    const uint64_t most_sectors = discards ? most_discard_sectors : most_zeroed_sectors;
    if (bytes % sizeof(Range) != 0 || bytes == 0 || bytes / sizeof(Range) > most_ranges) {
        return end(job, Status::io_error);
    }
    std::vector<Range> ranges(bytes / sizeof(Range));
    if (!chain.read(*job->memory, header_size, std::as_writable_bytes(std::span(ranges)))) {
        return end(job, Status::io_error);
    }
    for (const Range& range : ranges) {
        if (range.flags & ~(discards ? 0 : range_unmap)) return end(job, Status::unsupported);
        if (range.count > most_sectors || !has_sectors(range.sector, range.count)) return end(job, Status::io_error);
    }
    job->parts = static_cast<unsigned>(ranges.size());
    const bool durable = !discards && !writes_back();
    for (const Range& range : ranges) {
        disk_->queue().start({.kind = discards ? DiskRequest::Kind::discard : DiskRequest::Kind::write_zeros,
                              .durable = durable,
                              .offset = range.sector * sector_size,
                              .length = uint64_t{range.count} * sector_size,
                              .memory = job->memory},
                             [this, job, discards](DiskStatus done) {
                                 // The part of a sector that an image of odd size ends with cannot be discarded, and
                                 // need not be.
                                 const bool good =
                                     done == DiskStatus::ok || (discards && done == DiskStatus::out_of_range);
                                 end(job, good ? Status::ok : Status::io_error);
                             });
    }
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_block(DeviceContext& context) {
    DriveRegistry& registered = *TRY(context.need<DriveRegistry>("the list of drives"));
    const uint32_t queues = context.node.u32("viv,queues").value_or(4);
    if (queues < 1 || queues > VirtioBlock::most_queues) {
        return context.refuse(fmt::format("`viv,queues` is {}; a disk has 1 to {}", queues, VirtioBlock::most_queues));
    }
    auto serial =
        context.node.string("viv,serial").value_or(fmt::format("VIVVIRTIO{:02X}", registered.count(DriveKind::disk)));
    auto image = TRY(open_disk_queue(context));
    auto block =
        std::make_unique<VirtioBlock>(std::make_unique<DiskDrive>(std::move(image), std::move(serial)), queues);
    registered.add(block->disk());
    return block;
}

}  // namespace viv
