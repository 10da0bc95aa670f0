#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "devices/serial/backend/backends.hpp"
#include "devices/serial/backend/stream_backend.hpp"

namespace viv {
namespace {

/// A named file, or standard input and output.
class FileBackend final : public StreamBackend {
  public:
    FileBackend(EventLoop& event_loop, std::string description)
        : StreamBackend(event_loop), description_(std::move(description)) {}
    ~FileBackend() override { close_quietly(); }

    struct End {
        OwnedFd fd;
        bool is_file = false;
    };
    void open(End input, End output) {
        input_ = std::move(input.fd);
        output_ = std::move(output.fd);
        attach(input_.get(), input.is_file ? Kind::file : Kind::waits, output_.get(),
               output.is_file ? Kind::file : Kind::waits);
    }

    [[nodiscard]] std::string description() const override { return description_; }

  private:
    // The end of the input is not the end of the output, nor the other way round.
    void peer_gone(Side side, int error) override {
        if (side == Side::input) return close_input();
        close_output();
        if (error != EPIPE) {
            log_line(fmt::format("serial output to '{}' ends here: {}", description_, std::strerror(error)));
        }
    }

    std::string description_;
    OwnedFd input_;
    OwnedFd output_;
};

/// A description of our own for an inherited descriptor, so that making it non-blocking does not change the shell's.
/// Sockets cannot be opened again; they are made non-blocking as they are.
Result<FileBackend::End> own_descriptor(int fd, int access) {
    struct stat about {};
    if (::fstat(fd, &about) != 0) return FileBackend::End{};  // closed: that direction is absent
    FileBackend::End end;
    end.is_file = S_ISREG(about.st_mode);
    if (!end.is_file) {
        end.fd.reset(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    }
    if (!end.fd) {
        end.fd.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
        if (!end.fd) return fail_errno("cannot use standard input and output for a serial port", errno);
        if (!end.is_file) ::fcntl(end.fd.get(), F_SETFL, ::fcntl(end.fd.get(), F_GETFL) | O_NONBLOCK);
    }
    return end;
}

}  // namespace

Result<std::unique_ptr<CharBackend>> open_stdio_backend(EventLoop& loop) {
    // A reader that has gone is seen as EPIPE.
    std::signal(SIGPIPE, SIG_IGN);
    auto input = TRY(own_descriptor(STDIN_FILENO, O_RDONLY));
    auto output = TRY(own_descriptor(STDOUT_FILENO, O_WRONLY));
    auto backend = std::make_unique<FileBackend>(loop, "stdio");
    backend->open(std::move(input), std::move(output));
    return backend;
}

Result<std::unique_ptr<CharBackend>> open_file_backend(std::string_view path, EventLoop& loop) {
    const std::string name(path);
    OwnedFd fd(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666));
    if (!fd && errno == ENXIO) {
        return fail(
            fmt::format("cannot open serial output '{}': nobody reads this pipe yet; start its reader first", name));
    }
    if (!fd) return fail_errno(fmt::format("cannot open serial output '{}'", name), errno);
    struct stat about {};
    if (::fstat(fd.get(), &about) != 0)
        return fail_errno(fmt::format("cannot look at serial output '{}'", name), errno);
    std::signal(SIGPIPE, SIG_IGN);
    auto backend = std::make_unique<FileBackend>(loop, "file:" + name);
    backend->open({}, {std::move(fd), S_ISREG(about.st_mode)});
    return backend;
}

}  // namespace viv
