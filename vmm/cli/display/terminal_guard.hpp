#pragma once

#include <memory>
#include <string>

#include "vmm/core/result.hpp"

namespace viv {

/// Holds a terminal in raw mode and gives it back as it was, however the program ends: by its destructor, by exit(), by
/// a fatal or ending signal, or stopped by SIGTSTP. Only SIGKILL escapes it; the user then types `reset`.
///
/// What is written to stderr meanwhile would spoil the picture: it goes to a memory file and appears on the terminal
/// when that is given back. Signal handlers use async-signal-safe calls only, and call those that were installed
/// before. One guard at a time. System calls after start: read, write, pread64, poll, ioctl, fstat, dup2, kill,
/// rt_sigaction, rt_sigreturn, getpid.
class TerminalGuard {
  public:
    /// Writes `begin` and goes to raw mode; `end` is written before going back. `input` is where keys come from,
    /// `output` the terminal to draw on; either may be the same. An error when `output` is not a terminal.
    static Result<std::unique_ptr<TerminalGuard>> take(int input, int output, std::string begin, std::string end);
    ~TerminalGuard();
    TerminalGuard(const TerminalGuard&) = delete;
    TerminalGuard& operator=(const TerminalGuard&) = delete;

    /// True while the terminal is ours to draw on. Takes it again after a stop, once we are in the foreground.
    [[nodiscard]] bool active();
    /// The terminal to draw on: a descriptor that never blocks, so that a stuck terminal stops nobody.
    [[nodiscard]] int output() const;
    /// True once after the terminal was taken again: paint everything.
    [[nodiscard]] bool needs_repaint();
    /// What has come on stderr since the last call; at most its last few KiB.
    std::string new_messages();

  private:
    TerminalGuard() = default;
    int messages_ = -1;
    int64_t messages_seen_ = 0;
};

}  // namespace viv
