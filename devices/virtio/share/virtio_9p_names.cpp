// The messages of 9P2000.L that are about names and attributes.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "devices/virtio/share/virtio_9p.hpp"

namespace viv {
namespace {

/// Tgetattr: everything that stat(2) tells.
constexpr uint64_t basic_attributes = 0x7FF;
// Tsetattr
enum Attribute : uint32_t {
    MODE = 0x001,
    UID = 0x002,
    GID = 0x004,
    SIZE = 0x008,
    ATIME = 0x010,
    MTIME = 0x020,
    ATIME_SET = 0x080,
    MTIME_SET = 0x100,
};
constexpr uint32_t remove_folder = 0x200;  // of Tunlinkat
constexpr uint8_t lock_granted = 0, unlocked = 2;

bool is_below(const std::string& path, const std::string& folder) {
    return path == folder || (path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/');
}

/// "a/b/c": "a/b" and "c".
std::pair<std::string, std::string> split_path(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {"", path};
    return {path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace

// ---- Attributes ----------------------------------------------------------------------------------------------------

int Virtio9p::get_attributes() {
    const Fid* fid = take_fid();
    in_.u64();  // what the client wants to know
    if (!in_.good()) return EINVAL;
    if (!fid) return EBADF;
    struct stat status {};
    if (const int error = status_of(number_, *fid, status)) return error;
    out_.u64(basic_attributes);
    out_.qid(qid_of(status));
    out_.u32(status.st_mode);
    out_.u32(status.st_uid);
    out_.u32(status.st_gid);
    out_.u64(status.st_nlink);
    out_.u64(status.st_rdev);
    out_.u64(static_cast<uint64_t>(status.st_size));
    out_.u64(static_cast<uint64_t>(status.st_blksize));
    out_.u64(static_cast<uint64_t>(status.st_blocks));
    for (const timespec& time : {status.st_atim, status.st_mtim, status.st_ctim, timespec{}}) {
        out_.u64(static_cast<uint64_t>(time.tv_sec));
        out_.u64(static_cast<uint64_t>(time.tv_nsec));
    }
    out_.u64(0);  // generation
    out_.u64(0);  // version of the data
    return 0;
}

int Virtio9p::set_attributes() {
    const Fid* fid = take_fid();
    const uint32_t what = in_.u32(), mode = in_.u32(), user = in_.u32(), group = in_.u32();
    const uint64_t size = in_.u64();
    struct timespec times[2];
    for (auto& time : times) {
        time.tv_sec = static_cast<time_t>(in_.u64());
        time.tv_nsec = static_cast<long>(in_.u64());
    }
    if (!in_.good()) return EINVAL;
    if (!fid) return EBADF;
    int error = 0;
    if (what & MODE) error = folder_->set_mode(fid->path, mode);
    if (!error && what & (UID | GID)) {
        const auto chosen = [what](uint32_t bit, uint32_t id) {
            return what & bit ? std::optional<uint32_t>(id) : std::nullopt;
        };
        error = folder_->set_owner(fid->path, chosen(UID, user), chosen(GID, group));
    }
    if (!error && what & SIZE) {
        int fd = -1;
        const bool writes = fid->open && (fid->flags & O_ACCMODE) != O_RDONLY;
        if (writes && size <= INT64_MAX && file_of(number_, *fid, fd) == 0) {
            error = ftruncate(fd, static_cast<off_t>(size)) == 0 ? 0 : errno;
        } else {
            error = folder_->set_size(fid->path, size);
        }
    }
    if (!error && what & (ATIME | MTIME)) {
        const auto choose = [what](struct timespec& time, uint32_t any, uint32_t given) {
            if (!(what & any)) time = {0, UTIME_OMIT};
            if ((what & any) && !(what & given)) time = {0, UTIME_NOW};
        };
        choose(times[0], ATIME, ATIME_SET);
        choose(times[1], MTIME, MTIME_SET);
        error = folder_->set_times(fid->path, times);
    }
    return error;
}

int Virtio9p::file_system() {
    const Fid* fid = take_fid();
    if (!fid) return EBADF;
    struct statfs status {};
    if (const int error = folder_->file_system(fid->path, status)) return error;
    out_.u32(static_cast<uint32_t>(status.f_type));
    out_.u32(static_cast<uint32_t>(status.f_bsize));
    out_.u64(status.f_blocks);
    out_.u64(status.f_bfree);
    out_.u64(status.f_bavail);
    out_.u64(status.f_files);
    out_.u64(status.f_ffree);
    out_.u64(0);  // its number is the host's affair
    out_.u32(static_cast<uint32_t>(status.f_namelen));
    return 0;
}

// ---- Names ---------------------------------------------------------------------------------------------------------

int Virtio9p::make_folder() {
    const Fid* fid = take_fid();
    const std::string name = in_.string();
    const uint32_t mode = in_.u32();
    in_.u32();  // group
    if (!in_.good()) return EINVAL;
    if (!fid) return EBADF;
    if (const int error = folder_->make_folder(fid->path, name, mode)) return error;
    return write_qid(SharedFolder::join(fid->path, name));
}

int Virtio9p::make_link() {
    const Fid* fid = take_fid();
    const std::string name = in_.string(), target = in_.string();
    in_.u32();  // group
    if (!in_.good()) return EINVAL;
    if (!fid) return EBADF;
    if (const int error = folder_->make_link(fid->path, name, target)) return error;
    return write_qid(SharedFolder::join(fid->path, name));
}

int Virtio9p::read_link() {
    const Fid* fid = take_fid();
    if (!fid) return EBADF;
    std::string target;
    if (const int error = folder_->read_link(fid->path, target)) return error;
    out_.string(target);
    return 0;
}

int Virtio9p::add_name() {
    const Fid* folder = take_fid();
    const Fid* file = take_fid();
    const std::string name = in_.string();
    if (!in_.good()) return EINVAL;
    if (!folder || !file) return EBADF;
    if (file->path.empty()) return EPERM;
    return folder_->add_name(file->path, folder->path, name);
}

/// Fids go with their files.
void Virtio9p::moved(const std::string& from, const std::string& to) {
    for (auto& [number, fid] : fids_) {
        if (!is_below(fid.path, from)) continue;
        path_bytes_ -= fid.path.size();
        fid.path = to + fid.path.substr(from.size());
        path_bytes_ += fid.path.size();
    }
}

int Virtio9p::rename_path(const std::string& from, const std::string& to_folder, const std::string& to_name) {
    if (from.empty()) return EBUSY;
    const std::string to = SharedFolder::join(to_folder, to_name);
    // What is below must keep names that can be used, and so few that they are kept.
    size_t more = 0;
    for (const auto& [number, fid] : fids_) {
        if (!is_below(fid.path, from)) continue;
        const size_t size = to.size() + fid.path.size() - from.size();
        if (size > SharedFolder::longest_path) return ENAMETOOLONG;
        more += size;
    }
    if (path_bytes_ + more > most_path_bytes) return ENFILE;
    const auto [folder, name] = split_path(from);
    if (const int error = folder_->rename(folder, name, to_folder, to_name)) return error;
    moved(from, to);
    return 0;
}

int Virtio9p::rename() {
    const Fid* fid = take_fid();
    const Fid* folder = take_fid();
    const std::string name = in_.string();
    if (!in_.good()) return EINVAL;
    if (!fid || !folder) return EBADF;
    return rename_path(std::string(fid->path), std::string(folder->path), name);
}

int Virtio9p::rename_at() {
    const Fid* from = take_fid();
    const std::string from_name = in_.string();
    const Fid* to = take_fid();
    const std::string to_name = in_.string();
    if (!in_.good() || !SharedFolder::is_name(from_name)) return EINVAL;
    if (!from || !to) return EBADF;
    return rename_path(SharedFolder::join(from->path, from_name), std::string(to->path), to_name);
}

int Virtio9p::remove() {
    const Fid* fid = take_fid();
    if (!fid) return EBADF;
    const std::string path = fid->path;
    // The fid goes even if the file stays.
    forget_fid(fids_.find(number_));
    struct stat status {};
    if (path.empty()) return EBUSY;
    if (const int error = folder_->status(path, status)) return error;
    const auto [folder, name] = split_path(path);
    return folder_->remove(folder, name,
                           S_ISDIR(status.st_mode) ? SharedFolder::Kind::folder : SharedFolder::Kind::file);
}

int Virtio9p::remove_at() {
    const Fid* fid = take_fid();
    const std::string name = in_.string();
    const uint32_t flags = in_.u32();
    if (!in_.good() || flags & ~remove_folder) return EINVAL;
    if (!fid) return EBADF;
    return folder_->remove(fid->path, name, flags ? SharedFolder::Kind::folder : SharedFolder::Kind::file);
}

// ---- Locks ---------------------------------------------------------------------------------------------------------

/// The client asks after it has looked at its own locks, and there is one client.
int Virtio9p::lock() {
    const Fid* fid = take_fid();
    if (!fid || !fid->open) return EBADF;
    out_.u8(lock_granted);
    return 0;
}

int Virtio9p::get_lock() {
    const Fid* fid = take_fid();
    in_.u8();
    const uint64_t start = in_.u64(), length = in_.u64();
    const uint32_t process = in_.u32();
    const std::string client = in_.string();
    if (!in_.good()) return EINVAL;
    if (!fid || !fid->open) return EBADF;
    out_.u8(unlocked);
    out_.u64(start);
    out_.u64(length);
    out_.u32(process);
    out_.string(client);
    return 0;
}

}  // namespace viv
