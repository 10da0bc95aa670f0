#include "devices/storage/image/image_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "vmm/core/log.hpp"

namespace viv {
namespace {

enum class Flushes { durable, nothing };

class HostImageFile final : public ImageFile {
  public:
    HostImageFile(int fd, std::string name, uint64_t size, Flushes flushes)
        : fd_(fd), name_(std::move(name)), size_(size), flushes_(flushes) {}
    HostImageFile(const HostImageFile&) = delete;
    HostImageFile& operator=(const HostImageFile&) = delete;
    ~HostImageFile() override { close(fd_); }

    [[nodiscard]] uint64_t size() const override { return size_; }

    DiskStatus read(uint64_t offset, std::span<std::byte> out) override {
        const uint64_t there = offset < size_ ? std::min<uint64_t>(out.size(), size_ - offset) : 0;
        std::ranges::fill(out.subspan(there), std::byte{0});
        for (out = out.first(there); !out.empty();) {
            const ssize_t got = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
            if (got < 0 && errno == EINTR) continue;
            // Someone cut the file short meanwhile.
            if (got <= 0) return failed("read", offset, got < 0 ? errno : EIO);
            offset += static_cast<uint64_t>(got);
            out = out.subspan(static_cast<size_t>(got));
        }
        return DiskStatus::ok;
    }

    DiskStatus write(uint64_t offset, std::span<const std::byte> in) override {
        while (!in.empty()) {
            const ssize_t put = pwrite(fd_, in.data(), in.size(), static_cast<off_t>(offset));
            if (put < 0 && errno == EINTR) continue;
            if (put <= 0) return failed("write", offset, put < 0 ? errno : EIO);
            dirty_ = true;
            offset += static_cast<uint64_t>(put);
            size_ = std::max(size_, offset);
            in = in.subspan(static_cast<size_t>(put));
        }
        return DiskStatus::ok;
    }

    DiskStatus resize(uint64_t size) override {
        if (size == size_) return DiskStatus::ok;
        if (ftruncate(fd_, static_cast<off_t>(size)) != 0) return failed("change the size of the file", size, errno);
        dirty_ = true;
        size_ = size;
        return DiskStatus::ok;
    }

    void punch(uint64_t offset, uint64_t length) override {
        constexpr int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        // Where the file system has no holes, the space stays.
        [[maybe_unused]] const int ignored =
            fallocate(fd_, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
        dirty_ = true;
    }

    DiskStatus reserve(uint64_t offset, uint64_t length) override {
        if (length == 0) return DiskStatus::ok;
        const int error = posix_fallocate(fd_, static_cast<off_t>(offset), static_cast<off_t>(length));
        if (error) return failed("reserve space", offset, error);
        dirty_ = true;
        size_ = std::max(size_, offset + length);
        return DiskStatus::ok;
    }

    DiskStatus flush() override {
        if (!dirty_ || flushes_ == Flushes::nothing) return DiskStatus::ok;
        if (fdatasync(fd_) != 0) return failed("flush", 0, errno);
        dirty_ = false;
        return DiskStatus::ok;
    }

    [[nodiscard]] uint64_t allocated() const override {
        struct stat info {};
        return fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_blocks) * 512 : size_;
    }

  private:
    DiskStatus failed(std::string_view verb, uint64_t offset, int errno_value) {
        log_.say(fmt::format("disk image '{}': cannot {} at byte {} of the file: {}; its user sees a disk error", name_,
                             verb, offset, std::strerror(errno_value)));
        switch (errno_value) {
            case ENOSPC:
            case EDQUOT:
            case EFBIG: return DiskStatus::no_space;
            case EROFS:
            case EPERM:
            case EBADF: return DiskStatus::read_only;
            default: return DiskStatus::io_error;
        }
    }

    int fd_;
    std::string name_;
    uint64_t size_;
    Flushes flushes_;
    bool dirty_ = false;
    RepeatedLog log_;
};

}  // namespace

std::unique_ptr<ImageFile> make_image_file(int fd, std::string name, uint64_t size, bool flushes) {
    return std::make_unique<HostImageFile>(fd, std::move(name), size, flushes ? Flushes::durable : Flushes::nothing);
}

Result<std::unique_ptr<ImageFile>> make_temporary_file(const std::string& path) {
    const char* chosen = std::getenv("TMPDIR");
    for (const char* folder : {chosen, "/var/tmp", "/tmp"}) {
        if (!folder || !*folder) continue;
        const int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0) return std::make_unique<HostImageFile>(fd, path + " (snapshot)", 0, Flushes::nothing);
    }
    return fail(
        fmt::format("cannot make a snapshot of '{}': no temporary file in $TMPDIR, /var/tmp or /tmp: {}; set "
                    "TMPDIR to a folder with room for the guest's writes",
                    path, std::strerror(errno)));
}

}  // namespace viv
