#include "devices/storage/image/image_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include "vmm/core/log.hpp"

namespace viv {
namespace {

// QEMU (block/file-posix.c) says what it does with an image by shared locks on single bytes: 100 + n for "I do n", 200
// + n for "nobody else may do n"; n = 1 is writing. A reader of ours denies writing there, and stays off the other
// bytes so that readers can share. A writer of ours locks everything.
constexpr off_t qemu_writes = 101;
constexpr off_t qemu_denies_writes = 201;

struct ByteRange {
    off_t start;
    off_t length;  // 0: to the end
};

/// Returns the errno value or 0.
int set_lock(int fd, short type, ByteRange range) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = range.start;
    lock.l_len = range.length;
    return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

bool locked_by_another(int fd, ByteRange range) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = range.start;
    lock.l_len = range.length;
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

int take(int fd, ImageAccess access) {
    if (access == ImageAccess::writable) return set_lock(fd, F_WRLCK, {0, 0});
    if (const int error = set_lock(fd, F_RDLCK, {0, 100})) return error;
    if (const int error = set_lock(fd, F_RDLCK, {qemu_denies_writes, 1})) return error;
    return locked_by_another(fd, {qemu_writes, 1}) ? EAGAIN : 0;
}

std::string first_line(const std::filesystem::path& path) {
    std::string line;
    std::ifstream file(path);
    std::getline(file, line);
    return line;
}

/// Whether /proc/PID/fdinfo/FD tells of a lock. The kernel gives no process for open-file-description locks.
bool holds_lock(const std::filesystem::path& fdinfo) {
    std::ifstream file(fdinfo);
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("lock:")) return true;
    }
    return false;
}

struct Holder {
    pid_t process;
    std::string command;
};

/// A process that holds a lock on the file, as far as /proc shows it: those of other users are hidden.
std::optional<Holder> find_holder(const struct stat& file) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    for (fs::directory_iterator process("/proc", ignored), end; process != end; process.increment(ignored)) {
        const std::string name = process->path().filename();
        if (!std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) continue;
        std::error_code denied;
        for (fs::directory_iterator at(process->path() / "fd", denied), last; !denied && at != last;
             at.increment(denied)) {
            struct stat open_file {};
            if (stat(at->path().c_str(), &open_file) != 0) continue;
            if (open_file.st_dev != file.st_dev || open_file.st_ino != file.st_ino) continue;
            if (!holds_lock(process->path() / "fdinfo" / at->path().filename())) continue;
            return Holder{static_cast<pid_t>(std::stol(name)), first_line(process->path() / "comm")};
        }
    }
    return std::nullopt;
}

std::unexpected<Error> in_use(int fd, const std::string& path, ImageAccess access) {
    // Our own share of the locks must not look like the holder's.
    set_lock(fd, F_UNLCK, {0, 0});
    struct stat info {};
    std::optional<Holder> holder;
    if (fstat(fd, &info) == 0) holder = find_holder(info);
    const bool writing = access == ImageAccess::writable;
    const std::string_view purpose = writing ? " for writing" : "";
    if (holder && holder->process == getpid()) {
        return fail(fmt::format(
            "cannot open '{}'{}: another drive of this machine uses it{}", path, purpose,
            writing ? "; give each drive its own image, or use --read-only or --snapshot for both" : " for writing"));
    }
    const std::string who = holder ? fmt::format("process {} ({})", holder->process, holder->command)
                                   : std::string("another process (which one is hidden from this user)");
    return fail(fmt::format("cannot open '{}'{}: it is in use by {}{}", path, purpose, who,
                            writing ? "; close that, or use --snapshot or --read-only if it only reads"
                                    : ", which writes to it; close that first"));
}

}  // namespace

Result<void> lock_image(int fd, const std::string& path, ImageAccess access) {
    const int error = take(fd, access);
    if (error == 0) return {};
    if (error == EAGAIN || error == EACCES) return in_use(fd, path, access);
    log_line(fmt::format("disk image '{}' cannot be locked ({}): see to it that nothing else uses it", path,
                         std::strerror(error)));
    return {};
}

}  // namespace viv
