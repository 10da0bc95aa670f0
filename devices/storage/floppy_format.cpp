#include "devices/storage/floppy_format.hpp"

#include <utility>

namespace viv {
namespace {

constexpr auto type_names = std::to_array<std::pair<FloppyType, std::string_view>>({
    {FloppyType::d360k, "360K"},
    {FloppyType::d1200k, "1.2M"},
    {FloppyType::d720k, "720K"},
    {FloppyType::d1440k, "1.44M"},
    {FloppyType::d2880k, "2.88M"},
});

uint32_t word_at(std::span<const std::byte> sector, size_t offset) {
    return std::to_integer<uint32_t>(sector[offset]) | std::to_integer<uint32_t>(sector[offset + 1]) << 8;
}

}  // namespace

std::optional<FloppyFormat> floppy_format_of_boot_sector(std::span<const std::byte> sector) {
    if (sector.size() < 512) return std::nullopt;
    const uint32_t per_track = word_at(sector, 0x18);
    const uint32_t heads = word_at(sector, 0x1A);
    uint32_t total = word_at(sector, 0x13);
    if (total == 0) total = word_at(sector, 0x20) | word_at(sector, 0x22) << 16;
    if (word_at(sector, 0x0B) != 512 || per_track < 1 || per_track > 36 || heads < 1 || heads > 2) return std::nullopt;
    if (total == 0 || total % (per_track * heads) != 0) return std::nullopt;
    const uint32_t cylinders = total / (per_track * heads);
    if (cylinders > 84) return std::nullopt;
    if (const FloppyFormat* usual = floppy_format_of_size(uint64_t{total} * 512);
        usual && usual->geometry == DriveGeometry{cylinders, heads, per_track}) {
        return *usual;
    }
    FloppyFormat format{"custom", {cylinders, heads, per_track}, FloppyDensity::high_density, FloppySize::inch_3};
    if (per_track <= 12) format.density = FloppyDensity::double_density;
    if (per_track > 24) format.density = FloppyDensity::extra_density;
    if (cylinders <= 42 && format.density == FloppyDensity::double_density) format.size = FloppySize::inch_5;
    return format;
}

std::optional<FloppyFormat> floppy_format_of_image(uint64_t bytes, std::span<const std::byte> boot_sector) {
    if (const FloppyFormat* usual = floppy_format_of_size(bytes)) return *usual;
    if (auto format = floppy_format_of_boot_sector(boot_sector); format && bytes <= format->bytes()) return format;
    for (const uint64_t capacity : {1440 * 1024, 2880 * 1024}) {
        if (bytes <= capacity) return *floppy_format_of_size(capacity);
    }
    return std::nullopt;
}

std::string_view floppy_type_name(FloppyType type) {
    for (const auto& [known, name] : type_names) {
        if (known == type) return name;
    }
    return "none";
}

std::optional<FloppyType> floppy_type_of_name(std::string_view name) {
    for (const auto& [type, known] : type_names) {
        if (known == name) return type;
    }
    return std::nullopt;
}

}  // namespace viv
