#include "devices/storage/image/qcow2_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "devices/storage/image/image_chain.hpp"

namespace viv {

using namespace qcow2;

namespace {

constexpr size_t max_messages = 20;
// L2 tables that one check reads; no sound image has more.
constexpr uint64_t max_tables = 16 << 20;

/// How often each cluster is referred to; memory only where there are some.
class Counts {
  public:
    explicit Counts(uint64_t clusters) : clusters_(clusters), chunks_((clusters + chunk - 1) / chunk) {}
    [[nodiscard]] uint64_t size() const { return clusters_; }
    [[nodiscard]] uint64_t at(uint64_t cluster) const {
        if (cluster >= clusters_ || !chunks_[cluster / chunk]) return 0;
        return (*chunks_[cluster / chunk])[cluster % chunk];
    }
    void add(uint64_t cluster) {
        auto& part = chunks_[cluster / chunk];
        if (!part) part = std::make_unique<std::array<uint32_t, chunk>>();
        ++(*part)[cluster % chunk];
    }
    /// The next cluster from this one on that may have a count.
    [[nodiscard]] uint64_t next(uint64_t cluster) const {
        while (cluster < clusters_ && !chunks_[cluster / chunk]) cluster = (cluster / chunk + 1) * chunk;
        return std::min(cluster, clusters_);
    }

  private:
    static constexpr uint64_t chunk = 4096;
    uint64_t clusters_;
    std::vector<std::unique_ptr<std::array<uint32_t, chunk>>> chunks_;
};

struct Word {
    uint64_t place;  // in the file
    uint64_t value;
};

class Check {
  public:
    Check(ImageFile& file, Header& header, const std::vector<Snapshot>& snapshots, CheckReport& report,
          const Progress& progress)
        : file_(file),
          header_(header),
          snapshots_(snapshots),
          report_(report),
          progress_(progress),
          cluster_(header.cluster_size()),
          counts_((file.size() + cluster_ - 1) / cluster_) {}

    Result<void> run(const std::vector<uint64_t>& l1) {
        report_.clusters = header_.size / cluster_ + (header_.size % cluster_ != 0);
        count(0, cluster_, "the header");
        count(header_.l1_offset, l1.size() * 8, "the L1 table");
        TRY(walk_l1(header_.l1_offset, l1, true));
        if (header_.snapshots != 0) TRY(walk_snapshots());
        if (header_.bitmaps && (header_.autoclear & autoclear_bitmaps) != 0) TRY(walk_bitmaps());
        // The counts' own clusters come last: when they are made anew, the old ones are free.
        without_counts_ = std::make_unique<Counts>(std::move(counts_));
        counts_ = copy_of(*without_counts_);
        Refcounts refcounts(file_, header_);
        if (refcounts.load() != DiskStatus::ok) return unreadable();
        count(header_.refcount_table_offset, uint64_t{header_.refcount_table_clusters} << header_.cluster_bits,
              "the refcount table");
        std::unordered_set<uint64_t> seen;
        for (const uint64_t block : refcounts.table()) {
            if (block == 0) continue;
            if (block % cluster_ != 0 || block / cluster_ >= counts_.size() || !seen.insert(block).second ||
                without_counts_->at(block / cluster_) != 0) {
                error(fmt::format("the refcount block at {:#x} is in no sound place", block));
                counts_lost_ = true;
                continue;
            }
            count(block, cluster_, "a refcount block");
        }
        if (!counts_lost_) TRY(compare(refcounts));
        check_flags();
        for (uint64_t c = counts_.size(); c-- > 0;) {
            if (counts_.at(c) == 0) continue;
            report_.file_end = (c + 1) * cluster_;
            break;
        }
        return {};
    }

    Result<void> repair(Repair what) {
        bool sound = true;
        const auto put = [&](const Word& word) {
            std::array<std::byte, 8> bytes{};
            store(std::span<std::byte>(bytes), 0, word.value);
            sound = sound && file_.write(word.place, bytes) == DiskStatus::ok;
        };
        if (what == Repair::all) {
            for (const Word& word : repairs_) put(word);
            if (file_.flush() != DiskStatus::ok) sound = false;
        }
        Refcounts refcounts(file_, header_);
        if (counts_lost_ && what == Repair::all) {
            refcounts.start_anew(counts_.size());
            for (uint64_t c = without_counts_->next(0); c < counts_.size(); c = without_counts_->next(c + 1)) {
                if (without_counts_->at(c) != 0)
                    sound = sound && refcounts.set(c, without_counts_->at(c)) == DiskStatus::ok;
            }
        } else {
            if (refcounts.load() != DiskStatus::ok) return unreadable();
            for (const auto& [cluster, expected, leak] : wrong_) {
                if (what == Repair::all || leak) sound = sound && refcounts.set(cluster, expected) == DiskStatus::ok;
            }
        }
        std::vector<uint64_t> freed;
        sound = sound && refcounts.write_blocks() == DiskStatus::ok && file_.flush() == DiskStatus::ok &&
                refcounts.write_table(freed) == DiskStatus::ok && file_.flush() == DiskStatus::ok;
        for (const uint64_t offset : freed) {
            // Of a table that only moved; one that was made anew does not count the old one.
            if (!counts_lost_) sound = sound && refcounts.add(offset / cluster_, -1) == DiskStatus::ok;
        }
        sound = sound && refcounts.write_blocks() == DiskStatus::ok && file_.flush() == DiskStatus::ok;
        if (!sound)
            return fail("the repair failed: the host's disk is full or failed, or a count does not fit its bits");
        return {};
    }

  private:
    static Counts copy_of(const Counts& from) {
        Counts to(from.size());
        for (uint64_t c = from.next(0); c < from.size(); c = from.next(c + 1)) {
            for (uint64_t i = 0; i < from.at(c); ++i) to.add(c);
        }
        return to;
    }
    static std::unexpected<Error> unreadable() { return fail("its tables cannot be read"); }

    void error(std::string message) {
        ++report_.errors;
        if (report_.messages.size() < max_messages) report_.messages.push_back(std::move(message));
    }

    /// False if it lies outside of the file.
    bool count(uint64_t offset, uint64_t length, std::string_view what) {
        if (length == 0) return true;
        const uint64_t first = offset / cluster_;
        const uint64_t last = (offset + length - 1) / cluster_;
        if (offset >= max_file_offset || length >= max_file_offset || last >= counts_.size()) {
            error(fmt::format("{} at {:#x} lies behind the end of the file", what, offset));
            return false;
        }
        for (uint64_t c = first; c <= last; ++c) counts_.add(c);
        return true;
    }

    Result<void> walk_l1(uint64_t l1_offset, const std::vector<uint64_t>& l1, bool active) {
        std::vector<std::byte> table(cluster_);
        std::unordered_set<uint64_t> seen;
        for (size_t i = 0; i < l1.size(); ++i) {
            const uint64_t place = l1[i] & entry_offset_mask;
            if (place == 0) continue;
            if (progress_ && active && i % 16 == 0) progress_(i, l1.size());
            if (place % cluster_ != 0 || !count(place, cluster_, "an L2 table")) {
                if (place % cluster_ != 0)
                    error(fmt::format("the L2 table at {:#x} is not at the start of a cluster", place));
                if (active) repairs_.push_back({l1_offset + i * 8, 0});
                continue;
            }
            if (active) flags_.push_back({l1_offset + i * 8, l1[i]});
            if (!seen.insert(place).second) {
                error(fmt::format("two entries of the L1 table share the L2 table at {:#x}", place));
                continue;
            }
            if (++tables_ > max_tables) return fail("it has too many tables to check");
            if (file_.read(place, table) != DiskStatus::ok) return unreadable();
            walk_l2(place, table, active);
        }
        return {};
    }

    void walk_l2(uint64_t place, std::span<const std::byte> table, bool active) {
        const uint64_t step = header_.l2_entry_size();
        for (uint64_t at = 0; at < table.size(); at += step) {
            const auto word = load<uint64_t>(table, at);
            const uint64_t bits = step == 16 ? load<uint64_t>(table, at + 8) : 0;
            const uint64_t host = word & entry_offset_mask;
            const auto drop = [&] {
                if (!active) return;
                repairs_.push_back({place + at, header_.version >= 3 && step == 8 ? entry_zero : 0});
                if (step == 16) repairs_.push_back({place + at + 8, 0xFFFF'FFFF'0000'0000});
            };
            if ((word & entry_compressed) != 0) {
                const CompressedPlace data = compressed_place(header_, word);
                // The last sector may be cut short with the file.
                const uint64_t end = std::min(data.offset + data.length, std::max(file_.size(), data.offset + 1));
                if ((word & entry_copied) != 0)
                    error(fmt::format("the compressed cluster at {:#x} has the flag of others", data.offset));
                if (!count(data.offset, end - data.offset, "a compressed cluster")) drop();
                report_.allocated += active;
                report_.compressed += active;
                continue;
            }
            const bool zero = step == 8 && (word & entry_zero) != 0;
            report_.zeros += active && (zero || (bits >> 32) == 0xFFFF'FFFF);
            const bool contradiction =
                (bits & bits >> 32 & 0xFFFF'FFFF) != 0 || (host == 0 && (bits & 0xFFFF'FFFF) != 0);
            if (contradiction || (zero && header_.version < 3)) {
                error(fmt::format("the entry at {:#x} of an L2 table contradicts itself", place + at));
                drop();
            }
            if (host == 0) continue;
            if (host % cluster_ != 0) {
                error(fmt::format("the data cluster at {:#x} is not at the start of a cluster", host));
                drop();
                continue;
            }
            if (!count(host, cluster_, "a data cluster")) {
                drop();
                continue;
            }
            if (!active) continue;
            report_.allocated += !zero;
            flags_.push_back({place + at, word});
        }
    }

    Result<void> walk_snapshots() {
        uint64_t bytes = 0;
        Snapshot parsed;
        std::vector<std::byte> table(
            std::min(max_snapshot_table_bytes, file_.size() - std::min(file_.size(), header_.snapshots_offset)));
        if (file_.read(header_.snapshots_offset, table) != DiskStatus::ok) return unreadable();
        for (uint32_t i = 0; i < header_.snapshots; ++i) {
            const auto length =
                parse_snapshot(std::span(table).subspan(std::min<uint64_t>(bytes, table.size())), parsed);
            if (!length) return fail("its snapshot table makes no sense");
            bytes += *length;
        }
        count(header_.snapshots_offset, bytes, "the snapshot table");
        for (const Snapshot& snapshot : snapshots_) {
            const uint64_t size = uint64_t{snapshot.l1_size} * 8;
            if (size > max_l1_bytes || snapshot.l1_offset % cluster_ != 0 ||
                !count(snapshot.l1_offset, size, "the L1 table of a snapshot")) {
                error(fmt::format("snapshot '{}' has its L1 table in no sound place", snapshot.name));
                continue;
            }
            std::vector<std::byte> l1_bytes(size);
            if (file_.read(snapshot.l1_offset, l1_bytes) != DiskStatus::ok) return unreadable();
            std::vector<uint64_t> l1(snapshot.l1_size);
            for (size_t i = 0; i < l1.size(); ++i) l1[i] = load<uint64_t>(l1_bytes, i * 8);
            TRY(walk_l1(snapshot.l1_offset, l1, false));
        }
        return {};
    }

    Result<void> walk_bitmaps() {
        constexpr uint64_t max_directory = 64 << 20;
        constexpr uint64_t max_table = 8 << 20;
        const Bitmaps& bitmaps = *header_.bitmaps;
        if (bitmaps.directory_size > max_directory || bitmaps.directory_offset % cluster_ != 0 ||
            !count(bitmaps.directory_offset, bitmaps.directory_size, "the directory of bitmaps")) {
            error("the directory of its bitmaps is in no sound place");
            return {};
        }
        std::vector<std::byte> directory(bitmaps.directory_size);
        if (file_.read(bitmaps.directory_offset, directory) != DiskStatus::ok) return unreadable();
        for (size_t at = 0; at + 24 <= directory.size();) {
            const auto table_offset = load<uint64_t>(directory, at);
            const uint64_t table_size = uint64_t{load<uint32_t>(directory, at + 8)} * 8;
            const size_t name_size = load<uint16_t>(directory, at + 18);
            const size_t extra_size = load<uint32_t>(directory, at + 20);
            at += (24 + extra_size + name_size + 7) / 8 * 8;
            if (table_size > max_table || !count(table_offset, table_size, "the table of a bitmap")) {
                error("the table of a bitmap is in no sound place");
                continue;
            }
            std::vector<std::byte> table(table_size);
            if (file_.read(table_offset, table) != DiskStatus::ok) return unreadable();
            for (size_t i = 0; i < table_size; i += 8) {
                const uint64_t place = load<uint64_t>(table, i) & entry_offset_mask;
                if (place != 0) count(place, cluster_, "a part of a bitmap");
            }
        }
        return {};
    }

    Result<void> compare(Refcounts& refcounts) {
        const uint64_t per_block = header_.refcounts_per_block();
        const auto& table = refcounts.table();
        const uint64_t end = std::max<uint64_t>(counts_.size(), table.size() * per_block);
        for (uint64_t c = 0; c < end; ++c) {
            if (c % per_block == 0 && (c / per_block >= table.size() || table[c / per_block] == 0)) {
                // Counts as free; what is used of it is an error.
                const uint64_t next = std::min((c / per_block + 1) * per_block, end);
                for (uint64_t i = counts_.next(c); i < std::min(next, counts_.size()); i = counts_.next(i + 1)) {
                    if (counts_.at(i) != 0) judge(i, 0);
                }
                c = next - 1;
                continue;
            }
            uint64_t stored = 0;
            if (refcounts.get(c, stored) != DiskStatus::ok) return unreadable();
            judge(c, stored);
        }
        return {};
    }

    void judge(uint64_t cluster, uint64_t stored) {
        const uint64_t expected = counts_.at(cluster);
        if (stored == expected) return;
        const bool leak = stored > expected;
        wrong_.push_back({cluster, expected, leak});
        auto message = fmt::format("the cluster at {:#x} counts {}, and is used {} time{}", cluster * cluster_, stored,
                                   expected, expected == 1 ? "" : "s");
        if (!leak) return error(std::move(message));
        ++report_.leaks;
        if (report_.messages.size() < max_messages) report_.messages.push_back(std::move(message));
    }

    void check_flags() {
        for (const auto& [place, value] : flags_) {
            const bool once = counts_.at((value & entry_offset_mask) / cluster_) == 1;
            if (((value & entry_copied) != 0) == once) continue;
            // Without the flag a writer copies in vain, which does no harm.
            if (!once)
                error(fmt::format("the entry at {:#x} says that a cluster is its alone, which is used more often",
                                  place));
            repairs_.push_back({place, once ? value | entry_copied : value & ~entry_copied});
        }
    }

    struct Wrong {
        uint64_t cluster;
        uint64_t expected;
        bool leak;
    };

    ImageFile& file_;
    Header& header_;
    const std::vector<Snapshot>& snapshots_;
    CheckReport& report_;
    const Progress& progress_;
    uint64_t cluster_;
    Counts counts_;
    std::unique_ptr<Counts> without_counts_;
    bool counts_lost_ = false;
    uint64_t tables_ = 0;
    std::vector<Word> flags_;    // entries whose flag has to agree with the count
    std::vector<Word> repairs_;  // words to write
    std::vector<Wrong> wrong_;
};

}  // namespace

Result<CheckReport> Qcow2Checker::check(Qcow2Image& image, Repair repair, const Progress& progress) {
    CheckReport found;
    Check first(*image.file_, image.header_, image.snapshots_, found, progress);
    TRY(first.run(image.l1_));
    const uint64_t flags = incompatible_dirty | incompatible_corrupt;
    const bool marked = (image.header_.incompatible & flags) != 0;
    const bool wanted = repair == Repair::all ? !found.clean() || marked : repair == Repair::leaks && found.leaks != 0;
    if (!wanted) {
        if (repair == Repair::all) TRY(first.repair(repair));  // flags that are missing
        return found;
    }
    TRY(first.repair(repair));
    TRY(image.load_l1(image.header_.l1_offset, image.header_.l1_size));
    CheckReport left;
    const Progress silent;
    Check second(*image.file_, image.header_, image.snapshots_, left, silent);
    TRY(second.run(image.l1_));
    left.repaired_errors = found.errors - std::min(found.errors, left.errors);
    left.repaired_leaks = found.leaks - std::min(found.leaks, left.leaks);
    if (left.errors == 0 && repair == Repair::all) {
        left.messages = found.messages;
        if (marked) {
            image.header_.incompatible &= ~flags;
            if (image.write_header_word(at_incompatible, image.header_.incompatible) != DiskStatus::ok ||
                image.file_->flush() != DiskStatus::ok) {
                return fail("the host's disk failed");
            }
        }
    }
    return left;
}

Result<std::unique_ptr<Qcow2Image>> open_qcow2_for_check(const std::string& path, Repair repair) {
    const OpenFile open =
        TRY(open_image_file(path, repair == Repair::none ? ImageAccess::read_only : ImageAccess::writable));
    auto file = make_image_file(open.fd, path, open.size);
    const Header header = TRY(read_qcow2_header(*file, path));
    return Qcow2Image::open(std::move(file), path, header, nullptr, ImageAccess::read_only);
}

}  // namespace viv
