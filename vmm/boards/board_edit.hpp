#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/result.hpp"
#include "vmm/core/tree.hpp"

/// Command-line options become edits of the board; nothing else configures a machine. Each returns an error of kind
/// usage when the board has no place for what is asked.
namespace viv {

/// Bytes of RAM: 1 MiB to 1 TiB, a multiple of 64 KiB.
Result<void> set_memory_size(TreeNode& board, uint64_t bytes);
Result<uint64_t> memory_size(const TreeNode& board);

/// 1 to 16 CPUs.
Result<void> set_cpus(TreeNode& board, uint32_t count);
uint32_t cpu_count(const TreeNode& board);

enum class DriveAccess { writable, read_only, snapshot };

/// Puts an image into the first empty floppy drive (or drive `unit`).
Result<void> attach_floppy(TreeNode& board, std::string_view path, DriveAccess access,
                           std::optional<uint32_t> unit = std::nullopt);
/// What a disk or a CD-ROM drive hangs on. Other controllers than IDE come onto the board with their first drive.
enum class DriveBus { ide, ahci, nvme, virtio, virtio_mmio };

/// Puts an image onto the first free place of the controllers, or onto an NVMe or virtio controller of its own; an
/// empty CD-ROM drive of IDE gives way to the last one. Returns the drive's node, whose other properties are the
/// caller's to set.
Result<TreeNode*> attach_disk(TreeNode& board, std::string_view path, DriveAccess access, DriveBus bus = DriveBus::ide);
/// Puts a disc into the first empty CD-ROM drive; a free place of the controllers becomes one when there is none.
Result<void> attach_cdrom(TreeNode& board, std::string_view path, DriveBus bus = DriveBus::ide);

/// Adds a virtio device: a card, or on MMIO where there is room for two, with an interrupt each. Its other properties
/// are the caller's to set.
enum class VirtioBus { pci, mmio };
Result<TreeNode*> add_virtio(TreeNode& board, std::string_view function, VirtioBus bus = VirtioBus::pci);

/// A NIC for attach_nic().
struct NicChoice {
    std::string model = "e1000";
    std::string link = "none";                // devices/network/link/link.hpp
    std::vector<std::string> published = {};  // ports of the host, for a user link
    std::optional<std::string> mac = {};      // "52:54:00:12:34:56"; else made of how many NICs there are
    std::optional<uint16_t> port = {};        // of a NIC on the ISA bus, 300h by default
    std::optional<uint32_t> irq = {};         // of one, 5 by default
    std::optional<uint32_t> mtu = {};         // that a virtio card tells its driver
    std::optional<uint32_t> queues = {};      // pairs of one
    bool split = false;                       // no packed queues of a virtio card
    std::string rom = {};                     // file for the expansion ROM of a PCI card; empty for none
    std::string record = {};                  // file for the frames; empty for none
};

/// Adds a NIC: `model` is one of nic_models().
Result<void> attach_nic(TreeNode& board, const NicChoice& nic);
std::vector<std::string_view> nic_models();

/// The back end of the next serial port in the order of COM1 to COM4 (0 to 3).
Result<void> set_serial(TreeNode& board, uint32_t port, std::string_view spec);

/// Plugs a tablet, keyboard or mouse into the next port of the USB controller, which comes onto the board with the
/// first.
Result<void> add_usb_device(TreeNode& board, std::string_view kind);

/// The order of /chosen viv,boot-order.
void set_boot_order(TreeNode& board, std::span<const std::string> order);
/// Files of option ROMs that the BIOS initialises: /chosen viv,option-roms.
void set_option_roms(TreeNode& board, std::span<const std::string> paths);

/// The kernel that is booted instead of a boot sector, its initrd or modules, its command line, and where it goes if it
/// has no header; in how many bits a Linux is entered (16, 32 or 64): /chosen viv,kernel, viv,initrd, bootargs,
/// viv,load-address, viv,kernel-entry.
Result<void> set_kernel(TreeNode& board, std::string_view path);
void set_initrd(TreeNode& board, std::span<const std::string> paths);
void set_kernel_command_line(TreeNode& board, std::string_view text);
void set_load_address(TreeNode& board, uint32_t address);
void set_kernel_entry(TreeNode& board, uint32_t bits);

/// The ROM image of another firmware that takes the place of ours: /chosen viv,firmware.
void set_firmware(TreeNode& board, std::string_view path);

/// The flash that keeps that firmware's variables: a node /firmware-variables.
void set_firmware_variables(TreeNode& board, std::string_view path, DriveAccess access);

/// What SMBIOS says of the machine: "KEY=VALUE" each, /chosen viv,smbios.
void set_smbios_strings(TreeNode& board, std::span<const std::string> pairs);

/// Adds a `viv,exit-port` at an I/O port. Odd: the exit code is 2n+1.
enum class ExitCodes { as_written, odd };
Result<void> add_exit_port(TreeNode& board, uint16_t port, ExitCodes codes = ExitCodes::as_written);

/// Adds a `viv,test-device` where QEMU's PCs have theirs.
Result<void> add_test_device(TreeNode& board);

}  // namespace viv
