#include "vmm/cli/screenshot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <png.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <span>

namespace viv {
namespace {

Result<void> write_file(const std::string& path, std::span<const std::byte> bytes) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return fail_errno("cannot create it", errno);
    int problem = 0;
    while (!bytes.empty() && problem == 0) {
        const ssize_t written = write(fd, bytes.data(), bytes.size());
        if (written > 0) {
            bytes = bytes.subspan(static_cast<size_t>(written));
        } else if (written == 0 || errno != EINTR) {
            problem = written == 0 ? ENOSPC : errno;
        }
    }
    if (close(fd) != 0 && problem == 0) problem = errno;
    if (problem != 0) return fail_errno("cannot write it", problem);
    return {};
}

std::unexpected<Error> with_path(Error error, const std::string& path) {
    return add_context(std::move(error), fmt::format("screenshot '{}'", path));
}

/// Where the picture grows before it is renamed.
std::string part_of(const std::string& path) {
    return fmt::format("{}.{}.part", path, getpid());
}

}  // namespace

Result<std::vector<std::byte>> encode_png(const Image& image) {
    static_assert(sizeof(Rgb) == 3);
    if (image.width == 0 || image.height == 0) return fail("the screen shows no picture");
    VIV_ASSERT(image.pixels.size() == size_t{image.width} * image.height);
    png_image header{};
    header.version = PNG_IMAGE_VERSION;
    header.width = image.width;
    header.height = image.height;
    header.format = PNG_FORMAT_RGB;
    // The largest size it can have, then what it has: compressing once is enough.
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
    std::vector<std::byte> bytes(size);
    if (png_image_write_to_memory(&header, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr) == 0) {
        return fail(fmt::format("cannot make a PNG: {}", header.message));
    }
    bytes.resize(size);
    return bytes;
}

Result<void> check_png_path(const std::string& path) {
    struct stat info {};
    if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
        return with_path(fail_errno("cannot put it in place", EISDIR).error(), path);
    }
    const std::string part = part_of(path);
    const auto written = write_file(part, {});
    unlink(part.c_str());
    if (!written) return with_path(written.error(), path);
    return {};
}

Result<void> write_png(const Image& image, const std::string& path) {
    const auto bytes = encode_png(image);
    if (!bytes) return with_path(bytes.error(), path);
    const std::string part = part_of(path);
    if (const auto written = write_file(part, *bytes); !written) {
        unlink(part.c_str());
        return with_path(written.error(), path);
    }
    if (rename(part.c_str(), path.c_str()) != 0) {
        const int problem = errno;
        unlink(part.c_str());
        return with_path(fail_errno("cannot put it in place", problem).error(), path);
    }
    return {};
}

}  // namespace viv
