#pragma once

#include <string>
#include <string_view>

#include "devices/storage/drive_registry.hpp"
#include "vmm/core/result.hpp"

namespace viv::cli {

/// Puts media into the drives of a running machine, takes them out, and makes disks larger, as a script or a person at
/// the menu says.
/// Everything happens under the machine lock.
class MediaChanger {
  public:
    /// `floppy_access` is for floppies; CD-ROMs are only read.
    MediaChanger(const DriveRegistry& drives, ImageAccess floppy_access)
        : drives_(&drives), floppy_access_(floppy_access) {}

    /// "DRIVE=FILE", or "FILE" for the first drive that takes it by its content. The answer says which: "cdrom0: FILE".
    Result<std::string> insert(std::string_view what);
    /// "DRIVE". The answer says what came out.
    Result<std::string> eject(std::string_view drive);

    /// "DRIVE=SIZE" or "DRIVE=+SIZE"; without a drive the first disk that can grow. The answer says what it has now.
    Result<std::string> grow(std::string_view what);

    /// What can be known to be wrong before the machine runs: no such drive, a fixed one, no such file, no such size.
    [[nodiscard]] Result<void> check_insert(std::string_view what) const;
    [[nodiscard]] Result<void> check_eject(std::string_view drive) const;
    [[nodiscard]] Result<void> check_grow(std::string_view what) const;

  private:
    struct Order {
        const DriveRegistry::Entry* drive = nullptr;  // nullptr: by content
        std::string path;
    };
    struct Growth {
        const DriveRegistry::Entry* drive = nullptr;
        uint64_t bytes = 0;  // afterwards
    };
    [[nodiscard]] Result<Growth> parse_growth(std::string_view what) const;
    [[nodiscard]] Result<Order> parse(std::string_view what) const;
    [[nodiscard]] Result<const DriveRegistry::Entry*> removable(std::string_view name) const;
    [[nodiscard]] Result<const DriveRegistry::Entry*> drive_for(const std::string& path) const;

    const DriveRegistry* drives_;
    ImageAccess floppy_access_;
};

}  // namespace viv::cli
