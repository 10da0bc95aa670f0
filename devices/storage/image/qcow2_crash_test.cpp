#include <map>

#include "devices/storage/image/qcow2_rig_test.hpp"

using namespace viv;
using namespace viv::qcow2;

namespace {

// Every sector holds one number all over, so that what is there tells which write it came from.
using Values = std::vector<uint32_t>;

std::vector<std::byte> sectors_of(uint32_t value, uint64_t count) {
    std::vector<std::byte> bytes(count * 512);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(value >> (i % 4 * 8));
    return bytes;
}

Values values_of(DiskImage& image) {
    const auto bytes = read_all(image);
    Values values(bytes.size() / 512);
    for (size_t sector = 0; sector < values.size(); ++sector) {
        const auto part = std::span(bytes).subspan(sector * 512, 512);
        for (unsigned i = 0; i < 4; ++i) values[sector] |= std::to_integer<uint32_t>(part[i]) << (8 * i);
        if (!std::equal(part.begin() + 4, part.end(), part.begin())) values[sector] = ~uint32_t{0};  // a mixture
    }
    return values;
}

/// What a guest asked for, and when: positions are of the log of the file.
struct Request {
    size_t start = 0;
    uint64_t first = 0;
    uint64_t count = 0;
    uint32_t value = 0;
};
struct Durable {
    size_t at = 0;  // position from which on all this is sure
    size_t requests = 0;
    Values values;
};

struct Workload {
    std::vector<std::byte> start;  // the file before the log
    std::vector<Request> requests;
    std::vector<Durable> durable;
};

Workload work(Qcow2Rig& rig, unsigned count, uint32_t seed, uint64_t longest) {
    Workload done;
    done.start = rig.content->bytes;
    rig.content->logs = true;
    auto image = rig.open();
    done.durable.push_back({0, 0, values_of(*image)});
    Dice dice(seed);
    const uint64_t sectors = image->size() / 512;
    const auto sure = [&] {
        done.durable.push_back({rig.content->log.size(), done.requests.size(), values_of(*image)});
    };
    for (uint32_t i = 1; i <= count; ++i) {
        const uint64_t first = dice() % sectors;
        const uint64_t length = 1 + dice() % std::min(sectors - first, longest);
        const auto kind = dice() % 12;
        if (kind >= 9) {
            REQUIRE(image->flush() == DiskStatus::ok);
            sure();
            continue;
        }
        done.requests.push_back({rig.content->log.size(), first, length, kind < 6 ? i : 0});
        if (kind < 6) REQUIRE(image->write(first * 512, sectors_of(i, length)) == DiskStatus::ok);
        if (kind == 6 || kind == 7) REQUIRE(image->write_zeros(first * 512, length * 512) == DiskStatus::ok);
        if (kind == 8) REQUIRE(image->discard(first * 512, length * 512) == DiskStatus::ok);
        if (i % 40 == 0) {
            const Values last = values_of(*image);
            image.reset();
            done.durable.push_back({rig.content->log.size(), done.requests.size(), last});
            image = rig.open();
        }
    }
    image.reset();
    return done;
}

/// After a stop at `position` of the log: the image is sound, and each sector holds what was sure or was asked for
/// since.
void check_after_stop(const Qcow2Rig& rig, const Workload& done, std::vector<std::byte> bytes, size_t position) {
    Qcow2Rig after(std::move(bytes));
    after.backing = rig.backing;
    auto image = after.open();  // repairs lazy counts
    image.reset();
    const CheckReport report = after.check();
    INFO((report.messages.empty() ? "" : report.messages[0]));
    REQUIRE(report.errors == 0);
    const Durable* sure = &done.durable[0];
    for (const Durable& candidate : done.durable) {
        if (candidate.at <= position) sure = &candidate;
    }
    const Values found = values_of(*after.open(ImageAccess::read_only));
    std::vector<bool> right(found.size());
    for (size_t i = 0; i < found.size(); ++i) right[i] = found[i] == sure->values[i];
    for (size_t r = sure->requests; r < done.requests.size() && done.requests[r].start < position; ++r) {
        const Request& request = done.requests[r];
        for (uint64_t i = request.first; i < request.first + request.count; ++i) {
            if (found[i] == request.value) right[i] = true;
        }
    }
    const auto wrong = std::ranges::find(right, false);
    const size_t sector = static_cast<size_t>(wrong - right.begin()) % right.size();
    INFO("sector " << sector << " holds " << found[sector] << ", and held " << sure->values[sector]);
    REQUIRE(wrong == right.end());
}

/// What is said about repairs, many times over, is of no interest.
struct Quiet {
    Quiet() : previous(set_log_sink([](std::string_view) {})) {}
    ~Quiet() { set_log_sink(std::move(previous)); }
    std::move_only_function<void(std::string_view)> previous;
};

/// Stops the host after each event of the log, and within writes, and lets it lose or keep anything since the last
/// flush.
void stop_everywhere(Qcow2Rig& rig, const Workload& done, size_t stride) {
    const Quiet quiet;
    const std::vector<FileEvent> log = std::move(rig.content->log);
    Dice dice(17);
    FileContent flushed;  // as of the last flush
    flushed.bytes = done.start;
    FileContent all = flushed;
    size_t last_flush = 0;
    REQUIRE(log.size() > 300);
    for (size_t i = 0; i < log.size(); ++i) {
        CAPTURE(i);
        if (log[i].kind == FileEvent::Kind::write && log[i].bytes.size() > 512 && i % stride == 0) {
            // Sector by sector.
            FileContent torn = all;
            FileEvent part = log[i];
            part.bytes.resize(512 * (1 + dice() % (part.bytes.size() / 512)));
            torn.apply(part);
            INFO("a torn write");
            check_after_stop(rig, done, torn.bytes, i + 1);
        }
        all.apply(log[i]);
        if (i % stride == 0) {
            check_after_stop(rig, done, all.bytes, i + 1);
            // A flush that has ended leaves nothing to lose.
            FileContent some = log[i].kind == FileEvent::Kind::flush ? all : flushed;
            for (size_t j = last_flush; j <= i && log[i].kind != FileEvent::Kind::flush; ++j) {
                if (dice() % 2 == 0) some.apply(log[j]);
            }
            INFO("some writes since the flush before");
            check_after_stop(rig, done, some.bytes, i + 1);
        }
        if (log[i].kind == FileEvent::Kind::flush) {
            flushed = all;
            last_flush = i + 1;
        }
    }
}

}  // namespace

TEST_CASE("A host that stops at any moment leaves a sound QCOW2 image with all that was flushed") {
    struct Form {
        const char* name;
        uint32_t bits, version, order;
        bool extended, lazy, backed;
    };
    for (const Form& form : {Form{"plain", 9, 3, 4, false, false, false}, Form{"backed", 10, 3, 4, false, false, true},
                             Form{"version 2", 9, 2, 4, false, false, false}, Form{"lazy", 9, 3, 4, false, true, true},
                             Form{"extended", 14, 3, 4, true, false, true}}) {
        CAPTURE(form.name);
        Header header = small_header(form.extended ? 512 << 10 : 128 << 10, form.bits);
        header.version = form.version;
        header.refcount_order = form.order;
        if (form.extended) header.incompatible |= incompatible_extended_l2;
        if (form.lazy) header.compatible |= compatible_lazy_refcounts;
        std::vector<std::byte> below;
        for (uint32_t i = 0; form.backed && i < 200; ++i)
            std::ranges::copy(sectors_of(1'000'000 + i, 1), std::back_inserter(below));
        Qcow2Rig rig(header, below);
        const Workload done = work(rig, 240, 5, 24);
        stop_everywhere(rig, done, 3);
    }
}

TEST_CASE("A host that stops while the refcount table moves leaves a sound QCOW2 image") {
    // A block counts 64 clusters, the first table 2 MiB.
    Header header = small_header(3 << 20, 9);
    header.refcount_order = 6;
    Qcow2Rig rig(header);
    // Nearly full.
    REQUIRE(rig.open()->write(0, sectors_of(7'000'000, 3860)) == DiskStatus::ok);
    REQUIRE(load<uint32_t>(rig.content->bytes, 56) == 1);
    const Workload done = work(rig, 120, 6, 200);
    CHECK(load<uint32_t>(rig.content->bytes, 56) > 1);
    stop_everywhere(rig, done, 47);
}

TEST_CASE("The test of stops finds an order of writes that is wrong") {
    Qcow2Rig rig(small_header(128 << 10));
    const Workload done = work(rig, 240, 5, 24);
    // Without the counts' own writes, entries point to clusters that count as free.
    const auto table = load<uint64_t>(rig.content->bytes, at_refcount_table);
    const auto block = load<uint64_t>(rig.content->bytes, table);
    FileContent without;
    without.bytes = done.start;
    for (const FileEvent& event : rig.content->log) {
        if (event.kind == FileEvent::Kind::write && event.offset >= block && event.offset < block + 512) continue;
        without.apply(event);
    }
    CHECK(Qcow2Rig(without.bytes).check().errors > 0);
}
