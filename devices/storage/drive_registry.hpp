#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "devices/storage/image/disk_image.hpp"
#include "vmm/core/result.hpp"

namespace viv {

enum class DriveKind { floppy, disk, cdrom };

/// Sectors count from 1 to `sectors`, the others from 0.
struct DriveGeometry {
    uint32_t cylinders = 0;
    uint32_t heads = 0;
    uint32_t sectors = 0;
    bool operator==(const DriveGeometry&) const = default;
};

/// Type of a floppy drive as CMOS byte 10h has it.
enum class FloppyType : uint8_t { none = 0, d360k = 1, d1200k = 2, d720k = 3, d1440k = 4, d2880k = 6 };

/// What the firmware, the firmware device and the control side know of a drive, whichever controller it hangs on.
class Drive {
  public:
    virtual ~Drive() = default;
    [[nodiscard]] virtual DriveKind drive_kind() const = 0;
    /// The medium, or nullptr when the drive is empty.
    [[nodiscard]] virtual DiskImage* medium() = 0;
    /// Of the medium as it is recorded (floppy) or of the drive as it identifies itself (disk: the default translation,
    /// ATA words 1, 3 and 6). Zeros when empty or not applicable.
    [[nodiscard]] virtual DriveGeometry geometry() const = 0;
    /// What INT 13h answers: for disks the translation that software with its 10-bit cylinders can use.
    [[nodiscard]] virtual DriveGeometry bios_geometry() const { return geometry(); }
    /// Bytes of a logical block: 512, or 2048 for a CD-ROM.
    [[nodiscard]] virtual uint32_t block_size() const { return 512; }
    /// Only for floppy drives.
    [[nodiscard]] virtual FloppyType floppy_type() const { return FloppyType::none; }
    [[nodiscard]] virtual bool removable() const { return false; }

    /// First port of the controller's command block, or 0 when it has none (not IDE, not floppy).
    [[nodiscard]] virtual uint16_t io_base() const { return 0; }
    /// Position on the controller: 0 master or drive A, 1 slave or drive B.
    [[nodiscard]] virtual uint8_t unit() const { return 0; }

    /// Whether the medium changed since the firmware last acknowledged it. It is the firmware's own latch: the change
    /// line of the controller has another.
    [[nodiscard]] virtual bool medium_changed() const { return false; }
    virtual void acknowledge_medium_change() {}

    /// Puts a medium into a removable drive, in place of one that is there. Errors: not removable, no such format,
    /// locked by the guest.
    virtual Result<void> insert(std::unique_ptr<DiskImage> image) {
        return fail("cannot insert '" + image->name() + "': the drive's medium is fixed");
    }
    /// A person takes the medium out; nothing happens when the drive is empty. Errors: not removable, locked by the
    /// guest.
    virtual Result<void> eject() { return fail("the drive's medium is fixed"); }

    /// Whether its medium may become longer while the machine runs: its controller has a way to tell the guest.
    [[nodiscard]] virtual bool can_grow() const { return false; }
    /// Makes the medium longer, and tells the guest. Errors: cannot, or the image refuses.
    virtual Result<void> grow(uint64_t /*bytes*/) {
        return fail_usage("no guest would learn of it: only virtio disks (bus=virtio) grow while the machine runs");
    }

    /// Whether the guest keeps the medium in. A drive that cannot lock never is.
    [[nodiscard]] virtual bool locked() const { return false; }
    /// The guest locks or unlocks; false when the drive cannot.
    virtual bool set_locked(bool /*locked*/) { return false; }
    /// The guest ejects: the medium is out of reach until the guest or a person closes the tray. False when the drive
    /// cannot do that, or is locked.
    virtual bool open_tray() { return false; }
};

/// All drives of the machine. The machine provides one before it makes devices; each controller adds its drives, which
/// numbers them: floppies 00h and 01h by unit, disks 80h and up and CD-ROMs E0h and up in the order they come.
class DriveRegistry {
  public:
    struct Entry {
        Drive* drive = nullptr;
        uint8_t bios_number = 0;
        std::string name;  // kind and number: "floppy0", "disk1", "cdrom0"
    };

    void add(Drive& drive) {
        const DriveKind kind = drive.drive_kind();
        const auto index =
            kind == DriveKind::floppy ? drive.unit() : static_cast<uint8_t>(std::min<size_t>(count(kind), 31));
        entries_.push_back({&drive, static_cast<uint8_t>(first_number(kind) + index),
                            std::string(kind_name(kind)) + std::to_string(index)});
    }
    /// In the order they were added.
    [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
    /// The drive with this BIOS number, or nullptr.
    [[nodiscard]] Drive* find(uint8_t bios_number) const {
        const auto at = std::ranges::find(entries_, bios_number, &Entry::bios_number);
        return at == entries_.end() ? nullptr : at->drive;
    }
    /// The entry with this name, or nullptr.
    [[nodiscard]] const Entry* find(std::string_view name) const {
        const auto at = std::ranges::find(entries_, name, &Entry::name);
        return at == entries_.end() ? nullptr : &*at;
    }
    [[nodiscard]] size_t count(DriveKind kind) const {
        return static_cast<size_t>(
            std::ranges::count_if(entries_, [kind](const Entry& entry) { return entry.drive->drive_kind() == kind; }));
    }

    [[nodiscard]] static constexpr uint8_t first_number(DriveKind kind) {
        switch (kind) {
            case DriveKind::floppy: return 0x00;
            case DriveKind::disk: return 0x80;
            case DriveKind::cdrom: return 0xE0;
        }
        return 0;
    }
    [[nodiscard]] static constexpr std::string_view kind_name(DriveKind kind) {
        switch (kind) {
            case DriveKind::floppy: return "floppy";
            case DriveKind::disk: return "disk";
            case DriveKind::cdrom: return "cdrom";
        }
        return {};
    }

  private:
    std::vector<Entry> entries_;
};

}  // namespace viv
