#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>

#include "devices/storage/image/image_move.hpp"
#include "vmm/cli/image_commands.hpp"

namespace viv::cli {
namespace {

/// Which file it is, so that nothing is put below itself.
Result<std::vector<std::pair<dev_t, ino_t>>> identity(const std::string& path) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return fail_errno(fmt::format("cannot open disk image '{}'", path), errno);
    return std::vector{std::pair{info.st_dev, info.st_ino}};
}

/// Gives the disk in `image`, which is open for writing, another size. A raw image is closed for that.
Result<void> change_size(std::unique_ptr<DiskImage>& image, uint64_t size) {
    if (auto* qcow2_image = dynamic_cast<Qcow2Image*>(image.get())) return qcow2_image->resize(size);
    const std::string path = image->name();
    image.reset();
    const OpenFile open = TRY(open_image_file(path, ImageAccess::writable));
    const auto file = make_image_file(open.fd, path, open.size);
    if (file->resize(size) != DiskStatus::ok || file->flush() != DiskStatus::ok) return no_room(path);
    return {};
}

Progress shown_by(ImageBar& bar) {
    return [&bar](uint64_t done, uint64_t total) { bar.show(done, total); };
}

void print_moved(const ImageOptions& options, const MoveReport& moved) {
    if (!options.json) return;
    print_text(fmt::format("{{\"copied\":{},\"zeroed\":{}}}\n", moved.copied, moved.zeroed));
}

}  // namespace

Result<int> resize_image(ImageOptions& options) {
    if (options.files.size() != 2) return fail_usage("viv image resize FILE [+]SIZE; see viv image --help");
    const auto& [path, text] = std::pair(options.files[0], options.files[1]);
    const auto format = TRY(format_of(options.source_format, "--source-format"));
    auto image = TRY(open_image({path, ImageAccess::writable, format, {}, true, {}}));
    const bool more = text.starts_with('+');
    const uint64_t size = TRY(whole_sectors(more ? text.substr(1) : text)) + (more ? image->size() : 0);
    if (size < image->size() && !options.shrink) {
        return fail_usage(
            fmt::format("'{}' has {} bytes; what is behind {} would be lost; give --shrink if you mean it", path,
                        image->size(), size));
    }
    TRY(change_size(image, size));
    return 0;
}

Result<int> commit_image(ImageOptions& options) {
    if (options.files.size() != 1) return fail_usage("viv image commit [--keep] FILE; see viv image --help");
    const std::string& path = options.files[0];
    // Without what lies below, which is opened for writing beside it.
    const auto opened = TRY(open_image({path, ImageAccess::writable, ImageFormat::qcow2, {}, false, {}}));
    auto& top = dynamic_cast<Qcow2Image&>(*opened);
    if (!top.header().has_backing())
        return fail_usage(fmt::format("'{}' has no backing file that could take what is in it", path));
    const auto above = TRY(identity(path));
    const auto open_below = [&] { return open_backing(top.header(), path, above, ImageAccess::writable); };
    auto below = TRY(open_below());
    if (below->size() < top.size()) {
        TRY(change_size(below, top.size()));
        below.reset();
        below = TRY(open_below());
    }
    MoveReport moved;
    {
        ImageBar bar("committing");
        moved = TRY(copy_down(top, *below, shown_by(bar)));
    }
    // It has all of it durably.
    below.reset();
    if (!options.keep && top.drop_all() != DiskStatus::ok) {
        return fail(
            fmt::format("'{}' has all that was in '{}', which cannot be emptied: the host's disk failed, or viv "
                        "image check finds why",
                        top.header().backing_file, path));
    }
    print_moved(options, moved);
    return 0;
}

Result<int> rebase_image(ImageOptions& options) {
    if (options.files.size() != 1)
        return fail_usage("viv image rebase [--unsafe] --backing FILE --backing-format FORMAT IMAGE");
    const auto format = TRY(format_of(options.backing_format, "--backing-format"));
    if (!options.backing.empty() && !format) return fail_usage("--backing needs --backing-format raw or qcow2");
    if (options.backing.empty() && format) return fail_usage("--backing-format is of no use without --backing FILE");
    const std::string& path = options.files[0];
    const auto opened = TRY(open_image({path, ImageAccess::writable, ImageFormat::qcow2, {}, !options.unsafe, {}}));
    auto& top = dynamic_cast<Qcow2Image&>(*opened);
    if (!options.unsafe) {
        std::unique_ptr<DiskImage> below;
        if (!options.backing.empty()) {
            const std::string file = TRY(backing_path(path, options.backing));
            auto above = TRY(identity(path));
            below = TRY(open_image({file, ImageAccess::read_only, format, {}, true, std::move(above)}));
        }
        top.expect_another_backing();
        ImageBar bar("rebasing");
        print_moved(options, TRY(copy_up(top, below.get(), shown_by(bar))));
    }
    TRY(top.set_backing(options.backing, options.backing_format));
    return 0;
}

}  // namespace viv::cli
