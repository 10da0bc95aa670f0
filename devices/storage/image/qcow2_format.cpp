#include "devices/storage/image/qcow2_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace viv::qcow2 {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint32_t extension_end = 0;
constexpr uint32_t extension_backing_format = 0xE2792ACA;
constexpr uint32_t extension_feature_names = 0x6803F857;
constexpr uint32_t extension_bitmaps = 0x23852875;
constexpr size_t header_size_2 = 72;
constexpr size_t header_size_3 = 104;

std::string text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The image's own name of an incompatible feature, if it gives one.
std::string feature_name(Bytes names, unsigned bit) {
    constexpr size_t entry_size = 48;
    for (size_t at = 0; at + entry_size <= names.size(); at += entry_size) {
        if (load<uint8_t>(names, at) != 0 || load<uint8_t>(names, at + 1) != bit) continue;
        std::string name = text_of(names.subspan(at + 2, entry_size - 2));
        name.resize(std::min(name.find('\0'), name.size()));
        // It goes to a terminal.
        std::ranges::replace_if(
            name, [](char c) { return c < ' ' || c > '~'; }, '?');
        if (!name.empty()) return fmt::format(" ('{}')", name);
    }
    return {};
}

struct Extensions {
    Bytes feature_names;
};

Result<Extensions> parse_extensions(Bytes bytes, Header& header) {
    Extensions found;
    for (size_t at = 0; at + 8 <= bytes.size();) {
        const auto type = load<uint32_t>(bytes, at);
        const auto length = load<uint32_t>(bytes, at + 4);
        if (type == extension_end) break;
        at += 8;
        if (length > bytes.size() - at) return fail("an extension of its header is longer than the header");
        const Bytes data = bytes.subspan(at, length);
        switch (type) {
            case extension_backing_format: header.backing_format = text_of(data); break;
            case extension_feature_names: found.feature_names = data; break;
            case extension_bitmaps:
                if (length != 24) return fail("its bitmaps extension has the wrong length");
                header.bitmaps = Bitmaps{load<uint32_t>(data, 0), load<uint64_t>(data, 8), load<uint64_t>(data, 16)};
                break;
            default: header.unknown_extensions.push_back({type, {data.begin(), data.end()}});
        }
        at += (size_t{length} + 7) / 8 * 8;
    }
    return found;
}

Result<void> check_features(const Header& header, Bytes feature_names) {
    constexpr uint64_t known = incompatible_dirty | incompatible_corrupt | incompatible_external_data |
                               incompatible_compression_type | incompatible_extended_l2;
    if (const uint64_t unknown = header.incompatible & ~known; unknown != 0) {
        const auto bit = static_cast<unsigned>(std::countr_zero(unknown));
        return fail(fmt::format("it needs the qcow2 feature with bit {}{}, which Vivarium does not have", bit,
                                feature_name(feature_names, bit)));
    }
    if ((header.incompatible & incompatible_external_data) != 0) {
        return fail(
            "its data are in an external data file, which Vivarium does not support; convert it with qemu-img convert");
    }
    if (header.compression > Compression::zstd) {
        return fail(
            fmt::format("its compression type {} is neither zlib nor zstd", std::to_underlying(header.compression)));
    }
    const bool marked = (header.incompatible & incompatible_compression_type) != 0;
    if (marked != (header.compression != Compression::zlib)) {
        return fail("its compression type and the feature bit for it contradict each other");
    }
    if (header.crypt_method != 0) {
        return fail(
            fmt::format("it is encrypted ({}), which Vivarium does not support; decrypt it with qemu-img convert",
                        header.crypt_method == 1   ? "AES"
                        : header.crypt_method == 2 ? "LUKS"
                                                   : "by an unknown method"));
    }
    return {};
}

Result<void> check_bounds(const Header& header) {
    const auto place = [&](uint64_t offset, uint64_t length, std::string_view what) -> Result<void> {
        if (offset % header.cluster_size() != 0)
            return fail(fmt::format("its {} is not at the start of a cluster", what));
        if (offset >= max_file_offset || length >= max_file_offset) return fail(fmt::format("its {} is too far", what));
        return {};
    };
    if (header.extended_l2() && header.cluster_bits < 14) {
        return fail("it has extended L2 entries with clusters below 16 KiB");
    }
    if (header.size >= uint64_t{1} << 62)
        return fail(fmt::format("its disk has {} bytes, which is too large", header.size));
    if (uint64_t{header.l1_size} * 8 > max_l1_bytes || header.l1_entries_for(header.size) * 8 > max_l1_bytes) {
        return fail("its L1 table is larger than 32 MiB");
    }
    if (header.l1_size < header.l1_entries_for(header.size))
        return fail("its L1 table is too small for the disk's size");
    TRY(place(header.l1_offset, uint64_t{header.l1_size} * 8, "L1 table"));
    const uint64_t table_bytes = uint64_t{header.refcount_table_clusters} << header.cluster_bits;
    if (table_bytes > max_refcount_table_bytes) return fail("its refcount table is larger than 8 MiB");
    if (table_bytes == 0) return fail("it has no refcount table");
    TRY(place(header.refcount_table_offset, table_bytes, "refcount table"));
    if (header.snapshots > max_snapshots) return fail(fmt::format("it has {} snapshots, over 65536", header.snapshots));
    if (header.snapshots != 0) TRY(place(header.snapshots_offset, 0, "snapshot table"));
    return {};
}

void append(std::vector<std::byte>& out, uint32_t type, Bytes data) {
    const size_t at = out.size();
    out.resize(at + 8 + (data.size() + 7) / 8 * 8);
    store(std::span(out), at, type);
    store(std::span(out), at + 4, static_cast<uint32_t>(data.size()));
    std::ranges::copy(data, out.begin() + static_cast<ptrdiff_t>(at) + 8);
}

std::vector<std::byte> feature_name_table() {
    struct Name {
        uint8_t kind, bit;
        std::string_view text;
    };
    constexpr Name names[] = {{0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
                              {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
                              {2, 0, "bitmaps"},          {2, 1, "raw external data"}};
    std::vector<std::byte> table;
    for (const Name& name : names) {
        table.push_back(std::byte{name.kind});
        table.push_back(std::byte{name.bit});
        const size_t at = table.size();
        table.resize(at + 46);
        std::memcpy(table.data() + at, name.text.data(), name.text.size());
    }
    return table;
}

}  // namespace

bool has_magic(Bytes head) {
    return head.size() >= 4 && load<uint32_t>(head, 0) == magic;
}

Result<uint64_t> cluster_size_of(Bytes head) {
    if (head.size() < 24 || !has_magic(head)) return fail("it is no qcow2 image");
    const auto bits = load<uint32_t>(head, 20);
    if (bits < 9 || bits > 21) return fail(fmt::format("its clusters have 2^{} bytes, not 512 to 2 MiB", bits));
    return uint64_t{1} << bits;
}

Result<Header> parse_header(Bytes cluster) {
    TRY(cluster_size_of(cluster));
    if (cluster.size() < header_size_2) return fail("its header is cut short");
    Header header;
    header.version = load<uint32_t>(cluster, 4);
    if (header.version < 2 || header.version > 3) {
        return fail(fmt::format("its format is version {} of qcow; Vivarium reads 2 and 3", header.version));
    }
    const auto backing_offset = load<uint64_t>(cluster, 8);
    const auto backing_size = load<uint32_t>(cluster, 16);
    header.cluster_bits = load<uint32_t>(cluster, 20);
    header.size = load<uint64_t>(cluster, at_size);
    header.crypt_method = load<uint32_t>(cluster, 32);
    header.l1_size = load<uint32_t>(cluster, at_l1_size);
    header.l1_offset = load<uint64_t>(cluster, 40);
    header.refcount_table_offset = load<uint64_t>(cluster, at_refcount_table);
    header.refcount_table_clusters = load<uint32_t>(cluster, 56);
    header.snapshots = load<uint32_t>(cluster, at_snapshots);
    header.snapshots_offset = load<uint64_t>(cluster, 64);
    size_t length = header_size_2;
    if (header.version >= 3) {
        if (cluster.size() < header_size_3) return fail("its header is cut short");
        header.incompatible = load<uint64_t>(cluster, at_incompatible);
        header.compatible = load<uint64_t>(cluster, 80);
        header.autoclear = load<uint64_t>(cluster, at_autoclear);
        header.refcount_order = load<uint32_t>(cluster, 96);
        length = load<uint32_t>(cluster, 100);
        if (length < header_size_3 || length > cluster.size() || length % 8 != 0) {
            return fail(fmt::format("its header has {} bytes, which cannot be", length));
        }
        if (length > header_size_3) header.compression = static_cast<Compression>(load<uint8_t>(cluster, 104));
    }
    if (header.refcount_order > 6) return fail("its refcounts have more than 64 bits");
    if (backing_offset != 0) {
        if (backing_size > max_backing_name) return fail("the name of its backing file is longer than 1023 bytes");
        if (backing_offset > cluster.size() || backing_size > cluster.size() - backing_offset) {
            return fail("the name of its backing file is outside the header");
        }
        header.backing_file = text_of(cluster.subspan(backing_offset, backing_size));
        if (header.backing_file.find('\0') != std::string::npos)
            return fail("the name of its backing file has a zero byte");
    }
    const size_t end = backing_offset > length ? std::min<size_t>(backing_offset, cluster.size()) : cluster.size();
    const auto extensions = TRY(parse_extensions(cluster.subspan(length, end - length), header));
    TRY(check_features(header, extensions.feature_names));
    TRY(check_bounds(header));
    return header;
}

Result<std::vector<std::byte>> encode_header(const Header& header, FeatureNames names) {
    const bool long_header = header.compression != Compression::zlib;
    std::vector<std::byte> out(header.version < 3 ? header_size_2 : header_size_3 + (long_header ? 8 : 0));
    const std::span bytes(out);
    store(bytes, 0, magic);
    store(bytes, 4, header.version);
    store(bytes, 20, header.cluster_bits);
    store(bytes, at_size, header.size);
    store(bytes, 32, header.crypt_method);
    store(bytes, at_l1_size, header.l1_size);
    store(bytes, 40, header.l1_offset);
    store(bytes, at_refcount_table, header.refcount_table_offset);
    store(bytes, 56, header.refcount_table_clusters);
    store(bytes, at_snapshots, header.snapshots);
    store(bytes, 64, header.snapshots_offset);
    if (header.version >= 3) {
        store(bytes, at_incompatible, header.incompatible);
        store(bytes, 80, header.compatible);
        store(bytes, at_autoclear, header.autoclear);
        store(bytes, 96, header.refcount_order);
        store(bytes, 100, static_cast<uint32_t>(out.size()));
        if (long_header) out[104] = std::byte{std::to_underlying(header.compression)};
    }
    if (header.has_backing() && !header.backing_format.empty()) {
        append(out, extension_backing_format, std::as_bytes(std::span(header.backing_format)));
    }
    if (header.bitmaps) {
        std::vector<std::byte> data(24);
        store(std::span(data), 0, header.bitmaps->count);
        store(std::span(data), 8, header.bitmaps->directory_size);
        store(std::span(data), 16, header.bitmaps->directory_offset);
        append(out, extension_bitmaps, data);
    }
    for (const Extension& extension : header.unknown_extensions) append(out, extension.type, extension.data);
    const uint64_t names_size = 400;
    const uint64_t room =
        header.cluster_size() - std::min<uint64_t>(header.cluster_size(), header.backing_file.size() + 8);
    if (names == FeatureNames::with && header.version >= 3 && out.size() + names_size <= room)
        append(out, extension_feature_names, feature_name_table());
    append(out, extension_end, {});
    if (header.has_backing()) {
        store(std::span(out), 8, uint64_t{out.size()});
        store(std::span(out), 16, static_cast<uint32_t>(header.backing_file.size()));
        const auto name = std::as_bytes(std::span(header.backing_file));
        out.insert(out.end(), name.begin(), name.end());
    }
    if (out.size() > header.cluster_size() || header.backing_file.size() > max_backing_name) {
        return fail("the name of the backing file is too long for the header");
    }
    return out;
}

std::optional<size_t> parse_snapshot(Bytes bytes, Snapshot& snapshot) {
    constexpr size_t fixed = 40;
    if (bytes.size() < fixed) return std::nullopt;
    snapshot.l1_offset = load<uint64_t>(bytes, 0);
    snapshot.l1_size = load<uint32_t>(bytes, 8);
    const size_t id_size = load<uint16_t>(bytes, 12);
    const size_t name_size = load<uint16_t>(bytes, 14);
    snapshot.seconds = load<uint32_t>(bytes, 16);
    snapshot.nanoseconds = load<uint32_t>(bytes, 20);
    snapshot.vm_state_size = load<uint32_t>(bytes, 32);
    const size_t extra_size = load<uint32_t>(bytes, 36);
    if (extra_size > 1024 || bytes.size() - fixed < extra_size + id_size + name_size) return std::nullopt;
    if (extra_size >= 8) snapshot.vm_state_size = load<uint64_t>(bytes, fixed);
    if (extra_size >= 16) snapshot.disk_size = load<uint64_t>(bytes, fixed + 8);
    snapshot.id = text_of(bytes.subspan(fixed + extra_size, id_size));
    snapshot.name = text_of(bytes.subspan(fixed + extra_size + id_size, name_size));
    return (fixed + extra_size + id_size + name_size + 7) / 8 * 8;
}

CompressedPlace compressed_place(const Header& header, uint64_t entry) {
    const unsigned offset_bits = 62 - (header.cluster_bits - 8);
    const uint64_t offset = entry & ((uint64_t{1} << offset_bits) - 1);
    const uint64_t more_sectors = (entry & (entry_compressed - 1)) >> offset_bits;
    return {offset, (more_sectors + 1) * 512 - offset % 512};
}

uint64_t compressed_entry(const Header& header, CompressedPlace place) {
    const unsigned offset_bits = 62 - (header.cluster_bits - 8);
    const uint64_t more_sectors = (place.offset + place.length - 1) / 512 - place.offset / 512;
    return entry_compressed | more_sectors << offset_bits | place.offset;
}

}  // namespace viv::qcow2
