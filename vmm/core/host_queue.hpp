#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace viv {

/// One piece of bulk work for the host: a transfer of a file, or anything else that takes long. Its owner keeps it
/// where it is from start() until it comes back.
struct HostTransfer {
    enum class Kind : uint8_t {
        read,   // all of `pieces`, from `offset` on
        write,  // likewise
        sync,   // returns when what was written before is durable (fdatasync)
        punch,  // a hole at [offset, offset+length), which reads as zeros
        call,   // `work`, on a thread of the queue's; workers only
    };
    Kind kind = Kind::read;
    bool durable = false;  // of a write: not finished before it is on the medium
    /// What the host has in its cache, or takes into it without waiting, may be copied within start().
    bool at_once = false;
    int fd = -1;
    uint64_t offset = 0;
    uint64_t length = 0;        // of a hole, and of all pieces as far as it is known
    std::vector<iovec> pieces;  // at most 1024; used up
    std::move_only_function<int()> work;
    /// How it ended: an errno value, or 0 when all is done. A read behind the end of the file is EIO.
    int error = 0;

    /// For queues: takes the next `bytes` of the pieces as done. Whether some are left.
    bool advance(uint64_t bytes);
    size_t first_piece = 0;
};

/// Bulk work beside the machine, several at a time. All calls are made under the machine lock, or by one thread; the
/// work itself needs neither.
class HostQueue {
  public:
    /// Waits for all that was submitted.
    virtual ~HostQueue() = default;
    /// Takes a transfer; it begins with the next submit() at the latest.
    virtual void start(HostTransfer& transfer) = 0;
    virtual void submit() = 0;
    /// One that is finished, or nullptr when none is now.
    [[nodiscard]] virtual HostTransfer* reap() = 0;
    /// Sleeps until one may be finished (or a part of one: reap() may say that none is yet); one must be under way.
    virtual void wait() = 0;
    /// Readable (an eventfd) when something has finished since it was last read.
    [[nodiscard]] virtual int descriptor() const = 0;
};

/// A queue of io_uring for up to `depth` transfers at a time, or nullptr where the host refuses it.
std::unique_ptr<HostQueue> make_uring_queue(unsigned depth);
/// A queue of threads, each of which does one at a time, in the order in which they were started.
std::unique_ptr<HostQueue> make_worker_queue(unsigned threads);

}  // namespace viv
