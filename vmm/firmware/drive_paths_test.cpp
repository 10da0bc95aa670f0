#include "vmm/firmware/drive_paths.hpp"

#include <algorithm>

#include "vmm/boards/board.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;
using namespace viv::firmware;

namespace {

std::string path_of(const TreeNode& board, std::string_view name) {
    const auto paths = drive_paths(board);
    const auto at = std::ranges::find(paths, name, &DrivePath::name);
    return at == paths.end() ? "" : at->path;
}

}  // namespace

TEST_CASE("Drives have the paths that other firmware knows them by") {
    TreeNode board = default_board();
    CHECK(path_of(board, "floppy1") == "/pci@i0cf8/isa@1/fdc@03f0/floppy@1");
    CHECK(path_of(board, "cdrom0") == "/pci@i0cf8/ide@1,1/drive@1/disk@0");
    CHECK(path_of(board, "disk0").empty());
    for (int i = 0; i < 3; ++i) REQUIRE(attach_disk(board, "d.img", DriveAccess::writable, DriveBus::ide));
    CHECK(path_of(board, "disk1") == "/pci@i0cf8/ide@1,1/drive@0/disk@1");
    CHECK(path_of(board, "disk2") == "/pci@i0cf8/ide@1,1/drive@1/disk@1");
    REQUIRE(attach_disk(board, "s.img", DriveAccess::writable, DriveBus::ahci));
    REQUIRE(attach_cdrom(board, "s.iso", DriveBus::ahci));
    CHECK(path_of(board, "disk3").starts_with("/pci@i0cf8/pci8086,2922@"));
    CHECK(path_of(board, "disk3").ends_with("/drive@0/disk@0"));
    CHECK(path_of(board, "cdrom1").ends_with("/drive@1/disk@0"));
    REQUIRE(attach_disk(board, "n.img", DriveAccess::writable, DriveBus::nvme));
    CHECK(path_of(board, "disk4").starts_with("/pci@i0cf8/pci1234,4e56@"));
    CHECK(path_of(board, "disk4").ends_with("/namespace@1,0"));
}

TEST_CASE("Disks on cards are numbered in the order of the cards") {
    TreeNode board = default_board();
    REQUIRE(attach_disk(board, "n.img", DriveAccess::writable, DriveBus::nvme));
    REQUIRE(attach_disk(board, "s.img", DriveAccess::writable, DriveBus::ahci));
    REQUIRE(attach_disk(board, "m.img", DriveAccess::writable, DriveBus::nvme));
    CHECK(path_of(board, "disk0").ends_with("/namespace@1,0"));
    CHECK(path_of(board, "disk1").ends_with("/drive@0/disk@0"));
    CHECK(path_of(board, "disk2").ends_with("/namespace@1,0"));
}

TEST_CASE("Of virtio cards only the disks count") {
    TreeNode board = default_board();
    REQUIRE(add_virtio(board, "entropy"));
    REQUIRE(attach_disk(board, "v.img", DriveAccess::writable, DriveBus::virtio));
    REQUIRE(attach_disk(board, "n.img", DriveAccess::writable, DriveBus::nvme));
    CHECK(path_of(board, "disk0") == "/pci@i0cf8/scsi@4/disk@0,0");
    CHECK(path_of(board, "disk1").ends_with("/namespace@1,0"));
}

TEST_CASE("A board without a floppy controller has no floppy paths") {
    TreeNode board = default_board();
    board.find("/isa/floppy@3f0")->set_string("status", "disabled");
    CHECK(path_of(board, "floppy0").empty());
}

TEST_CASE("A network is booted from by PCI cards and by option ROMs of files") {
    TreeNode board = default_board();
    CHECK(network_paths(board).empty());
    for (const char* model : {"e1000", "ne2k_isa", "virtio"}) REQUIRE(attach_nic(board, {.model = model}));
    REQUIRE(add_virtio(board, "entropy"));
    board.ensure_child("chosen").set_string("viv,option-roms", std::string_view("a.rom\0b.rom", 11));
    CHECK(network_paths(board) == std::vector<std::string>{"/pci@i0cf8/ethernet@3/ethernet-phy@0",
                                                           "/pci@i0cf8/ethernet@4/ethernet-phy@0", "/rom@genroms/0.rom",
                                                           "/rom@genroms/1.rom"});
}
