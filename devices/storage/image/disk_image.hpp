#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"

namespace viv {

/// How a transfer ended. A device turns each into its datasheet's error; the person at the keyboard has been told.
enum class DiskStatus {
    ok,
    out_of_range,  // some bytes lie behind the end of the image
    read_only,     // the image takes no writes
    no_space,      // the host's file system is full; the image is as before or holds part of the new data
    io_error,      // the host could not read or write
};

/// What a failed system call of the host means.
[[nodiscard]] DiskStatus disk_status_of(int errno_value);

/// A host's file whose bytes are an image's, place for place, so that transfers may be made beside the image.
struct HostFile {
    int fd = -1;                      // -1: there is none, or it is not that simple
    int direct = -1;                  // the same file past the host's cache (O_DIRECT), if the person wants that
    uint32_t direct_alignment = 512;  // of memory, places and lengths there; a power of two
    bool flushes = true;              // whether a flush has to do something
};

/// A range of an image that is known to be zeros, or is not.
struct DiskExtent {
    bool zeros = false;
    uint64_t length = 0;
};

/// The medium of a drive: a flat array of bytes. Transfers are synchronous and whole: short reads and writes of the
/// host are continued until done or failed.
///
/// Threads: an image has no lock and keeps all its state in itself (and in its backing images, which nobody else has).
/// size(), sectors(), read_only() and name() may be called from any thread at any time. All other calls, and the
/// destructor, may come from any thread, but only one at a time, each after the one before has returned.
class DiskImage {
  public:
    virtual ~DiskImage() = default;
    static constexpr uint64_t sector_size = 512;

    /// Bytes; only grow() changes it while the image is open.
    [[nodiscard]] virtual uint64_t size() const = 0;
    /// Sectors of 512 bytes, a last part of one counted. What such a last sector lacks reads as zeros, and writes to it
    /// are out of range: no write makes the image longer.
    [[nodiscard]] uint64_t sectors() const { return (size() + sector_size - 1) / sector_size; }
    /// Whether writes are refused.
    [[nodiscard]] virtual bool read_only() const = 0;
    /// What the person calls it: the path.
    [[nodiscard]] virtual const std::string& name() const = 0;

    /// After a failure `out` holds what was read up to there, and anything behind.
    [[nodiscard]] virtual DiskStatus read(uint64_t offset, std::span<std::byte> out) = 0;
    [[nodiscard]] virtual DiskStatus write(uint64_t offset, std::span<const std::byte> in) = 0;
    /// Returns when all that was written is on the host's medium (fdatasync).
    [[nodiscard]] virtual DiskStatus flush() = 0;
    /// Nobody needs these bytes any more. Where the host can give their space back they read as zeros from now on,
    /// elsewhere they stay.
    [[nodiscard]] virtual DiskStatus discard(uint64_t offset, uint64_t length);
    /// These bytes read as zeros from now on, by discarding them where that has this effect.
    [[nodiscard]] virtual DiskStatus write_zeros(uint64_t offset, uint64_t length);
    /// What is known without reading about the bytes from `offset` on: a length of 1 to `length`. The place must be
    /// within the image.
    [[nodiscard]] virtual DiskExtent extent(uint64_t offset, uint64_t length);

    /// Makes the image longer, durably; what is new reads as zeros. It never becomes shorter, nor does anything of the
    /// host. Errors are whole sentences, and leave the size as it was.
    [[nodiscard]] virtual Result<void> grow(uint64_t size);

    [[nodiscard]] virtual HostFile host_file() const { return {}; }
    /// The host file is about to be written to beside the image.
    virtual void note_host_write() {}
};

/// Whether an image may become so long: it takes writes, and this is more than it has, in whole sectors.
[[nodiscard]] Result<void> check_growth(const DiskImage& image, uint64_t size);

/// `snapshot` takes writes but keeps them in an unnamed temporary file that goes with the image.
enum class ImageAccess { writable, read_only, snapshot };

/// What the properties of a drive's node ask for: viv,read-only; viv,snapshot; else writable.
[[nodiscard]] ImageAccess image_access(const TreeNode& node);

/// What of the host's cache a disk uses. `writeback`: all of it, and a flush is durable. `none`: transfers go past it
/// where they are aligned, and a flush is durable. `writethrough`: every write is durable. `unsafe`: a flush does
/// nothing, and a crash of the host loses the disk.
enum class DiskCache : uint8_t { writeback, none, writethrough, unsafe };
/// The one with the name above. Errors: another name.
Result<DiskCache> disk_cache_of(std::string_view name);
/// viv,cache of a drive's node; `writeback` without it.
Result<DiskCache> disk_cache(const TreeNode& node);

/// The two formats that an image can be said to have.
enum class ImageFormat { raw, qcow2 };
/// The one with the name above. Errors: another name.
Result<ImageFormat> image_format_of(std::string_view name);
/// viv,format of a drive's node; nothing without it.
Result<std::optional<ImageFormat>> image_format(const TreeNode& node);

/// Opens an image, a file or a block device: in the format that is said, with the files that back it; else QCOW2 by its
/// first bytes, or raw. One that is said to be raw is not looked into, and a guest may make it begin as it likes.
/// "PATH,snapshot=NAME" is an internal snapshot of a QCOW2 image, unless a file has this very name. It stays locked
/// while open (shared by readers and snapshots, exclusive for a writer; backing files are read); the refusal names the
/// process that has it. Errors name the path, the reason and what to do. With snapshots `cache` makes no difference.
Result<std::unique_ptr<DiskImage>> open_disk_image(const std::string& path, ImageAccess access,
                                                   DiskCache cache = DiskCache::writeback,
                                                   std::optional<ImageFormat> format = std::nullopt);

/// Whether this write makes a raw image that was taken for one by its content begin like a QCOW2 image. It must not be
/// done: a guest could name any file of the host as the backing file, and read it after the next start.
[[nodiscard]] bool would_disguise(uint64_t offset, std::span<const std::byte> in);

}  // namespace viv
