#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/storage/image/disk_image.hpp"
#include "vmm/core/event_loop.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/host_queue.hpp"
#include "vmm/core/log.hpp"

namespace viv {

class DiskQueue;

/// How transfers are made beside the machine: `automatic` is io_uring, or threads where the host refuses that.
enum class DiskWay : uint8_t { automatic, threads };

/// A machine's leave to make transfers beside it. A machine on virtual time gives none: there a transfer ends in the
/// access that asks for it.
class DiskWork {
  public:
    DiskWork(EventLoop& loop, GuestMemory& memory);
    DiskWork(const DiskWork&) = delete;
    DiskWork& operator=(const DiskWork&) = delete;

    /// Returns when nothing is under way any more and everybody has been told.
    void drain();
    /// How many requests are under way, of all disks.
    [[nodiscard]] size_t under_way() const;

  private:
    friend class DiskQueue;
    /// Returns when no transfer touches guest memory any more.
    void settle();

    EventLoop& loop_;
    std::vector<DiskQueue*> queues_;
};

/// What a device wants of a disk.
struct DiskRequest {
    enum class Kind : uint8_t { read, write, flush, discard, write_zeros };
    /// Guest memory of the data, in their order.
    struct Piece {
        Gpa base;
        uint64_t size = 0;
    };
    Kind kind = Kind::read;
    /// Of a write: on the host's medium when it is done, as if flushed.
    bool durable = false;
    uint64_t offset = 0;  // bytes
    uint64_t length = 0;  // of discard and write_zeros
    std::vector<Piece> pieces;
    GuestMemory* memory = nullptr;
};

/// A disk image with requests under way beside the machine, straight from and to guest memory. They end in any order; a
/// flush is about what had ended before it began. As a DiskImage it is for everybody else (firmware, other commands):
/// each such call waits for what is under way first.
class DiskQueue final : public DiskImage {
  public:
    using Done = std::move_only_function<void(DiskStatus)>;
    /// From so many requests on the queue is full. It takes more all the same.
    static constexpr unsigned depth = 128;
    /// Threads for a raw image. Other formats have one, since they change their own tables.
    static constexpr unsigned threads = 8;

    /// Without `work` each request is done within start().
    explicit DiskQueue(std::unique_ptr<DiskImage> image, DiskWork* work = nullptr, DiskWay way = DiskWay::automatic);
    ~DiskQueue() override;

    /// `done` is called under the machine lock: in here, in submit() or later; never after a reset that drained.
    void start(DiskRequest request, Done done);
    /// What was started goes to the host; what is finished already is told of.
    void submit();
    /// Called after a row of `done`s, so that a device can tell of all of them at once.
    void on_told(std::move_only_function<void()> listener) { told_ = std::move(listener); }
    [[nodiscard]] bool full() const { return under_way_ >= depth; }
    [[nodiscard]] size_t under_way() const { return under_way_; }
    /// Returns when nothing is under way and all `done`s have been called.
    void drain();
    /// Whether transfers are made beside the machine at all.
    [[nodiscard]] bool beside() const { return work_ != nullptr; }
    /// Within drain(): a device should not start more.
    [[nodiscard]] bool draining() const { return draining_; }
    /// Requests that the host failed.
    [[nodiscard]] uint64_t host_errors() const { return failures_.count(); }

    // DiskImage
    [[nodiscard]] uint64_t size() const override { return image_->size(); }
    [[nodiscard]] bool read_only() const override { return image_->read_only(); }
    [[nodiscard]] const std::string& name() const override { return image_->name(); }
    [[nodiscard]] DiskStatus read(uint64_t offset, std::span<std::byte> out) override;
    [[nodiscard]] DiskStatus write(uint64_t offset, std::span<const std::byte> in) override;
    [[nodiscard]] DiskStatus flush() override;
    [[nodiscard]] DiskStatus discard(uint64_t offset, uint64_t length) override;
    [[nodiscard]] DiskStatus write_zeros(uint64_t offset, uint64_t length) override;
    [[nodiscard]] Result<void> grow(uint64_t size) override;

  private:
    friend class DiskWork;
    struct Entry : HostTransfer {
        DiskRequest request;
        Done done;
        DiskStatus status = DiskStatus::ok;
        bool own_work = false;  // its thread used the image itself, and set the status
    };
    void open_host_queue();
    [[nodiscard]] DiskStatus run_now(const DiskRequest& request);
    [[nodiscard]] DiskStatus run_on(const DiskRequest& request, std::span<const iovec> pieces);
    [[nodiscard]] bool prepare(Entry& entry);
    [[nodiscard]] bool is_aligned(const Entry& entry) const;
    void collect();
    void settle();
    void tell();
    void finish(Entry& entry);

    std::unique_ptr<DiskImage> image_;
    DiskWork* work_;
    DiskWay way_;
    HostFile file_;
    std::unique_ptr<HostQueue> host_;
    std::unique_ptr<EventLoop::Watch> watch_;
    std::vector<std::unique_ptr<Entry>> entries_;
    std::vector<Entry*> free_;
    std::deque<Entry*> finished_;  // but nobody was told
    size_t at_host_ = 0;
    size_t under_way_ = 0;
    bool draining_ = false;
    bool telling_ = false;
    std::move_only_function<void()> told_;
    RepeatedLog failures_;
};

}  // namespace viv
