#include "vmm/firmware/drive_paths.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "vmm/firmware/acpi/board_view.hpp"

namespace viv::firmware {
namespace {

/// "DEVICE", or "DEVICE,FUNCTION" where that is not 0.
std::string function_of(std::span<const uint32_t> reg) {
    return reg[1] ? fmt::format("{:x},{:x}", reg[0], reg[1]) : fmt::format("{:x}", reg[0]);
}

class Walk {
  public:
    std::vector<DrivePath> take() { return std::move(paths_); }

    /// The drives of a controller. `path` makes theirs from their number there.
    void add(const TreeNode& controller, auto&& path) {
        for (const TreeNode& drive : controller.children) {
            const auto unit = drive.u32("reg");
            if (!unit) continue;
            const bool cdrom = drive.string("viv,drive-type") == "cdrom";
            if (!cdrom && !drive.has("viv,image")) continue;
            const std::string name = cdrom ? fmt::format("cdrom{}", cdroms_++) : fmt::format("disk{}", disks_++);
            paths_.push_back({name, path(*unit)});
        }
    }
    /// A card that is a disk by itself.
    void add(std::string path) { paths_.push_back({fmt::format("disk{}", disks_++), std::move(path)}); }
    void add_floppies() {
        for (unsigned unit = 0; unit < 2; ++unit) {
            paths_.push_back({fmt::format("floppy{}", unit), fmt::format("/pci@i0cf8/isa@1/fdc@03f0/floppy@{}", unit)});
        }
    }

  private:
    std::vector<DrivePath> paths_;
    unsigned disks_ = 0, cdroms_ = 0;
};

}  // namespace

std::vector<DrivePath> drive_paths(const TreeNode& board) {
    Walk walk;
    if (!board_devices(board, "intel,82077aa").empty()) walk.add_floppies();
    for (const TreeNode* channel : board_devices(board, "intel,piix-ide")) {
        const auto reg = channel->cells("reg");
        const unsigned number = reg.size() > 1 && reg[1] == 0x170 ? 1 : 0;
        walk.add(*channel,
                 [number](uint32_t unit) { return fmt::format("/pci@i0cf8/ide@1,1/drive@{}/disk@{}", number, unit); });
    }
    // Cards count in the order in which they are made, whatever they are.
    for (const TreeNode* card : board_devices(board, {"intel,ich9-ahci", "viv,nvme", "virtio,pci"})) {
        const auto reg = card->cells("reg");
        if (reg.size() < 2) continue;
        const std::string function = function_of(reg);
        if (std::ranges::count(card->strings("compatible"), "virtio,pci")) {
            if (card->string("viv,function") == "block") walk.add(fmt::format("/pci@i0cf8/scsi@{}/disk@0,0", function));
            continue;
        }
        if (std::ranges::count(card->strings("compatible"), "viv,nvme")) {
            walk.add(fmt::format("/pci@i0cf8/pci1234,4e56@{}/namespace@1,0", function));
            continue;
        }
        walk.add(*card, [&function](uint32_t port) {
            return fmt::format("/pci@i0cf8/pci8086,2922@{}/drive@{}/disk@0", function, port);
        });
    }
    return walk.take();
}

std::vector<std::string> network_paths(const TreeNode& board) {
    std::vector<std::string> paths;
    for (const TreeNode* card : board_devices(
             board, {"intel,82540em", "realtek,8029", "realtek,8139", "realtek,8139cp", "amd,79c970a", "virtio,pci"})) {
        const auto reg = card->cells("reg");
        if (reg.size() < 2 || !card->has("local-mac-address")) continue;
        paths.push_back(fmt::format("/pci@i0cf8/ethernet@{}/ethernet-phy@0", function_of(reg)));
    }
    const TreeNode* chosen = board.child("chosen");
    const size_t files = chosen ? chosen->strings("viv,option-roms").size() : 0;
    for (size_t i = 0; i < files; ++i) paths.push_back(fmt::format("/rom@genroms/{}.rom", i));
    return paths;
}

}  // namespace viv::firmware
