#include "vmm/cli/screenshot.hpp"

#include <png.h>

#include <filesystem>
#include <fstream>

#include "vmm/core/catch.hpp"
#include "vmm/core/temporary_folder_test.hpp"

namespace viv {
namespace {

size_t files_in(const TemporaryFolder& folder) {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

Image some_picture() {
    Image image{3, 2, {}};
    for (uint8_t i = 0; i < 6; ++i) image.pixels.push_back({i, static_cast<uint8_t>(255 - i), 77});
    return image;
}

Image decode(const std::string& path) {
    png_image header{};
    header.version = PNG_IMAGE_VERSION;
    REQUIRE(png_image_begin_read_from_file(&header, path.c_str()) != 0);
    header.format = PNG_FORMAT_RGB;
    Image image{header.width, header.height, std::vector<Rgb>(size_t{header.width} * header.height)};
    REQUIRE(png_image_finish_read(&header, nullptr, image.pixels.data(), 0, nullptr) != 0);
    return image;
}

TEST_CASE("a screenshot reads back pixel for pixel and replaces an older one") {
    const TemporaryFolder folder;
    const std::string path = folder.of("screen.png");
    std::ofstream(path) << "old";
    REQUIRE(write_png(some_picture(), path).has_value());
    CHECK(decode(path) == some_picture());
    CHECK(files_in(folder) == 1);
}

TEST_CASE("a screenshot that cannot be written says which and why, and leaves nothing behind") {
    const TemporaryFolder folder;
    const std::string path = folder.of("missing/screen.png");
    const auto result = write_png(some_picture(), path);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().message == "screenshot '" + path + "': cannot create it: No such file or directory");
    std::filesystem::create_directory(folder.of("folder.png"));
    const auto onto_folder = write_png(some_picture(), folder.of("folder.png"));
    REQUIRE_FALSE(onto_folder.has_value());
    CHECK(onto_folder.error().message.find("cannot put it in place") != std::string::npos);
    CHECK(files_in(folder) == 1);
    CHECK_FALSE(encode_png(Image{}).has_value());
}

}  // namespace
}  // namespace viv
