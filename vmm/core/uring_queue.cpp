// A HostQueue on io_uring: the host's kernel does the work, and what its cache has is done within submit().

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

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
        // A long copy out of the host's cache is for another thread than the caller's.
        constexpr uint64_t long_transfer = 64 << 10;
        if (transfer.length >= long_transfer) io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
        io_uring_sqe_set_data(entry, &transfer);
        ++under_way_;
    }

    void submit() override {
        // A host short of memory refuses for a moment; what stays behind goes with the next call.
        for (unsigned tries = 0; tries < 1000 && io_uring_sq_ready(&ring_) > 0; ++tries) {
            const int done = io_uring_submit(&ring_);
            if (done < 0 && done != -EINTR) sched_yield();
        }
    }

    HostTransfer* reap() override {
        io_uring_cqe* entry = nullptr;
        while (io_uring_peek_cqe(&ring_, &entry) == 0) {
            auto* transfer = static_cast<HostTransfer*>(io_uring_cqe_get_data(entry));
            const int result = entry->res;
            io_uring_cqe_seen(&ring_, entry);
            --under_way_;
            if (!goes_on(*transfer, result)) return transfer;
            start(*transfer);
            submit();
        }
        return nullptr;
    }

    void wait() override {
        submit();
        io_uring_cqe* entry = nullptr;
        while (io_uring_wait_cqe(&ring_, &entry) == -EINTR) {
        }
    }

    [[nodiscard]] int descriptor() const override { return event_; }

  private:
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
    unsigned under_way_ = 0;
};

}  // namespace

std::unique_ptr<HostQueue> make_uring_queue(unsigned depth) {
    auto queue = std::make_unique<UringQueue>(depth);
    return queue->usable() ? std::move(queue) : nullptr;
}

}  // namespace viv
