#include "vmm/core/host_queue.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "vmm/core/result.hpp"

namespace viv {

bool HostTransfer::advance(uint64_t bytes) {
    for (; first_piece < pieces.size(); ++first_piece) {
        iovec& piece = pieces[first_piece];
        const auto step = std::min<uint64_t>(bytes, piece.iov_len);
        piece.iov_base = static_cast<char*>(piece.iov_base) + step;
        piece.iov_len -= step;
        offset += step;
        bytes -= step;
        if (piece.iov_len > 0) return true;
    }
    return false;
}

namespace {

int transfer_all(HostTransfer& transfer) {
    while (transfer.advance(0)) {
        const iovec* pieces = transfer.pieces.data() + transfer.first_piece;
        const auto count = static_cast<int>(transfer.pieces.size() - transfer.first_piece);
        const auto at = static_cast<off_t>(transfer.offset);
        const ssize_t moved = transfer.kind == HostTransfer::Kind::read
                                  ? preadv(transfer.fd, pieces, count, at)
                                  : pwritev2(transfer.fd, pieces, count, at, transfer.durable ? RWF_DSYNC : 0);
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) return errno;
        if (moved == 0) return EIO;
        transfer.advance(static_cast<uint64_t>(moved));
    }
    return 0;
}

int carry_out(HostTransfer& transfer) {
    switch (transfer.kind) {
        case HostTransfer::Kind::read:
        case HostTransfer::Kind::write: return transfer_all(transfer);
        case HostTransfer::Kind::sync: return fdatasync(transfer.fd) == 0 ? 0 : errno;
        case HostTransfer::Kind::punch: {
            constexpr int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
            const auto at = static_cast<off_t>(transfer.offset), length = static_cast<off_t>(transfer.length);
            return fallocate(transfer.fd, mode, at, length) == 0 ? 0 : errno;
        }
        case HostTransfer::Kind::call: return transfer.work();
    }
    return EINVAL;
}

class WorkerQueue final : public HostQueue {
  public:
    explicit WorkerQueue(unsigned threads) : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
    }
    ~WorkerQueue() override {
        {
            const std::lock_guard hold(lock_);
            ends_ = true;
        }
        changed_.notify_all();
        threads_.clear();
        if (event_ >= 0) close(event_);
    }
    void start(HostTransfer& transfer) override {
        {
            const std::lock_guard hold(lock_);
            waiting_.push_back(&transfer);
        }
        changed_.notify_one();
    }
    void submit() override {}
    HostTransfer* reap() override {
        const std::lock_guard hold(lock_);
        if (finished_.empty()) return nullptr;
        HostTransfer* first = finished_.front();
        finished_.pop_front();
        return first;
    }
    void wait() override {
        std::unique_lock hold(lock_);
        has_finished_.wait(hold, [this] { return !finished_.empty(); });
    }
    [[nodiscard]] int descriptor() const override { return event_; }

  private:
    void run() {
        std::unique_lock hold(lock_);
        for (;;) {
            changed_.wait(hold, [this] { return ends_ || !waiting_.empty(); });
            if (waiting_.empty()) return;
            HostTransfer* transfer = waiting_.front();
            waiting_.pop_front();
            hold.unlock();
            transfer->error = carry_out(*transfer);
            hold.lock();
            finished_.push_back(transfer);
            has_finished_.notify_all();
            static_cast<void>(eventfd_write(event_, 1));
        }
    }

    int event_;
    std::mutex lock_;  // all of the following
    std::condition_variable changed_, has_finished_;
    std::deque<HostTransfer*> waiting_, finished_;
    bool ends_ = false;
    std::vector<std::jthread> threads_;
};

}  // namespace

std::unique_ptr<HostQueue> make_worker_queue(unsigned threads) {
    return std::make_unique<WorkerQueue>(threads);
}

}  // namespace viv
