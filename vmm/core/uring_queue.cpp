// A HostQueue on io_uring: the host's kernel does the work. What its cache has or takes at once is copied within
// start(), which wakes nobody.

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <deque>

#include "vmm/core/host_queue.hpp"
#include "vmm/core/result.hpp"

namespace viv {
namespace {

class UringQueue final : public HostQueue {
  public:
    /// Whether the host allows it is known afterwards.
    explicit UringQueue(unsigned depth) : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        if (event_ < 0 || io_uring_queue_init(depth, &ring_, IORING_SETUP_CLAMP) != 0) return;
        open_ = true;
        usable_ = io_uring_register_eventfd(&ring_, event_) == 0 && knows_all();
    }
    ~UringQueue() override {
        while (under_way_ > 0) {
            wait();
            static_cast<void>(reap());
        }
        if (open_) io_uring_queue_exit(&ring_);
        if (event_ >= 0) close(event_);
    }
    [[nodiscard]] bool usable() const { return usable_; }

    void start(HostTransfer& transfer) override {
        if (transfer.at_once && transfer.length < long_transfer && copy_now(transfer)) {
            ended_at_once_.push_back(&transfer);
        } else {
            start_beside(transfer);
        }
    }

    void submit() override {
        // A host short of memory refuses for a moment; what stays behind goes with the next call.
        for (unsigned tries = 0; tries < 1000 && io_uring_sq_ready(&ring_) > 0; ++tries) {
            const int done = io_uring_submit(&ring_);
            if (done < 0 && done != -EINTR) sched_yield();
        }
    }

    HostTransfer* reap() override {
        if (!ended_at_once_.empty()) {
            HostTransfer* transfer = ended_at_once_.front();
            ended_at_once_.pop_front();
            return transfer;
        }
        io_uring_cqe* entry = nullptr;
        while (io_uring_peek_cqe(&ring_, &entry) == 0) {
            auto* transfer = static_cast<HostTransfer*>(io_uring_cqe_get_data(entry));
            const int result = entry->res;
            io_uring_cqe_seen(&ring_, entry);
            --under_way_;
            if (!goes_on(*transfer, result)) return transfer;
            start_beside(*transfer);
            submit();
        }
        return nullptr;
    }

    void wait() override {
        if (!ended_at_once_.empty()) return;
        submit();
        io_uring_cqe* entry = nullptr;
        while (io_uring_wait_cqe(&ring_, &entry) == -EINTR) {
        }
    }

    [[nodiscard]] int descriptor() const override { return event_; }

  private:
    using Time = std::chrono::steady_clock;
    /// A long copy is for another thread than the caller's.
    static constexpr uint64_t long_transfer = 64 << 10;

    /// Copies what the host has at hand, or takes at once. Whether that was all.
    bool copy_now(HostTransfer& transfer) {
        switch (transfer.kind) {
            case HostTransfer::Kind::read: return reads_now_ && move(transfer, preadv2, RWF_NOWAIT, reads_now_);
            case HostTransfer::Kind::write: return !transfer.durable && write_now(transfer);
            default: return false;
        }
    }

    /// Some file systems (ext4) cannot say whether a write would wait: then one of whole pages is tried, which needs
    /// nothing from the medium as a rule. When one was slow all the same (the host has too much that is not written
    /// yet), those of the next second go beside the caller.
    bool write_now(HostTransfer& transfer) {
        constexpr Time::duration slow = std::chrono::milliseconds(5), pause = std::chrono::seconds(1);
        if (writes_now_ && move(transfer, pwritev2, RWF_NOWAIT, writes_now_)) return true;
        constexpr uint64_t page = 4096;
        const Time::time_point start = Time::now();
        if (writes_now_ || (transfer.offset | transfer.length) % page != 0 || start < writes_beside_until_)
            return false;
        const bool all = move(transfer, pwritev2, 0, writes_now_);
        const Time::time_point end = Time::now();
        if (end - start > slow) writes_beside_until_ = end + pause;
        return all;
    }

    template <class Call>
    static bool move(HostTransfer& transfer, Call call, int flags, bool& knows_flags) {
        const iovec* pieces = transfer.pieces.data() + transfer.first_piece;
        const auto count = static_cast<int>(transfer.pieces.size() - transfer.first_piece);
        const ssize_t moved = call(transfer.fd, pieces, count, static_cast<off_t>(transfer.offset), flags);
        if (moved < 0 && errno == EOPNOTSUPP) knows_flags = false;
        return moved > 0 && !goes_on(transfer, static_cast<int>(moved));
    }

    void start_beside(HostTransfer& transfer) {
        io_uring_sqe* entry = io_uring_get_sqe(&ring_);
        while (!entry) {
            submit();
            entry = io_uring_get_sqe(&ring_);
        }
        const auto pieces = static_cast<unsigned>(transfer.pieces.size() - transfer.first_piece);
        const iovec* first = transfer.pieces.data() + transfer.first_piece;
        switch (transfer.kind) {
            case HostTransfer::Kind::read:
                io_uring_prep_readv2(entry, transfer.fd, first, pieces, transfer.offset, 0);
                break;
            case HostTransfer::Kind::write:
                io_uring_prep_writev2(entry, transfer.fd, first, pieces, transfer.offset,
                                      transfer.durable ? RWF_DSYNC : 0);
                break;
            case HostTransfer::Kind::sync: io_uring_prep_fsync(entry, transfer.fd, IORING_FSYNC_DATASYNC); break;
            case HostTransfer::Kind::punch:
                io_uring_prep_fallocate(entry, transfer.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                        static_cast<off_t>(transfer.offset), static_cast<off_t>(transfer.length));
                break;
            case HostTransfer::Kind::call: VIV_ASSERT(false);
        }
        if (transfer.length >= long_transfer) io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
        io_uring_sqe_set_data(entry, &transfer);
        ++under_way_;
    }

    [[nodiscard]] bool knows_all() {
        io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
        if (!probe) return false;
        bool all = true;
        for (const int operation : {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE}) {
            all = all && io_uring_opcode_supported(probe, operation);
        }
        io_uring_free_probe(probe);
        return all;
    }

    /// Whether a part is left to do; else `error` says how it ended.
    static bool goes_on(HostTransfer& transfer, int result) {
        if (result == -EINTR || result == -EAGAIN) return true;
        transfer.error = result < 0 ? -result : 0;
        if (result < 0 || transfer.kind == HostTransfer::Kind::sync || transfer.kind == HostTransfer::Kind::punch) {
            return false;
        }
        const bool left = transfer.advance(static_cast<uint64_t>(result));
        if (left && result == 0) transfer.error = EIO;
        return left && result > 0;
    }

    int event_;
    io_uring ring_{};
    bool open_ = false;
    bool usable_ = false;
    bool reads_now_ = true, writes_now_ = true;  // without waiting; until the host refuses
    Time::time_point writes_beside_until_;
    std::deque<HostTransfer*> ended_at_once_;
    unsigned under_way_ = 0;
};

}  // namespace

std::unique_ptr<HostQueue> make_uring_queue(unsigned depth) {
    auto queue = std::make_unique<UringQueue>(depth);
    return queue->usable() ? std::move(queue) : nullptr;
}

}  // namespace viv
