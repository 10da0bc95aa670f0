#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "devices/storage/image/disk_image.hpp"
#include "devices/storage/image/image_file.hpp"
#include "devices/storage/image/qcow2_format.hpp"
#include "devices/storage/image/qcow2_image.hpp"

namespace viv {

/// What is to be opened, as one of a chain of images that back each other.
struct ImageRequest {
    std::string path;
    ImageAccess access = ImageAccess::read_only;
    std::optional<ImageFormat> format;           // nothing: by the content
    std::string snapshot;                        // an internal one; empty: the active state
    bool with_backing = true;                    // else reading what is not in the image itself gives zeros
    std::vector<std::pair<dev_t, ino_t>> above;  // files of the images that this one backs
    DiskCache cache = DiskCache::writeback;
};

/// Opens an image and all below it.
Result<std::unique_ptr<DiskImage>> open_image(ImageRequest request);

/// An open file with its lock, before anything is known about its format.
struct OpenFile {
    int fd = -1;  // the receiver closes it
    uint64_t size = 0;
};

/// Opens the file or block device at `path` and locks it; not an empty one.
Result<OpenFile> open_image_file(const std::string& path, ImageAccess access, DiskCache cache = DiskCache::writeback);

/// Opens a QCOW2 image in `file`, which it takes over, also when it fails.
Result<std::unique_ptr<DiskImage>> open_qcow2(OpenFile file, ImageRequest request);

/// Opens what backs the image at `path`, whose header it is, by the format that the header states; `above` are files of
/// the images above, that one among them.
Result<std::unique_ptr<DiskImage>> open_backing(const qcow2::Header& header, const std::string& path,
                                                std::vector<std::pair<dev_t, ino_t>> above,
                                                ImageAccess access = ImageAccess::read_only);

/// The header of the image in `file`. Errors are whole sentences about `path`.
Result<qcow2::Header> read_qcow2_header(ImageFile& file, const std::string& path);

/// Where the backing file of the image at `path` is; names that are no path ("json:", "nbd://") are errors.
Result<std::string> backing_path(const std::string& path, const std::string& backing_file);

/// Splits "PATH,snapshot=NAME"; a file that has the whole name goes before.
std::pair<std::string, std::string> split_snapshot(const std::string& text);

/// Makes an empty file an image that holds nothing: `header` says its size and what it is like; where things are in the
/// file is found here. Errors are the reason only.
Result<void> format_qcow2(ImageFile& file, qcow2::Header header);

}  // namespace viv
