#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

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

/// The medium of a drive: a flat array of bytes. Transfers are synchronous and whole: short reads and writes of the
/// host are continued until done or failed.
class DiskImage {
  public:
    virtual ~DiskImage() = default;
    static constexpr uint64_t sector_size = 512;

    /// Bytes; it never changes while the image is open.
    [[nodiscard]] virtual uint64_t size() const = 0;
    /// Sectors of 512 bytes, a last part of one counted. What such a last sector lacks reads as zeros, and writes to it
    /// are out of range: the image never grows.
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
};

/// `snapshot` takes writes but keeps them in an unnamed temporary file that goes with the image.
enum class ImageAccess { writable, read_only, snapshot };

/// What the properties of a drive's node ask for: viv,read-only; viv,snapshot; else writable.
[[nodiscard]] ImageAccess image_access(const TreeNode& node);

/// Opens a raw image: a file or a block device. It stays locked while open (shared by readers and snapshots, exclusive
/// for a writer); the refusal names the process that has it. Errors name the path, the reason and what to do.
Result<std::unique_ptr<DiskImage>> open_disk_image(const std::string& path, ImageAccess access);

}  // namespace viv
