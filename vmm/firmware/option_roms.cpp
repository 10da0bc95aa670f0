#include "vmm/firmware/option_roms.hpp"

#include <fmt/format.h>

#include "bios/layout.hpp"
#include "vmm/boot/host_file.hpp"

namespace viv::firmware {
namespace {

constexpr size_t unit = 512;
constexpr size_t rom_size = 2, pci_structure_pointer = 0x18;               // in the ROM's header
constexpr size_t image_length = 0x10, code_type = 0x14, indicator = 0x15;  // in the PCI data structure
constexpr size_t structure_size = 0x16;
constexpr uint8_t last_image = 0x80, pc_code = 0;
constexpr size_t largest = rom::option_rom_end - rom::option_rom_base;
constexpr uint32_t display_class = 0x03;

uint8_t byte_at(std::span<const std::byte> rom, size_t offset) {
    return std::to_integer<uint8_t>(rom[offset]);
}

size_t word_at(std::span<const std::byte> rom, size_t offset) {
    return byte_at(rom, offset) | size_t{byte_at(rom, offset + 1)} << 8;
}

bool is_pci_structure(std::span<const std::byte> rom, size_t at) {
    return at != 0 && at + structure_size <= rom.size() && word_at(rom, at) == 0x4350 && word_at(rom, at + 2) == 0x5249;
}

uint16_t number_of(PciAddress at) {
    return static_cast<uint16_t>(at.bus << 8 | at.device << 3 | at.function);
}

}  // namespace

std::span<const std::byte> find_bios_image(std::span<const std::byte> rom) {
    while (rom.size() >= unit && word_at(rom, 0) == 0xAA55) {
        const size_t size = byte_at(rom, rom_size) * unit;
        const size_t structure = word_at(rom, pci_structure_pointer);
        const bool pci = is_pci_structure(rom, structure);
        if (!pci || byte_at(rom, structure + code_type) == pc_code) {
            const bool fits = size != 0 && size <= rom.size();
            return fits ? rom.first(size) : std::span<const std::byte>();
        }
        const size_t length = word_at(rom, structure + image_length) * unit;
        if (byte_at(rom, structure + indicator) & last_image || length == 0 || length > rom.size()) break;
        rom = rom.subspan(length);
    }
    return {};
}

Result<std::vector<std::byte>> read_option_rom(const std::string& path) {
    const boot::HostFile file = TRY(boot::read_host_file(path, "option ROM"));
    const auto image = find_bios_image(file.content);
    if (image.empty()) {
        return fail_usage(fmt::format(
            "option ROM '{}': it has no image for a PC's BIOS (55AAh, its size, code); UEFI's drivers are not run",
            path));
    }
    if (image.size() > largest) {
        return fail_usage(
            fmt::format("option ROM '{}': its image has {} bytes; there is room for {}", path, image.size(), largest));
    }
    return std::vector<std::byte>(image.begin(), image.end());
}

std::vector<OptionRom> pci_option_roms(const GuestMemory& memory, PciBus& bus, const PciPlan& plan) {
    std::vector<OptionRom> found;
    for (const PciPlan::Function& function : plan.functions) {
        const PciAddress at = function.at;
        const uint32_t header = bus.config_read(at, pci::HEADER_TYPE, 1) & 0x7F;
        const uint32_t bar = bus.config_read(at, pci::ROM_BAR, 4);
        if (header != 0 || bar < unit || bus.config_read(at, pci::CLASS_CODE + 2, 1) == display_class) continue;
        // Measured as it is done on the bus.
        bus.config_write(at, pci::ROM_BAR, 4, ~pci::ROM_ENABLE);
        const uint32_t mask = bus.config_read(at, pci::ROM_BAR, 4);
        const uint64_t size = uint64_t{~mask} + 1;
        std::vector<std::byte> content(std::min<uint64_t>(size, uint64_t{1} << 20));
        bus.config_write(at, pci::ROM_BAR, 4, bar | pci::ROM_ENABLE);
        const bool read = memory.read(Gpa{bar & mask}, content);
        bus.config_write(at, pci::ROM_BAR, 4, bar);
        const auto image = read ? find_bios_image(content) : std::span<const std::byte>();
        if (image.empty() || image.size() > largest) continue;
        found.push_back({{image.begin(), image.end()}, number_of(at)});
    }
    return found;
}

uint16_t pci_owner(std::span<const std::byte> image, PciBus& bus, const PciPlan& plan) {
    const size_t structure = word_at(image, pci_structure_pointer);
    if (!is_pci_structure(image, structure)) return rom::no_pci_address;
    const size_t ids = word_at(image, structure + 4) | word_at(image, structure + 6) << 16;
    for (const PciPlan::Function& function : plan.functions) {
        if (bus.config_read(function.at, pci::VENDOR_ID, 4) == ids) return number_of(function.at);
    }
    return rom::no_pci_address;
}

void open_option_rom_memory(GuestMemory& memory, PciBus& bus) {
    constexpr PciAddress host_bridge{0, 0, 0};
    constexpr unsigned PAM2 = 0x5B, PAM6 = 0x5F;
    const GuestMemory::Change change(memory);
    for (unsigned at = PAM2; at < PAM6; ++at) bus.config_write(host_bridge, at, 1, 0x33);
    bus.config_write(host_bridge, PAM6, 1, (bus.config_read(host_bridge, PAM6, 1) & 0xF0) | 0x03);
    memory.write(Gpa{rom::option_rom_base}, std::vector<std::byte>(largest));
}

}  // namespace viv::firmware
