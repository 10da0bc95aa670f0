#include "vmm/cli/media_changer.hpp"

#include <cstdlib>

#include "devices/storage/disk_drive.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "vmm/cli/removable_drive_test.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::cli;

namespace {

struct Rig {
    Rig() {
        drives.add(floppy);
        drives.add(disk);
        drives.add(cdrom);
    }
    FakeRemovableDrive floppy{DriveKind::floppy};
    FakeRemovableDrive disk{DriveKind::disk};
    FakeRemovableDrive cdrom{DriveKind::cdrom};
    DriveRegistry drives;
    MediaChanger media{drives, ImageAccess::writable};
};

struct TextFile : TemporaryFile {
    explicit TextFile(const std::string& text) : TemporaryFile(std::as_bytes(std::span(text))) {}
};

std::string disc_image() {
    std::string disc(40 * 2048, '\0');
    disc.replace(0x8001, 5, "CD001");
    return disc;
}

}  // namespace

TEST_CASE("A file goes into the drive that is named, whatever it is") {
    Rig rig;
    const TextFile file(std::string(2048, 'x')), other(std::string(2048, 'y'));
    CHECK(rig.media.insert("cdrom0=" + file.path()) == "cdrom0: " + file.path());
    CHECK(rig.cdrom.inserted == 1);
    CHECK(rig.cdrom.medium()->read_only());
    CHECK(rig.media.insert("floppy0=" + other.path()));
    CHECK_FALSE(rig.floppy.medium()->read_only());
}

TEST_CASE("A file without a drive goes where its content fits") {
    Rig rig;
    const TextFile disc(disc_image()), floppy(std::string(720 * 1024, '\0')), text("neither");
    CHECK(rig.media.insert(disc.path()) == "cdrom0: " + disc.path());
    CHECK(rig.media.insert(floppy.path()) == "floppy0: " + floppy.path());
    const auto refused = rig.media.insert(text.path());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("say which") != std::string::npos);
}

TEST_CASE("The same file can be put in again, though a writer has it for itself") {
    Rig rig;
    const TextFile floppy(std::string(720 * 1024, '\0'));
    REQUIRE(rig.media.insert("floppy0=" + floppy.path()));
    CHECK(rig.media.insert("floppy0=" + floppy.path()));
    CHECK(rig.floppy.inserted == 2);
}

TEST_CASE("What came out is told") {
    Rig rig;
    const TextFile disc(disc_image());
    CHECK(rig.media.eject("cdrom0") == "cdrom0 is empty");
    REQUIRE(rig.media.insert(disc.path()));
    CHECK(rig.media.eject("cdrom0") == "cdrom0: took out " + disc.path());
    CHECK_FALSE(rig.cdrom.medium());
}

TEST_CASE("Drives that are not there, fixed disks and missing files are refused, the drive keeps what it has") {
    Rig rig;
    const TextFile disc(disc_image());
    REQUIRE(rig.media.insert(disc.path()));
    for (const char* what : {"cdrom1=x", "disk0=x", "cdrom0=", "cdrom0=/no/such/file", "/no/such/file", ""}) {
        CHECK_FALSE(rig.media.check_insert(what));
        CHECK_FALSE(rig.media.insert(what));
    }
    CHECK(rig.media.check_insert("cdrom1=x").error().message ==
          "there is no drive 'cdrom1' for removable media; this machine has floppy0, cdrom0");
    CHECK_FALSE(rig.media.check_eject("disk0"));
    CHECK_FALSE(rig.media.eject("nothing"));
    CHECK(rig.cdrom.medium());
}

TEST_CASE("A locked drive keeps its medium") {
    Rig rig;
    const TextFile disc(disc_image());
    REQUIRE(rig.media.insert(disc.path()));
    rig.cdrom.is_locked = true;
    CHECK_FALSE(rig.media.eject("cdrom0"));
    CHECK_FALSE(rig.media.insert(disc.path()));
    CHECK(rig.cdrom.inserted == 1);
}

TEST_CASE("A disk grows to a size, or by one, and who cannot says why") {
    DriveRegistry drives;
    FakeRemovableDrive fixed{DriveKind::disk}, cdrom{DriveKind::cdrom};
    DiskDrive disk(std::make_unique<MemoryImage>(size_t{1} << 20), "X");
    unsigned told = 0;
    disk.on_grown([&told] { ++told; });
    drives.add(fixed);
    drives.add(disk);
    drives.add(cdrom);
    MediaChanger media(drives, ImageAccess::writable);
    CHECK(media.check_grow("disk1=2M"));
    CHECK(media.grow("disk1=2M") == "disk1: 2097152 bytes");
    CHECK(media.grow("disk1=+1M") == "disk1: 3145728 bytes");
    CHECK(media.grow("4M") == "disk1: 4194304 bytes");
    CHECK(media.grow("+1M") == "disk1: 5242880 bytes");
    CHECK(disk.image().size() == 5 << 20);
    CHECK(told == 4);
    const auto refusal = [&media](const char* what) {
        const auto checked = media.check_grow(what);
        REQUIRE_FALSE(checked);
        CHECK_FALSE(media.grow(what));
        return checked.error().message;
    };
    CHECK(refusal("disk1=5M").find("are not more") != std::string::npos);
    CHECK(refusal("disk1=1M").find("are not more") != std::string::npos);
    CHECK(refusal("disk1=much").find("much") != std::string::npos);
    CHECK(refusal("disk0=8M").find("bus=virtio") != std::string::npos);
    CHECK(refusal("disk2=8M").find("names no disk") != std::string::npos);
    CHECK(refusal("cdrom0=8M").find("names no disk") != std::string::npos);
    CHECK_FALSE(media.check_grow("disk1="));
    CHECK(disk.image().size() == 5 << 20);
    const DriveRegistry none;
    CHECK_FALSE(MediaChanger(none, ImageAccess::writable).check_grow("8M"));
}
