#include "devices/serial/backend/unix_listener.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

namespace viv {
namespace {

OwnedFd stream_socket() {
    return OwnedFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/// Removes the socket of a process that is gone, and nothing else.
Result<void> clear_stale_socket(const std::string& path, const sockaddr_un& address) {
    struct stat about {};
    if (::lstat(path.c_str(), &about) != 0) {
        if (errno == ENOENT) return {};
        return fail_errno(fmt::format("cannot listen on unix socket '{}'", path), errno);
    }
    if (!S_ISSOCK(about.st_mode)) {
        return fail(
            fmt::format("cannot listen on unix socket '{}': there is a file of that name that is no socket; name "
                        "another path or remove it",
                        path));
    }
    const OwnedFd probe = stream_socket();
    const int connected = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    if (connected == 0 || errno != ECONNREFUSED) {
        return fail(fmt::format(
            "cannot listen on unix socket '{}': another process listens there; stop it or name another path", path));
    }
    if (::unlink(path.c_str()) != 0)
        return fail_errno(fmt::format("cannot remove the stale unix socket '{}'", path), errno);
    return {};
}

}  // namespace

Result<UnixListener> UnixListener::open(const std::string& path, int waiting) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        return fail_usage(
            fmt::format("unix socket path '{}' must have 1 to {} characters", path, sizeof address.sun_path - 1));
    }
    path.copy(address.sun_path, path.size());
    UnixListener made;
    made.fd_ = stream_socket();
    if (!made.fd_) return fail_errno("cannot make a unix socket", errno);
    TRY(clear_stale_socket(path, address));
    if (::bind(made.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail_errno(fmt::format("cannot listen on unix socket '{}'", path), errno);
    struct stat about {};
    if (::lstat(path.c_str(), &about) == 0) {
        made.path_ = path;
        made.device_ = about.st_dev;
        made.inode_ = about.st_ino;
    }
    // Before listen(), nobody can connect, so nobody else ever could.
    if (::chmod(path.c_str(), 0600) != 0 || ::listen(made.fd(), waiting) != 0)
        return fail_errno(fmt::format("cannot listen on unix socket '{}'", path), errno);
    return made;
}

UnixListener::~UnixListener() {
    struct stat about {};
    if (!fd_ || path_.empty() || ::lstat(path_.c_str(), &about) != 0) return;
    if (about.st_dev == device_ && about.st_ino == inode_) ::unlink(path_.c_str());
}

}  // namespace viv
