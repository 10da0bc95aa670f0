#include "vmm/cli/display/terminal_guard.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace viv {
namespace {

constexpr int fatal_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
constexpr int ending_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
constexpr int stop_signals[] = {SIGTSTP, SIGCONT};
constexpr int patience_ms = 300;
constexpr off_t messages_shown = 16 * 1024;

// What signal handlers need. They see only this, and only while `taken`.
struct Terminal {
    std::atomic<bool> taken = false;   // a guard exists
    std::atomic<bool> active = false;  // raw mode, ours to draw on
    std::atomic<bool> ended = false;   // given back for good
    std::atomic<bool> repaint = false;
    int input = -1;
    int output = -1;
    bool input_is_terminal = false;
    termios before{};
    termios raw{};
    std::array<char, 256> begin{};
    size_t begin_size = 0;
    std::array<char, 256> end{};
    size_t end_size = 0;
    int messages = -1;  // the memory file in place of stderr, or -1
    int real_stderr = -1;
    off_t messages_printed = 0;
    std::array<struct sigaction, 65> previous{};
};
Terminal terminal;

// To the terminal, giving up when it takes nothing for a while. Async-signal-safe.
void write_all(const char* data, size_t size) {
    while (size > 0) {
        const ssize_t written = write(terminal.output, data, size);
        if (written > 0) {
            data += written;
            size -= static_cast<size_t>(written);
        } else if (errno == EAGAIN) {
            pollfd ready = {terminal.output, POLLOUT, 0};
            if (poll(&ready, 1, patience_ms) == 0) return;
        } else if (errno != EINTR) {
            return;
        }
    }
}

// Async-signal-safe.
void enter() {
    if (terminal.active.exchange(true)) return;
    if (terminal.messages >= 0) dup2(terminal.messages, STDERR_FILENO);
    write_all(terminal.begin.data(), terminal.begin_size);
    if (terminal.input_is_terminal) tcsetattr(terminal.input, TCSANOW, &terminal.raw);
    terminal.repaint = true;
}

// Async-signal-safe.
void leave() {
    if (!terminal.active.exchange(false)) return;
    write_all(terminal.end.data(), terminal.end_size);
    if (terminal.input_is_terminal) tcsetattr(terminal.input, TCSANOW, &terminal.before);
    if (terminal.messages < 0) return;
    dup2(terminal.real_stderr, STDERR_FILENO);
    struct stat status {};
    if (fstat(terminal.messages, &status) != 0) return;
    off_t at = std::max(terminal.messages_printed, status.st_size - messages_shown);
    std::array<char, 1024> buffer;
    while (at < status.st_size) {
        const ssize_t size = pread(terminal.messages, buffer.data(), buffer.size(), at);
        if (size <= 0) break;
        write_all(buffer.data(), static_cast<size_t>(size));
        at += size;
    }
    terminal.messages_printed = status.st_size;
}

bool in_foreground() {
    return tcgetpgrp(terminal.output) == getpgrp();
}

// Calls the handler that was there before ours; false when there was none.
bool call_previous(int number, siginfo_t* info, void* context) {
    const struct sigaction& previous = terminal.previous[static_cast<size_t>(number)];
    if (previous.sa_flags & SA_SIGINFO) {
        if (!previous.sa_sigaction) return false;
        previous.sa_sigaction(number, info, context);
        return true;
    }
    if (previous.sa_handler == SIG_IGN) return true;
    if (previous.sa_handler == SIG_DFL) return false;
    previous.sa_handler(number);
    return true;
}

void die_of(int number) {
    signal(number, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void on_fatal(int number, siginfo_t* info, void* context) {
    const int saved = errno;
    // An engine may catch faults of its own; what comes back from its handler was one.
    const bool handled = number != SIGABRT && call_previous(number, info, context);
    if (!handled) {
        terminal.ended = true;
        leave();
        die_of(number);
    }
    errno = saved;
}

void on_ending(int number, siginfo_t* info, void* context) {
    const int saved = errno;
    const struct sigaction& previous = terminal.previous[static_cast<size_t>(number)];
    const bool ignored = !(previous.sa_flags & SA_SIGINFO) && previous.sa_handler == SIG_IGN;
    if (!ignored) {
        terminal.ended = true;
        leave();
        if (!call_previous(number, info, context)) die_of(number);
    }
    errno = saved;
}

void on_stop(int /*number*/, siginfo_t* /*info*/, void* /*context*/) {
    const int saved = errno;
    leave();
    kill(getpid(), SIGSTOP);
    errno = saved;
}

void on_continue(int number, siginfo_t* info, void* context) {
    const int saved = errno;
    // After SIGSTOP nobody gave the terminal back, and the shell may have changed it: active() takes it again.
    if (terminal.active.exchange(false) && terminal.messages >= 0) dup2(terminal.real_stderr, STDERR_FILENO);
    call_previous(number, info, context);
    errno = saved;
}

// The terminal opened once more, so that O_NONBLOCK does not reach the shell's descriptor; or a copy of `fd`, which may
// block, where the terminal's device is out of reach.
int open_again(int fd) {
    std::array<char, 256> name{};
    if (ttyname_r(fd, name.data(), name.size()) == 0) {
        const int again = open(name.data(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (again >= 0) return again;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

using Handler = void (*)(int, siginfo_t*, void*);

void install(int number, Handler handler) {
    struct sigaction action {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigfillset(&action.sa_mask);
    // A fault inside a handler must still end the program.
    for (const int fatal : fatal_signals) sigdelset(&action.sa_mask, fatal);
    sigaction(number, &action, &terminal.previous[static_cast<size_t>(number)]);
}

void uninstall(int number, Handler handler) {
    struct sigaction now {};
    sigaction(number, nullptr, &now);
    // Somebody who came later keeps theirs.
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handler) {
        sigaction(number, &terminal.previous[static_cast<size_t>(number)], nullptr);
    }
}

void for_each_handler(void (*visit)(int, Handler)) {
    for (const int number : fatal_signals) visit(number, on_fatal);
    for (const int number : ending_signals) visit(number, on_ending);
    visit(stop_signals[0], on_stop);
    visit(stop_signals[1], on_continue);
}

bool same_terminal(int one, int other) {
    struct stat a {};
    struct stat b {};
    return isatty(one) && isatty(other) && fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_rdev == b.st_rdev;
}

}  // namespace

Result<std::unique_ptr<TerminalGuard>> TerminalGuard::take(int input, int output, std::string begin, std::string end) {
    VIV_ASSERT(!terminal.taken && begin.size() <= terminal.begin.size() && end.size() <= terminal.end.size());
    if (!isatty(output)) return fail("the terminal display needs a terminal");
    const bool input_is_terminal = isatty(input) != 0;
    if (input_is_terminal && tcgetattr(input, &terminal.before) != 0) {
        return fail_errno("cannot read the terminal's settings", errno);
    }
    terminal.raw = terminal.before;
    cfmakeraw(&terminal.raw);
    terminal.input = input;
    terminal.output = open_again(output);
    if (terminal.output < 0) return fail_errno("cannot open the terminal", errno);
    terminal.input_is_terminal = input_is_terminal;
    terminal.begin_size = begin.copy(terminal.begin.data(), begin.size());
    terminal.end_size = end.copy(terminal.end.data(), end.size());
    terminal.messages = -1;
    terminal.messages_printed = 0;
    if (same_terminal(output, STDERR_FILENO)) {
        terminal.real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        terminal.messages = terminal.real_stderr < 0 ? -1 : memfd_create("viv-messages", MFD_CLOEXEC);
    }
    terminal.ended = false;
    terminal.taken = true;
    for_each_handler(install);
    [[maybe_unused]] static const int registered = std::atexit([] {
        terminal.ended = true;
        leave();
    });
    enter();
    auto guard = std::unique_ptr<TerminalGuard>(new TerminalGuard);
    guard->messages_ = terminal.messages;
    return guard;
}

TerminalGuard::~TerminalGuard() {
    terminal.ended = true;
    leave();
    for_each_handler(uninstall);
    if (terminal.messages >= 0) close(terminal.messages);
    if (terminal.real_stderr >= 0) close(terminal.real_stderr);
    close(terminal.output);
    terminal.messages = terminal.real_stderr = terminal.output = -1;
    terminal.taken = false;
}

bool TerminalGuard::active() {
    if (terminal.ended) return false;
    if (!terminal.active && in_foreground()) enter();
    return terminal.active;
}

int TerminalGuard::output() const {
    return terminal.output;
}

bool TerminalGuard::needs_repaint() {
    return terminal.repaint.exchange(false);
}

std::string TerminalGuard::new_messages() {
    struct stat status {};
    if (messages_ < 0 || fstat(messages_, &status) != 0 || status.st_size <= messages_seen_) return {};
    std::string text(static_cast<size_t>(std::min<off_t>(status.st_size - messages_seen_, 4096)), '\0');
    const ssize_t size = pread(messages_, text.data(), text.size(), status.st_size - static_cast<off_t>(text.size()));
    text.resize(size > 0 ? static_cast<size_t>(size) : 0);
    messages_seen_ = status.st_size;
    return text;
}

}  // namespace viv
