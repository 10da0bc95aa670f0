#include "vmm/firmware/fw_cfg_items.hpp"

#include <cstddef>
#include <vector>

#include "devices/system/fw_cfg.hpp"
#include "vmm/firmware/power_on.hpp"

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

}  // namespace

void fill_fw_cfg(const Services& services, uint64_t memory_size, uint32_t cpus) {
    FwCfg* fw_cfg = services.find<FwCfg>();
    if (!fw_cfg) return;
    const MemoryLayout layout = memory_layout(memory_size);
    fw_cfg->add_item(FwCfgKey::ram_size, little_endian(memory_size, 8));
    fw_cfg->add_item(FwCfgKey::cpu_count, little_endian(cpus, 2));
    fw_cfg->add_item(FwCfgKey::max_cpu_count, little_endian(cpus, 2));
    fw_cfg->add_item(FwCfgKey::irq0_override, little_endian(1, 4));
    constexpr uint64_t four_gib = uint64_t{1} << 32;
    std::vector<std::byte> e820;
    const auto add = [&](uint64_t base, uint64_t size) {
        append(e820, base, 8);
        append(e820, size, 8);
        append(e820, 1, 4);
    };
    add(0, layout.below_4g);
    if (layout.above_4g) add(four_gib, layout.above_4g);
    fw_cfg->add_file("etc/e820", std::move(e820));
}

}  // namespace viv::firmware
