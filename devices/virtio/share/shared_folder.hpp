// Models: a folder of the host whose inside a guest may use, and nothing outside of it
// Not modelled: device nodes, sockets and FIFOs (they are seen, and never opened or made), extended attributes other
// than
//   those of users
// Ignored bits: none
// Reference: openat2(2), open(2), "O_PATH"; docs/devices/virtio.md, "Shared folder"
#pragma once

#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/result.hpp"

namespace viv {

/// A file descriptor of the host that is closed with the object; -1 is none.
class SharedFile {
  public:
    SharedFile() = default;
    explicit SharedFile(int fd) : fd_(fd) {}
    ~SharedFile();
    SharedFile(SharedFile&& other) noexcept;
    SharedFile& operator=(SharedFile&& other) noexcept;
    [[nodiscard]] int get() const { return fd_; }

  private:
    int fd_ = -1;
};

/// Names within are paths like "a/b/c", "" is the folder itself. No symbolic link is ever followed, in the middle or at
/// the end: links are the guest's own to follow. So whatever the links in it say, and whoever changes them meanwhile,
/// nothing outside is reached. All functions but open_folder() return 0 or an errno value.
class SharedFolder {
  public:
    enum class Access { writable, read_only };
    static constexpr size_t longest_name = 255, longest_path = 4095;

    /// Errors name the folder: it is none, or may not be searched.
    static Result<std::unique_ptr<SharedFolder>> open_folder(const std::string& path, Access access);

    /// Whether a name can be one of an entry: not empty, ".", "..", too long, nor with '/' or NUL in it.
    [[nodiscard]] static bool is_name(std::string_view name);
    /// "a/b" and "c": "a/b/c".
    [[nodiscard]] static std::string join(const std::string& folder, std::string_view name);

    int status(const std::string& path, struct stat& status) const;
    int file_system(const std::string& path, struct statfs& status) const;
    int read_link(const std::string& path, std::string& target) const;
    /// Opens a file or folder; of `flags` O_ACCMODE, O_TRUNC, O_APPEND, O_SYNC, O_DSYNC and O_DIRECTORY count. What is
    /// neither gives EACCES, without a wait.
    int open(const std::string& path, int flags, SharedFile& file) const;
    /// Makes a file and opens it; with O_EXCL only if there is none.
    int create(const std::string& folder, const std::string& name, int flags, unsigned mode, SharedFile& file) const;
    int make_folder(const std::string& folder, const std::string& name, unsigned mode) const;
    int make_link(const std::string& folder, const std::string& name, const std::string& target) const;
    /// A further name for a file.
    int add_name(const std::string& path, const std::string& folder, const std::string& name) const;
    int rename(const std::string& from, const std::string& from_name, const std::string& to,
               const std::string& to_name) const;
    enum class Kind { file, folder };
    int remove(const std::string& folder, const std::string& name, Kind kind) const;

    int set_mode(const std::string& path, unsigned mode) const;
    /// Who may not give files away keeps them, without an error: the guest's root is somebody else.
    int set_owner(const std::string& path, std::optional<uint32_t> user, std::optional<uint32_t> group) const;
    int set_size(const std::string& path, uint64_t size) const;
    int set_times(const std::string& path, const struct timespec (&times)[2]) const;

    // Extended attributes of files and folders, of those whose names begin with "user."; all others mean something to
    // the host. ENODATA when there is none, EOPNOTSUPP for other names.
    static constexpr size_t most_attribute = 65'536;  // bytes
    [[nodiscard]] static bool is_attribute(std::string_view name);
    /// The names, with a NUL behind each.
    int list_attributes(const std::string& path, std::vector<uint8_t>& names) const;
    int get_attribute(const std::string& path, const std::string& name, std::vector<uint8_t>& value) const;
    /// `flags`: as setxattr(2) has them.
    int set_attribute(const std::string& path, const std::string& name, std::span<const uint8_t> value,
                      int flags) const;
    int remove_attribute(const std::string& path, const std::string& name) const;

    /// What a mode may have: no set-user-ID and set-group-ID, which would act on the host.
    static constexpr unsigned mode_bits = 01777;

    /// For tests: what is used where the host's kernel has no openat2().
    void walk_by_hand() { by_hand_ = true; }

  private:
    SharedFolder(SharedFile root, Access access) : root_(std::move(root)), access_(access) {}
    /// The thing itself, as O_PATH.
    int find(const std::string& path, SharedFile& found) const;
    int find_by_hand(const std::string& path, SharedFile& found) const;
    /// The folder of a path, as O_PATH, and the name in it ("." for the shared folder itself).
    int find_parent(const std::string& path, SharedFile& parent, std::string& name) const;
    /// What can have attributes, opened; ENODATA for all else.
    int open_with_attributes(const std::string& path, SharedFile& file) const;
    /// EROFS, EINVAL for what is no name, or 0 with the folder found.
    int prepare_change(const std::string& folder, const std::string& name, SharedFile& parent) const;

    SharedFile root_;
    Access access_;
    mutable bool by_hand_ = false;
};

}  // namespace viv
