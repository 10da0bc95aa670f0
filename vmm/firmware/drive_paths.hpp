#pragma once

#include <string>
#include <vector>

#include "vmm/core/tree.hpp"

namespace viv::firmware {

/// A drive by the name that the registry of drives has for it ("disk0"), and by its Open Firmware path as SeaBIOS and
/// OVMF compare it with what they find (QEMU docs, "bootindex").
struct DrivePath {
    std::string name;
    std::string path;
};

/// The drives of a board's floppy, IDE, AHCI and NVMe controllers in the order in which they are made, which numbers
/// them. A place where no drive is may be among the floppies.
std::vector<DrivePath> drive_paths(const TreeNode& board);

/// The same kind of path of what a board can boot from a network by: its PCI network cards, whose ROM or driver the
/// firmware has, then the option ROMs of files (SeaBIOS, `genroms`).
std::vector<std::string> network_paths(const TreeNode& board);

}  // namespace viv::firmware
