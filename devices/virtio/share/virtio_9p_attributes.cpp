#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "devices/virtio/share/virtio_9p.hpp"

namespace viv {

/// A fid for the value of an attribute, or, without a name, for the names of all.
int Virtio9p::walk_attribute() {
    const Fid* fid = take_fid();
    const uint32_t to = in_.u32();
    const std::string name = in_.string();
    if (!in_.good()) return EINVAL;
    if (!fid || fid->use != Fid::Use::file) return EBADF;
    Fid made{fid->path};
    made.use = Fid::Use::reads;
    const int error = name.empty() ? folder_->list_attributes(made.path, made.value)
                                   : folder_->get_attribute(made.path, name, made.value);
    if (error) return error;
    const uint64_t size = made.value.size();
    if (const int failed = add_fid(to, std::move(made))) return failed;
    out_.u64(size);
    return 0;
}

/// Turns a fid into one that the value of an attribute is written to, which is set when the fid goes.
int Virtio9p::create_attribute() {
    Fid* fid = take_fid();
    const std::string name = in_.string();
    const uint64_t size = in_.u64();
    const uint32_t flags = in_.u32();
    if (!in_.good() || (flags & ~uint32_t{XATTR_CREATE | XATTR_REPLACE})) return EINVAL;
    if (!fid || fid->open || fid->use != Fid::Use::file) return EBADF;
    if (!SharedFolder::is_attribute(name)) return EOPNOTSUPP;
    if (size > SharedFolder::most_attribute) return E2BIG;
    if (path_bytes_ + name.size() + size > most_path_bytes) return ENFILE;
    path_bytes_ -= fid->cost();
    fid->use = Fid::Use::writes;
    fid->attribute = name;
    fid->attribute_flags = flags;
    fid->attribute_size = static_cast<uint32_t>(size);
    path_bytes_ += fid->cost();
    return 0;
}

int Virtio9p::read_attribute(const Fid& fid, uint64_t offset, size_t wanted) {
    const size_t at = std::min<uint64_t>(offset, fid.value.size());
    const size_t size = std::min(wanted, fid.value.size() - at);
    out_.u32(static_cast<uint32_t>(size));
    std::ranges::copy(std::span(fid.value).subspan(at, size), out_.room(size).begin());
    return 0;
}

/// From its beginning on, without gaps.
int Virtio9p::write_attribute(Fid& fid, uint64_t offset, std::span<const uint8_t> bytes) {
    if (offset != fid.value.size()) return EINVAL;
    if (bytes.size() > fid.attribute_size - fid.value.size()) return ENOSPC;
    fid.value.insert(fid.value.end(), bytes.begin(), bytes.end());
    out_.u32(static_cast<uint32_t>(bytes.size()));
    return 0;
}

int Virtio9p::finish_attribute(const Fid& fid) {
    if (fid.value.size() != fid.attribute_size) return EINVAL;
    // How Linux's client removes one.
    if (fid.attribute_size == 0 && fid.attribute_flags == XATTR_REPLACE)
        return folder_->remove_attribute(fid.path, fid.attribute);
    return folder_->set_attribute(fid.path, fid.attribute, fid.value, static_cast<int>(fid.attribute_flags));
}

}  // namespace viv
