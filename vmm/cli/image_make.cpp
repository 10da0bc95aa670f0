#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "devices/storage/image/image_move.hpp"
#include "vmm/cli/image_commands.hpp"
#include "vmm/cli/options.hpp"

namespace viv::cli {
namespace {

using qcow2::Header;

Result<Header> header_for(const ImageOptions& options, uint64_t size) {
    Header header;
    header.size = size;
    const uint64_t cluster = TRY(parse_size(options.cluster_size));
    if (cluster < 512 || cluster > 2 << 20 || !std::has_single_bit(cluster)) {
        return fail_usage("--cluster-size: a power of two from 512 to 2M");
    }
    header.cluster_bits = static_cast<uint32_t>(std::countr_zero(cluster));
    if (options.version != 2 && options.version != 3) return fail_usage("--version: 2 or 3");
    header.version = options.version;
    if (!std::has_single_bit(options.refcount_bits) || options.refcount_bits > 64) {
        return fail_usage("--refcount-bits: 1, 2, 4, 8, 16, 32 or 64");
    }
    header.refcount_order = static_cast<uint32_t>(std::countr_zero(options.refcount_bits));
    if (options.lazy_refcounts) header.compatible |= qcow2::compatible_lazy_refcounts;
    if (options.extended_l2) header.incompatible |= qcow2::incompatible_extended_l2;
    if (options.compression == "zstd") {
        header.compression = qcow2::Compression::zstd;
        header.incompatible |= qcow2::incompatible_compression_type;
    } else if (options.compression != "zlib") {
        return fail_usage(fmt::format("--compression: there is no '{}'; use zlib or zstd", options.compression));
    }
    const bool plain = header.refcount_order == 4 && header.compatible == 0 && header.incompatible == 0;
    if (header.version == 2 && !plain)
        return fail_usage("version 2 of qcow2 has none of the newer features; leave --version out");
    if (options.extended_l2 && header.cluster_bits < 14)
        return fail_usage("--extended-l2 needs clusters of 16K or more");
    header.backing_file = options.backing;
    header.backing_format = options.backing_format;
    return header;
}

/// A file that gets its name when it is complete.
class NewFile {
  public:
    static Result<std::unique_ptr<NewFile>> make(const std::string& path, bool replace) {
        struct stat info {};
        if (!replace && lstat(path.c_str(), &info) == 0) {
            return fail(fmt::format("'{}' exists; give --force to replace it", path));
        }
        const size_t slash = path.rfind('/');
        const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
        std::string name =
            fmt::format("{}.{}.XXXXXX", folder, slash == std::string::npos ? path : path.substr(slash + 1));
        const int fd = mkostemp(name.data(), O_CLOEXEC);
        if (fd < 0) return fail_errno(fmt::format("cannot make '{}'", path), errno);
        return std::unique_ptr<NewFile>(new NewFile(fd, path, std::move(name), replace));
    }
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;
    ~NewFile() {
        if (!name_.empty()) unlink(name_.c_str());
        close(fd_);
    }
    /// For the one who writes the content.
    [[nodiscard]] std::unique_ptr<ImageFile> file() const {
        struct stat info {};
        const uint64_t size = fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
        return make_image_file(fcntl(fd_, F_DUPFD_CLOEXEC, 0), path_, size);
    }
    Result<void> complete() {
        const mode_t mask = umask(0);
        umask(mask);
        const unsigned keep = replace_ ? 0U : unsigned{RENAME_NOREPLACE};
        if (fchmod(fd_, 0666 & ~mask) != 0 || fsync(fd_) != 0 ||
            renameat2(AT_FDCWD, name_.c_str(), AT_FDCWD, path_.c_str(), keep) != 0) {
            return fail_errno(fmt::format("cannot make '{}'", path_), errno);
        }
        name_.clear();
        return {};
    }

  private:
    NewFile(int fd, std::string path, std::string name, bool replace)
        : fd_(fd), path_(std::move(path)), name_(std::move(name)), replace_(replace) {}
    int fd_;
    std::string path_;
    std::string name_;
    bool replace_;
};

Result<std::unique_ptr<Qcow2Image>> make_qcow2(const NewFile& made, const std::string& path, const Header& wanted,
                                               std::unique_ptr<DiskImage> below) {
    auto file = made.file();
    if (auto formatted = format_qcow2(*file, wanted); !formatted) {
        return add_context(formatted.error(), fmt::format("cannot make '{}'", path));
    }
    const Header header = TRY(read_qcow2_header(*file, path));
    return Qcow2Image::open(std::move(file), path, header, std::move(below), ImageAccess::writable);
}

enum class Preallocation { off, metadata, falloc, full };

Result<Preallocation> preallocation_of(const ImageOptions& options, ImageFormat format) {
    if (options.preallocation == "off") return Preallocation::off;
    if (!options.backing.empty()) return fail_usage("--preallocation would hide the backing file");
    if (options.compress)
        return fail_usage("--preallocation takes the space that --compress saves; leave one of them out");
    if (options.preallocation == "metadata" && format == ImageFormat::raw)
        return fail_usage("a raw image has no metadata; --preallocation falloc or full takes its space");
    if (options.preallocation == "metadata") return Preallocation::metadata;
    if (options.preallocation == "falloc") return Preallocation::falloc;
    if (options.preallocation == "full") return Preallocation::full;
    return fail_usage(
        fmt::format("--preallocation: there is no '{}'; use off, metadata, falloc or full", options.preallocation));
}

/// Zeros that are really written, so that the host has their space and nothing to do for it later.
template <class Image>
DiskStatus fill(Image& image, uint64_t size) {
    const std::vector<std::byte> zeros(1 << 20);
    ImageBar bar("taking space");
    for (uint64_t at = 0; at < size; at += zeros.size()) {
        bar.show(at, size);
        const auto piece = std::span(zeros).first(std::min<uint64_t>(zeros.size(), size - at));
        if (const DiskStatus status = image.write(at, piece); status != DiskStatus::ok) return status;
    }
    return DiskStatus::ok;
}

Result<void> preallocate(Preallocation what, Qcow2Image& image) {
    if (what == Preallocation::off) return {};
    if (image.allocate_all() != DiskStatus::ok ||
        (what != Preallocation::metadata && image.file().reserve(0, image.file().size()) != DiskStatus::ok) ||
        (what == Preallocation::full && fill(image, image.size()) != DiskStatus::ok)) {
        return no_room(image.name());
    }
    return {};
}

Result<void> preallocate(Preallocation what, ImageFile& raw, uint64_t size, const std::string& path) {
    if (raw.resize(size) != DiskStatus::ok || (what != Preallocation::off && raw.reserve(0, size) != DiskStatus::ok) ||
        (what == Preallocation::full && fill(raw, size) != DiskStatus::ok)) {
        return no_room(path);
    }
    return {};
}

/// What --backing names for the new image at `path`; nothing if it does not.
Result<std::unique_ptr<DiskImage>> open_below(const ImageOptions& options, const std::string& path,
                                              ImageFormat format) {
    if (options.backing.empty()) return nullptr;
    if (format == ImageFormat::raw) return fail_usage("a raw image has no backing file; leave --format out");
    const auto known = TRY(format_of(options.backing_format, "--backing-format"));
    if (!known) return fail_usage("--backing needs --backing-format raw or qcow2: nobody else may say what it is");
    const std::string below = TRY(backing_path(path, options.backing));
    struct stat one {};
    struct stat other {};
    if (stat(path.c_str(), &one) == 0 && stat(below.c_str(), &other) == 0 && one.st_ino == other.st_ino &&
        one.st_dev == other.st_dev) {
        return fail_usage(fmt::format("'{}' cannot back itself", path));
    }
    return open_image({below, ImageAccess::read_only, known, {}, true, {}});
}

}  // namespace

Result<int> create_image(ImageOptions& options) {
    if (options.files.empty() || options.files.size() > 2)
        return fail_usage("viv image create FILE SIZE; see viv image --help");
    const std::string& path = options.files[0];
    const auto format = TRY(format_of(options.format, "--format")).value_or(ImageFormat::qcow2);
    const auto space = TRY(preallocation_of(options, format));
    auto below = TRY(open_below(options, path, format));
    uint64_t size = below ? below->sectors() * DiskImage::sector_size : 0;
    if (options.files.size() == 2) size = TRY(whole_sectors(options.files[1]));
    if (size == 0) return fail_usage("viv image create needs a size: viv image create disk.qcow2 20G");
    const auto made = TRY(NewFile::make(path, options.force));
    if (format == ImageFormat::raw) {
        TRY(preallocate(space, *made->file(), size, path));
    } else {
        const Header header = TRY(header_for(options, size));
        const auto image = TRY(make_qcow2(*made, path, header, std::move(below)));
        TRY(preallocate(space, *image));
    }
    TRY(made->complete());
    return 0;
}

Result<int> convert_image(ImageOptions& options) {
    if (options.files.size() != 2) return fail_usage("viv image convert FROM TO; see viv image --help");
    const auto format = TRY(format_of(options.format, "--format")).value_or(ImageFormat::qcow2);
    const std::string& to = options.files[1];
    if (options.compress && format == ImageFormat::raw)
        return fail_usage("a raw image is never compressed; leave --compress or --format out");
    const auto space = TRY(preallocation_of(options, format));
    const auto source = TRY(open_source(options.files[0], options.source_format));
    const uint64_t size = source->sectors() * DiskImage::sector_size;
    auto opened = TRY(open_below(options, to, format));
    DiskImage* below = opened.get();
    const auto made = TRY(NewFile::make(to, options.force));
    std::unique_ptr<Qcow2Image> image;
    std::unique_ptr<ImageFile> raw;
    if (format == ImageFormat::qcow2) {
        const Header header = TRY(header_for(options, size));
        image = TRY(make_qcow2(*made, to, header, std::move(opened)));
        TRY(preallocate(space, *image));
    } else {
        raw = made->file();
        TRY(preallocate(space, *raw, size, to));
    }
    const uint64_t piece = image ? image->header().cluster_size() : 65536;
    std::vector<std::byte> buffer(std::max<uint64_t>(piece, 1 << 20) / piece * piece);
    std::vector<std::byte> backed(below ? piece : 0);
    ImageBar bar("converting");
    for (uint64_t at = 0; at < size;) {
        bar.show(at, size);
        if (at < source->size() && (!below || at >= below->size())) {
            const DiskExtent known = source->extent(at, source->size() - at);
            const uint64_t skip = known.length / piece * piece;
            if (known.zeros && skip != 0) {
                at += skip;
                continue;
            }
        }
        const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), size - at));
        if (source->read(at, part) != DiskStatus::ok)
            return fail(fmt::format("cannot read '{}' at byte {}", options.files[0], at));
        for (uint64_t done = 0; done < part.size(); done += piece) {
            const auto cluster = part.subspan(done, std::min<uint64_t>(piece, part.size() - done));
            const bool zeros = all_zeros(cluster);
            if (below) {
                const auto there = std::span(backed).first(cluster.size());
                if (read_padded(*below, at + done, there) != DiskStatus::ok)
                    return fail(fmt::format("cannot read '{}' at byte {}", options.backing, at + done));
                if (std::ranges::equal(cluster, there)) continue;
            } else if (zeros) {
                continue;
            }
            const DiskStatus status = raw                ? raw->write(at + done, cluster)
                                      : zeros            ? image->write_zeros(at + done, cluster.size())
                                      : options.compress ? image->write_compressed(at + done, cluster)
                                                         : image->write(at + done, cluster);
            if (status != DiskStatus::ok) return no_room(to);
        }
        at += part.size();
    }
    if (image && image->flush() != DiskStatus::ok) return no_room(to);
    image.reset();
    raw.reset();
    TRY(made->complete());
    return 0;
}

}  // namespace viv::cli
