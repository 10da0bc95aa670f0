#include "vmm/firmware/fw_cfg_items.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/pci/pci_bus.hpp"
#include "devices/storage/drive_registry.hpp"
#include "devices/system/fw_cfg.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/firmware/acpi/tables.hpp"
#include "vmm/firmware/chipset.hpp"
#include "vmm/firmware/drive_paths.hpp"
#include "vmm/firmware/option_roms.hpp"
#include "vmm/firmware/power_on.hpp"
#include "vmm/firmware/smbios.hpp"

namespace viv::firmware {
namespace {

void append(std::vector<std::byte>& out, uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

std::vector<std::byte> little_endian(uint64_t value, unsigned size) {
    std::vector<std::byte> bytes;
    append(bytes, value, size);
    return bytes;
}

void append(std::vector<std::byte>& out, std::string_view text) {
    for (const char c : text) out.push_back(static_cast<std::byte>(c));
}

std::vector<std::byte> text_file(std::string_view text) {
    std::vector<std::byte> bytes;
    append(bytes, text);
    bytes.push_back(std::byte{0});
    return bytes;
}

/// The commands by which firmware puts ACPI's tables into memory (QEMU hw/acpi/bios-linker-loader.c has their format):
/// 128 bytes each, file names in fields of 56.
class LoaderScript {
  public:
    void allocate(std::string_view file, uint32_t alignment, uint8_t zone) {
        begin(1);
        name(file);
        append(bytes_, alignment, 4);
        append(bytes_, zone, 1);
        end();
    }
    void add_pointer(std::string_view in, std::string_view to, uint32_t offset, uint8_t size) {
        begin(2);
        name(in);
        name(to);
        append(bytes_, offset, 4);
        append(bytes_, size, 1);
        end();
    }
    void add_checksum(std::string_view in, uint32_t offset, uint32_t start, uint32_t length) {
        begin(3);
        name(in);
        append(bytes_, offset, 4);
        append(bytes_, start, 4);
        append(bytes_, length, 4);
        end();
    }
    std::vector<std::byte> take() { return std::move(bytes_); }

  private:
    static constexpr size_t entry_size = 128, name_size = 56;
    void begin(uint32_t command) {
        start_ = bytes_.size();
        append(bytes_, command, 4);
    }
    void name(std::string_view file) {
        append(bytes_, file);
        bytes_.resize(bytes_.size() + name_size - file.size());
    }
    void end() { bytes_.resize(start_ + entry_size); }

    std::vector<std::byte> bytes_;
    size_t start_ = 0;
};

/// What PCI will be when another firmware has set it up: memory from 2 GiB or the end of RAM on, and above RAM.
PciSetup others_pci(const MemoryLayout& layout) {
    constexpr uint64_t gib = uint64_t{1} << 30;
    PciSetup setup{{}, pci_apertures(4 * gib + layout.above_4g)};
    setup.apertures.memory.base = std::max(layout.below_4g, 2 * gib);
    setup.plan.uses_high = true;
    return setup;
}

/// Where the firmware has put the PIIX4's power management block. SeaBIOS's place until it has.
uint16_t pm_ports_now(PciBus& pci) {
    constexpr uint32_t piix4_pm_id = 0x71138086;
    constexpr unsigned PMBASE = 0x40;
    for (const PciAddress at : pci.addresses()) {
        if (pci.config_read(at, pci::VENDOR_ID, 4) != piix4_pm_id) continue;
        if (const uint32_t base = pci.config_read(at, PMBASE, 4) & 0xFFC0) return static_cast<uint16_t>(base);
    }
    return pm_ports;
}

void add_acpi(FwCfg& fw_cfg, PciBus& pci, const TreeNode& board, const MemoryLayout& layout) {
    const PciSetup setup = others_pci(layout);
    const auto make = [board, setup, &pci] { return acpi_tables(board, cpu_count(board), pm_ports_now(pci), setup); };
    auto all = make();
    if (!all) return;
    constexpr uint8_t high = 1, f_segment = 2;
    const auto file = [](AcpiPart part) { return part == AcpiPart::rsdp ? "etc/acpi/rsdp" : "etc/acpi/tables"; };
    LoaderScript script;
    script.allocate(file(AcpiPart::rsdp), 16, f_segment);
    script.allocate(file(AcpiPart::tables), 64, high);
    for (const auto& [part, offset, size] : all->pointers)
        script.add_pointer(file(part), file(AcpiPart::tables), offset, size);
    for (const auto& [part, offset, start, length] : all->checksums)
        script.add_checksum(file(part), offset, start, length);
    fw_cfg.add_file(file(AcpiPart::rsdp), std::move(all->rsdp));
    fw_cfg.add_live_file(file(AcpiPart::tables), [make] { return make()->tables; });
    fw_cfg.add_file("etc/table-loader", script.take());
}

void add_drives(FwCfg& fw_cfg, const TreeNode& board, const DriveRegistry& drives) {
    const TreeNode* chosen = board.child("chosen");
    const auto wanted = chosen ? chosen->strings("viv,boot-order") : std::vector<std::string>();
    const auto paths = drive_paths(board);
    std::string order, geometries;
    for (const std::string& name : wanted) {
        if (name == "network") {
            for (const std::string& path : network_paths(board)) order += path + "\n";
        }
        for (const DrivePath& at : paths) {
            const DriveRegistry::Entry* entry = drives.find(at.name);
            // An empty drive would be tried again and again before the next one.
            if (!entry || !entry->drive->medium()) continue;
            const bool named = entry->name == name || DriveRegistry::kind_name(entry->drive->drive_kind()) == name;
            if (named) order += at.path + "\n";
        }
    }
    for (const DrivePath& at : paths) {
        const DriveRegistry::Entry* entry = drives.find(at.name);
        if (!entry || entry->drive->drive_kind() != DriveKind::disk) continue;
        const DriveGeometry geometry = entry->drive->bios_geometry();
        geometries += fmt::format("{} {} {} {}\n", at.path, geometry.cylinders, geometry.heads, geometry.sectors);
    }
    if (!order.empty()) fw_cfg.add_file("bootorder", text_file(order));
    if (!geometries.empty()) fw_cfg.add_file("bios-geometry", text_file(geometries));
    fw_cfg.add_item(FwCfgKey::boot_menu, little_endian(chosen && chosen->has("viv,boot-menu") ? 1 : 0, 2));
}

/// SeaBIOS runs these, beside those of PCI functions.
Result<void> add_option_roms(FwCfg& fw_cfg, const TreeNode& board) {
    const TreeNode* chosen = board.child("chosen");
    const auto paths = chosen ? chosen->strings("viv,option-roms") : std::vector<std::string>();
    for (size_t i = 0; i < paths.size(); ++i) {
        fw_cfg.add_file(fmt::format("genroms/{}.rom", i), TRY(read_option_rom(paths[i])));
    }
    return {};
}

std::vector<std::byte> uuid_bytes(const SmbiosIdentity& identity) {
    const auto bytes = std::as_bytes(std::span(identity.uuid));
    return {bytes.begin(), bytes.end()};
}

}  // namespace

Result<void> fill_fw_cfg(const Services& services, const TreeNode& board) {
    const SmbiosIdentity identity = TRY(smbios_identity(board));
    const uint64_t size = TRY(memory_size(board));
    const uint32_t cpus = cpu_count(board);
    FwCfg* fw_cfg = services.find<FwCfg>();
    if (!fw_cfg) return {};
    const MemoryLayout layout = memory_layout(size);
    fw_cfg->add_item(FwCfgKey::uuid, uuid_bytes(identity));
    fw_cfg->add_item(FwCfgKey::ram_size, little_endian(size, 8));
    fw_cfg->add_item(FwCfgKey::cpu_count, little_endian(cpus, 2));
    fw_cfg->add_item(FwCfgKey::max_cpu_count, little_endian(cpus, 2));
    fw_cfg->add_item(FwCfgKey::irq0_override, little_endian(1, 4));
    constexpr uint64_t four_gib = uint64_t{1} << 32;
    std::vector<std::byte> e820;
    const auto add = [&](uint64_t base, uint64_t length) {
        append(e820, base, 8);
        append(e820, length, 8);
        append(e820, 1, 4);
    };
    add(0, layout.below_4g);
    if (layout.above_4g) add(four_gib, layout.above_4g);
    fw_cfg->add_file("etc/e820", std::move(e820));
    // The firmware puts the tables where it likes and completes the entry point.
    SmbiosTables smbios = smbios_tables(board, identity, SmbiosBios::other);
    fw_cfg->add_file("etc/smbios/smbios-anchor", smbios_entry_point(smbios, 0));
    fw_cfg->add_file("etc/smbios/smbios-tables", std::move(smbios.structures));
    if (PciBus* pci = services.find<PciBus>()) add_acpi(*fw_cfg, *pci, board, layout);
    TRY(add_option_roms(*fw_cfg, board));
    if (const DriveRegistry* drives = services.find<DriveRegistry>()) add_drives(*fw_cfg, board, *drives);
    return {};
}

}  // namespace viv::firmware
