#include "vmm/boot/host_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace viv::boot {

Result<HostFile> read_host_file(const std::string& path, const char* what) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(fmt::format("cannot open {} '{}'", what, path), errno);
    struct Closer {
        int fd;
        ~Closer() { close(fd); }
    } closer{fd};
    struct stat about {};
    if (fstat(fd, &about) != 0) return fail_errno(fmt::format("cannot read {} '{}'", what, path), errno);
    if (!S_ISREG(about.st_mode)) return fail_usage(fmt::format("{} '{}' is not a file", what, path));
    // It has to lie below 4 GiB in the guest.
    if (static_cast<uint64_t>(about.st_size) >= uint64_t{4} << 30)
        return fail_usage(fmt::format("{} '{}' is larger than 4 GiB", what, path));
    HostFile file{path, std::vector<std::byte>(static_cast<size_t>(about.st_size))};
    std::vector<std::byte>& content = file.content;
    size_t done = 0;
    while (done < content.size()) {
        const ssize_t got = ::read(fd, content.data() + done, content.size() - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(fmt::format("cannot read {} '{}'", what, path), errno);
        if (got == 0) return fail(fmt::format("cannot read {} '{}': it became shorter meanwhile", what, path));
        done += static_cast<size_t>(got);
    }
    return file;
}

}  // namespace viv::boot
