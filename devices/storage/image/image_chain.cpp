#include "devices/storage/image/image_chain.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "vmm/core/log.hpp"

namespace viv {
namespace {

using namespace qcow2;

// Images below one another. Each takes files and memory.
constexpr size_t max_chain = 64;

std::optional<ImageFormat> format_named(const std::string& name) {
    if (name == "raw" || name == "file" || name == "host_device") return ImageFormat::raw;
    if (name == "qcow2") return ImageFormat::qcow2;
    return std::nullopt;
}

/// Keeps writes in a temporary image of its own, with `below` under it.
Result<std::unique_ptr<DiskImage>> make_snapshot_image(std::unique_ptr<DiskImage> below) {
    const std::string name = below->name();
    auto file = TRY(make_temporary_file(name));
    Header header;
    header.size = below->size();
    auto made = format_qcow2(*file, header);
    if (!made) return add_context(made.error(), fmt::format("cannot make a snapshot of '{}'", name));
    header = TRY(read_qcow2_header(*file, name));
    return TRY(Qcow2Image::open(std::move(file), name, header, std::move(below), ImageAccess::writable));
}

}  // namespace

Result<std::string> backing_path(const std::string& path, const std::string& backing_file) {
    std::string file = backing_file;
    if (file.starts_with("file:")) file.erase(0, 5);
    const size_t colon = file.find(':');
    if (colon != std::string::npos && colon < file.find('/')) {
        return fail(
            fmt::format("cannot use the backing file '{}' of '{}': only files are supported", backing_file, path));
    }
    const size_t slash = path.rfind('/');
    if (file.starts_with('/') || slash == std::string::npos) return file;
    return path.substr(0, slash + 1) + file;
}

std::pair<std::string, std::string> split_snapshot(const std::string& text) {
    constexpr std::string_view key = ",snapshot=";
    const size_t at = text.rfind(key);
    struct stat info {};
    if (at == std::string::npos || stat(text.c_str(), &info) == 0) return {text, {}};
    return {text.substr(0, at), text.substr(at + key.size())};
}

Result<std::unique_ptr<DiskImage>> open_backing(const Header& header, const std::string& path,
                                                std::vector<std::pair<dev_t, ino_t>> above, ImageAccess access) {
    const std::string file = TRY(backing_path(path, header.backing_file));
    const auto hint = [&] {
        return fmt::format("viv image rebase --unsafe --backing '{}' --backing-format raw|qcow2 '{}'",
                           header.backing_file, path);
    };
    ImageRequest below{file, access, {}, {}, true, std::move(above)};
    if (!header.backing_format.empty()) {
        below.format = format_named(header.backing_format);
        if (!below.format) {
            return fail(
                fmt::format("cannot use the backing file '{}' of '{}': its format is '{}'; Vivarium reads raw "
                            "and qcow2",
                            file, path, header.backing_format));
        }
    }
    if (below.above.size() >= max_chain) {
        return fail(fmt::format("cannot open '{}': more than {} images back one another", path, max_chain));
    }
    auto image = open_image(below);
    if (!image) return add_context(image.error(), fmt::format("the backing file of '{}'", path));
    // Whoever wrote a raw image can have made it look like any image with any file of this host below it.
    if (!below.format && dynamic_cast<Qcow2Image*>(image->get())) {
        return fail(
            fmt::format("cannot use the backing file '{}' of '{}': the image does not say that its format is "
                        "qcow2, and a guest may have made it look so; if you know better: {}",
                        file, path, hint()));
    }
    return image;
}

Result<Header> read_qcow2_header(ImageFile& file, const std::string& path) {
    const auto unreadable = [&] { return fail(fmt::format("cannot read the header of disk image '{}'", path)); };
    std::array<std::byte, 24> head{};
    if (file.read(0, head) != DiskStatus::ok) return unreadable();
    const auto context = fmt::format("cannot use disk image '{}'", path);
    const auto size = cluster_size_of(head);
    if (!size) return add_context(size.error(), context);
    std::vector<std::byte> cluster(std::min(*size, file.size()));
    if (file.read(0, cluster) != DiskStatus::ok) return unreadable();
    auto header = parse_header(cluster);
    if (!header) return add_context(header.error(), context);
    return header;
}

Result<std::unique_ptr<DiskImage>> open_qcow2(OpenFile open, ImageRequest request) {
    auto file = make_image_file(open.fd, request.path, open.size, request.cache != DiskCache::unsafe);
    struct stat info {};
    if (fstat(open.fd, &info) != 0) return fail(fmt::format("cannot open disk image '{}'", request.path));
    const std::pair id{info.st_dev, info.st_ino};
    if (std::ranges::count(request.above, id) != 0) {
        return fail(fmt::format("cannot open '{}': it backs itself", request.path));
    }
    request.above.push_back(id);
    const Header header = TRY(read_qcow2_header(*file, request.path));
    if (header.size == 0 && request.above.size() == 1 && request.with_backing) {
        return fail(fmt::format("cannot use disk image '{}': it is empty", request.path));
    }
    if (request.cache == DiskCache::none) {
        log_line(fmt::format("disk image '{}' is a qcow2 image, which is used with the host's cache", request.path));
    }
    std::unique_ptr<DiskImage> backing;
    if (header.has_backing() && request.with_backing) backing = TRY(open_backing(header, request.path, request.above));
    const ImageAccess access = request.access == ImageAccess::writable ? ImageAccess::writable : ImageAccess::read_only;
    if (access == ImageAccess::writable && header.bitmaps && (header.autoclear & autoclear_bitmaps) != 0) {
        log_line(fmt::format("disk image '{}': its dirty bitmaps are given up when it is written", request.path));
    }
    std::unique_ptr<DiskImage> image =
        TRY(Qcow2Image::open(std::move(file), request.path, header, std::move(backing), access, request.snapshot));
    return request.access == ImageAccess::snapshot ? make_snapshot_image(std::move(image)) : std::move(image);
}

Result<void> format_qcow2(ImageFile& file, Header header) {
    VIV_ASSERT(header.version >= 3 ||
               (header.refcount_order == 4 && header.incompatible == 0 && header.compatible == 0));
    const uint64_t cluster = header.cluster_size();
    const uint64_t entries = header.l1_entries_for(header.size);
    if (entries * 8 > max_l1_bytes) {
        return fail(fmt::format("a disk of {} bytes is too large for clusters of {} bytes; use larger ones",
                                header.size, cluster));
    }
    header.l1_size = static_cast<uint32_t>(std::max<uint64_t>(entries, 1));
    Refcounts refcounts(file, header);
    refcounts.start_anew(0);
    uint64_t place = 0;
    std::vector<uint64_t> freed;
    DiskStatus status = refcounts.allocate(1, place);
    if (status == DiskStatus::ok) VIV_ASSERT(place == 0);
    if (status == DiskStatus::ok)
        status = refcounts.allocate((header.l1_size * uint64_t{8} + cluster - 1) / cluster, header.l1_offset);
    if (status == DiskStatus::ok) status = file.resize(refcounts.end() * cluster);
    if (status == DiskStatus::ok) status = refcounts.write_blocks();
    if (status == DiskStatus::ok) status = refcounts.write_table(freed);
    if (status != DiskStatus::ok) return fail("the host's disk is full or failed");
    const auto bytes = TRY(encode_header(header));
    if (file.write(0, bytes) != DiskStatus::ok) return fail("the host's disk is full or failed");
    return {};
}

}  // namespace viv
