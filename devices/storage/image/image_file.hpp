#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "devices/storage/image/disk_image.hpp"

namespace viv {

/// The host's file that an image format lives in. Writing behind its end makes it longer. Whoever owns it calls it
/// from one thread at a time.
class ImageFile {
  public:
    virtual ~ImageFile() = default;

    /// Bytes.
    [[nodiscard]] virtual uint64_t size() const = 0;
    /// What lies behind the end reads as zeros.
    [[nodiscard]] virtual DiskStatus read(uint64_t offset, std::span<std::byte> out) = 0;
    [[nodiscard]] virtual DiskStatus write(uint64_t offset, std::span<const std::byte> in) = 0;
    /// Cuts the end off, or adds zeros to it.
    [[nodiscard]] virtual DiskStatus resize(uint64_t size) = 0;
    /// Gives the space of these bytes back where the host can; what they read as afterwards is open.
    virtual void punch(uint64_t offset, uint64_t length) = 0;
    /// Takes space for these bytes now, without changing what they read as.
    [[nodiscard]] virtual DiskStatus reserve(uint64_t offset, uint64_t length) = 0;
    /// Returns when all that was written is on the host's medium: what is written later is not there before it.
    [[nodiscard]] virtual DiskStatus flush() = 0;
    /// Bytes that the file takes of the host's medium.
    [[nodiscard]] virtual uint64_t allocated() const = 0;
};

/// Takes the open descriptor `fd`, whose file has `size` bytes now. `name` is for messages. A flush does nothing
/// without `flushes`.
std::unique_ptr<ImageFile> make_image_file(int fd, std::string name, uint64_t size, bool flushes = true);

/// A file without a name, in $TMPDIR, /var/tmp or /tmp, which is gone with the object. Its flush does nothing.
/// `path` is the image that it is for, in messages.
Result<std::unique_ptr<ImageFile>> make_temporary_file(const std::string& path);

}  // namespace viv
