#include "devices/storage/image/image_chain.hpp"

#include <unistd.h>

#include <filesystem>

#include "devices/storage/image/probe.hpp"
#include "devices/storage/image/qcow2_rig_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"

using namespace viv;
using namespace viv::qcow2;

namespace {

/// A QCOW2 file with `header`, and what was written to it at byte 0.
TemporaryFile qcow2_file(Header header, std::span<const std::byte> data = {}) {
    Qcow2Rig rig(header);
    if (!data.empty()) REQUIRE(rig.open()->write(0, data) == DiskStatus::ok);
    return TemporaryFile(rig.content->bytes);
}

Header over(const std::string& backing, const std::string& format, uint64_t size = 1 << 20) {
    Header header = small_header(size, 12);
    header.backing_file = backing;
    header.backing_format = format;
    return header;
}

std::unique_ptr<DiskImage> open_or_fail(const std::string& path, ImageAccess access) {
    auto image = open_disk_image(path, access);
    if (!image) FAIL(image.error().message);
    return std::move(*image);
}

std::string refusal(const std::string& path) {
    const auto image = open_disk_image(path, ImageAccess::read_only);
    return image ? "" : image.error().message;
}

std::vector<std::byte> first_bytes(DiskImage& image, size_t count) {
    std::vector<std::byte> bytes(count);
    REQUIRE(image.read(0, bytes) == DiskStatus::ok);
    return bytes;
}

}  // namespace

TEST_CASE("A QCOW2 file is opened by its content, and the drives see the disk in it") {
    std::vector<std::byte> sector(512);
    sector[510] = std::byte{0x55};
    sector[511] = std::byte{0xAA};
    const TemporaryFile file = qcow2_file(small_header(1440 << 10, 16), sector);
    CHECK(open_or_fail(file.path(), ImageAccess::read_only)->size() == 1440 << 10);
    const auto probe = probe_image(file.path());
    REQUIRE(probe);
    CHECK(probe->kind == ImageKind::floppy);
    // As long as someone says so, it is raw.
    const auto raw = open_disk_image(file.path(), ImageAccess::read_only, DiskCache::writeback, ImageFormat::raw);
    REQUIRE(raw);
    CHECK(has_magic(first_bytes(**raw, 4)));
    CHECK_FALSE(open_disk_image(TemporaryFile(sector).path(), ImageAccess::read_only, DiskCache::writeback,
                                ImageFormat::qcow2));
}

TEST_CASE("Images back one another by the format that they state, and the lower ones stay as they are") {
    const auto below = random_bytes(8192, 1);
    const TemporaryFile base(below);
    const TemporaryFile middle = qcow2_file(over(base.path(), "raw"));
    // Relative to the folder of the image that names it.
    const TemporaryFile top = qcow2_file(over(std::filesystem::path(middle.path()).filename(), "qcow2"));
    {
        const auto image = open_or_fail(top.path(), ImageAccess::writable);
        CHECK(first_bytes(*image, 8192) == below);
        CHECK(image->extent(8192, 100'000).zeros);
        REQUIRE(image->write(512, random_bytes(512, 2)) == DiskStatus::ok);
        // The lower ones are locked against writers.
        CHECK_FALSE(open_disk_image(base.path(), ImageAccess::writable));
        CHECK_FALSE(open_disk_image(middle.path(), ImageAccess::writable));
        CHECK(open_disk_image(base.path(), ImageAccess::read_only));
    }
    CHECK(base.content() == below);
    CHECK(first_bytes(*open_or_fail(middle.path(), ImageAccess::read_only), 8192) == below);
    const auto now = first_bytes(*open_or_fail(top.path(), ImageAccess::read_only), 8192);
    CHECK(std::ranges::equal(std::span(now).subspan(512, 512), random_bytes(512, 2)));
    CHECK(std::ranges::equal(std::span(now).subspan(1024), std::span(below).subspan(1024)));
}

TEST_CASE("A snapshot of a QCOW2 image takes writes and leaves the file alone") {
    const auto data = random_bytes(65536, 1);
    const TemporaryFile file = qcow2_file(small_header(1 << 20, 9), data);
    const auto before = file.content();
    {
        const auto one = open_or_fail(file.path(), ImageAccess::snapshot);
        const auto other = open_or_fail(file.path(), ImageAccess::snapshot);
        REQUIRE(one->write(1000 * 512, random_bytes(2048, 3)) == DiskStatus::ok);
        REQUIRE(one->write(0, random_bytes(512, 4)) == DiskStatus::ok);
        REQUIRE(one->discard(4096, 8192) == DiskStatus::ok);
        REQUIRE(one->flush() == DiskStatus::ok);
        CHECK(first_bytes(*one, 512) == random_bytes(512, 4));
        CHECK(first_bytes(*other, 65536) == data);
    }
    CHECK(file.content() == before);
}

TEST_CASE("Backing files that are missing, wrong, endless or not files are refused with the reason") {
    const TemporaryFile raw(random_bytes(4096, 1));
    CHECK(refusal(qcow2_file(over("no-such-file", "raw")).path()).find("no-such-file") != std::string::npos);
    CHECK(refusal(qcow2_file(over(raw.path(), "vmdk")).path()).find("'vmdk'") != std::string::npos);
    CHECK(refusal(qcow2_file(over("json:{}", "raw")).path()).find("only files") != std::string::npos);
    CHECK(refusal(qcow2_file(over("nbd://host/disk", "raw")).path()).find("only files") != std::string::npos);
    CHECK(refusal(qcow2_file(over(raw.path(), "qcow2")).path()).find("no qcow2 image") != std::string::npos);
    // Without a format only what is raw.
    CHECK(refusal(qcow2_file(over(raw.path(), "")).path()).empty());
    const TemporaryFile other = qcow2_file(small_header(1 << 20));
    CHECK(refusal(qcow2_file(over(other.path(), "")).path()).find("does not say") != std::string::npos);
    CHECK(refusal(qcow2_file(over(other.path(), "qcow2")).path()).empty());
    // Itself, by a link made afterwards.
    const std::string link = other.path() + ".link";
    const TemporaryFile endless = qcow2_file(over(link, "qcow2"));
    REQUIRE(symlink(endless.path().c_str(), link.c_str()) == 0);
    CHECK(refusal(endless.path()).find("backs itself") != std::string::npos);
    unlink(link.c_str());
}

TEST_CASE("A backing file of raw format may begin like a QCOW2 image and stays raw") {
    const TemporaryFile secret(random_bytes(4096, 8));
    const TemporaryFile guest_made = qcow2_file(over(secret.path(), "raw"));
    const auto image = open_or_fail(qcow2_file(over(guest_made.path(), "raw")).path(), ImageAccess::read_only);
    CHECK(has_magic(first_bytes(*image, 4)));
}

TEST_CASE("A guest cannot make its raw disk begin like a QCOW2 image") {
    const TemporaryFile file(random_bytes(8192, 1));
    auto disguise = random_bytes(1024, 2);
    store(std::span(disguise), 0, magic);
    {
        const auto image = open_or_fail(file.path(), ImageAccess::writable);
        CHECK(image->write(0, disguise) == DiskStatus::read_only);
        CHECK(image->write(0, std::span(disguise).first(2)) == DiskStatus::read_only);
        CHECK(image->write(3, std::span(disguise).subspan(3, 1)) == DiskStatus::read_only);
        CHECK(image->write(4, std::span(disguise).subspan(4)) == DiskStatus::ok);
        CHECK(image->write(512, disguise) == DiskStatus::ok);
        disguise[3] = std::byte{0};
        CHECK(image->write(0, disguise) == DiskStatus::ok);
    }
    // With nothing to lose, or when the format is said, it may.
    disguise[3] = std::byte{0xFB};
    CHECK(open_or_fail(file.path(), ImageAccess::snapshot)->write(0, disguise) == DiskStatus::ok);
    const auto said = open_disk_image(file.path(), ImageAccess::writable, DiskCache::writeback, ImageFormat::raw);
    REQUIRE(said);
    CHECK((*said)->write(0, disguise) == DiskStatus::ok);
}

TEST_CASE("A snapshot in the name is one of the image, unless a file has the whole name") {
    const TemporaryFile file = qcow2_file(small_header(1 << 20));
    CHECK(refusal(file.path() + ",snapshot=one").find("no snapshot 'one'; it has none") != std::string::npos);
    const TemporaryFile raw(random_bytes(512, 1));
    CHECK(refusal(raw.path() + ",snapshot=one").find("no qcow2 image") != std::string::npos);
    CHECK(split_snapshot("a,snapshot=b,snapshot=c") == std::pair<std::string, std::string>("a,snapshot=b", "c"));
}
