#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "devices/storage/image/image_chain.hpp"

/// The commands of `viv image`, and what they share.
namespace viv::cli {

struct ImageOptions {
    std::vector<std::string> files;
    std::string format;
    std::string source_format;
    std::string backing;
    std::string backing_format;
    std::string cluster_size = "64K";
    std::string compression = "zlib";
    std::string preallocation = "off";
    std::string repair = "none";
    unsigned version = 3;
    unsigned refcount_bits = 16;
    bool lazy_refcounts = false;
    bool extended_l2 = false;
    bool compress = false;
    bool force = false;
    bool shrink = false;
    bool chain = false;
    bool keep = false;
    bool unsafe = false;
    bool json = false;
};

// Each returns the exit code.
Result<int> create_image(ImageOptions& options);
Result<int> convert_image(ImageOptions& options);
Result<int> resize_image(ImageOptions& options);
Result<int> commit_image(ImageOptions& options);
Result<int> rebase_image(ImageOptions& options);

/// A bar on stderr, where that is a terminal.
class ImageBar {
  public:
    explicit ImageBar(std::string what);
    ImageBar(const ImageBar&) = delete;
    ImageBar& operator=(const ImageBar&) = delete;
    ~ImageBar();
    void show(uint64_t done, uint64_t total);

  private:
    std::string what_;
    bool shown_;
    int percent_ = -1;
};

void print_text(const std::string& text);
/// The format that `option` names; nothing if it was not given.
Result<std::optional<ImageFormat>> format_of(const std::string& name, const char* option);
/// For reading; "PATH,snapshot=NAME" too.
Result<std::unique_ptr<DiskImage>> open_source(const std::string& path, const std::string& format);
/// A size with its unit, rounded up to sectors.
Result<uint64_t> whole_sectors(const std::string& text);
std::unexpected<Error> no_room(const std::string& path);

}  // namespace viv::cli
