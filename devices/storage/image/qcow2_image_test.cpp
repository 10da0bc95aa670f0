#include "devices/storage/image/qcow2_image.hpp"

#include "devices/storage/image/qcow2_codec.hpp"
#include "devices/storage/image/qcow2_rig_test.hpp"

using namespace viv;
using namespace viv::qcow2;

namespace {

/// Does `count` random things to the image and to a plain copy, and compares.
void work_at_random(Qcow2Rig& rig, unsigned count, uint32_t seed) {
    auto image = rig.open();
    std::vector<std::byte> expected(image->size());
    std::copy_n(rig.backing.begin(), std::min(rig.backing.size(), expected.size()), expected.begin());
    Dice dice(seed);
    const auto pick = [&](uint64_t below) { return dice() % below; };
    const uint64_t sectors = image->size() / 512;
    for (unsigned i = 0; i < count; ++i) {
        const uint64_t first = pick(sectors);
        const uint64_t length = 1 + pick(std::min<uint64_t>(sectors - first, pick(4) == 0 ? 300 : 12));
        const auto at = expected.begin() + static_cast<ptrdiff_t>(first * 512);
        switch (pick(10)) {
            default: {
                const auto data = random_bytes(length * 512, i);
                REQUIRE(image->write(first * 512, data) == DiskStatus::ok);
                std::ranges::copy(data, at);
                break;
            }
            case 6:
            case 7:
                REQUIRE(image->write_zeros(first * 512, length * 512) == DiskStatus::ok);
                std::fill_n(at, length * 512, std::byte{0});
                break;
            case 8: {
                REQUIRE(image->discard(first * 512, length * 512) == DiskStatus::ok);
                // What is there now is zeros or what was there before, for good.
                std::vector<std::byte> now(length * 512);
                REQUIRE(image->read(first * 512, now) == DiskStatus::ok);
                bool right = true;
                for (size_t j = 0; j < now.size(); ++j) {
                    right = right && (now[j] == std::byte{0} || now[j] == *(at + static_cast<ptrdiff_t>(j)));
                }
                REQUIRE(right);
                std::ranges::copy(now, at);
                break;
            }
            case 9:
                if (pick(2) == 0) {
                    REQUIRE(image->flush() == DiskStatus::ok);
                } else {
                    image.reset();
                    image = rig.open();
                }
        }
        if (i % 16 == 0) REQUIRE(read_all(*image) == expected);
    }
    REQUIRE(read_all(*image) == expected);
    image.reset();
    const CheckReport report = rig.check();
    INFO((report.messages.empty() ? "" : report.messages[0]));
    CHECK(report.errors == 0);
    CHECK(report.leaks == 0);
    CHECK(read_all(*rig.open(ImageAccess::read_only)) == expected);
}

}  // namespace

TEST_CASE("A new QCOW2 image is all zeros and has nothing wrong") {
    for (const uint32_t bits : {9U, 12U, 16U, 21U}) {
        Qcow2Rig rig(small_header(10 << 20, bits));
        const auto image = rig.open();
        CHECK(image->size() == 10 << 20);
        CHECK(image->extent(0, 1 << 20).zeros);
        CHECK(read_all(*image) == std::vector<std::byte>(10 << 20));
        CHECK(rig.check().clean());
    }
}

TEST_CASE("A QCOW2 image keeps what is written, zeroed and discarded at random, and its counts stay right") {
    struct Form {
        uint32_t bits, version, order;
        bool extended, lazy, backed;
    };
    for (const Form& form :
         {Form{9, 3, 4, false, false, false}, Form{9, 3, 4, false, false, true}, Form{9, 2, 4, false, false, false},
          Form{10, 2, 4, false, false, true}, Form{12, 3, 0, false, false, true}, Form{9, 3, 6, false, false, true},
          Form{16, 3, 4, false, true, true}, Form{9, 3, 3, false, true, false}, Form{14, 3, 4, true, false, false},
          Form{14, 3, 1, true, false, true}, Form{16, 3, 5, true, true, true}}) {
        CAPTURE(form.bits, form.version, form.order, form.extended, form.lazy, form.backed);
        Header header = small_header(form.bits < 12 ? 1 << 19 : 3 << 19, form.bits);
        header.version = form.version;
        header.refcount_order = form.order;
        if (form.extended) header.incompatible |= incompatible_extended_l2;
        if (form.lazy) header.compatible |= compatible_lazy_refcounts;
        Qcow2Rig rig(header, form.backed ? random_bytes(400'000, 7) : std::vector<std::byte>());
        work_at_random(rig, 300, form.bits + form.order);
    }
}

TEST_CASE("A refcount table that is too small moves, and its old place is free again") {
    // Clusters of 512 bytes with 64-bit counts: a block counts 64 clusters, a cluster of the table 64 blocks (2 MiB).
    Header header = small_header(8 << 20, 9);
    header.refcount_order = 6;
    Qcow2Rig rig(header);
    const auto data = random_bytes(8 << 20, 3);
    {
        const auto image = rig.open();
        for (size_t at = 0; at < data.size(); at += 100 * 512) {
            const auto piece = std::span(data).subspan(at, std::min<size_t>(100 * 512, data.size() - at));
            REQUIRE(image->write(at, piece) == DiskStatus::ok);
            if (at % 7 == 0) REQUIRE(image->flush() == DiskStatus::ok);
        }
    }
    CHECK(rig.check().clean());
    CHECK(read_all(*rig.open(ImageAccess::read_only)) == data);
}

TEST_CASE("Compressed clusters are read, packed together, and replaced when they are written") {
    for (const Compression method : {Compression::zlib, Compression::zstd}) {
        Header header = small_header(64 << 12, 12);
        header.compression = method;
        if (method == Compression::zstd) header.incompatible |= incompatible_compression_type;
        Qcow2Rig rig(header);
        std::vector<std::byte> expected(64 << 12);
        {
            const auto image = rig.open();
            for (size_t i = 0; i < 64; ++i) {
                const auto cluster = std::span(expected).subspan(i << 12, 1 << 12);
                if (i % 3 == 0)
                    std::ranges::copy(random_bytes(1 << 12, static_cast<uint32_t>(i)), cluster.begin());  // no gain
                if (i % 3 != 0) std::ranges::fill(cluster, static_cast<std::byte>(i));
                REQUIRE(image->write_compressed(i << 12, cluster) == DiskStatus::ok);
            }
        }
        CheckReport report = rig.check();
        CHECK(report.clean());
        CHECK(report.compressed == 42);
        CHECK(rig.content->bytes.size() < 40 << 12);
        auto image = rig.open();
        CHECK(read_all(*image) == expected);
        const auto patch = random_bytes(3 << 9, 1);
        for (size_t i = 0; i < 64; i += 2) {
            REQUIRE(image->write((i << 12) + 1024, patch) == DiskStatus::ok);
            std::ranges::copy(patch, expected.begin() + static_cast<ptrdiff_t>((i << 12) + 1024));
        }
        CHECK(read_all(*image) == expected);
        image.reset();
        report = rig.check();
        CHECK(report.clean());
        CHECK(report.compressed == 21);
    }
}

TEST_CASE("An internal snapshot keeps what it has while the image goes on, and is only read") {
    for (const uint32_t bits : {9U, 14U}) {
        Header header = small_header(512 << 10, bits);
        if (bits == 14) header.incompatible |= incompatible_extended_l2;
        Qcow2Rig rig(header);
        work_at_random(rig, 60, bits);
        const auto before = read_all(*rig.open(ImageAccess::read_only));
        make_internal_snapshot(*rig.content);
        REQUIRE(rig.check().clean());
        CHECK(rig.open()->write(0, random_bytes(512 << 10, 5)) == DiskStatus::ok);
        for (const char* name : {"first", "1"}) CHECK(read_all(*rig.open(ImageAccess::read_only, name)) == before);
        CHECK(read_all(*rig.open(ImageAccess::read_only)) == random_bytes(512 << 10, 5));
        CHECK(rig.check().clean());
        const auto other = rig.try_open(ImageAccess::read_only, "second");
        REQUIRE_FALSE(other);
        CHECK(other.error().message.find("no snapshot 'second'; it has 'first'") != std::string::npos);
        const auto writable = rig.try_open(ImageAccess::writable, "first");
        REQUIRE_FALSE(writable);
        CHECK(writable.error().message.find("can only be read") != std::string::npos);
        CHECK(rig.open()->resize(1 << 20).error().message.find("internal snapshots") != std::string::npos);
    }
}

TEST_CASE("Packed data come back, and broken ones are told") {
    std::vector<std::byte> cluster(65536, std::byte{7});
    for (const Compression method : {Compression::zlib, Compression::zstd}) {
        const auto packed = compress(method, cluster);
        REQUIRE(!packed.empty());
        std::vector<std::byte> out(cluster.size());
        auto padded = packed;
        padded.resize(packed.size() + 100, std::byte{0x55});
        CHECK(decompress(method, padded, out));
        CHECK(out == cluster);
        CHECK_FALSE(decompress(method, std::span(packed).first(packed.size() / 2), out));
        CHECK_FALSE(decompress(method, random_bytes(300, 4), out));
        std::vector<std::byte> more(cluster.size() + 1);
        CHECK_FALSE(decompress(method, packed, more));
    }
    CHECK(compress(Compression::zlib, random_bytes(4096, 1)).empty());
}

TEST_CASE("A full host disk costs the write that it stops, and nothing else") {
    Qcow2Rig rig(small_header(1 << 20), random_bytes(1 << 20, 9));
    auto image = rig.open();
    std::vector<std::byte> expected = rig.backing;
    for (uint32_t i = 0; i < 200; ++i) {
        const size_t at = i * 2560;
        rig.content->writes_left = i % 3;
        const auto data = random_bytes(1024, i);
        const DiskStatus status = image->write(at + 512, data);
        rig.content->writes_left = ~uint64_t{0};
        std::vector<std::byte> now(1536);
        REQUIRE(image->read(at, now) == DiskStatus::ok);
        if (status != DiskStatus::ok) CHECK(status == DiskStatus::no_space);
        // A part of it may be written, but nothing else is there than before or what was to be written.
        const auto at_write = expected.begin() + static_cast<ptrdiff_t>(at + 512);
        for (ptrdiff_t part = 0; part < 1024; part += 512) {
            const bool written = std::equal(now.begin() + 512 + part, now.begin() + 1024 + part, data.begin() + part);
            if (status == DiskStatus::ok) CHECK(written);
            if (written) std::copy_n(data.begin() + part, 512, at_write + part);
        }
        CHECK(std::ranges::equal(now, std::span(expected).subspan(at, 1536)));
    }
    image.reset();
    CHECK(rig.check().clean());
}

TEST_CASE("An image whose header is outside the format or our bounds is refused with the reason") {
    const Qcow2Rig good(small_header(1 << 20, 16));
    const auto refused = [&](size_t at, uint64_t value, size_t size) {
        auto bytes = good.content->bytes;
        for (size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<std::byte>(value >> (8 * (size - 1 - i)));
        return Qcow2Rig(bytes).refusal();
    };
    CHECK(refused(4, 4, 4).find("version 4") != std::string::npos);
    CHECK(refused(20, 22, 4).find("2^22") != std::string::npos);
    CHECK(refused(20, 8, 4).find("2^8") != std::string::npos);
    CHECK(refused(24, uint64_t{1} << 63, 8).find("too large") != std::string::npos);
    CHECK(refused(24, uint64_t{1} << 40, 8).find("L1 table is too small") != std::string::npos);
    CHECK(refused(32, 2, 4).find("encrypted (LUKS)") != std::string::npos);
    CHECK(refused(36, 0x0100'0000, 4).find("larger than 32 MiB") != std::string::npos);
    CHECK(refused(40, 100, 8).find("L1 table is not at the start") != std::string::npos);
    CHECK(refused(48, 0x7000'0000'0000'0000, 8).find("refcount table is too far") != std::string::npos);
    CHECK(refused(56, 129, 4).find("larger than 8 MiB") != std::string::npos);
    CHECK(refused(56, 0, 4).find("no refcount table") != std::string::npos);
    CHECK(refused(60, 70000, 4).find("70000 snapshots") != std::string::npos);
    CHECK(refused(72, 2, 8).find("marked as corrupt") != std::string::npos);
    CHECK(refused(72, 4, 8).find("external data file") != std::string::npos);
    CHECK(refused(72, 8, 8).find("contradict") != std::string::npos);
    CHECK(refused(72, 32, 8).find("bit 5") != std::string::npos);
    CHECK(refused(96, 7, 4).find("64 bits") != std::string::npos);
    CHECK(refused(100, 100, 4).find("100 bytes") != std::string::npos);
    CHECK(refused(108, 0x7FFF'FFFF, 4).find("extension") != std::string::npos);
    CHECK(refused(8, 0x1'0000, 8).empty());  // no name at all, at the end
    CHECK(refused(8, 0x1'0001, 8).find("outside the header") != std::string::npos);
    CHECK(refused(16, 1024, 4).empty());
    CHECK(refused(40, 0, 8).find("overlap") != std::string::npos);
    CHECK(refused(48, 3 << 16, 8).find("overlap") != std::string::npos);
}

TEST_CASE("A write that would go over a table is refused, and the image is marked as corrupt") {
    Qcow2Rig rig(small_header(1 << 20, 16));
    auto image = rig.open();
    const auto data = random_bytes(65536, 1);
    REQUIRE(image->write(0, data) == DiskStatus::ok);
    image.reset();
    // The entry of the first cluster now has the place of the L1 table.
    const auto l1 = load<uint64_t>(rig.content->bytes, 40);
    const uint64_t l2 = load<uint64_t>(rig.content->bytes, l1) & entry_offset_mask;
    store(std::span(rig.content->bytes), l2, l1 | entry_copied);
    image = rig.open();
    CHECK(image->write(0, data) == DiskStatus::io_error);
    CHECK(image->write(1 << 17, data) == DiskStatus::io_error);
    CHECK(image->flush() == DiskStatus::io_error);
    image.reset();
    CHECK(load<uint64_t>(rig.content->bytes, l1) == (l2 | entry_copied));
    CHECK((load<uint64_t>(rig.content->bytes, at_incompatible) & incompatible_corrupt) != 0);
    CHECK(rig.refusal().find("marked as corrupt") != std::string::npos);
    CHECK(rig.open(ImageAccess::read_only)->size() == 1 << 20);
    CHECK(rig.check().errors != 0);
}

TEST_CASE("Counts that are wrong are found and repaired") {
    Qcow2Rig rig(small_header(1 << 20, 9));
    const auto data = random_bytes(200 * 512, 1);
    REQUIRE(rig.open()->write(0, data) == DiskStatus::ok);
    const auto table = load<uint64_t>(rig.content->bytes, at_refcount_table);
    const auto block = load<uint64_t>(rig.content->bytes, table);
    SECTION("a cluster in use counts as free") {
        store(std::span(rig.content->bytes), block + 2 * 50, uint16_t{0});
        CHECK(rig.check().errors > 0);
        CHECK(rig.check(Repair::all).repaired_errors > 0);
    }
    SECTION("a cluster counts and nobody uses it") {
        const uint64_t end = rig.content->bytes.size() / 512;
        rig.content->bytes.resize(rig.content->bytes.size() + 512);
        const auto last = load<uint64_t>(rig.content->bytes, table + end / 256 * 8);
        store(std::span(rig.content->bytes), last + 2 * (end % 256), uint16_t{1});
        const CheckReport found = rig.check();
        CHECK(found.errors == 0);
        CHECK(found.leaks == 1);
        CHECK(rig.check(Repair::leaks).repaired_leaks == 1);
    }
    SECTION("the refcount table points nowhere") {
        store(std::span(rig.content->bytes), table, uint64_t{1} << 40);
        CHECK(rig.refusal().find("overlap or lie outside") != std::string::npos);
        CHECK(rig.check(Repair::all).repaired_errors > 0);
    }
    SECTION("the image was not closed and its counts are lazy") {
        store(std::span(rig.content->bytes), 80, compatible_lazy_refcounts);
        store(std::span(rig.content->bytes), at_incompatible, incompatible_dirty);
        for (size_t i = 0; i < 512; i += 2) store(std::span(rig.content->bytes), block + i, uint16_t{0});
        CHECK(rig.open()->size() == 1 << 20);  // repairs it
        CHECK(load<uint64_t>(rig.content->bytes, at_incompatible) == 0);
    }
    CHECK(rig.check().clean());
    const auto now = read_all(*rig.open());
    CHECK(std::ranges::equal(std::span(now).first(data.size()), data));
}

TEST_CASE("A QCOW2 image changes its size, and what is new reads as zeros") {
    Qcow2Rig rig(small_header(100 << 10), random_bytes(2 << 20, 3));
    const auto data = random_bytes(100 << 10, 1);
    auto image = rig.open();
    REQUIRE(image->write(0, data) == DiskStatus::ok);
    // More than the L1 table has room for, and less than the backing file has.
    REQUIRE(image->resize(3 << 19));
    REQUIRE(image->resize(50 << 10));
    REQUIRE(image->resize(5 << 20));
    image.reset();
    CHECK(rig.check().clean());
    std::vector<std::byte> expected(5 << 20);
    std::copy_n(data.begin(), 50 << 10, expected.begin());
    CHECK(read_all(*rig.open(ImageAccess::read_only)) == expected);
}

TEST_CASE("A QCOW2 image grows while it is used, or stays as it was") {
    const auto data = random_bytes(100 << 10, 1), more = random_bytes(1 << 20, 2);
    bool grew = false;
    for (uint64_t writes = 0; !grew; ++writes) {
        REQUIRE(writes < 100);
        Qcow2Rig rig(small_header(100 << 10), random_bytes(2 << 20, 3));
        auto image = rig.open();
        REQUIRE(image->write(0, data) == DiskStatus::ok);
        CHECK_FALSE(image->grow(100 << 10));
        CHECK_FALSE(image->grow(50 << 10));
        rig.content->writes_left = writes;
        grew = image->grow(3 << 20).has_value();
        rig.content->writes_left = ~uint64_t{0};
        CHECK(image->size() == (grew ? 3 << 20 : 100 << 10));
        std::vector<std::byte> expected(data);
        // Where the host failed at the worst moment, nothing is written any more.
        const bool writable = image->write(512, std::span(more).first(512)) == DiskStatus::ok;
        if (writable) std::copy_n(more.begin(), 512, expected.begin() + 512);
        if (grew) {
            REQUIRE(image->write(2 << 20, more) == DiskStatus::ok);
            expected.resize(3 << 20);
            std::ranges::copy(more, expected.begin() + (2 << 20));
        }
        image.reset();
        CHECK(rig.check().errors == 0);
        CHECK((rig.check().leaks == 0 || !grew));
        const auto now = read_all(*rig.open(ImageAccess::read_only));
        REQUIRE(now.size() >= expected.size());
        CHECK(std::ranges::equal(std::span(now).first(expected.size()), expected));
        if (grew) CHECK_FALSE(rig.open(ImageAccess::read_only)->grow(4 << 20));
    }
}

TEST_CASE("An image with all its space taken beforehand is zeros, and has nothing wrong") {
    for (const bool extended : {false, true}) {
        Header header = small_header(1 << 20, 14);
        if (extended) header.incompatible |= incompatible_extended_l2;
        Qcow2Rig rig(header);
        REQUIRE(rig.open()->allocate_all() == DiskStatus::ok);
        CHECK(rig.check().clean());
        CHECK(read_all(*rig.open(ImageAccess::read_only)) == std::vector<std::byte>(1 << 20));
    }
}

TEST_CASE("Dirty bitmaps are given up at the first write") {
    Header header = small_header(1 << 20, 16);
    header.autoclear = autoclear_bitmaps;
    Qcow2Rig rig(header);
    auto image = rig.open();
    CHECK(load<uint64_t>(rig.content->bytes, at_autoclear) == 1);
    REQUIRE(image->write(0, random_bytes(512, 1)) == DiskStatus::ok);
    CHECK(load<uint64_t>(rig.content->bytes, at_autoclear) == 0);
}
