#include "vmm/firmware/fw_cfg_items.hpp"

#include <cstddef>
#include <span>
#include <vector>

#include "devices/system/fw_cfg.hpp"
#include "vmm/boards/board_edit.hpp"
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
    return {};
}

}  // namespace viv::firmware
