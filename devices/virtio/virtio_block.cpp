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

struct Range {
    uint64_t sector = 0;
    uint32_t count = 0;
    uint32_t flags = 0;
};
constexpr uint32_t range_unmap = 1;

}  // namespace

VirtioBlock::VirtioBlock(std::unique_ptr<DiskDrive> disk, unsigned queues) : disk_(std::move(disk)) {
    identity_ = {
        .id = DeviceId::block, .class_code = 0x010000, .queue_sizes = std::vector<uint16_t>(queues, queue_size)};
}

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
    put(0, disk_->image().sectors(), 8);
    put(8, most_segment_size, 4);
    put(12, most_segments, 4);
    put(16, std::min(geometry.cylinders, 0xFFFFu), 2);
    put(18, geometry.heads, 1);
    put(19, geometry.sectors, 1);
    put(20, sector_size, 4);
    put(24, 3, 1);  // the host's pages are blocks of 4096 bytes: 2^3 sectors
    put(26, 1, 2);
    put(writeback_at, state_.write_back, 1);
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
    if (state_.write_back && !write_back && disk_->image().flush() != DiskStatus::ok) ++state_.failures;
    state_.write_back = write_back;
}

/// Without FLUSH a driver counts on every write (5.2.5.2).
bool VirtioBlock::writes_back() const {
    return transport().has(CONFIG_WCE) ? state_.write_back : transport().has(FLUSH);
}

void VirtioBlock::notified(unsigned queue) {
    transport().serve(queue, [this](VirtqueueChain& chain, GuestMemory& memory) { return execute(chain, memory); });
}

std::optional<uint32_t> VirtioBlock::execute(VirtqueueChain& chain, GuestMemory& memory) {
    ++state_.requests;
    struct {
        uint32_t type = 0;
        uint32_t reserved = 0;
        uint64_t sector = 0;
    } header;
    static_assert(sizeof header == header_size);
    if (chain.writable_size < 1) return 0;  // not even room for the status
    Request request{chain, memory};
    Status status = Status::io_error;
    if (chain.read(memory, 0, std::as_writable_bytes(std::span(&header, 1)))) {
        request.type = header.type;
        request.sector = header.sector;
        status = dispatch(request);
    }
    if (status != Status::ok) ++state_.failures;
    const std::array last{static_cast<std::byte>(status)};
    static_cast<void>(chain.write(memory, chain.writable_size - 1, last));
    return request.written + 1;
}

VirtioBlock::Status VirtioBlock::dispatch(Request& request) {
    switch (static_cast<Type>(request.type)) {
        case Type::in: return read(request);
        case Type::out: return write(request);
        case Type::flush: return flush();
        case Type::get_id: return identify(request);
        case Type::discard:
        case Type::write_zeroes: return clear(request);
    }
    return Status::unsupported;
}

bool VirtioBlock::has_sectors(uint64_t first, uint64_t count) const {
    const uint64_t sectors = disk_->image().sectors();
    return first <= sectors && count <= sectors - first;
}

VirtioBlock::Status VirtioBlock::read(Request& request) {
    const uint64_t bytes = request.chain.writable_size - 1;
    if (bytes % sector_size != 0 || bytes > most_bytes || !has_sectors(request.sector, bytes / sector_size)) {
        return Status::io_error;
    }
    scratch_.resize(bytes);
    if (disk_->image().read(request.sector * sector_size, scratch_) != DiskStatus::ok) return Status::io_error;
    if (!request.chain.write(request.memory, 0, scratch_)) return Status::io_error;
    request.written = static_cast<uint32_t>(bytes);
    return Status::ok;
}

VirtioBlock::Status VirtioBlock::write(Request& request) {
    const uint64_t bytes = request.chain.readable_size - header_size;
    if (bytes % sector_size != 0 || bytes > most_bytes || !has_sectors(request.sector, bytes / sector_size)) {
        return Status::io_error;
    }
    scratch_.resize(bytes);
    if (!request.chain.read(request.memory, header_size, scratch_)) return Status::io_error;
    if (disk_->image().write(request.sector * sector_size, scratch_) != DiskStatus::ok) return Status::io_error;
    return writes_back() ? Status::ok : flush();
}

VirtioBlock::Status VirtioBlock::flush() {
    return disk_->image().flush() == DiskStatus::ok ? Status::ok : Status::io_error;
}

VirtioBlock::Status VirtioBlock::identify(Request& request) {
    if (request.chain.writable_size < identity_size + 1) return Status::io_error;
    std::array<std::byte, identity_size> text{};
    const std::string& serial = disk_->serial();
    std::ranges::copy(std::as_bytes(std::span(serial)).first(std::min(serial.size(), identity_size)), text.begin());
    if (!request.chain.write(request.memory, 0, text)) return Status::io_error;
    request.written = identity_size;
    return Status::ok;
}

/// Discard and write zeroes.
VirtioBlock::Status VirtioBlock::clear(Request& request) {
    const bool discards = static_cast<Type>(request.type) == Type::discard;
    if (!transport().has(discards ? DISCARD : WRITE_ZEROES)) return Status::unsupported;
    const uint64_t bytes = request.chain.readable_size - header_size;
    const uint64_t most_ranges = discards ? most_discard_segments : most_zeroed_segments;
    const uint64_t most_sectors = discards ? most_discard_sectors : most_zeroed_sectors;
    if (bytes % sizeof(Range) != 0 || bytes == 0 || bytes / sizeof(Range) > most_ranges) return Status::io_error;
    std::vector<Range> ranges(bytes / sizeof(Range));
    if (!request.chain.read(request.memory, header_size, std::as_writable_bytes(std::span(ranges)))) {
        return Status::io_error;
    }
    for (const Range& range : ranges) {
        if (range.flags & ~(discards ? 0 : range_unmap)) return Status::unsupported;
        if (range.count > most_sectors || !has_sectors(range.sector, range.count)) return Status::io_error;
    }
    for (const Range& range : ranges) {
        const uint64_t offset = range.sector * sector_size, length = uint64_t{range.count} * sector_size;
        DiskImage& image = disk_->image();
        const DiskStatus done = discards ? image.discard(offset, length) : image.write_zeros(offset, length);
        // The part of a sector that an image of odd size ends with cannot be discarded, and need not be.
        if (done != DiskStatus::ok && !(discards && done == DiskStatus::out_of_range)) return Status::io_error;
    }
    return discards || writes_back() ? Status::ok : flush();
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_block(DeviceContext& context) {
    DriveRegistry& registered = *TRY(context.need<DriveRegistry>("the list of drives"));
    const std::string path = TRY(context.need_string("viv,image"));
    const uint32_t queues = context.node.u32("viv,queues").value_or(4);
    if (queues < 1 || queues > VirtioBlock::most_queues) {
        return context.refuse(fmt::format("`viv,queues` is {}; a disk has 1 to {}", queues, VirtioBlock::most_queues));
    }
    auto serial =
        context.node.string("viv,serial").value_or(fmt::format("VIVVIRTIO{:02X}", registered.count(DriveKind::disk)));
    auto image = TRY(open_disk_image(path, image_access(context.node)));
    auto block =
        std::make_unique<VirtioBlock>(std::make_unique<DiskDrive>(std::move(image), std::move(serial)), queues);
    registered.add(block->disk());
    return block;
}

}  // namespace viv
