#pragma once

#include <sys/types.h>

#include <string>

#include "devices/serial/backend/stream_backend.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// A Unix socket that waits for callers of the same user. Its file is ours, and goes with it.
class UnixListener {
  public:
    /// Makes it in the place of one whose process is gone, never of anything else; `waiting` callers wait in the
    /// kernel.
    static Result<UnixListener> open(const std::string& path, int waiting);
    UnixListener() = default;
    UnixListener(UnixListener&& other) noexcept = default;
    UnixListener& operator=(UnixListener&& other) noexcept = default;
    ~UnixListener();

    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    OwnedFd fd_;
    std::string path_;
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

}  // namespace viv
