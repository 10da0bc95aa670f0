#include "devices/storage/image/disk_image.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "devices/storage/image/temporary_file_test.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/core/log.hpp"

using namespace viv;

namespace {

std::vector<std::byte> pattern(size_t size, uint8_t seed) {
    std::vector<std::byte> bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(seed + i * 7 + i / 256);
    return bytes;
}

std::unique_ptr<DiskImage> open_or_fail(const TemporaryFile& file, ImageAccess access) {
    auto image = open_disk_image(file.path(), access);
    if (!image) FAIL(image.error().message);
    return std::move(*image);
}

std::string refusal(const std::string& path, ImageAccess access) {
    auto image = open_disk_image(path, access);
    REQUIRE_FALSE(image);
    return image.error().message;
}

struct Lines {
    Lines() : previous(set_log_sink([this](std::string_view line) { text.emplace_back(line); })) {}
    ~Lines() { set_log_sink(std::move(previous)); }
    std::vector<std::string> text;
    std::move_only_function<void(std::string_view)> previous;
};

}  // namespace

TEST_CASE("A writable image keeps what was written in the host's file") {
    const TemporaryFile file(pattern(4096, 1));
    const auto data = pattern(1024, 99);
    {
        const auto image = open_or_fail(file, ImageAccess::writable);
        CHECK(image->size() == 4096);
        CHECK(image->sectors() == 8);
        CHECK_FALSE(image->read_only());
        CHECK(image->name() == file.path());
        CHECK(image->write(512, data) == DiskStatus::ok);
        CHECK(image->flush() == DiskStatus::ok);
    }
    auto expected = pattern(4096, 1);
    std::ranges::copy(data, expected.begin() + 512);
    CHECK(file.content() == expected);
}

TEST_CASE("A read-only image refuses writes and may be a file without write permission") {
    const TemporaryFile file(pattern(1024, 1));
    chmod(file.path().c_str(), 0400);
    const auto image = open_or_fail(file, ImageAccess::read_only);
    CHECK(image->read_only());
    CHECK(image->write(0, pattern(512, 2)) == DiskStatus::read_only);
    std::vector<std::byte> out(1024);
    CHECK(image->read(0, out) == DiskStatus::ok);
    CHECK(out == pattern(1024, 1));
}

TEST_CASE("A snapshot reads back what was written and leaves the file alone") {
    const TemporaryFile file(pattern(8192, 1));
    {
        const auto image = open_or_fail(file, ImageAccess::snapshot);
        CHECK_FALSE(image->read_only());
        auto expected = pattern(8192, 1);
        // Whole sectors, a part of one, parts of two.
        for (const auto& [offset, length] : {std::pair<size_t, size_t>{512, 1024}, {2100, 17}, {5000, 300}}) {
            const auto data = pattern(length, static_cast<uint8_t>(offset));
            CHECK(image->write(offset, data) == DiskStatus::ok);
            std::ranges::copy(data, expected.begin() + static_cast<ptrdiff_t>(offset));
        }
        std::vector<std::byte> out(8192);
        CHECK(image->read(0, out) == DiskStatus::ok);
        CHECK(out == expected);
        std::vector<std::byte> part(3000);
        CHECK(image->read(777, part) == DiskStatus::ok);
        CHECK(std::equal(part.begin(), part.end(), expected.begin() + 777));
        CHECK(image->flush() == DiskStatus::ok);
    }
    CHECK(file.content() == pattern(8192, 1));
}

TEST_CASE("A snapshot of a large sparse image keeps changes that lie far apart") {
    const TemporaryFile file({});
    REQUIRE(truncate(file.path().c_str(), off_t{1} << 40) == 0);
    const auto image = open_or_fail(file, ImageAccess::snapshot);
    const auto data = pattern(512, 5);
    const uint64_t far = (uint64_t{1} << 40) - 512;
    CHECK(image->write(far, data) == DiskStatus::ok);
    CHECK(image->write(0, data) == DiskStatus::ok);
    std::vector<std::byte> out(512);
    CHECK(image->read(far, out) == DiskStatus::ok);
    CHECK(out == data);
    CHECK(image->read(far - 512, out) == DiskStatus::ok);
    CHECK(out == std::vector<std::byte>(512));
}

TEST_CASE("The last sector of an image of odd size reads with zeros behind and takes no writes") {
    const TemporaryFile file(pattern(1000, 1));
    const auto access = GENERATE(ImageAccess::writable, ImageAccess::snapshot, ImageAccess::read_only);
    const auto image = open_or_fail(file, access);
    CHECK(image->sectors() == 2);
    std::vector<std::byte> out(1024, std::byte{0xEE});
    CHECK(image->read(0, out) == DiskStatus::ok);
    auto expected = pattern(1000, 1);
    expected.resize(1024);
    CHECK(out == expected);
    if (access != ImageAccess::read_only) {
        CHECK(image->write(0, pattern(512, 3)) == DiskStatus::ok);
        CHECK(image->write(512, pattern(512, 3)) == DiskStatus::out_of_range);
        CHECK(image->write(512, pattern(100, 3)) == DiskStatus::out_of_range);
    }
    CHECK(file.content().size() == 1000);
}

TEST_CASE("Transfers behind the end are out of range, also where the sum overflows") {
    const TemporaryFile file(pattern(1024, 1));
    const auto image = open_or_fail(file, ImageAccess::writable);
    std::vector<std::byte> out(1024);
    CHECK(image->read(512, out) == DiskStatus::out_of_range);
    CHECK(image->read(~uint64_t{0} - 511, out) == DiskStatus::out_of_range);
    CHECK(image->write(1024, std::span(out).first(1)) == DiskStatus::out_of_range);
    CHECK(image->write(~uint64_t{0}, out) == DiskStatus::out_of_range);
    CHECK(image->read(1024, {}) == DiskStatus::ok);
}

TEST_CASE("Each kind of unusable path has its own error") {
    CHECK(refusal("/nonexistent/a.img", ImageAccess::writable) ==
          "cannot open disk image '/nonexistent/a.img' for writing: No such file or directory");
    CHECK(refusal("/proc", ImageAccess::read_only) == "cannot open disk image '/proc': it is a directory");
    CHECK(refusal("/dev/null", ImageAccess::read_only) ==
          "cannot open disk image '/dev/null': it is neither a file nor a block device");
    const TemporaryFile empty({});
    CHECK(refusal(empty.path(), ImageAccess::read_only) == "cannot use disk image '" + empty.path() + "': it is empty");
}

TEST_CASE("A file that may not be written is refused with advice") {
    if (geteuid() == 0) VIV_SKIP("root may write to every file");
    const TemporaryFile file(pattern(1024, 1));
    chmod(file.path().c_str(), 0400);
    CHECK(refusal(file.path(), ImageAccess::writable) ==
          "cannot open disk image '" + file.path() +
              "' for writing: Permission denied; if the guest need not write to it, use --read-only or --snapshot");
}

TEST_CASE("A file that someone cuts short is an I/O error for the guest and a line for the person") {
    const TemporaryFile file(pattern(4096, 1));
    const auto image = open_or_fail(file, ImageAccess::read_only);
    REQUIRE(truncate(file.path().c_str(), 1024) == 0);
    const Lines lines;
    std::vector<std::byte> out(1024);
    CHECK(image->read(512, out) == DiskStatus::io_error);
    CHECK(image->read(2048, out) == DiskStatus::io_error);
    REQUIRE(lines.text.size() == 1);
    CHECK(lines.text[0] ==
          "disk image '" + file.path() + "': cannot read at byte 512: Input/output error; the guest sees a disk error");
}

TEST_CASE("A write that the host has no room for fails and leaves the image's size alone") {
    const TemporaryFile file(pattern(8192, 1));
    const auto image = open_or_fail(file, ImageAccess::writable);
    const Lines lines;
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{2048, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    const DiskStatus status = image->write(4096, pattern(512, 9));
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    std::signal(SIGXFSZ, old_handler);
    CHECK(status == DiskStatus::no_space);
    CHECK(file.content() == pattern(8192, 1));
    CHECK(lines.text.size() == 1);
}

TEST_CASE("Readers and snapshots share an image; a writer has it alone") {
    const TemporaryFile file(pattern(1024, 1));
    {
        const auto one = open_or_fail(file, ImageAccess::read_only);
        const auto two = open_or_fail(file, ImageAccess::snapshot);
        CHECK(refusal(file.path(), ImageAccess::writable).find("another drive of this machine") != std::string::npos);
    }
    const auto writer = open_or_fail(file, ImageAccess::writable);
    CHECK(refusal(file.path(), ImageAccess::writable).find("another drive of this machine") != std::string::npos);
    CHECK(refusal(file.path(), ImageAccess::snapshot).find("uses it for writing") != std::string::npos);
}

TEST_CASE("The refusal of a locked image names the process that has it") {
    const TemporaryFile file(pattern(1024, 1));
    int ready[2];
    int done[2];
    REQUIRE(pipe(ready) == 0);
    REQUIRE(pipe(done) == 0);
    const pid_t child = fork();
    if (child == 0) {
        const auto image = open_disk_image(file.path(), ImageAccess::writable);
        char byte = image ? 'y' : 'n';
        if (write(ready[1], &byte, 1) != 1) _exit(1);
        [[maybe_unused]] const ssize_t got = read(done[0], &byte, 1);
        _exit(0);
    }
    char byte = 0;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    CHECK(byte == 'y');
    const std::string message = refusal(file.path(), ImageAccess::writable);
    const std::string snapshot = refusal(file.path(), ImageAccess::snapshot);
    CHECK(write(done[1], &byte, 1) == 1);
    waitpid(child, nullptr, 0);
    for (const int fd : {ready[0], ready[1], done[0], done[1]}) close(fd);
    INFO(message);
    CHECK(message.find("it is in use by process " + std::to_string(child) + " (") != std::string::npos);
    CHECK(message.find("--snapshot or --read-only") != std::string::npos);
    CHECK(snapshot.find("which writes to it") != std::string::npos);
    CHECK(open_disk_image(file.path(), ImageAccess::writable));
}

TEST_CASE("An image that QEMU writes to is refused, one that QEMU reads is shared") {
    const TemporaryFile file(pattern(1024, 1));
    const int fd = open(file.path().c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    struct flock lock {};
    lock.l_type = F_RDLCK;
    lock.l_whence = SEEK_SET;
    lock.l_len = 1;
    lock.l_start = 100;  // "I read"
    REQUIRE(fcntl(fd, F_OFD_SETLK, &lock) == 0);
    CHECK(open_disk_image(file.path(), ImageAccess::snapshot));
    CHECK_FALSE(open_disk_image(file.path(), ImageAccess::writable));
    lock.l_start = 101;  // "I write"
    REQUIRE(fcntl(fd, F_OFD_SETLK, &lock) == 0);
    CHECK_FALSE(open_disk_image(file.path(), ImageAccess::snapshot));
    close(fd);
}

TEST_CASE("A drive's node says how its image is opened") {
    TreeNode node{"drive@0", {}, {}};
    CHECK(image_access(node) == ImageAccess::writable);
    node.set_flag("viv,snapshot");
    CHECK(image_access(node) == ImageAccess::snapshot);
    node.set_flag("viv,read-only");
    CHECK(image_access(node) == ImageAccess::read_only);
}

TEST_CASE("What is discarded or zeroed reads as zeros, and the rest stays") {
    for (const ImageAccess access : {ImageAccess::writable, ImageAccess::snapshot}) {
        const auto content = pattern(200 * 512, 3);
        const TemporaryFile file(content);
        const auto image = open_or_fail(file, access);
        REQUIRE(image->write_zeros(100 * 512, 40 * 512) == DiskStatus::ok);
        std::vector<std::byte> got(200 * 512);
        REQUIRE(image->read(0, got) == DiskStatus::ok);
        auto expected = content;
        std::fill_n(expected.begin() + 100 * 512, 40 * 512, std::byte{0});
        CHECK(got == expected);
        // A host that cannot make holes leaves them as they are.
        REQUIRE(image->discard(16 * 512, 16 * 512) == DiskStatus::ok);
        REQUIRE(image->read(0, got) == DiskStatus::ok);
        auto discarded = expected;
        std::fill_n(discarded.begin() + 16 * 512, 16 * 512, std::byte{0});
        CHECK((got == discarded || got == expected));
        CHECK(image->size() == content.size());
        CHECK(image->discard(199 * 512, 1024) == DiskStatus::out_of_range);
        CHECK(image->write_zeros(199 * 512, 1024) == DiskStatus::out_of_range);
        CHECK((file.content() == content) == (access == ImageAccess::snapshot));
    }
}

TEST_CASE("An image grows, what is new reads as zeros, and nothing ever shrinks") {
    const TemporaryFile file(pattern(4096 + 512, 1));
    const auto data = pattern(1024, 99);
    const std::vector<std::byte> zeros(2048);
    for (const ImageAccess access : {ImageAccess::snapshot, ImageAccess::writable}) {
        const auto image = open_or_fail(file, access);
        REQUIRE(image->grow(8192));
        CHECK(image->size() == 8192);
        CHECK(image->sectors() == 16);
        std::vector<std::byte> out(2048);
        CHECK(image->read(8192 - 2048, out) == DiskStatus::ok);
        CHECK(out == zeros);
        // Over the old end, and parts of new sectors.
        CHECK(image->write(4096, data) == DiskStatus::ok);
        CHECK(image->write(8000, std::span(data).first(100)) == DiskStatus::ok);
        CHECK(image->read(4096, std::span(out).first(1024)) == DiskStatus::ok);
        CHECK(std::equal(data.begin(), data.end(), out.begin()));
        CHECK(image->read(7680, std::span(out).first(512)) == DiskStatus::ok);
        CHECK(out[319] == std::byte{0});
        CHECK(out[320] == data[0]);
        CHECK(image->write_zeros(6144, 512) == DiskStatus::ok);
        CHECK(image->discard(6144, 2048) == DiskStatus::ok);
        CHECK(image->write(8192, std::span(data).first(512)) == DiskStatus::out_of_range);
        for (const uint64_t size : {uint64_t{4096}, uint64_t{8192}, uint64_t{8200}, uint64_t{INT64_MAX}}) {
            CHECK_FALSE(image->grow(size));
        }
        CHECK(image->size() == 8192);
        CHECK(file.content().size() == (access == ImageAccess::writable ? 8192 : 4096 + 512));
    }
    CHECK_FALSE(open_or_fail(file, ImageAccess::read_only)->grow(1 << 20));
    // Somebody else has made it longer meanwhile.
    const auto image = open_or_fail(file, ImageAccess::writable);
    REQUIRE(truncate(file.path().c_str(), 1 << 20) == 0);
    REQUIRE(image->grow(16384));
    CHECK(file.content().size() == 1 << 20);
}

TEST_CASE("A snapshot of an image that ends within a sector does not grow") {
    const TemporaryFile file(pattern(1000, 1));
    CHECK_FALSE(open_or_fail(file, ImageAccess::snapshot)->grow(4096));
    const auto image = open_or_fail(file, ImageAccess::writable);
    REQUIRE(image->grow(4096));
    CHECK(image->write(512, pattern(1024, 3)) == DiskStatus::ok);
}

TEST_CASE("A read-only image refuses to discard and to zero") {
    const auto content = pattern(4096, 3);
    const TemporaryFile file(content);
    const auto image = open_or_fail(file, ImageAccess::read_only);
    CHECK(image->discard(0, 512) == DiskStatus::read_only);
    CHECK(image->write_zeros(0, 512) == DiskStatus::read_only);
    CHECK(file.content() == content);
}
