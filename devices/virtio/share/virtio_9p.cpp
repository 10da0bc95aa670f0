#include "devices/virtio/share/virtio_9p.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace viv {
namespace {

using namespace virtio;

constexpr uint64_t MOUNT_TAG = feature(0);

/// T-messages; an R-message has the next number. QEMU and Linux call theirs alike.
enum Type : uint8_t {
    RLERROR = 7,
    TSTATFS = 8,
    TLOPEN = 12,
    TLCREATE = 14,
    TSYMLINK = 16,
    TMKNOD = 18,
    TRENAME = 20,
    TREADLINK = 22,
    TGETATTR = 24,
    TSETATTR = 26,
    TXATTRWALK = 30,
    TXATTRCREATE = 32,
    TREADDIR = 40,
    TFSYNC = 50,
    TLOCK = 52,
    TGETLOCK = 54,
    TLINK = 70,
    TMKDIR = 72,
    TRENAMEAT = 74,
    TUNLINKAT = 76,
    TVERSION = 100,
    TATTACH = 104,
    TFLUSH = 108,
    TWALK = 110,
    TREAD = 116,
    TWRITE = 118,
    TCLUNK = 120,
    TREMOVE = 122,
};

/// What a client takes off the size of a message for what a read or write can move.
constexpr uint32_t io_header = 24;
/// In front of the bytes of an answer to a read: header and count.
constexpr size_t read_header = P9Writer::header + 4;
constexpr unsigned most_names = 16;
constexpr uint8_t QT_DIR = 0x80, QT_SYMLINK = 0x02;
constexpr uint32_t kept_flags = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC | O_DIRECTORY;

bool is_path(const std::string& path) {
    if (path.empty()) return true;
    if (path.size() > SharedFolder::longest_path) return false;
    for (size_t at = 0; at <= path.size();) {
        const size_t end = std::min(path.find('/', at), path.size());
        if (!SharedFolder::is_name(std::string_view(path).substr(at, end - at))) return false;
        at = end + 1;
    }
    return true;
}

/// Whether what a saved fid says of an extended attribute can be.
bool is_attribute_fid(const P9FidState& fid) {
    using Use = P9FidState::Use;
    if (fid.use == Use::file) return fid.attribute.empty() && fid.value.empty() && fid.attribute_size == 0;
    const size_t most = fid.use == Use::writes ? fid.attribute_size : SharedFolder::most_attribute;
    return !fid.open &&
           (fid.use == Use::reads || (fid.use == Use::writes && SharedFolder::is_attribute(fid.attribute))) &&
           fid.attribute_size <= SharedFolder::most_attribute && fid.value.size() <= most;
}

}  // namespace

Virtio9p::Virtio9p(std::unique_ptr<SharedFolder> folder, std::string tag)
    : folder_(std::move(folder)),
      tag_(std::move(tag)),
      identity_{.id = DeviceId::p9, .class_code = 0x018000, .queue_sizes = {128}} {
    struct stat status {};
    if (folder_->status("", status) == 0) root_device_ = status.st_dev;
}

uint64_t Virtio9p::features() const {
    return MOUNT_TAG;
}

std::vector<uint8_t> Virtio9p::configuration() const {
    std::vector<uint8_t> bytes{static_cast<uint8_t>(tag_.size()), static_cast<uint8_t>(tag_.size() >> 8)};
    bytes.insert(bytes.end(), tag_.begin(), tag_.end());
    return bytes;
}

void Virtio9p::notified(unsigned queue) {
    transport().serve(queue, [this](VirtqueueChain& chain, GuestMemory& memory) { return answer(chain, memory); });
}

// ---- Messages ------------------------------------------------------------------------------------------------------

std::optional<uint32_t> Virtio9p::answer(VirtqueueChain& chain, GuestMemory& memory) {
    std::array<uint8_t, P9Writer::header> header{};
    P9Reader fields(header);
    const bool whole = chain.read(memory, 0, std::as_writable_bytes(std::span(header)));
    const uint32_t size = fields.u32();
    const uint8_t type = fields.u8();
    const uint16_t tag = fields.u16();
    if (!whole || size < header.size() || size > state_.message_size || size > chain.readable_size) {
        ++state_.refused;
        return 0;
    }
    message_.resize(size);
    static_cast<void>(chain.read(memory, 0, std::as_writable_bytes(std::span(message_))));
    in_ = P9Reader(std::span(message_).subspan(header.size()));
    out_.begin(static_cast<uint8_t>(type + 1), tag);
    room_ = std::min<uint64_t>(chain.writable_size, state_.message_size);
    ++state_.requests;
    int error = room_ < read_header ? EMSGSIZE : perform(type);
    if (error == 0 && out_.size() > room_) error = EMSGSIZE;
    if (error != 0) {
        out_.begin(RLERROR, tag);
        out_.u32(static_cast<uint32_t>(error));
    }
    const auto bytes = out_.finish();
    if (!chain.write(memory, 0, std::as_bytes(bytes))) {
        ++state_.refused;
        return 0;
    }
    return static_cast<uint32_t>(bytes.size());
}

int Virtio9p::perform(uint8_t type) {
    switch (type) {
        case TVERSION: return version();
        case TATTACH: return attach();
        // Everything before it has been answered.
        case TFLUSH: return 0;
        case TWALK: return walk();
        case TLOPEN: return open();
        case TLCREATE: return create();
        case TREAD: return read();
        case TWRITE: return write();
        case TREADDIR: return read_folder();
        case TFSYNC: return sync();
        case TCLUNK: return clunk();
        case TGETATTR: return get_attributes();
        case TSETATTR: return set_attributes();
        case TSTATFS: return file_system();
        case TMKDIR: return make_folder();
        case TSYMLINK: return make_link();
        case TREADLINK: return read_link();
        case TLINK: return add_name();
        case TRENAME: return rename();
        case TRENAMEAT: return rename_at();
        case TREMOVE: return remove();
        case TUNLINKAT: return remove_at();
        case TLOCK: return lock();
        case TGETLOCK: return get_lock();
        case TXATTRWALK: return walk_attribute();
        case TXATTRCREATE: return create_attribute();
        case TMKNOD: return EPERM;
        default: return EOPNOTSUPP;
    }
}

int Virtio9p::version() {
    const uint32_t wanted = in_.u32();
    const std::string name = in_.string();
    if (!in_.good() || wanted < least_message) return EINVAL;
    forget_session();
    state_.message_size = std::min(wanted, most_message);
    out_.u32(state_.message_size);
    out_.string(name == "9P2000.L" ? name : "unknown");
    return 0;
}

int Virtio9p::attach() {
    const uint32_t number = in_.u32();
    in_.u32();  // of authentication
    in_.string();
    const std::string what = in_.string();
    in_.u32();
    if (!in_.good()) return EINVAL;
    // There is one tree.
    if (!what.empty() && what != "/") return ENOENT;
    if (const int error = add_fid(number, {})) return error;
    return write_qid("");
}

// ---- Fids ----------------------------------------------------------------------------------------------------------

Virtio9p::Fid* Virtio9p::take_fid() {
    number_ = in_.u32();
    const auto at = fids_.find(number_);
    return in_.good() && at != fids_.end() ? &at->second : nullptr;
}

int Virtio9p::add_fid(uint32_t number, Fid fid) {
    if (fids_.contains(number)) return EEXIST;
    if (fids_.size() >= most_fids || path_bytes_ + fid.cost() > most_path_bytes) return ENFILE;
    path_bytes_ += fid.cost();
    fids_.emplace(number, std::move(fid));
    return 0;
}

void Virtio9p::forget_fid(Fids::iterator at) {
    path_bytes_ -= at->second.cost();
    files_.erase(at->first);
    fids_.erase(at);
}

void Virtio9p::forget_session() {
    fids_.clear();
    files_.clear();
    path_bytes_ = 0;
    state_.message_size = Virtio9pState().message_size;
}

/// Among the files that are open the one that was used longest ago goes, but for those that have no name any more and
/// would not be found again.
void Virtio9p::keep_file(uint32_t number, SharedFile file) {
    while (files_.size() >= most_files) {
        auto oldest = files_.end();
        auto nameless = files_.end();
        for (auto at = files_.begin(); at != files_.end(); ++at) {
            struct stat status {};
            const bool named = fstat(at->second.file.get(), &status) == 0 && status.st_nlink > 0;
            auto& found = named ? oldest : nameless;
            if (found == files_.end() || at->second.used < found->second.used) found = at;
        }
        files_.erase(oldest != files_.end() ? oldest : nameless);
    }
    files_[number] = {std::move(file), state_.requests};
}

int Virtio9p::file_of(uint32_t number, const Fid& fid, int& fd) {
    if (!fid.open) return EBADF;
    if (!files_.contains(number)) {
        SharedFile file;
        if (const int error = folder_->open(fid.path, static_cast<int>(fid.flags), file)) return error;
        keep_file(number, std::move(file));
    }
    OpenFile& file = files_.at(number);
    file.used = state_.requests;
    fd = file.file.get();
    return 0;
}

int Virtio9p::status_of(uint32_t number, const Fid& fid, struct stat& status) {
    if (!fid.open) return folder_->status(fid.path, status);
    int fd = -1;
    if (const int error = file_of(number, fid, fd)) return error;
    return fstat(fd, &status) == 0 ? 0 : errno;
}

P9Qid Virtio9p::qid_of(const struct stat& status) const {
    P9Qid qid;
    if (S_ISDIR(status.st_mode)) qid.type = QT_DIR;
    if (S_ISLNK(status.st_mode)) qid.type = QT_SYMLINK;
    qid.version = static_cast<uint32_t>(status.st_mtim.tv_sec ^ status.st_mtim.tv_nsec ^ status.st_size << 8);
    // What is mounted within has numbers of its own.
    const uint64_t other = status.st_dev - root_device_;
    qid.path = status.st_ino ^ other * 0x9E3779B97F4A7C15u;
    return qid;
}

int Virtio9p::write_qid(const std::string& path) {
    struct stat status {};
    if (const int error = folder_->status(path, status)) return error;
    out_.qid(qid_of(status));
    return 0;
}

int Virtio9p::walk() {
    const Fid* fid = take_fid();
    const uint32_t from = number_, to = in_.u32();
    const unsigned count = in_.u16();
    std::vector<std::string> names;
    for (unsigned i = 0; i < std::min(count, most_names); ++i) names.push_back(in_.string());
    if (!in_.good() || count > most_names) return EINVAL;
    if (!fid || fid->use != Fid::Use::file) return EBADF;
    if (to != from && fids_.contains(to)) return EEXIST;
    std::string path = fid->path;
    std::vector<P9Qid> qids;
    int error = 0;
    for (const std::string& name : names) {
        struct stat status {};
        if (name == "..") {
            const size_t slash = path.rfind('/');
            path.resize(slash == std::string::npos ? 0 : slash);
        } else if (!SharedFolder::is_name(name)) {
            error = ENOENT;
        } else {
            path = SharedFolder::join(path, name);
        }
        if (!error) error = folder_->status(path, status);
        if (error) break;
        qids.push_back(qid_of(status));
    }
    // The first name has to be there.
    if (error && qids.empty()) return error;
    if (!error) {
        if (to == from) forget_fid(fids_.find(from));
        if (const int failed = add_fid(to, {std::move(path)})) return failed;
    }
    out_.u16(static_cast<uint16_t>(qids.size()));
    for (const P9Qid& qid : qids) out_.qid(qid);
    return 0;
}

// ---- Files ---------------------------------------------------------------------------------------------------------

int Virtio9p::open() {
    Fid* fid = take_fid();
    const auto flags = static_cast<int>(in_.u32());
    if (!in_.good()) return EINVAL;
    if (!fid || fid->open || fid->use != Fid::Use::file) return EBADF;
    SharedFile file;
    struct stat status {};
    if (const int error = folder_->open(fid->path, flags, file)) return error;
    if (fstat(file.get(), &status) != 0) return errno;
    fid->open = true;
    fid->flags = static_cast<uint32_t>(flags) & kept_flags;
    keep_file(number_, std::move(file));
    out_.qid(qid_of(status));
    out_.u32(state_.message_size - io_header);
    return 0;
}

int Virtio9p::create() {
    Fid* fid = take_fid();
    const std::string name = in_.string();
    const auto flags = static_cast<int>(in_.u32());
    const uint32_t mode = in_.u32();
    in_.u32();  // group
    if (!in_.good()) return EINVAL;
    if (!fid || fid->open || fid->use != Fid::Use::file) return EBADF;
    if (path_bytes_ + name.size() + 1 > most_path_bytes) return ENFILE;
    SharedFile file;
    struct stat status {};
    if (const int error = folder_->create(fid->path, name, flags, mode, file)) return error;
    if (fstat(file.get(), &status) != 0) return errno;
    path_bytes_ -= fid->path.size();
    *fid = {SharedFolder::join(fid->path, name), true, static_cast<uint32_t>(flags) & kept_flags};
    path_bytes_ += fid->path.size();
    keep_file(number_, std::move(file));
    out_.qid(qid_of(status));
    out_.u32(state_.message_size - io_header);
    return 0;
}

int Virtio9p::read() {
    const Fid* fid = take_fid();
    const uint64_t offset = in_.u64();
    const size_t wanted = std::min<size_t>(in_.u32(), room_ - read_header);
    if (!in_.good() || offset > INT64_MAX) return EINVAL;
    int fd = -1;
    if (!fid) return EBADF;
    if (fid->use == Fid::Use::reads) return read_attribute(*fid, offset, wanted);
    if (const int error = file_of(number_, *fid, fd)) return error;
    out_.u32(0);
    const auto bytes = out_.room(wanted);
    const ssize_t got = pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0) return errno;
    out_.put(P9Writer::header, static_cast<uint32_t>(got));
    out_.cut(read_header + static_cast<size_t>(got));
    return 0;
}

int Virtio9p::write() {
    Fid* fid = take_fid();
    const uint64_t offset = in_.u64();
    const uint32_t size = in_.u32();
    const auto bytes = in_.bytes(size);
    if (!in_.good() || offset > INT64_MAX) return EINVAL;
    int fd = -1;
    if (!fid) return EBADF;
    if (fid->use == Fid::Use::writes) return write_attribute(*fid, offset, bytes);
    if (const int error = file_of(number_, *fid, fd)) return error;
    const ssize_t put = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0) return errno;
    out_.u32(static_cast<uint32_t>(put));
    return 0;
}

/// Entries with the place behind each, where the next of these begins.
int Virtio9p::read_folder() {
    const Fid* fid = take_fid();
    const uint64_t offset = in_.u64();
    const size_t most = std::min<size_t>(in_.u32(), room_ - read_header) + read_header;
    if (!in_.good() || offset > INT64_MAX) return EINVAL;
    int fd = -1;
    struct stat folder {};
    if (!fid) return EBADF;
    if (const int error = file_of(number_, *fid, fd)) return error;
    if (fstat(fd, &folder) != 0 || lseek(fd, static_cast<off_t>(offset), SEEK_SET) < 0) return errno;
    out_.u32(0);
    alignas(dirent64) std::array<char, 16384> entries;
    for (bool full = false; !full;) {
        const long size = syscall(SYS_getdents64, fd, entries.data(), entries.size());
        if (size < 0) return errno;
        if (size == 0) break;
        for (long at = 0; at < size && !full;) {
            const auto& entry = *reinterpret_cast<const dirent64*>(entries.data() + at);
            const std::string_view name = entry.d_name;
            full = out_.size() + 13 + 8 + 1 + 2 + name.size() > most;
            if (full) break;
            struct stat status = folder;
            // The outside has no number here.
            if (!(name == ".." && fid->path.empty())) status.st_ino = entry.d_ino;
            status.st_mode = DTTOIF(entry.d_type);
            out_.qid(qid_of(status));
            out_.u64(static_cast<uint64_t>(entry.d_off));
            out_.u8(entry.d_type);
            out_.string(name);
            at += entry.d_reclen;
        }
    }
    out_.put(P9Writer::header, static_cast<uint32_t>(out_.size() - read_header));
    return 0;
}

int Virtio9p::sync() {
    const Fid* fid = take_fid();
    const bool only_data = in_.left() >= 4 && in_.u32() != 0;
    int fd = -1;
    if (!fid) return EBADF;
    if (const int error = file_of(number_, *fid, fd)) return error;
    return (only_data ? fdatasync(fd) : fsync(fd)) == 0 ? 0 : errno;
}

int Virtio9p::clunk() {
    const Fid* fid = take_fid();
    if (!fid) return EBADF;
    const int error = fid->use == Fid::Use::writes ? finish_attribute(*fid) : 0;
    forget_fid(fids_.find(number_));
    return error;
}

// ---- State ---------------------------------------------------------------------------------------------------------

void Virtio9p::driver_reset() {
    forget_session();
}

void Virtio9p::reset(ResetKind /*kind*/) {
    forget_session();
    state_ = {};
}

Result<void> Virtio9p::validate(const Virtio9pState& staged) const {
    bool good =
        staged.message_size >= least_message && staged.message_size <= most_message && staged.fids.size() <= most_fids;
    size_t bytes = 0;
    for (size_t i = 0; good && i < staged.fids.size(); ++i) {
        const P9FidState& fid = staged.fids[i];
        bytes += fid_of(fid).cost();
        good = is_path(fid.path) && bytes <= most_path_bytes && (fid.flags & ~kept_flags) == 0 &&
               (i == 0 || staged.fids[i - 1].number < fid.number) && is_attribute_fid(fid);
    }
    if (!good) return fail("the saved state of the shared folder cannot be");
    return {};
}

Virtio9p::Fid Virtio9p::fid_of(const P9FidState& state) {
    return {state.path,           state.open, state.flags, state.use, state.attribute, state.attribute_flags,
            state.attribute_size, state.value};
}

void Virtio9p::before_save() {
    state_.fids.clear();
    for (const auto& [number, fid] : fids_)
        state_.fids.push_back({number, fid.path, fid.open, fid.flags, fid.use, fid.attribute, fid.attribute_flags,
                               fid.attribute_size, fid.value});
}

void Virtio9p::after_load() {
    fids_.clear();
    files_.clear();
    path_bytes_ = 0;
    for (const P9FidState& fid : state_.fids) {
        path_bytes_ += fid_of(fid).cost();
        fids_.emplace_hint(fids_.end(), fid.number, fid_of(fid));
    }
    state_.fids.clear();
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_9p(DeviceContext& context) {
    const std::string path = TRY(context.need_string("viv,folder"));
    const std::string tag = context.node.string("viv,tag").value_or("share");
    if (tag.empty() || tag.size() > Virtio9p::longest_tag)
        return context.refuse(fmt::format("`viv,tag` is not 1 to {} characters long", Virtio9p::longest_tag));
    const auto access =
        context.node.has("viv,read-only") ? SharedFolder::Access::read_only : SharedFolder::Access::writable;
    auto folder = TRY(SharedFolder::open_folder(path, access));
    return std::make_unique<Virtio9p>(std::move(folder), tag);
}

}  // namespace viv
