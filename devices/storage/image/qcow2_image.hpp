#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/storage/image/disk_image.hpp"
#include "devices/storage/image/image_file.hpp"
#include "devices/storage/image/qcow2_format.hpp"
#include "devices/storage/image/qcow2_refcounts.hpp"
#include "devices/storage/image/qcow2_tables.hpp"
#include "vmm/core/log.hpp"

namespace viv {

/// A QCOW2 image, read and written.
///
/// Order of writes: data and the tables that nothing points to yet go into the file first, with counts that only grow;
/// then a flush; then the entries that point to them; then a flush; then counts of what is not in use any more shrink
/// in memory, and go into the file with the next round. So the file is a sound image at any time, and what a broken-off
/// round leaves behind is at most space that nobody uses. docs/images.md says more.
class Qcow2Image final : public DiskImage {
  public:
    /// `header` is the file's. `backing` is what lies below, if the header names a backing file. With `snapshot` its
    /// content is shown, read-only. Errors are whole sentences.
    static Result<std::unique_ptr<Qcow2Image>> open(std::unique_ptr<ImageFile> file, std::string name,
                                                    qcow2::Header header, std::unique_ptr<DiskImage> backing,
                                                    ImageAccess access, const std::string& snapshot = {});
    ~Qcow2Image() override;
    Qcow2Image(const Qcow2Image&) = delete;
    Qcow2Image& operator=(const Qcow2Image&) = delete;

    [[nodiscard]] uint64_t size() const override { return size_; }
    [[nodiscard]] bool read_only() const override { return read_only_; }
    [[nodiscard]] const std::string& name() const override { return name_; }
    DiskStatus read(uint64_t offset, std::span<std::byte> out) override;
    DiskStatus write(uint64_t offset, std::span<const std::byte> in) override;
    DiskStatus flush() override;
    DiskStatus discard(uint64_t offset, uint64_t length) override;
    DiskStatus write_zeros(uint64_t offset, uint64_t length) override;
    DiskExtent extent(uint64_t offset, uint64_t length) override;
    Result<void> grow(uint64_t size) override;

    [[nodiscard]] const qcow2::Header& header() const { return header_; }
    [[nodiscard]] ImageFile& file() { return *file_; }
    [[nodiscard]] DiskImage* backing() { return backing_.get(); }
    [[nodiscard]] const std::vector<qcow2::Snapshot>& snapshots() const { return snapshots_; }

    /// How far from `offset` on this image, not its backing file, says what the bytes are; or does not.
    struct OwnExtent {
        bool own = false;
        bool zeros = false;
        uint64_t length = 0;
    };
    [[nodiscard]] OwnExtent own_extent(uint64_t offset, uint64_t length);

    /// Writes one whole cluster (or the last, shorter one) in compressed form where that makes it smaller.
    [[nodiscard]] DiskStatus write_compressed(uint64_t offset, std::span<const std::byte> in);
    /// Takes space in the file for all clusters, so that writing needs no more tables. They read as zeros.
    [[nodiscard]] DiskStatus allocate_all();
    /// Forgets all that is in the image itself, which shows its backing file from then on. It can stop at any moment
    /// without harm if that holds the same already.
    [[nodiscard]] DiskStatus drop_all();
    /// Another backing file will come below: from now on zeros are in the image itself wherever they are written.
    void expect_another_backing() { other_below_ = true; }
    /// Changes the size of the disk; what is new reads as zeros.
    [[nodiscard]] Result<void> resize(uint64_t size);
    /// Names another backing file ("" for none) without touching the data; takes effect with the next opening.
    [[nodiscard]] Result<void> set_backing(const std::string& path, const std::string& format);

  private:
    friend class Qcow2Checker;

    enum class Kind { backing, zeros, data, compressed, bad };
    struct Run {
        Kind kind = Kind::bad;
        uint64_t host = 0;   // of data: where they lie in the file
        uint64_t entry = 0;  // of compressed
        uint64_t length = 0;
    };
    struct Entry {
        uint64_t word = 0;
        uint64_t bits = 0;  // of an extended entry: low half there, high half zeros
        [[nodiscard]] bool compressed() const { return (word & qcow2::entry_compressed) != 0; }
        [[nodiscard]] uint64_t host() const { return word & qcow2::entry_offset_mask; }
        bool operator==(const Entry&) const = default;
    };
    /// What an entry becomes when the data are written.
    struct Change {
        size_t index = 0;
        Entry before;
        Entry after;
        uint64_t allocated = 0;  // a new cluster, given back if the write fails
    };
    /// Bytes for neighbouring places of the file, and the entries that follow them.
    struct Pending {
        uint64_t host = 0;
        std::span<const std::byte> bytes;
        std::vector<Change> changes;
    };

    Qcow2Image(std::unique_ptr<ImageFile> file, std::string name, qcow2::Header header,
               std::unique_ptr<DiskImage> backing);
    Result<void> load(ImageAccess access, const std::string& snapshot);
    Result<void> load_snapshots();
    Result<void> load_l1(uint64_t offset, uint32_t entries);
    Result<void> prepare_for_writing();

    // Reading.
    [[nodiscard]] Run find(uint64_t offset, uint64_t length);
    [[nodiscard]] Kind kind_of(const Entry& entry, uint64_t unit) const;
    [[nodiscard]] Entry entry_at(const qcow2::Table& table, size_t index) const;
    [[nodiscard]] DiskStatus l2_for_reading(uint64_t offset, qcow2::Table*& table);
    [[nodiscard]] DiskStatus read_backing(uint64_t offset, std::span<std::byte> out);
    [[nodiscard]] DiskStatus read_compressed(uint64_t entry, uint64_t within, std::span<std::byte> out);
    [[nodiscard]] DiskStatus bad_entry(uint64_t offset, std::string_view what);

    // Writing.
    [[nodiscard]] DiskStatus begin_writing();
    [[nodiscard]] DiskStatus mark_dirty();
    [[nodiscard]] DiskStatus l2_for_writing(uint64_t offset, qcow2::Table*& table);
    void set_entry(qcow2::Table& table, size_t index, Entry entry);
    [[nodiscard]] DiskStatus write_within_table(uint64_t offset, std::span<const std::byte> in);
    [[nodiscard]] DiskStatus write_cluster(qcow2::Table& table, uint64_t offset, std::span<const std::byte> in,
                                           Pending& pending);
    [[nodiscard]] DiskStatus write_pending(qcow2::Table& table, Pending& pending);
    [[nodiscard]] DiskStatus zero_cluster(qcow2::Table& table, uint64_t offset, uint64_t length, bool keep_backing);
    [[nodiscard]] DiskStatus clear(uint64_t offset, uint64_t length, bool is_discard);
    [[nodiscard]] DiskStatus allocate(uint64_t count, uint64_t& offset);
    void release(const Entry& entry);
    void release_clusters(uint64_t offset, uint64_t length);
    [[nodiscard]] DiskStatus commit();
    [[nodiscard]] DiskStatus commit_tables();
    [[nodiscard]] DiskStatus write_l1();
    void free_unused();
    void note_l1_change(size_t index);
    /// Whether something may lie below these bytes, now or later.
    [[nodiscard]] bool has_below(uint64_t offset) const {
        return other_below_ || (backing_ && offset < backing_->size());
    }
    DiskStatus close();
    [[nodiscard]] bool is_metadata(uint64_t offset) const;
    void note_metadata(uint64_t offset);
    [[nodiscard]] DiskStatus write_header_word(size_t at, uint64_t value);
    [[nodiscard]] DiskStatus rewrite_header();
    [[nodiscard]] DiskStatus refuse_corruption(std::string_view what);

    [[nodiscard]] uint64_t cluster_size() const { return header_.cluster_size(); }
    [[nodiscard]] bool within(uint64_t offset, uint64_t length, uint64_t end) const {
        return offset <= end && length <= end - offset;
    }

    std::unique_ptr<ImageFile> file_;
    std::string name_;
    qcow2::Header header_;
    std::unique_ptr<DiskImage> backing_;
    uint64_t size_;
    bool read_only_ = true;
    std::vector<qcow2::Snapshot> snapshots_;

    std::vector<uint64_t> l1_;
    size_t l1_dirty_from_ = 0;
    size_t l1_dirty_to_ = 0;
    qcow2::TableCache l2_;
    qcow2::Refcounts refcounts_;

    // The last compressed cluster that was read.
    uint64_t unpacked_entry_ = 0;
    std::vector<std::byte> unpacked_;

    // Of writing.
    std::vector<uint64_t> metadata_;  // offsets of clusters that hold tables, sorted
    std::vector<uint64_t> unused_;    // offsets of clusters to count down when the next commit is durable
    std::vector<std::byte> scratch_;  // a cluster
    uint64_t pack_at_ = 0;            // where the next compressed cluster goes; 0: into a new cluster
    bool begun_ = false;
    bool other_below_ = false;
    bool broken_ = false;  // corrupt, or the host lost writes: nothing is written any more
    RepeatedLog log_;
};

}  // namespace viv
