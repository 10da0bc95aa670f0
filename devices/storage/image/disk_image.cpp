#include "devices/storage/image/disk_image.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "devices/storage/image/image_chain.hpp"
#include "devices/storage/image/image_lock.hpp"
#include "vmm/core/log.hpp"

namespace viv {

DiskStatus disk_status_of(int errno_value) {
    switch (errno_value) {
        case ENOSPC:
        case EDQUOT:
        case EFBIG: return DiskStatus::no_space;
        case EROFS:
        case EPERM: return DiskStatus::read_only;
        default: return DiskStatus::io_error;
    }
}

namespace {

class FileDescriptor {
  public:
    explicit FileDescriptor(int fd) : fd_(fd) {}
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~FileDescriptor() {
        if (fd_ >= 0) close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }

  private:
    int fd_;
};

/// Reads all of `out`; returns the errno value or 0. A file that someone cut short meanwhile is an I/O error.
int read_fully(int fd, uint64_t offset, std::span<std::byte> out) {
    while (!out.empty()) {
        const ssize_t got = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return EIO;
        offset += static_cast<uint64_t>(got);
        out = out.subspan(static_cast<size_t>(got));
    }
    return 0;
}

int write_fully(int fd, uint64_t offset, std::span<const std::byte> in) {
    while (!in.empty()) {
        const ssize_t put = pwrite(fd, in.data(), in.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno;
        if (put == 0) return EIO;
        offset += static_cast<uint64_t>(put);
        in = in.subspan(static_cast<size_t>(put));
    }
    return 0;
}

Result<uint64_t> size_of(int fd, const struct stat& info, const std::string& path) {
    if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
    uint64_t bytes = 0;
    if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) {
        return fail_errno(fmt::format("cannot find the size of block device '{}'", path), errno);
    }
    return bytes;
}

/// A raw image: the host's file is the medium.
class RawImage : public DiskImage {
  public:
    RawImage(FileDescriptor file, std::string name, uint64_t size, ImageAccess access)
        : file_(std::move(file)), name_(std::move(name)), size_(size), access_(access) {}
    /// A file that flushes do nothing for, or (-1: none) the same one past the host's cache.
    void set_cache(DiskCache cache, FileDescriptor direct) {
        flushes_ = cache != DiskCache::unsafe;
        direct_ = std::move(direct);
    }
    /// It is raw because someone said so, not by its content: it may begin as it likes.
    void set_said_to_be_raw() { recognised_ = false; }

    [[nodiscard]] uint64_t size() const override { return size_; }
    [[nodiscard]] bool read_only() const override { return access_ == ImageAccess::read_only; }
    [[nodiscard]] const std::string& name() const override { return name_; }

    DiskStatus read(uint64_t offset, std::span<std::byte> out) override {
        if (!within(offset, out.size(), sectors() * sector_size)) return DiskStatus::out_of_range;
        // What the last sector lacks.
        const uint64_t backed = offset < size_ ? std::min<uint64_t>(out.size(), size_ - offset) : 0;
        std::ranges::fill(out.subspan(backed), std::byte{0});
        return read_backed(offset, out.first(backed));
    }

    DiskStatus write(uint64_t offset, std::span<const std::byte> in) override {
        if (read_only()) return DiskStatus::read_only;
        if (!within(offset, in.size(), size_)) return DiskStatus::out_of_range;
        // A sector that is there in part would come back with zeros instead of what was written.
        if (size_ % sector_size != 0 && offset + in.size() > size_ - size_ % sector_size) {
            return DiskStatus::out_of_range;
        }
        if (recognised_ && access_ == ImageAccess::writable && offset < sector_size) {
            // A copy, since a guest's other processors may change its memory meanwhile.
            std::vector<std::byte> head(in.begin(),
                                        in.begin() + static_cast<ptrdiff_t>(std::min<size_t>(in.size(), sector_size)));
            if (would_disguise(offset, head)) {
                log_.say(fmt::format("disk image '{}': the guest may not make it begin like a qcow2 image", name_));
                return DiskStatus::read_only;
            }
            const DiskStatus status = write_backed(offset, head);
            if (status != DiskStatus::ok || head.size() == in.size()) return status;
            offset += head.size();
            in = in.subspan(head.size());
        }
        return write_backed(offset, in);
    }

    DiskExtent extent(uint64_t offset, uint64_t length) override {
        const off_t data =
            access_ == ImageAccess::snapshot ? -1 : lseek(file_.get(), static_cast<off_t>(offset), SEEK_DATA);
        if (data < 0) return {access_ != ImageAccess::snapshot && errno == ENXIO, length};
        if (static_cast<uint64_t>(data) > offset) return {true, std::min(length, static_cast<uint64_t>(data) - offset)};
        const off_t hole = lseek(file_.get(), static_cast<off_t>(offset), SEEK_HOLE);
        return {false, hole <= data ? length : std::min(length, static_cast<uint64_t>(hole) - offset)};
    }

    DiskStatus discard(uint64_t offset, uint64_t length) override {
        if (read_only()) return DiskStatus::read_only;
        if (!within(offset, length, size_)) return DiskStatus::out_of_range;
        const int error = length == 0 ? 0 : punch(offset, length);
        return error && error != EOPNOTSUPP ? failed("discard", offset, error) : DiskStatus::ok;
    }

    DiskStatus write_zeros(uint64_t offset, uint64_t length) override {
        const bool punched = !read_only() && length > 0 && within(offset, length, size_) && punch(offset, length) == 0;
        return punched ? DiskStatus::ok : DiskImage::write_zeros(offset, length);
    }

    Result<void> grow(uint64_t size) override {
        TRY(check_growth(*this, size));
        TRY(make_longer(size));
        size_ = size;
        return {};
    }

    [[nodiscard]] HostFile host_file() const override {
        if (access_ == ImageAccess::snapshot) return {};
        constexpr uint32_t usual_block = 4096;  // no host has larger ones
        return {file_.get(), direct_.get(), usual_block, flushes_ && access_ == ImageAccess::writable};
    }
    void note_host_write() override { dirty_ = true; }

    DiskStatus flush() override {
        if (access_ != ImageAccess::writable || !flushes_ || !dirty_) return DiskStatus::ok;
        if (fdatasync(file_.get()) != 0) return failed("flush", 0, errno);
        dirty_ = false;
        return DiskStatus::ok;
    }

  protected:
    virtual DiskStatus read_backed(uint64_t offset, std::span<std::byte> out) {
        return read_file(file_.get(), offset, out);
    }
    virtual DiskStatus write_backed(uint64_t offset, std::span<const std::byte> in) {
        dirty_ = true;
        return write_file(file_.get(), offset, in);
    }
    /// Makes a hole, which reads as zeros; returns the errno value or 0. Called for places within the image.
    virtual int punch(uint64_t offset, uint64_t length) {
        dirty_ = true;
        return punch_file(file_.get(), offset, length);
    }

    /// Errors are whole sentences.
    virtual Result<void> make_longer(uint64_t size) {
        struct stat info {};
        if (fstat(file_.get(), &info) != 0) return cannot_grow(errno);
        const uint64_t now = TRY(size_of(file_.get(), info, name_));
        // Somebody else may have made it longer already.
        if (now >= size) return {};
        if (!S_ISREG(info.st_mode))
            return fail(
                fmt::format("cannot grow '{}': the block device has {} bytes; make it larger first", name_, now));
        if (ftruncate(file_.get(), static_cast<off_t>(size)) != 0 || fdatasync(file_.get()) != 0)
            return cannot_grow(errno);
        return {};
    }
    [[nodiscard]] std::unexpected<Error> cannot_grow(int errno_value) const {
        return fail_errno(fmt::format("cannot grow '{}'", name_), errno_value);
    }

    static int punch_file(int fd, uint64_t offset, uint64_t length) {
        constexpr int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        return fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0 ? 0 : errno;
    }

    DiskStatus read_file(int fd, uint64_t offset, std::span<std::byte> out) {
        const int error = read_fully(fd, offset, out);
        return error ? failed("read", offset, error) : DiskStatus::ok;
    }
    DiskStatus write_file(int fd, uint64_t offset, std::span<const std::byte> in) {
        const int error = write_fully(fd, offset, in);
        return error ? failed("write", offset, error) : DiskStatus::ok;
    }
    [[nodiscard]] int file() const { return file_.get(); }

  private:
    static bool within(uint64_t offset, uint64_t length, uint64_t end) {
        return offset <= end && length <= end - offset;
    }
    DiskStatus failed(std::string_view verb, uint64_t offset, int errno_value) {
        log_.say(fmt::format("disk image '{}': cannot {} at byte {}: {}; the guest sees a disk error", name_, verb,
                             offset, std::strerror(errno_value)));
        return disk_status_of(errno_value);
    }

    FileDescriptor file_;
    FileDescriptor direct_{-1};
    bool flushes_ = true;
    std::string name_;
    uint64_t size_;
    ImageAccess access_;
    bool recognised_ = true;
    bool dirty_ = false;
    RepeatedLog log_;
};

/// A raw image that is never written: changed sectors live in a sparse temporary file at their own offsets.
class SnapshotImage final : public RawImage {
  public:
    SnapshotImage(FileDescriptor file, FileDescriptor overlay, std::string name, uint64_t size)
        : RawImage(std::move(file), std::move(name), size, ImageAccess::snapshot),
          overlay_(std::move(overlay)),
          below_(sectors()) {
        changed_.resize((sectors() + chunk_sectors - 1) / chunk_sectors);
    }

  protected:
    DiskStatus read_backed(uint64_t offset, std::span<std::byte> out) override {
        // Runs of sectors from the same file at a time.
        while (!out.empty()) {
            const bool from_overlay = changed(offset / sector_size);
            uint64_t end = (offset / sector_size + 1) * sector_size;
            while (end < offset + out.size() && changed(end / sector_size) == from_overlay) end += sector_size;
            const size_t length = static_cast<size_t>(std::min<uint64_t>(end - offset, out.size()));
            const DiskStatus status = read_file(from_overlay ? overlay_.get() : file(), offset, out.first(length));
            if (status != DiskStatus::ok) return status;
            offset += length;
            out = out.subspan(length);
        }
        return DiskStatus::ok;
    }

    DiskStatus write_backed(uint64_t offset, std::span<const std::byte> in) override {
        if (in.empty()) return DiskStatus::ok;
        const uint64_t first = offset / sector_size;
        const uint64_t last = (offset + in.size() - 1) / sector_size;
        // A sector that is written in part takes the rest along.
        for (const uint64_t sector : {first, last}) {
            const bool whole = offset <= sector * sector_size && (sector + 1) * sector_size <= offset + in.size();
            if (whole || changed(sector)) continue;
            std::array<std::byte, sector_size> rest{};
            DiskStatus status = read_file(file(), sector * sector_size, rest);
            if (status == DiskStatus::ok) status = write_file(overlay_.get(), sector * sector_size, rest);
            if (status != DiskStatus::ok) return status;
            note_changed(sector);
        }
        const DiskStatus status = write_file(overlay_.get(), offset, in);
        if (status != DiskStatus::ok) return status;
        for (uint64_t sector = first; sector <= last; ++sector) note_changed(sector);
        return DiskStatus::ok;
    }

    /// A hole of the overlay, whose sectors count as written. Sectors that are discarded in part stay.
    int punch(uint64_t offset, uint64_t length) override {
        if (offset % sector_size != 0 || length % sector_size != 0) return EOPNOTSUPP;
        // The overlay ends behind what was written last; a hole behind that is none.
        struct stat info {};
        if (fstat(overlay_.get(), &info) != 0) return errno;
        const auto end = static_cast<off_t>(offset + length);
        if (info.st_size < end && ftruncate(overlay_.get(), end) != 0) return EOPNOTSUPP;
        if (const int error = punch_file(overlay_.get(), offset, length)) return error;
        for (uint64_t sector = offset / sector_size; sector < (offset + length) / sector_size;) {
            const uint64_t count = std::min<uint64_t>(64 - sector % 64, (offset + length) / sector_size - sector);
            note_changed(sector, count);
            sector += count;
        }
        return 0;
    }

    /// What is new is in the overlay alone.
    Result<void> make_longer(uint64_t size) override {
        if (this->size() % sector_size != 0)
            return fail(fmt::format("cannot grow '{}': it ends within a sector; viv image resize mends that", name()));
        struct stat info {};
        if (fstat(overlay_.get(), &info) != 0) return cannot_grow(errno);
        const auto end = static_cast<off_t>(size);
        if (info.st_size < end && ftruncate(overlay_.get(), end) != 0) return cannot_grow(errno);
        changed_.resize((size / sector_size + chunk_sectors - 1) / chunk_sectors);
        return {};
    }

  private:
    // Which sectors the overlay has; a chunk comes with its first change, so that large images cost little.
    static constexpr uint64_t chunk_sectors = 32768;
    using Chunk = std::array<uint64_t, chunk_sectors / 64>;

    [[nodiscard]] bool changed(uint64_t sector) const {
        if (sector >= below_) return true;
        const auto& chunk = changed_[sector / chunk_sectors];
        return chunk && ((*chunk)[sector % chunk_sectors / 64] >> (sector % 64) & 1) != 0;
    }
    /// `count` sectors that one word holds.
    void note_changed(uint64_t sector, uint64_t count = 1) {
        auto& chunk = changed_[sector / chunk_sectors];
        if (!chunk) chunk = std::make_unique<Chunk>();
        (*chunk)[sector % chunk_sectors / 64] |= (~uint64_t{0} >> (64 - count)) << (sector % 64);
    }

    FileDescriptor overlay_;
    uint64_t below_;  // sectors of the file, behind which all are the overlay's
    std::vector<std::unique_ptr<Chunk>> changed_;
};

/// A file without a name, on disk where possible: a guest can write as much as the image is large.
Result<FileDescriptor> make_overlay(const std::string& path) {
    const char* chosen = std::getenv("TMPDIR");
    for (const char* folder : {chosen, "/var/tmp", "/tmp"}) {
        if (!folder || !*folder) continue;
        const int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0) return FileDescriptor(fd);
    }
    return fail(
        fmt::format("cannot make a snapshot of '{}': no temporary file in $TMPDIR, /var/tmp or /tmp: {}; set "
                    "TMPDIR to a folder with room for the guest's writes",
                    path, std::strerror(errno)));
}

std::unexpected<Error> cannot_open(const std::string& path, ImageAccess access, int errno_value) {
    const bool writing = access == ImageAccess::writable;
    std::string_view advice;
    if (writing && (errno_value == EACCES || errno_value == EPERM || errno_value == EROFS)) {
        advice = "; if the guest need not write to it, use --read-only or --snapshot";
    }
    return fail(fmt::format("cannot open disk image '{}'{}: {}{}", path, writing ? " for writing" : "",
                            std::strerror(errno_value), advice));
}

}  // namespace

Result<void> DiskImage::grow(uint64_t /*size*/) {
    return fail(fmt::format("cannot grow '{}': its size is fixed", name()));
}

Result<void> check_growth(const DiskImage& image, uint64_t size) {
    const auto refused = [&image](std::string_view why) {
        return fail_usage(fmt::format("cannot grow '{}': {}", image.name(), why));
    };
    if (image.read_only()) return refused("it can only be read");
    if (size <= image.size()) return refused(fmt::format("it has {} bytes, and {} are not more", image.size(), size));
    if (size % DiskImage::sector_size != 0) return refused(fmt::format("{} bytes are no whole sectors of 512", size));
    if (size > static_cast<uint64_t>(INT64_MAX) - DiskImage::sector_size)
        return refused(fmt::format("{} bytes are too many", size));
    return {};
}

DiskExtent DiskImage::extent(uint64_t /*offset*/, uint64_t length) {
    return {false, length};
}

bool would_disguise(uint64_t offset, std::span<const std::byte> in) {
    constexpr std::array magic{std::byte{'Q'}, std::byte{'F'}, std::byte{'I'}, std::byte{0xFB}};
    if (offset >= magic.size() || in.empty()) return false;
    // Also piece by piece: the last piece is one that fits.
    const size_t length = std::min<size_t>(in.size(), magic.size() - offset);
    return std::ranges::equal(in.first(length), std::span(magic).subspan(offset, length));
}

DiskStatus DiskImage::discard(uint64_t /*offset*/, uint64_t /*length*/) {
    return DiskStatus::ok;
}

DiskStatus DiskImage::write_zeros(uint64_t offset, uint64_t length) {
    const std::vector<std::byte> zeros(std::min<uint64_t>(length, 65536));
    while (length > 0) {
        const auto piece = std::span(zeros).first(std::min<uint64_t>(length, zeros.size()));
        if (const DiskStatus status = write(offset, piece); status != DiskStatus::ok) return status;
        offset += piece.size();
        length -= piece.size();
    }
    return DiskStatus::ok;
}

ImageAccess image_access(const TreeNode& node) {
    if (node.has("viv,read-only")) return ImageAccess::read_only;
    return node.has("viv,snapshot") ? ImageAccess::snapshot : ImageAccess::writable;
}

Result<DiskCache> disk_cache(const TreeNode& node) {
    return disk_cache_of(node.string("viv,cache").value_or("writeback"));
}

Result<DiskCache> disk_cache_of(std::string_view name) {
    if (name == "writeback") return DiskCache::writeback;
    if (name == "none") return DiskCache::none;
    if (name == "writethrough") return DiskCache::writethrough;
    if (name == "unsafe") return DiskCache::unsafe;
    return fail_usage(fmt::format("a disk's cache is writeback, none, writethrough or unsafe, not '{}'", name));
}

Result<ImageFormat> image_format_of(std::string_view name) {
    if (name == "raw") return ImageFormat::raw;
    if (name == "qcow2") return ImageFormat::qcow2;
    return fail_usage(fmt::format("a disk's format is raw or qcow2, not '{}'", name));
}

Result<std::optional<ImageFormat>> image_format(const TreeNode& node) {
    const auto name = node.string("viv,format");
    if (!name) return std::nullopt;
    return TRY(image_format_of(*name));
}

Result<std::unique_ptr<DiskImage>> open_disk_image(const std::string& path, ImageAccess access, DiskCache cache,
                                                   std::optional<ImageFormat> format) {
    auto [file, snapshot] = split_snapshot(path);
    ImageRequest request{std::move(file), access, format, std::move(snapshot), true, {}};
    request.cache = cache;
    return open_image(std::move(request));
}

Result<OpenFile> open_image_file(const std::string& path, ImageAccess access, DiskCache cache) {
    // What it is comes first: opening a FIFO would wait, opening some character devices acts on them.
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return cannot_open(path, access, errno);
    if (S_ISDIR(info.st_mode)) return fail(fmt::format("cannot open disk image '{}': it is a directory", path));
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
        return fail(fmt::format("cannot open disk image '{}': it is neither a file nor a block device", path));
    }
    const int mode = (access == ImageAccess::writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY |
                     (cache == DiskCache::writethrough ? O_DSYNC : 0);
    FileDescriptor file(open(path.c_str(), mode | O_NONBLOCK));
    if (file.get() < 0) return cannot_open(path, access, errno);
    TRY(lock_image(file.get(), path, access));
    if (fstat(file.get(), &info) != 0) return cannot_open(path, access, errno);
    const uint64_t size = TRY(size_of(file.get(), info, path));
    if (size == 0) return fail(fmt::format("cannot use disk image '{}': it is empty", path));
    if (size > static_cast<uint64_t>(INT64_MAX) - DiskImage::sector_size) {
        return fail(fmt::format("cannot use disk image '{}': it is too large", path));
    }
    // Waiting is for who asks: a queue may have to.
    static_cast<void>(fcntl(file.get(), F_SETFL, 0));
    return OpenFile{file.release(), size};
}

Result<std::unique_ptr<DiskImage>> open_image(ImageRequest request) {
    const std::string& path = request.path;
    const ImageAccess access = request.access;
    const DiskCache cache = request.cache;
    const auto [fd, size] = TRY(open_image_file(path, access, cache));
    FileDescriptor file(fd);
    std::array<std::byte, 4> head{};
    const bool readable = pread(file.get(), head.data(), head.size(), 0) == static_cast<ssize_t>(head.size());
    const bool looks_qcow2 = readable && qcow2::has_magic(head);
    if (request.format == ImageFormat::qcow2 && !looks_qcow2) {
        return fail(fmt::format("cannot use disk image '{}': it is no qcow2 image", path));
    }
    if (looks_qcow2 && request.format != ImageFormat::raw)
        return open_qcow2({file.release(), size}, std::move(request));
    if (!request.snapshot.empty()) {
        return fail(fmt::format("cannot use snapshot '{}' of '{}': it is no qcow2 image", request.snapshot, path));
    }
    if (access == ImageAccess::snapshot) {
        FileDescriptor overlay = TRY(make_overlay(path));
        return std::make_unique<SnapshotImage>(std::move(file), std::move(overlay), path, size);
    }
    FileDescriptor direct(-1);
    if (cache == DiskCache::none) {
        const int mode = access == ImageAccess::writable ? O_RDWR : O_RDONLY;
        direct = FileDescriptor(
            open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), mode | O_CLOEXEC | O_NOCTTY | O_DIRECT));
        if (direct.get() < 0) {
            log_line(
                fmt::format("disk image '{}': this file cannot be used past the host's cache ({}); it is used with it",
                            path, std::strerror(errno)));
        }
    }
    auto image = std::make_unique<RawImage>(std::move(file), path, size, access);
    image->set_cache(cache, std::move(direct));
    if (request.format == ImageFormat::raw) image->set_said_to_be_raw();
    return image;
}

}  // namespace viv
