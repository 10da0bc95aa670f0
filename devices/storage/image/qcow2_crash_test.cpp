#include <fmt/format.h>

#include <cstring>

#include "devices/storage/image/image_move.hpp"
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
        const std::byte* part = bytes.data() + sector * 512;
        std::memcpy(&values[sector], part, 4);
        if (std::memcmp(part, part + 4, 508) != 0) values[sector] = ~uint32_t{0};  // a mixture
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

struct Resize {
    size_t start = 0;
    uint64_t sectors = 0;
};

struct Workload {
    std::vector<std::byte> start;  // the file before the log
    std::vector<Request> requests;
    std::vector<Durable> durable;
    std::vector<Resize> resizes;  // each is durable before anything else is asked for
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

/// What is said about repairs, many times over, is of no interest.
struct Quiet {
    Quiet() : previous(set_log_sink([](std::string_view) {})) {}
    ~Quiet() { set_log_sink(std::move(previous)); }
    std::move_only_function<void(std::string_view)> previous;
};

/// Stops the host after every prefix of a log, and within its writes, and lets it lose or keep anything since the last
/// flush. Each time the image has to be sound, and each sector to hold what was sure or was asked for since.
class Stops {
  public:
    Stops(const Qcow2Rig& rig, const Workload& done) : done_(done), backing_(rig.backing) {}

    /// The first thing that is wrong; empty: nothing.
    std::string find_fault(const std::vector<FileEvent>& log) {
        const Quiet quiet;
        kept_->bytes = flushed_->bytes = done_.start;
        size_t last_flush = 0;
        for (size_t i = 0; i < log.size(); ++i) {
            const FileEvent& event = log[i];
            const bool is_flush = event.kind == FileEvent::Kind::flush;
            if (event.kind == FileEvent::Kind::write && event.bytes.size() > 512) {
                std::vector<Undo> undo;
                apply_part(*kept_, event, undo);
                if (const auto fault = fault_of(kept_, i + 1); !fault.empty())
                    return fmt::format("within write {}: {}", i, fault);
                take_back(*kept_, undo);
            }
            kept_->apply(event);
            if (const auto fault = fault_of(kept_, i + 1); !fault.empty())
                return fmt::format("after event {}: {}", i, fault);
            if (is_flush) {
                // What it ended leaves nothing to lose.
                for (; last_flush < i; ++last_flush) flushed_->apply(log[last_flush]);
                last_flush = i + 1;
                continue;
            }
            std::vector<Undo> undo;
            for (size_t j = last_flush; j <= i; ++j) {
                const auto fate = dice_() % 4;
                if (fate == 1) apply_part(*flushed_, log[j], undo);
                if (fate > 1) apply(*flushed_, log[j], undo);
            }
            if (const auto fault = fault_of(flushed_, i + 1); !fault.empty()) {
                return fmt::format("after event {}, with some writes lost: {}", i, fault);
            }
            take_back(*flushed_, undo);
        }
        return {};
    }
    [[nodiscard]] unsigned checks() const { return checks_; }

  private:
    struct Undo {
        uint64_t offset;
        size_t size;  // of all
        std::vector<std::byte> bytes;
    };

    static void apply(FileContent& content, const FileEvent& event, std::vector<Undo>& undo) {
        const bool cuts = event.kind == FileEvent::Kind::resize;
        const size_t size = content.bytes.size();
        const size_t end = cuts ? size : std::min<size_t>(size, event.offset + event.length);
        Undo before{event.offset, size, {}};
        if (event.offset < end) {
            const auto first = content.bytes.begin();
            before.bytes.assign(first + static_cast<ptrdiff_t>(event.offset), first + static_cast<ptrdiff_t>(end));
        }
        content.apply(event);
        undo.push_back(std::move(before));
    }
    /// Some sectors of a write.
    void apply_part(FileContent& content, const FileEvent& event, std::vector<Undo>& undo) {
        if (event.kind != FileEvent::Kind::write) return;
        const auto choice = dice_();
        for (size_t at = 0; at < event.bytes.size();) {
            // Those of the host are 512 bytes at places of their own.
            const size_t length = std::min<size_t>(512 - (event.offset + at) % 512, event.bytes.size() - at);
            const auto first = event.bytes.begin() + static_cast<ptrdiff_t>(at);
            FileEvent part{
                FileEvent::Kind::write, event.offset + at, length, {first, first + static_cast<ptrdiff_t>(length)}};
            if ((choice >> (at / 512 % 31) & 1) != 0) apply(content, part, undo);
            at += length;
        }
    }
    static void take_back(FileContent& content, std::vector<Undo>& undo) {
        for (; !undo.empty(); undo.pop_back()) {
            content.bytes.resize(undo.back().size);
            std::ranges::copy(undo.back().bytes, content.bytes.begin() + static_cast<ptrdiff_t>(undo.back().offset));
        }
    }

    std::string fault_of(const std::shared_ptr<FileContent>& content, size_t position) {
        ++checks_;
        Qcow2Rig after(content);
        after.backing = backing_;
        const bool dirty =
            (std::to_integer<unsigned>(content->bytes.at(at_incompatible + 7)) & incompatible_dirty) != 0;
        const bool lazy = std::to_integer<unsigned>(content->bytes.at(7)) >= 3 && dirty;
        if (lazy) {  // the repair must not be there the next time
            after.content = std::make_shared<FileContent>();
            after.content->bytes = content->bytes;
        }
        content->logs = true;
        content->log.clear();
        auto image = after.try_open();
        if (!image) return image.error().message;
        image->reset();
        if (!content->log.empty()) return "opening it changed it";
        content->logs = false;
        const auto reader = after.open(ImageAccess::read_only);
        const auto report = Qcow2Checker::check(*reader, Repair::none, {});
        if (!report) return report.error().message;
        if (report->errors != 0) return report->messages.at(0);
        if (lazy && report->leaks != 0) return "the repair left leaks";
        return fault_of(values_of(*reader), position);
    }

    [[nodiscard]] std::string fault_of(const Values& found, size_t position) const {
        const Durable* sure = &done_.durable[0];
        for (const Durable& candidate : done_.durable) {
            if (candidate.at <= position) sure = &candidate;
        }
        if (found == sure->values) return {};
        // What a resize that is under way adds or takes away is zeros; until it is done the size is the old one.
        const uint64_t size = sure->values.size();
        uint64_t new_size = size;
        for (const Resize& resize : done_.resizes) {
            if (resize.start >= sure->at && resize.start < position) new_size = resize.sectors;
        }
        if (found.size() != size && found.size() != new_size) return fmt::format("it has {} sectors", found.size());
        std::vector<char> right(found.size());
        for (size_t i = 0; i < found.size(); ++i) {
            right[i] = (i < size && found[i] == sure->values[i]) || (i >= std::min(size, new_size) && found[i] == 0);
        }
        for (size_t r = sure->requests; r < done_.requests.size() && done_.requests[r].start < position; ++r) {
            const Request& request = done_.requests[r];
            for (uint64_t i = request.first; i < request.first + request.count; ++i) {
                if (found[i] == request.value) right[i] = 1;
            }
        }
        const auto sector = static_cast<size_t>(std::ranges::find(right, 0) - right.begin());
        if (sector == right.size()) return {};
        return fmt::format("sector {} holds {}, and held {}", sector, found[sector],
                           sector < size ? sure->values[sector] : 0);
    }

    const Workload& done_;
    std::vector<std::byte> backing_;
    std::shared_ptr<FileContent> kept_ = std::make_shared<FileContent>();     // every write up to now
    std::shared_ptr<FileContent> flushed_ = std::make_shared<FileContent>();  // those before the last flush
    Dice dice_{17};
    unsigned checks_ = 0;
};

void require_no_fault(Qcow2Rig& rig, const Workload& done, size_t least_events = 300) {
    Stops stops(rig, done);
    const std::vector<FileEvent> log = std::move(rig.content->log);
    REQUIRE(log.size() > least_events);
    const std::string fault = stops.find_fault(log);
    INFO("of " << log.size() << " events, with " << stops.checks() << " checks");
    CHECK(fault == "");
}

/// A small image of one of the forms, with something on it.
struct Form {
    const char* name;
    uint32_t bits, version;
    bool extended, lazy;
    uint64_t below;  // sectors of the backing file
};
constexpr Form forms[] = {{"plain", 9, 3, false, false, 0},
                          {"backed", 10, 3, false, false, 700},
                          {"version 2", 9, 2, false, false, 0},
                          {"lazy", 9, 3, false, true, 200},
                          {"extended", 14, 3, true, false, 700}};

Qcow2Rig rig_of(const Form& form, uint64_t size) {
    Header header = small_header(size, form.bits);
    header.version = form.version;
    if (form.extended) header.incompatible |= incompatible_extended_l2;
    if (form.lazy) header.compatible |= compatible_lazy_refcounts;
    std::vector<std::byte> below;
    for (uint32_t i = 0; i < form.below; ++i)
        std::ranges::copy(sectors_of(1'000'000 + i, 1), std::back_inserter(below));
    return Qcow2Rig(header, below);
}

/// An image of 64-bit counts whose file ends `left` clusters before what its refcount table can count: a block counts
/// 64 clusters, the first table 4096 (2 MiB). Most of them are of no use and counted nowhere.
Qcow2Rig rig_with_full_table(bool lazy, uint64_t size, uint64_t left) {
    Header header = small_header(size, 9);
    header.refcount_order = 6;
    if (lazy) header.compatible |= compatible_lazy_refcounts;
    Qcow2Rig rig(header);
    {
        const auto image = rig.open();
        REQUIRE(image->write(0, sectors_of(7'000'000, 200)) == DiskStatus::ok);
        // Up to two clusters before the end of what the last block counts.
        for (uint64_t sector = 200; rig.content->bytes.size() / 512 % 64 < 62; ++sector)
            REQUIRE(image->write(sector * 512, sectors_of(7'000'000, 1)) == DiskStatus::ok);
    }
    rig.content->bytes.resize((4096 - left) * 512);
    REQUIRE(load<uint32_t>(rig.content->bytes, at_refcount_table + 8) == 1);
    return rig;
}

std::vector<FileEvent> without_flushes(std::vector<FileEvent> log) {
    for (FileEvent& event : log) {
        if (event.kind == FileEvent::Kind::flush) event = {FileEvent::Kind::punch, 0, 0, {}};
    }
    return log;
}

/// The same log with each new place of the table that the header names at `at` written before the table itself.
std::vector<FileEvent> named_too_early(std::vector<FileEvent> log, uint64_t at) {
    unsigned moved = 0;
    for (size_t i = 0; i < log.size(); ++i) {
        if (log[i].kind != FileEvent::Kind::write || log[i].offset != at || log[i].length != 12) continue;
        const auto table = load<uint64_t>(log[i].bytes, at == at_l1_size ? 4 : 0);
        for (size_t j = i; j-- > 0;) {
            if (log[j].kind != FileEvent::Kind::write || log[j].offset != table) continue;
            const auto first = log.begin();
            std::rotate(first + static_cast<ptrdiff_t>(j), first + static_cast<ptrdiff_t>(i),
                        first + static_cast<ptrdiff_t>(i) + 1);
            ++moved;
            break;
        }
    }
    REQUIRE(moved > 0);
    return log;
}

/// The same log without what is written at `offset`.
std::vector<FileEvent> without_write(std::vector<FileEvent> log, uint64_t offset) {
    const size_t before = log.size();
    std::erase_if(
        log, [&](const FileEvent& event) { return event.kind == FileEvent::Kind::write && event.offset == offset; });
    REQUIRE(log.size() < before);
    return log;
}

}  // namespace

TEST_CASE("A host that stops at any moment leaves a sound QCOW2 image with all that was flushed") {
    for (const Form& form : forms) {
        CAPTURE(form.name);
        Qcow2Rig rig = rig_of(form, form.extended ? 512 << 10 : 128 << 10);
        const Workload done = work(rig, 160, 5, 24);
        require_no_fault(rig, done, 200);
    }
}

TEST_CASE("A host that stops while clusters of a snapshot are copied leaves a sound QCOW2 image") {
    // Packed and plain clusters, and tables, that the snapshot has, too.
    Qcow2Rig rig(small_header(128 << 10));
    {
        const auto image = rig.open();
        REQUIRE(image->write(0, sectors_of(8'000'000, 150)) == DiskStatus::ok);
        for (uint64_t sector = 100; sector < 200; ++sector) {
            REQUIRE(image->write_compressed(sector * 512, sectors_of(9'000'000, 1)) == DiskStatus::ok);
        }
    }
    const auto before = read_all(*rig.open(ImageAccess::read_only));
    make_internal_snapshot(*rig.content);
    const Workload done = work(rig, 160, 7, 24);
    CHECK(read_all(*rig.open(ImageAccess::read_only, "first")) == before);
    CHECK(rig.check().clean());
    require_no_fault(rig, done, 200);
}

TEST_CASE("A host that stops while an image is emptied into the one below leaves both showing the same") {
    for (const bool shared : {false, true}) {
        Header header = small_header(128 << 10);
        header.compatible |= shared ? 0 : compatible_lazy_refcounts;
        Qcow2Rig rig(header, sectors_of(1'000'000, 200));
        work(rig, 100, 8, 24);
        if (shared) make_internal_snapshot(*rig.content);
        auto image = rig.open();
        Workload done;
        done.start = rig.content->bytes;
        done.durable.push_back({0, 0, values_of(*image)});
        rig.content->log.clear();
        // What lies below has it all already.
        rig.backing = read_all(*image);
        REQUIRE(image->drop_all() == DiskStatus::ok);
        image.reset();
        CHECK(rig.check().clean());
        CHECK(values_of(*rig.open(ImageAccess::read_only)) == done.durable[0].values);
        require_no_fault(rig, done, 5);
        done.durable[0].values[100] += 1;
        CHECK_FALSE(Stops(rig, done).find_fault({FileEvent{}}).empty());
    }
}

TEST_CASE("A host that stops while the name of the backing file changes leaves the old one or the new one") {
    Qcow2Rig rig(small_header(128 << 10, 12), sectors_of(1, 100));
    rig.content->logs = true;
    FileContent then;
    then.bytes = rig.content->bytes;
    const std::string old_name = "base.img", new_name(150, 'n');
    REQUIRE(rig.open()->set_backing(new_name, "qcow2"));
    unsigned news = 0;
    for (const FileEvent& event : rig.content->log) {
        const auto sectors = std::max<size_t>(1, (event.bytes.size() + 511) / 512);
        for (size_t some = 0; some < size_t{1} << sectors; ++some) {
            FileContent torn = then;
            for (size_t i = 0; i < event.bytes.size(); ++i) {
                if ((some >> i / 512 & 1) != 0) torn.bytes[event.offset + i] = event.bytes[i];
            }
            const auto image = Qcow2Rig(torn.bytes).open(ImageAccess::read_only);
            const bool is_new = image->header().backing_file == new_name;
            CHECK(image->header().backing_format == (is_new ? "qcow2" : "raw"));
            CHECK((is_new || image->header().backing_file == old_name));
            news += is_new;
        }
        then.apply(event);
    }
    CHECK(news > 0);
}

TEST_CASE("A host that stops while the refcount table moves leaves a sound QCOW2 image") {
    for (const bool lazy : {false, true}) {
        Qcow2Rig rig = rig_with_full_table(lazy, 256 << 10, 60);
        const Workload done = work(rig, 40, 6, 60);
        const auto table = load<uint64_t>(rig.content->bytes, at_refcount_table);
        CHECK(load<uint32_t>(rig.content->bytes, at_refcount_table + 8) > 1);
        const auto log = rig.content->log;
        require_no_fault(rig, done, 100);
        // The test can fail: with a table that is named before it is there (an image that counts lazily makes all anew
        // then), and with one that is never written.
        CHECK(Stops(rig, done).find_fault(named_too_early(log, at_refcount_table)).empty() == lazy);
        CHECK_FALSE(Stops(rig, done).find_fault(without_write(log, table)).empty());
    }
}

TEST_CASE("A host that stops while the L1 table and the refcount table move together leaves a sound QCOW2 image") {
    for (const bool lazy : {false, true}) {
        Qcow2Rig rig = rig_with_full_table(lazy, 128 << 10, 3);
        Workload done;
        done.start = rig.content->bytes;
        rig.content->logs = true;
        auto image = rig.open();
        Values expected = values_of(*image);
        done.durable.push_back({0, 0, expected});
        const auto l1_before = load<uint64_t>(rig.content->bytes, at_l1_size + 4);
        // 147 entries: three clusters instead of one.
        const uint64_t sectors = 9'400;
        done.resizes.push_back({0, sectors});
        REQUIRE(image->resize(sectors * 512));
        expected.resize(sectors);
        done.durable.push_back({rig.content->log.size(), 0, expected});
        // Through the new table's last entry.
        done.requests.push_back({rig.content->log.size(), sectors - 40, 40, 3'000'000});
        REQUIRE(image->write((sectors - 40) * 512, sectors_of(3'000'000, 40)) == DiskStatus::ok);
        image.reset();
        CHECK(rig.check().clean());
        const auto l1 = load<uint64_t>(rig.content->bytes, at_l1_size + 4);
        CHECK(l1 != l1_before);
        CHECK(load<uint32_t>(rig.content->bytes, at_l1_size) == 147);
        CHECK(load<uint32_t>(rig.content->bytes, at_refcount_table + 8) > 1);
        const auto log = rig.content->log;
        require_no_fault(rig, done, 10);
        // The test can fail, for either table.
        for (const uint64_t at : {at_l1_size, at_refcount_table}) {
            CAPTURE(at);
            CHECK_FALSE(Stops(rig, done).find_fault(named_too_early(log, at)).empty());
        }
        CHECK_FALSE(Stops(rig, done).find_fault(without_write(log, l1)).empty());
    }
}

TEST_CASE("A host that stops while an image is resized leaves it sound, with the old size or the new one") {
    for (const Form& form : forms) {
        CAPTURE(form.name);
        Qcow2Rig rig = rig_of(form, 128 << 10);
        Workload done = work(rig, 60, 9, 24);
        auto image = rig.open();
        Dice dice(10);
        Values expected = values_of(*image);
        const auto sure = [&] {
            CHECK(values_of(*image) == expected);
            done.durable.push_back({rig.content->log.size(), done.requests.size(), expected});
        };
        // Within its L1 table, with a larger one, to within a cluster, to within the first table, and to an L1 table of
        // two clusters.
        const auto largest = form.bits == 9 ? uint64_t{4200} : uint64_t{1500};
        for (const uint64_t sectors :
             {uint64_t{255}, uint64_t{257}, uint64_t{620}, uint64_t{411}, uint64_t{33}, largest}) {
            done.resizes.push_back({rig.content->log.size(), sectors});
            REQUIRE(image->resize(sectors * 512));
            expected.resize(sectors);
            sure();
            for (uint32_t i = 0; i < 3; ++i) {
                const uint64_t first = dice() % sectors;
                const uint64_t length = 1 + dice() % std::min<uint64_t>(sectors - first, 24);
                const uint32_t value = 2'000'000 + i;
                done.requests.push_back({rig.content->log.size(), first, length, value});
                REQUIRE(image->write(first * 512, sectors_of(value, length)) == DiskStatus::ok);
                std::fill_n(expected.begin() + static_cast<ptrdiff_t>(first), length, value);
            }
            REQUIRE(image->flush() == DiskStatus::ok);
            sure();
        }
        image.reset();
        CHECK(rig.check().clean());
        const auto log = rig.content->log;
        require_no_fault(rig, done, 100);
        // The test can fail: without the host's flushes, and with an image that is said to hold something else.
        CHECK_FALSE(Stops(rig, done).find_fault(without_flushes(log)).empty());
        done.durable.back().values[7] += 1;
        CHECK_FALSE(Stops(rig, done).find_fault(log).empty());
    }
}

TEST_CASE(
    "A host that stops while an image is copied into the one below leaves that one sound, and both showing the same") {
    for (const Form& form : forms) {
        CAPTURE(form.name);
        Qcow2Rig below = rig_of(form, 128 << 10);
        work(below, 60, 11, 24);
        Workload done;
        done.start = below.content->bytes;
        auto base = below.open();
        const Values before = values_of(*base);
        below.content->log.clear();
        done.durable.push_back({0, 0, before});
        // On top: other clusters, of another size, some of them zeros.
        Qcow2Rig above(small_header(128 << 10, form.bits == 9 ? 12 : 9), read_all(*base));
        work(above, 60, 12, 16);
        const auto top = above.open();
        const Values shown = values_of(*top);
        REQUIRE(shown != before);
        for (size_t i = 0; i < shown.size(); ++i) {
            if (shown[i] != before[i]) done.requests.push_back({0, i, 1, shown[i]});
        }
        above.content->log.clear();
        const auto moved = copy_down(*top, *base, {});
        REQUIRE(moved);
        CHECK(moved->copied > 0);
        CHECK(values_of(*base) == shown);
        // All of it is durable before anything of the upper one goes.
        CHECK(above.content->log.empty());
        REQUIRE(below.content->log.size() > 0);
        done.durable.push_back({below.content->log.size(), done.requests.size(), shown});
        const auto log = below.content->log;
        // Behind the last flush space is given back, and nothing else.
        const auto last = std::ranges::find_if_not(
            log.rbegin(), log.rend(), [](const FileEvent& event) { return event.kind == FileEvent::Kind::punch; });
        CHECK((last != log.rend() && last->kind == FileEvent::Kind::flush));
        base.reset();
        CHECK(below.check().clean());
        require_no_fault(below, done, 20);
        done.durable.pop_back();
        done.requests.resize(done.requests.size() / 2);
        CHECK_FALSE(Stops(below, done).find_fault(log).empty());
    }
}

TEST_CASE("A host that stops while an image takes what lies below leaves it sound and showing the same") {
    for (const Form& form : forms) {
        if (form.below == 0) continue;
        CAPTURE(form.name);
        Qcow2Rig rig = rig_of(form, 128 << 10);
        work(rig, 60, 13, 8);
        auto image = rig.open();
        Workload done;
        done.start = rig.content->bytes;
        done.durable.push_back({0, 0, values_of(*image)});
        rig.content->log.clear();
        const auto moved = copy_up(*image, nullptr, {});
        REQUIRE(moved);
        CHECK(moved->copied > 0);
        image.reset();
        CHECK(rig.check().clean());
        const auto log = rig.content->log;
        require_no_fault(rig, done, 10);
        CHECK_FALSE(Stops(rig, done).find_fault(without_flushes(log)).empty());
    }
}

TEST_CASE("The test of stops finds an order of writes that is wrong") {
    Qcow2Rig rig(small_header(128 << 10));
    const Workload done = work(rig, 240, 5, 24);
    const std::vector<FileEvent> log = rig.content->log;
    REQUIRE(Stops(rig, done).find_fault(log).empty());
    SECTION("the counts are never written") {
        const auto table = load<uint64_t>(rig.content->bytes, at_refcount_table);
        const auto block = load<uint64_t>(rig.content->bytes, table);
        auto without = log;
        std::erase_if(without, [&](const FileEvent& event) {
            return event.kind == FileEvent::Kind::write && event.offset >= block && event.offset < block + 512;
        });
        REQUIRE(without.size() < log.size());
        CHECK(Stops(rig, done).find_fault(without).find("counts 0, and is used") != std::string::npos);
    }
    SECTION("two writes change places across a flush") {
        auto swapped = log;
        unsigned swaps = 0;
        for (size_t i = 1; i + 1 < swapped.size(); ++i) {
            if (swapped[i].kind != FileEvent::Kind::flush || swapped[i - 1].kind != FileEvent::Kind::write ||
                swapped[i + 1].kind != FileEvent::Kind::write) {
                continue;
            }
            std::swap(swapped[i - 1], swapped[i + 1]);
            ++swaps;
            ++i;
        }
        REQUIRE(swaps > 20);
        CHECK_FALSE(Stops(rig, done).find_fault(swapped).empty());
    }
    SECTION("no flush reaches the host") {
        CHECK(Stops(rig, done).find_fault(without_flushes(log)).find("some writes lost") != std::string::npos);
    }
}
