#include "devices/storage/image/image_move.hpp"

#include "devices/storage/image/qcow2_rig_test.hpp"

using namespace viv;
using namespace viv::qcow2;

namespace {

struct Form {
    uint32_t bits, version;
    bool extended, lazy;
};
constexpr Form forms[] = {{9, 3, false, false}, {9, 2, false, false}, {12, 3, false, true}, {14, 3, true, false}};

/// Data with holes, which are zeros.
std::vector<std::byte> patchy_bytes(size_t size, uint32_t seed) {
    auto bytes = random_bytes(size, seed);
    Dice dice(seed);
    for (size_t at = 0; at < size; at += 4096) {
        if (dice() % 3 == 0)
            std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), std::min<size_t>(4096, size - at), std::byte{0});
    }
    return bytes;
}

/// An image over `below` with data, packed data, zeros and holes of its own.
Qcow2Rig make_top(const Form& form, uint64_t size, std::vector<std::byte> below) {
    Header header = small_header(size, form.bits);
    header.version = form.version;
    if (form.extended) header.incompatible |= incompatible_extended_l2;
    if (form.lazy) header.compatible |= compatible_lazy_refcounts;
    Qcow2Rig rig(header, std::move(below));
    const auto image = rig.open();
    const uint64_t cluster = header.cluster_size();
    Dice dice(form.bits);
    for (uint32_t i = 0; i < 60; ++i) {
        const uint64_t at = dice() % (size / 512) * 512;
        const uint64_t length = std::min<uint64_t>((1 + dice() % 30) * 512, size - at);
        const uint64_t start = at / cluster * cluster;
        const std::vector<std::byte> packed(std::min(cluster, size - start), static_cast<std::byte>(i));
        switch (i % 4) {
            case 0: REQUIRE(image->write_zeros(at, length) == DiskStatus::ok); break;
            case 1: REQUIRE(image->write_compressed(start, packed) == DiskStatus::ok); break;
            default: REQUIRE(image->write(at, random_bytes(length, i)) == DiskStatus::ok);
        }
    }
    return rig;
}

}  // namespace

TEST_CASE("What an image holds goes down into what lies below it, and the emptied image shows the same") {
    for (const Form& form : forms) {
        CAPTURE(form.bits, form.version, form.extended);
        const uint64_t size = 600 << 10;
        Qcow2Rig top = make_top(form, size, patchy_bytes(400 << 10, 1));
        const auto expected = read_all(*top.open(ImageAccess::read_only));
        MemoryImage below(top.backing);
        below.bytes.resize(size + 4096, std::byte{0});
        below.bytes.back() = std::byte{9};
        {
            const auto image = top.open();
            uint64_t last = 0;
            const auto moved = copy_down(*image, below, [&](uint64_t done, uint64_t total) {
                CHECK((done >= last && done <= total));
                last = done;
            });
            REQUIRE(moved);
            CHECK((moved->copied > 0 && moved->copied + moved->zeroed < size && last > 0));
            CHECK(below.flushes == 1);
            CHECK(std::ranges::equal(std::span(below.bytes).first(size), expected));
            CHECK(below.bytes.back() == std::byte{9});
            CHECK(read_all(*image) == expected);
            REQUIRE(image->drop_all() == DiskStatus::ok);
            CHECK(image->own_extent(0, size).length > 0);
        }
        top.backing = below.bytes;
        const CheckReport report = top.check();
        CHECK(report.clean());
        CHECK((report.allocated == 0 && report.zeros == 0));
        const auto image = top.open();
        CHECK(read_all(*image) == expected);
        REQUIRE(image->write(4096, random_bytes(5000 / 512 * 512, 2)) == DiskStatus::ok);
    }
}

TEST_CASE("An image that gets another one below it first takes what would differ, and no more") {
    for (const Form& form : forms) {
        for (const size_t other_size : {0U, 300U << 10, 700U << 10}) {
            CAPTURE(form.bits, form.version, form.extended, other_size);
            const uint64_t size = 600 << 10;
            Qcow2Rig top = make_top(form, size, patchy_bytes(400 << 10, 1));
            const auto expected = read_all(*top.open(ImageAccess::read_only));
            const uint64_t before = top.check().allocated;
            // The same in part.
            auto other = patchy_bytes(other_size, 5);
            std::copy_n(top.backing.begin(), std::min<size_t>(other_size, 100 << 10), other.begin());
            MemoryImage below(other, ImageAccess::read_only);
            {
                const auto image = top.open();
                image->expect_another_backing();
                const auto moved = copy_up(*image, other_size == 0 ? nullptr : &below, {});
                REQUIRE(moved);
                CHECK(moved->copied > 0);
                if (other_size != 0) CHECK(moved->copied < 310 << 10);
                REQUIRE(image->set_backing(other_size == 0 ? "" : "other.img", other_size == 0 ? "" : "raw"));
            }
            top.backing = other;
            CHECK(top.check().clean());
            CHECK(top.check().allocated > before);
            CHECK(read_all(*top.open(ImageAccess::read_only)) == expected);
        }
    }
}

TEST_CASE("An image without a backing file can get one and still shows its own zeros") {
    for (const Form& form : forms) {
        CAPTURE(form.bits, form.version, form.extended);
        Qcow2Rig top = make_top(form, 600 << 10, {});
        const auto expected = read_all(*top.open(ImageAccess::read_only));
        MemoryImage below(patchy_bytes(800 << 10, 3), ImageAccess::read_only);
        {
            const auto image = top.open();
            image->expect_another_backing();
            REQUIRE(copy_up(*image, &below, {}));
            REQUIRE(image->set_backing("other.img", "raw"));
        }
        top.backing = below.bytes;
        CHECK(top.check().clean());
        CHECK(read_all(*top.open(ImageAccess::read_only)) == expected);
    }
}

TEST_CASE("A move that fails in its middle loses nothing") {
    const uint64_t size = 64 << 10;
    Qcow2Rig top = make_top(forms[0], size, patchy_bytes(48 << 10, 1));
    const auto expected = read_all(*top.open(ImageAccess::read_only));
    const auto start = top.content->bytes;
    MemoryImage below(top.backing);
    below.bytes.resize(size);
    below.bad_sector = 60;
    const auto failed = copy_down(*top.open(), below, {});
    REQUIRE_FALSE(failed);
    CHECK(failed.error().message.find("cannot write 'memory'") != std::string::npos);
    top.backing = below.bytes;
    CHECK(read_all(*top.open(ImageAccess::read_only)) == expected);
    below.bad_sector = ~uint64_t{0};
    below.flush_fault = DiskStatus::io_error;
    CHECK_FALSE(copy_down(*top.open(), below, {}));
    // The image that takes what differs, on a disk that gets full.
    for (uint64_t writes = 0; writes < 60; writes += 3) {
        top.content->bytes = start;
        const auto image = top.open();
        image->expect_another_backing();
        top.content->writes_left = writes;
        const auto moved = copy_up(*image, nullptr, {});
        top.content->writes_left = ~uint64_t{0};
        if (!moved) CHECK(moved.error().message.find("disk is full") != std::string::npos);
        CHECK(read_all(*image) == expected);
    }
    Qcow2Rig odd(small_header(1000));
    CHECK(copy_down(*odd.open(), below, {}).error().message.find("no whole sectors") != std::string::npos);
}
