// Does to a disk image what its standard input says, one command a line, as qemu-io would:
//   write -P BYTE OFFSET LENGTH | write -z [-u] OFFSET LENGTH | discard OFFSET LENGTH | flush | reopen
// Then, with a second name on the command line, it copies what the image holds there. tools/image_tests.py runs it.
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "devices/storage/image/disk_image.hpp"

namespace {

using namespace viv;

std::vector<std::string> words_of(const std::string& line) {
    std::vector<std::string> words(1);
    for (const char c : line) {
        if (c != ' ') {
            words.back() += c;
        } else if (!words.back().empty()) {
            words.emplace_back();
        }
    }
    return words;
}

uint64_t number(const std::string& text) {
    uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

DiskStatus execute(DiskImage& image, const std::vector<std::string>& words) {
    if (words[0] == "flush") return image.flush();
    if (words.size() < 3) return DiskStatus::out_of_range;
    const uint64_t offset = number(words[words.size() - 2]);
    const uint64_t length = number(words.back());
    if (words[0] == "discard") return image.discard(offset, length);
    if (words[1] == "-z") return image.write_zeros(offset, length);
    return image.write(offset, std::vector<std::byte>(length, static_cast<std::byte>(number(words[2]))));
}

Result<int> work(const std::vector<std::string>& arguments) {
    auto image = TRY(open_disk_image(arguments[0], ImageAccess::writable));
    for (std::string line; std::getline(std::cin, line);) {
        const auto words = words_of(line);
        if (words[0] == "reopen") {
            image.reset();
            image = TRY(open_disk_image(arguments[0], ImageAccess::writable));
        } else if (execute(*image, words) != DiskStatus::ok) {
            return fail("failed: " + line);
        }
    }
    image.reset();
    if (arguments.size() < 2) return 0;
    image = TRY(open_disk_image(arguments[0], ImageAccess::read_only));
    std::ofstream copy(arguments[1], std::ios::binary);
    std::vector<std::byte> piece(1 << 20);
    for (uint64_t at = 0; at < image->size(); at += piece.size()) {
        piece.resize(std::min<uint64_t>(piece.size(), image->size() - at));
        if (image->read(at, piece) != DiskStatus::ok) return fail("cannot read the image");
        copy.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
    }
    return copy.flush() ? Result<int>(0) : fail("cannot write the copy");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    const auto code = work(std::vector<std::string>(argv + 1, argv + argc));
    if (!code) std::fprintf(stderr, "image_io: %s\n", code.error().message.c_str());
    return code ? *code : 1;
}
