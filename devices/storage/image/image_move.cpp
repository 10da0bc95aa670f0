#include "devices/storage/image/image_move.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace viv {
namespace {

// A multiple of every cluster size.
constexpr uint64_t most_at_once = 2 << 20;

Result<void> need_whole_sectors(const DiskImage& image) {
    if (image.size() % DiskImage::sector_size == 0) return {};
    return fail(fmt::format("'{}' has {} bytes, which are no whole sectors; viv image resize makes them so",
                            image.name(), image.size()));
}

std::unexpected<Error> cannot_read(const DiskImage& image, uint64_t offset) {
    return fail(fmt::format("cannot read '{}' at byte {}", image.name(), offset));
}

std::unexpected<Error> cannot_write(const DiskImage& image, uint64_t offset) {
    return fail(fmt::format("cannot write '{}' at byte {}: the host's disk is full or failed, or it takes no writes",
                            image.name(), offset));
}

/// Whether this may be skipped: known to be zeros, `length` bytes from `offset` on or, if it says so, fewer.
bool known_zeros(DiskImage* image, uint64_t offset, uint64_t& length) {
    if (!image || offset >= image->size()) return true;
    const DiskExtent known = image->extent(offset, std::min(length, image->size() - offset));
    if (known.zeros && offset + known.length < image->size()) length = std::min(length, known.length);
    return known.zeros;
}

}  // namespace

DiskStatus read_padded(DiskImage& image, uint64_t offset, std::span<std::byte> out) {
    const uint64_t there = offset < image.size() ? std::min<uint64_t>(out.size(), image.size() - offset) : 0;
    std::ranges::fill(out.subspan(there), std::byte{0});
    return there == 0 ? DiskStatus::ok : image.read(offset, out.first(there));
}

bool all_zeros(std::span<const std::byte> bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

Result<MoveReport> copy_down(Qcow2Image& top, DiskImage& below, const Progress& progress) {
    VIV_ASSERT(below.size() >= top.size());
    TRY(need_whole_sectors(top));
    MoveReport report;
    std::vector<std::byte> buffer(most_at_once);
    for (uint64_t at = 0; at < top.size();) {
        if (progress) progress(at, top.size());
        const auto own = top.own_extent(at, top.size() - at);
        uint64_t length = own.length;
        if (own.zeros) {
            if (below.write_zeros(at, length) != DiskStatus::ok) return cannot_write(below, at);
            report.zeroed += length;
        } else if (own.own) {
            length = std::min(length, most_at_once - at % most_at_once);
            const auto piece = std::span(buffer).first(length);
            if (top.read(at, piece) != DiskStatus::ok) return cannot_read(top, at);
            if (below.write(at, piece) != DiskStatus::ok) return cannot_write(below, at);
            report.copied += length;
        }
        at += length;
    }
    if (below.flush() != DiskStatus::ok) return cannot_write(below, 0);
    return report;
}

Result<MoveReport> copy_up(Qcow2Image& top, DiskImage* below, const Progress& progress) {
    TRY(need_whole_sectors(top));
    MoveReport report;
    std::vector<std::byte> shown(most_at_once);
    std::vector<std::byte> other(most_at_once);
    const uint64_t unit = top.header().unit_size();
    for (uint64_t at = 0; at < top.size();) {
        if (progress) progress(at, top.size());
        const auto own = top.own_extent(at, top.size() - at);
        uint64_t length = own.length;
        uint64_t zeros = length;
        if (own.own || (known_zeros(top.backing(), at, zeros) && known_zeros(below, at, zeros))) {
            // What is left of a unit is looked at with the next one.
            at += own.own ? length : zeros;
            continue;
        }
        length = std::min(length, most_at_once - at % most_at_once);
        const auto piece = std::span(shown).first(length);
        const auto there = std::span(other).first(length);
        if (top.read(at, piece) != DiskStatus::ok) return cannot_read(top, at);
        std::ranges::fill(there, std::byte{0});
        if (below && read_padded(*below, at, there) != DiskStatus::ok) return cannot_read(*below, at);
        const auto unit_end = [&](uint64_t done) { return std::min(length, ((at + done) / unit + 1) * unit - at); };
        const auto same = [&](uint64_t from, uint64_t to) {
            return std::ranges::equal(piece.subspan(from, to - from), there.subspan(from, to - from));
        };
        for (uint64_t from = 0; from < length;) {
            uint64_t to = unit_end(from);
            if (!same(from, to)) {
                while (to < length && !same(to, unit_end(to))) to = unit_end(to);
                const auto differs = piece.subspan(from, to - from);
                const bool empty = all_zeros(differs);
                const DiskStatus status = empty ? top.write_zeros(at + from, to - from) : top.write(at + from, differs);
                if (status != DiskStatus::ok) return cannot_write(top, at + from);
                (empty ? report.zeroed : report.copied) += to - from;
            }
            from = to;
        }
        at += length;
    }
    if (top.flush() != DiskStatus::ok) return cannot_write(top, 0);
    return report;
}

}  // namespace viv
