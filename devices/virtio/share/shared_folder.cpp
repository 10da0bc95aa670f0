#include "devices/virtio/share/shared_folder.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace viv {
namespace {

constexpr int as_place = O_PATH | O_NOFOLLOW | O_CLOEXEC;
/// What opening never does: follow a link, wait for the other end of a FIFO, become the terminal of viv.
constexpr int always = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
constexpr int allowed = O_ACCMODE | O_TRUNC | O_APPEND | O_SYNC | O_DSYNC | O_DIRECTORY;

int result_of(int returned) {
    return returned < 0 ? errno : 0;
}

int keep(int fd, SharedFile& file) {
    if (fd < 0) return errno;
    file = SharedFile(fd);
    return 0;
}

bool is_file_or_folder(int fd) {
    struct stat status {};
    return fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
}

}  // namespace

SharedFile::~SharedFile() {
    if (fd_ >= 0) close(fd_);
}

SharedFile::SharedFile(SharedFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

SharedFile& SharedFile::operator=(SharedFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

Result<std::unique_ptr<SharedFolder>> SharedFolder::open_folder(const std::string& path, Access access) {
    // The name that a person gives may lead over links.
    SharedFile root(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (root.get() < 0) return fail_errno(fmt::format("cannot share the folder '{}'", path), errno);
    if (faccessat(root.get(), ".", R_OK | X_OK, 0) != 0)
        return fail_errno(fmt::format("cannot share the folder '{}'", path), errno);
    return std::unique_ptr<SharedFolder>(new SharedFolder(std::move(root), access));
}

bool SharedFolder::is_name(std::string_view name) {
    return !name.empty() && name.size() <= longest_name && name != "." && name != ".." &&
           name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

std::string SharedFolder::join(const std::string& folder, std::string_view name) {
    return folder.empty() ? std::string(name) : folder + "/" + std::string(name);
}

// ---- Finding -------------------------------------------------------------------------------------------------------

int SharedFolder::find(const std::string& path, SharedFile& found) const {
    if (path.empty()) return keep(openat(root_.get(), ".", as_place), found);
    if (path.size() > longest_path) return ENAMETOOLONG;
    if (!by_hand_) {
        struct open_how how {};
        how.flags = as_place;
        how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
        const long fd = syscall(SYS_openat2, root_.get(), path.c_str(), &how, sizeof(how));
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return keep(static_cast<int>(fd), found);
        by_hand_ = true;  // an old kernel, or a sandbox that does not know it
    }
    return find_by_hand(path, found);
}

int SharedFolder::find_by_hand(const std::string& path, SharedFile& found) const {
    SharedFile here;
    if (const int error = keep(openat(root_.get(), ".", as_place), here)) return error;
    for (size_t at = 0; at <= path.size();) {
        const size_t end = std::min(path.find('/', at), path.size());
        const std::string name = path.substr(at, end - at);
        if (!is_name(name)) return EINVAL;
        // One name at a time: a link that is found here is a thing of its own, and has no names in it.
        SharedFile next;
        if (const int error = keep(openat(here.get(), name.c_str(), as_place), next)) return error;
        here = std::move(next);
        at = end + 1;
    }
    found = std::move(here);
    return 0;
}

int SharedFolder::find_parent(const std::string& path, SharedFile& parent, std::string& name) const {
    if (path.empty()) {
        name = ".";
        return find(path, parent);
    }
    const size_t slash = path.rfind('/');
    name = slash == std::string::npos ? path : path.substr(slash + 1);
    return find(slash == std::string::npos ? "" : path.substr(0, slash), parent);
}

int SharedFolder::prepare_change(const std::string& folder, const std::string& name, SharedFile& parent) const {
    if (access_ == Access::read_only) return EROFS;
    if (!is_name(name)) return EINVAL;
    return find(folder, parent);
}

// ---- Looking -------------------------------------------------------------------------------------------------------

int SharedFolder::status(const std::string& path, struct stat& status) const {
    SharedFile place;
    if (const int error = find(path, place)) return error;
    return result_of(fstat(place.get(), &status));
}

int SharedFolder::file_system(const std::string& path, struct statfs& status) const {
    SharedFile place;
    if (const int error = find(path, place)) return error;
    return result_of(fstatfs(place.get(), &status));
}

int SharedFolder::read_link(const std::string& path, std::string& target) const {
    SharedFile place;
    if (const int error = find(path, place)) return error;
    target.resize(longest_path + 1);
    const ssize_t size = readlinkat(place.get(), "", target.data(), target.size());
    if (size < 0) return errno == ENOENT ? EINVAL : errno;  // it is no link
    target.resize(static_cast<size_t>(size));
    return 0;
}

int SharedFolder::open(const std::string& path, int flags, SharedFile& file) const {
    const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
    if (writes && access_ == Access::read_only) return EROFS;
    SharedFile parent, place;
    std::string name;
    if (const int error = find_parent(path, parent, name)) return error;
    // Opening a device may do something, so it is looked at before; and after, for it may be another one by then.
    if (const int error = keep(openat(parent.get(), name.c_str(), as_place), place)) return error;
    struct stat status {};
    if (fstat(place.get(), &status) != 0) return errno;
    if (S_ISLNK(status.st_mode)) return ELOOP;
    if (!is_file_or_folder(place.get())) return EACCES;
    SharedFile opened;
    if (const int error = keep(openat(parent.get(), name.c_str(), (flags & allowed) | always), opened)) return error;
    if (!is_file_or_folder(opened.get())) return EACCES;
    file = std::move(opened);
    return 0;
}

// ---- Changing ------------------------------------------------------------------------------------------------------

int SharedFolder::create(const std::string& folder, const std::string& name, int flags, unsigned mode,
                         SharedFile& file) const {
    SharedFile parent, made;
    if (const int error = prepare_change(folder, name, parent)) return error;
    const int error = keep(openat(parent.get(), name.c_str(),
                                  (flags & allowed & ~O_DIRECTORY) | O_CREAT | O_EXCL | always, mode & mode_bits),
                           made);
    if (error == EEXIST && !(flags & O_EXCL)) return open(join(folder, name), flags, file);
    if (error) return error;
    // The guest has taken its umask off already.
    static_cast<void>(fchmod(made.get(), mode & mode_bits));
    file = std::move(made);
    return 0;
}

int SharedFolder::make_folder(const std::string& folder, const std::string& name, unsigned mode) const {
    SharedFile parent;
    if (const int error = prepare_change(folder, name, parent)) return error;
    if (mkdirat(parent.get(), name.c_str(), mode & mode_bits) != 0) return errno;
    static_cast<void>(fchmodat(parent.get(), name.c_str(), mode & mode_bits, AT_SYMLINK_NOFOLLOW));
    return 0;
}

int SharedFolder::make_link(const std::string& folder, const std::string& name, const std::string& target) const {
    SharedFile parent;
    if (const int error = prepare_change(folder, name, parent)) return error;
    if (target.empty() || target.find('\0') != std::string::npos) return EINVAL;
    return result_of(symlinkat(target.c_str(), parent.get(), name.c_str()));
}

int SharedFolder::add_name(const std::string& path, const std::string& folder, const std::string& name) const {
    SharedFile parent, from;
    std::string from_name;
    if (const int error = prepare_change(folder, name, parent)) return error;
    if (const int error = find_parent(path, from, from_name)) return error;
    return result_of(linkat(from.get(), from_name.c_str(), parent.get(), name.c_str(), 0));
}

int SharedFolder::rename(const std::string& from, const std::string& from_name, const std::string& to,
                         const std::string& to_name) const {
    SharedFile from_parent, to_parent;
    if (const int error = prepare_change(from, from_name, from_parent)) return error;
    if (const int error = prepare_change(to, to_name, to_parent)) return error;
    return result_of(renameat(from_parent.get(), from_name.c_str(), to_parent.get(), to_name.c_str()));
}

int SharedFolder::remove(const std::string& folder, const std::string& name, Kind kind) const {
    SharedFile parent;
    if (const int error = prepare_change(folder, name, parent)) return error;
    return result_of(unlinkat(parent.get(), name.c_str(), kind == Kind::folder ? AT_REMOVEDIR : 0));
}

int SharedFolder::set_mode(const std::string& path, unsigned mode) const {
    SharedFile parent;
    std::string name;
    if (access_ == Access::read_only) return EROFS;
    if (const int error = find_parent(path, parent, name)) return error;
    return result_of(fchmodat(parent.get(), name.c_str(), mode & mode_bits, AT_SYMLINK_NOFOLLOW));
}

int SharedFolder::set_owner(const std::string& path, std::optional<uint32_t> user,
                            std::optional<uint32_t> group) const {
    SharedFile place;
    if (access_ == Access::read_only) return EROFS;
    if (const int error = find(path, place)) return error;
    const int error = result_of(
        fchownat(place.get(), "", user.value_or(~0u), group.value_or(~0u), AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    return error == EPERM ? 0 : error;
}

int SharedFolder::set_size(const std::string& path, uint64_t size) const {
    SharedFile file;
    if (size > INT64_MAX) return EINVAL;
    if (const int error = open(path, O_WRONLY, file)) return error;
    return result_of(ftruncate(file.get(), static_cast<off_t>(size)));
}

int SharedFolder::set_times(const std::string& path, const struct timespec (&times)[2]) const {
    SharedFile parent;
    std::string name;
    if (access_ == Access::read_only) return EROFS;
    if (const int error = find_parent(path, parent, name)) return error;
    return result_of(utimensat(parent.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW));
}

// ---- Attributes ----------------------------------------------------------------------------------------------------

bool SharedFolder::is_attribute(std::string_view name) {
    constexpr std::string_view of_users = "user.";
    return name.starts_with(of_users) && name.size() > of_users.size() && name.size() <= longest_name &&
           name.find('\0') == std::string_view::npos;
}

int SharedFolder::open_with_attributes(const std::string& path, SharedFile& file) const {
    struct stat about {};
    if (const int error = status(path, about)) return error;
    // Links and devices have none of users'.
    if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)) return ENODATA;
    return open(path, O_RDONLY, file);
}

int SharedFolder::list_attributes(const std::string& path, std::vector<uint8_t>& names) const {
    names.clear();
    SharedFile file;
    if (const int error = open_with_attributes(path, file)) return error == ENODATA ? 0 : error;
    std::string all(most_attribute, '\0');
    const ssize_t size = flistxattr(file.get(), all.data(), all.size());
    if (size < 0) return errno == ENOTSUP ? 0 : errno;
    all.resize(static_cast<size_t>(size));
    for (size_t at = 0; at < all.size();) {
        const std::string_view name = all.c_str() + at;
        if (is_attribute(name)) names.insert(names.end(), name.begin(), name.end() + 1);
        at += name.size() + 1;
    }
    return 0;
}

int SharedFolder::get_attribute(const std::string& path, const std::string& name, std::vector<uint8_t>& value) const {
    SharedFile file;
    if (!is_attribute(name)) return EOPNOTSUPP;
    if (const int error = open_with_attributes(path, file)) return error;
    value.resize(most_attribute);
    const ssize_t size = fgetxattr(file.get(), name.c_str(), value.data(), value.size());
    value.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return result_of(static_cast<int>(size));
}

int SharedFolder::set_attribute(const std::string& path, const std::string& name, std::span<const uint8_t> value,
                                int flags) const {
    SharedFile file;
    if (access_ == Access::read_only) return EROFS;
    if (!is_attribute(name)) return EOPNOTSUPP;
    if (const int error = open_with_attributes(path, file)) return error == ENODATA ? EPERM : error;
    return result_of(fsetxattr(file.get(), name.c_str(), value.data(), value.size(), flags));
}

int SharedFolder::remove_attribute(const std::string& path, const std::string& name) const {
    SharedFile file;
    if (access_ == Access::read_only) return EROFS;
    if (!is_attribute(name)) return EOPNOTSUPP;
    if (const int error = open_with_attributes(path, file)) return error;
    return result_of(fremovexattr(file.get(), name.c_str()));
}

}  // namespace viv
