#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "devices/serial/backend/backends.hpp"
#include "devices/serial/backend/stream_backend.hpp"

namespace viv {
namespace {

/// The master of a pseudo-terminal. While nobody has the slave open, the master can say only "hung up", for ever; the
/// news that somebody opens it comes from inotify.
class PtyBackend final : public StreamBackend {
  public:
    PtyBackend(EventLoop& event_loop, OwnedFd master, OwnedFd openings, std::string slave)
        : StreamBackend(event_loop),
          master_(std::move(master)),
          openings_(std::move(openings)),
          slave_(std::move(slave)) {
        opening_watch_ = loop().watch(openings_.get(), EventLoop::Ready::read, [this] { slave_opened(); });
    }
    ~PtyBackend() override { close_quietly(); }

    [[nodiscard]] std::string description() const override { return "pty " + slave_; }

  private:
    void slave_opened() {
        std::array<char, 4096> events;
        while (::read(openings_.get(), events.data(), events.size()) > 0) {
        }
        if (attached()) return;
        pollfd state{master_.get(), 0, 0};
        if (::poll(&state, 1, 0) > 0 && (state.revents & POLLHUP) != 0) return;  // closed again already
        attach(master_.get(), Kind::waits, master_.get(), Kind::waits);
    }

    void peer_gone(Side /*side*/, int error) override {
        detach();
        if (error != EIO) {
            log_line(fmt::format("serial port on pty {}: {}", slave_, std::strerror(error)));
        }
    }

    OwnedFd master_;
    OwnedFd openings_;
    std::string slave_;
    std::unique_ptr<EventLoop::Watch> opening_watch_;
};

}  // namespace

Result<std::unique_ptr<CharBackend>> open_pty_backend(EventLoop& loop) {
    constexpr const char* what = "cannot make a pseudo-terminal for a serial port";
    OwnedFd master(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (!master) return fail_errno(what, errno);
    std::array<char, 128> name{};
    if (::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0 ||
        ::ptsname_r(master.get(), name.data(), name.size()) != 0) {
        return fail_errno(what, errno);
    }
    {
        // A serial line passes bytes unchanged, and echoes nothing. Closing this first opening leaves "hung up" behind.
        const OwnedFd slave(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
        termios settings{};
        if (!slave || ::tcgetattr(slave.get(), &settings) != 0) return fail_errno(what, errno);
        ::cfmakeraw(&settings);
        if (::tcsetattr(slave.get(), TCSANOW, &settings) != 0) return fail_errno(what, errno);
    }
    OwnedFd openings(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!openings || ::inotify_add_watch(openings.get(), name.data(), IN_OPEN) < 0) return fail_errno(what, errno);
    return std::make_unique<PtyBackend>(loop, std::move(master), std::move(openings), name.data());
}

}  // namespace viv
