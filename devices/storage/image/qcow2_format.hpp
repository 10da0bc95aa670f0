#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/result.hpp"

/// The QCOW2 format as it lies in the file. All numbers are big-endian. Reference: QEMU's docs/interop/qcow2.txt.
namespace viv::qcow2 {

template <class T>
[[nodiscard]] T load(std::span<const std::byte> bytes, size_t offset) {
    T value;
    std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
    return std::byteswap(value);
}
template <class T>
void store(std::span<std::byte> bytes, size_t offset, T value) {
    value = std::byteswap(value);
    std::memcpy(bytes.subspan(offset, sizeof value).data(), &value, sizeof value);
}

inline constexpr uint32_t magic = 0x514649FB;  // "QFI", FBh

// What a reader has to know (header bytes 72 to 79).
inline constexpr uint64_t incompatible_dirty = 1 << 0;  // refcounts may be wrong
inline constexpr uint64_t incompatible_corrupt = 1 << 1;
inline constexpr uint64_t incompatible_external_data = 1 << 2;
inline constexpr uint64_t incompatible_compression_type = 1 << 3;
inline constexpr uint64_t incompatible_extended_l2 = 1 << 4;
// What anyone may ignore (80 to 87), and what a writer has to clear unless it keeps it right (88 to 95).
inline constexpr uint64_t compatible_lazy_refcounts = 1 << 0;
inline constexpr uint64_t autoclear_bitmaps = 1 << 0;

// Entries of L1 and L2 tables.
inline constexpr uint64_t entry_copied = uint64_t{1} << 63;  // refcount is 1: may be written in place
inline constexpr uint64_t entry_compressed = uint64_t{1} << 62;
inline constexpr uint64_t entry_zero = 1;
inline constexpr uint64_t entry_offset_mask = 0x00FF'FFFF'FFFF'FE00;

// Places of fields that are written alone.
inline constexpr size_t at_size = 24;
inline constexpr size_t at_l1_size = 36;
inline constexpr size_t at_refcount_table = 48;
inline constexpr size_t at_snapshots = 60;
inline constexpr size_t at_incompatible = 72;
inline constexpr size_t at_autoclear = 88;

// Bounds on what an image may say.
inline constexpr uint64_t max_l1_bytes = 32 << 20;
inline constexpr uint64_t max_refcount_table_bytes = 8 << 20;
inline constexpr uint32_t max_snapshots = 65536;
inline constexpr uint64_t max_snapshot_table_bytes = 16 << 20;
inline constexpr uint32_t max_backing_name = 1023;
inline constexpr uint64_t max_file_offset = uint64_t{1} << 56;

enum class Compression : uint8_t { zlib = 0, zstd = 1 };

/// Persistent dirty bitmaps, which Vivarium neither reads nor keeps up to date.
struct Bitmaps {
    uint32_t count = 0;
    uint64_t directory_size = 0;
    uint64_t directory_offset = 0;
};

/// An extension of the header that we do not know, and keep.
struct Extension {
    uint32_t type = 0;
    std::vector<std::byte> data;
};

struct Header {
    uint32_t version = 3;
    uint32_t cluster_bits = 16;
    uint64_t size = 0;
    uint32_t crypt_method = 0;
    uint32_t l1_size = 0;  // entries
    uint64_t l1_offset = 0;
    uint64_t refcount_table_offset = 0;
    uint32_t refcount_table_clusters = 0;
    uint32_t snapshots = 0;
    uint64_t snapshots_offset = 0;
    uint64_t incompatible = 0;
    uint64_t compatible = 0;
    uint64_t autoclear = 0;
    uint32_t refcount_order = 4;
    Compression compression = Compression::zlib;
    std::string backing_file;
    std::string backing_format;  // empty: not said
    std::optional<Bitmaps> bitmaps;
    std::vector<Extension> unknown_extensions;

    [[nodiscard]] uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
    [[nodiscard]] bool extended_l2() const { return (incompatible & incompatible_extended_l2) != 0; }
    /// Bytes of an entry of an L2 table.
    [[nodiscard]] uint64_t l2_entry_size() const { return extended_l2() ? 16 : 8; }
    [[nodiscard]] uint64_t l2_entries() const { return cluster_size() / l2_entry_size(); }
    /// Parts of a cluster that are there or not, each by itself.
    [[nodiscard]] uint64_t units() const { return extended_l2() ? 32 : 1; }
    [[nodiscard]] uint64_t unit_size() const { return cluster_size() / units(); }
    /// Guest bytes under one entry of the L1 table.
    [[nodiscard]] uint64_t l2_span() const { return l2_entries() * cluster_size(); }
    [[nodiscard]] uint64_t l1_entries_for(uint64_t bytes) const {
        return bytes / l2_span() + (bytes % l2_span() != 0 ? 1 : 0);
    }
    [[nodiscard]] uint64_t refcounts_per_block() const { return cluster_size() * 8 >> refcount_order; }
    [[nodiscard]] bool has_backing() const { return !backing_file.empty(); }
    [[nodiscard]] bool lazy_refcounts() const { return (compatible & compatible_lazy_refcounts) != 0; }
};

/// Whether a file that begins so is a QCOW2 image, of whatever version.
[[nodiscard]] bool has_magic(std::span<const std::byte> head);

/// The size of a cluster, which holds the whole header, from the first 24 bytes.
Result<uint64_t> cluster_size_of(std::span<const std::byte> head);

/// Reads the header from the first cluster (which may be shorter where the file is) and refuses what is outside the
/// format, its bounds, or what Vivarium knows. Errors are the second half of a sentence: "its ... is ...".
Result<Header> parse_header(std::span<const std::byte> cluster);

/// Names of features are a help for readers of another age, and take room.
enum class FeatureNames { with, without };
/// The header with its extensions and the backing file's name; it has to fit the first cluster.
Result<std::vector<std::byte>> encode_header(const Header& header, FeatureNames names = FeatureNames::with);

/// An internal snapshot: a second L1 table with a name.
struct Snapshot {
    std::string id;
    std::string name;
    uint64_t l1_offset = 0;
    uint32_t l1_size = 0;
    uint64_t disk_size = 0;  // 0: as large as the image
    uint64_t vm_state_size = 0;
    uint32_t seconds = 0;      // Unix time when it was made
    uint32_t nanoseconds = 0;  // and the rest
};

/// Reads one entry of the snapshot table at the front of `bytes` into `snapshot` and returns its length, or nothing if
/// `bytes` end in its middle or it makes no sense.
[[nodiscard]] std::optional<size_t> parse_snapshot(std::span<const std::byte> bytes, Snapshot& snapshot);

/// Where the data of a compressed cluster lie: any byte, and whole sectors of 512 bytes from the one of the first byte.
struct CompressedPlace {
    uint64_t offset = 0;
    uint64_t length = 0;  // at most; the data say themselves where they end
};
[[nodiscard]] CompressedPlace compressed_place(const Header& header, uint64_t entry);
[[nodiscard]] uint64_t compressed_entry(const Header& header, CompressedPlace place);

}  // namespace viv::qcow2
