#include "vmm/boards/board.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "vmm/boards/board_edit.hpp"
#include "vmm/core/catch.hpp"

using namespace viv;

namespace {
struct TemporaryFile {
    explicit TemporaryFile(std::span<const std::byte> content) {
        const int fd = mkstemp(path);
        REQUIRE(fd >= 0);
        REQUIRE(::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
        close(fd);
    }
    ~TemporaryFile() { unlink(path); }
    char path[32] = "/tmp/viv-board-XXXXXX";
};
std::span<const std::byte> bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}
}  // namespace

TEST_CASE("The default board is a PC with 128 MiB and one CPU") {
    const TreeNode board = default_board();
    CHECK(board.string("compatible") == "viv,pc");
    CHECK(memory_size(board) == 128u << 20);
    CHECK(cpu_count(board) == 1);
    CHECK(board.find("/isa/serial@3f8") != nullptr);
}

TEST_CASE("Memory and CPU counts are edited within their bounds") {
    TreeNode board = default_board();
    REQUIRE(set_memory_size(board, uint64_t{6} << 30));
    CHECK(memory_size(board) == uint64_t{6} << 30);
    CHECK_FALSE(set_memory_size(board, 1000));
    CHECK_FALSE(set_memory_size(board, (1u << 20) + 1));
    REQUIRE(set_cpus(board, 16));
    CHECK(cpu_count(board) == 16);
    CHECK(board.find("/cpus/cpu@f")->u32("reg") == 15u);
    CHECK_FALSE(set_cpus(board, 17));
    CHECK_FALSE(set_cpus(board, 0));
}

TEST_CASE("USB devices bring their controller with them, which has two ports") {
    TreeNode board = default_board();
    CHECK(board.find("/pci/usb@1,2") == nullptr);
    CHECK(add_usb_device(board, "camera").error().kind == ErrorKind::usage);
    CHECK(board.find("/pci/usb@1,2") == nullptr);
    REQUIRE(add_usb_device(board, "tablet"));
    CHECK(board.find("/pci/usb@1,2/port@1")->string("viv,device-type") == "tablet");
    CHECK_FALSE(board.find("/pci/usb@1,2/port@2")->has("viv,device-type"));
    REQUIRE(add_usb_device(board, "keyboard"));
    CHECK(board.find("/pci/usb@1,2/port@2")->string("viv,device-type") == "keyboard");
    CHECK(add_usb_device(board, "mouse").error().message ==
          "--usb: there is no port left for a mouse: the controller has two");
    TreeNode bare{"", {}, {}};
    CHECK_FALSE(add_usb_device(bare, "mouse"));
}

TEST_CASE("Images go to the first free drive until none is left") {
    TreeNode board = default_board();
    REQUIRE(attach_floppy(board, "a.img", DriveAccess::snapshot));
    REQUIRE(attach_floppy(board, "b.img", DriveAccess::read_only));
    const auto third = attach_floppy(board, "c.img", DriveAccess::writable);
    REQUIRE_FALSE(third);
    CHECK(third.error().kind == ErrorKind::usage);
    CHECK(board.find("/isa/floppy@3f0/drive@0")->string("viv,image") == "a.img");
    CHECK(board.find("/isa/floppy@3f0/drive@0")->has("viv,snapshot"));
    CHECK(board.find("/isa/floppy@3f0/drive@1")->has("viv,read-only"));
    for (int i = 0; i < 4; ++i) CHECK(attach_disk(board, "d.img", DriveAccess::writable));
    CHECK(board.find("/isa/ide@170/drive@1")->string("viv,image") == "d.img");
    CHECK_FALSE(attach_disk(board, "e.img", DriveAccess::writable));
    CHECK_FALSE(attach_cdrom(board, "e.iso"));
}

TEST_CASE("Drives on AHCI and NVMe bring their controllers along") {
    TreeNode board = default_board();
    REQUIRE(attach_disk(board, "a.img", DriveAccess::snapshot, DriveBus::ahci));
    REQUIRE(attach_cdrom(board, "b.iso", DriveBus::ahci));
    const TreeNode* first = board.find("/pci/sata@3");
    REQUIRE(first);
    CHECK(first->string("compatible") == "intel,ich9-ahci");
    CHECK(first->cells("reg") == std::vector<uint32_t>{3, 0});
    CHECK(first->child("drive@0")->string("viv,image") == "a.img");
    CHECK(first->child("drive@0")->has("viv,snapshot"));
    CHECK(first->child("drive@1")->string("viv,drive-type") == "cdrom");
    for (int i = 0; i < 5; ++i) REQUIRE(attach_disk(board, "c.img", DriveAccess::writable, DriveBus::ahci));
    CHECK(board.find("/pci/sata@4/drive@0")->string("viv,image") == "c.img");
    CHECK_FALSE(board.find("/isa/ide@1f0/drive@0")->has("viv,image"));
    REQUIRE(attach_disk(board, "n.img", DriveAccess::read_only, DriveBus::nvme));
    CHECK(board.find("/pci/nvme@5")->string("compatible") == "viv,nvme");
    CHECK(board.find("/pci/nvme@5")->string("viv,image") == "n.img");
    CHECK(board.find("/pci/nvme@5")->has("viv,read-only"));
    CHECK_FALSE(attach_cdrom(board, "n.iso", DriveBus::nvme));
    for (int i = 6; i < 32; ++i) CHECK(attach_disk(board, "n.img", DriveAccess::writable, DriveBus::nvme));
    CHECK_FALSE(attach_disk(board, "o.img", DriveAccess::writable, DriveBus::nvme));
    board.children.erase(std::ranges::find(board.children, "pci", &TreeNode::name));
    CHECK_FALSE(attach_disk(board, "d.img", DriveAccess::writable, DriveBus::ahci));
}

TEST_CASE("Virtio devices are cards, or have fixed places and interrupts") {
    TreeNode board = default_board();
    REQUIRE(add_virtio(board, "entropy"));
    REQUIRE(attach_disk(board, "v.img", DriveAccess::snapshot, DriveBus::virtio));
    const TreeNode* disk = board.find("/pci/virtio@4");
    REQUIRE(disk);
    CHECK(disk->string("compatible") == "virtio,pci");
    CHECK(disk->string("viv,function") == "block");
    CHECK(disk->string("viv,image") == "v.img");
    CHECK(disk->has("viv,snapshot"));
    CHECK_FALSE(attach_cdrom(board, "v.iso", DriveBus::virtio));
    REQUIRE(attach_disk(board, "m.img", DriveAccess::writable, DriveBus::virtio_mmio));
    REQUIRE(add_virtio(board, "entropy", VirtioBus::mmio));
    CHECK(board.find("/virtio@fed10000")->string("viv,image") == "m.img");
    CHECK(board.find("/virtio@fed11000")->u32("interrupts") == 7u);
    CHECK_FALSE(add_virtio(board, "entropy", VirtioBus::mmio));
}

TEST_CASE("NICs come with an address of their own and their link") {
    TreeNode board = default_board();
    REQUIRE(attach_nic(board, {.link = "user", .published = {"2222:22", "5353:53/udp"}}));
    REQUIRE(attach_nic(board, {.link = "loopback", .mac = "02:00:00:00:00:01"}));
    REQUIRE(attach_nic(board, {}));
    const auto mac = [&board](const char* path) {
        return std::to_integer<int>(board.find(path)->property("local-mac-address")->back());
    };
    CHECK(board.find("/pci/ethernet@3")->string("compatible") == "intel,82540em");
    CHECK(board.find("/pci/ethernet@3")->string("viv,link") == "user");
    CHECK(board.find("/pci/ethernet@3")->strings("viv,publish") == std::vector<std::string>{"2222:22", "5353:53/udp"});
    CHECK(mac("/pci/ethernet@3") == 0x56);
    CHECK(board.find("/pci/ethernet@4")->string("viv,link") == "loopback");
    CHECK(mac("/pci/ethernet@4") == 0x01);
    CHECK(mac("/pci/ethernet@5") == 0x58);
    CHECK(attach_nic(board, {.model = "wifi"}).error().message.find("wifi") != std::string::npos);
    CHECK_FALSE(attach_nic(board, {.mac = "02:00"}));
    REQUIRE(attach_nic(board, {.model = "ne2k_pci"}));
    CHECK(board.find("/pci/ethernet@6")->string("compatible") == "realtek,8029");
    CHECK_FALSE(attach_nic(board, {.model = "ne2k_pci", .port = uint16_t{0x300}, .irq = {}}));
    REQUIRE(attach_nic(board, {.model = "ne2k_isa"}));
    CHECK(board.find("/isa/ethernet@300")->cells("reg") == std::vector<uint32_t>{1, 0x300, 32});
    CHECK(board.find("/isa/ethernet@300")->u32("interrupts") == 5u);
    CHECK_FALSE(attach_nic(board, {.model = "ne2k_isa"}));
    REQUIRE(attach_nic(board, {.model = "ne2k_isa", .port = uint16_t{0x320}, .irq = 12}));
    CHECK(board.find("/isa/ethernet@320")->u32("interrupts") == 12u);
    REQUIRE(attach_nic(board, {.model = "virtio", .mtu = 9000, .split = true, .record = "v.pcap"}));
    const TreeNode* card = board.find("/pci/virtio@7");
    REQUIRE(card);
    CHECK(card->string("viv,function") == "network");
    CHECK(card->string("viv,pcap") == "v.pcap");
    CHECK(card->u32("viv,mtu") == 9000u);
    CHECK(card->has("viv,split"));
    CHECK(mac("/pci/virtio@7") == 0x56 + 6);
    REQUIRE(attach_nic(board, {.model = "virtio-mmio"}));
    CHECK(board.find("/virtio@fed10000")->string("viv,function") == "network");
    CHECK_FALSE(attach_nic(board, {.mtu = 9000}));
    CHECK_FALSE(attach_nic(board, {.model = "virtio", .irq = 5}));
}

TEST_CASE("Serial back ends, boot order and an exit port are properties of the board") {
    TreeNode board = default_board();
    REQUIRE(set_serial(board, 1, "file:x.log"));
    CHECK(board.find("/isa/serial@2f8")->string("viv,chardev") == "file:x.log");
    CHECK_FALSE(set_serial(board, 4, "null"));
    set_boot_order(board, std::array<std::string, 2>{"disk", "floppy"});
    CHECK(board.find("/chosen")->strings("viv,boot-order") == std::vector<std::string>{"disk", "floppy"});
    REQUIRE(add_exit_port(board, 0x501));
    CHECK(board.find("/isa/exit-port@501")->cells("reg") == std::vector<uint32_t>{1, 0x501, 1});
}

TEST_CASE("A board file is read as a blob or as source, and refused with the reason") {
    const TreeNode board = default_board();
    const auto blob = to_fdt(board);
    CHECK(load_board(TemporaryFile(blob).path).value() == board);
    CHECK(load_board(TemporaryFile(bytes(to_dts(board))).path).value() == board);
    const auto text = load_board(TemporaryFile(bytes("hello")).path);
    REQUIRE_FALSE(text);
    CHECK(text.error().message.find("is not a board") != std::string::npos);
    CHECK_FALSE(load_board(TemporaryFile(std::span(blob).first(blob.size() - 400)).path));
    CHECK(load_board("/nonexistent.dtb").error().message ==
          "cannot open board '/nonexistent.dtb': No such file or directory");
}
