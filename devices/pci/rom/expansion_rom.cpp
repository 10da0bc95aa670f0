// Models: the memory of an expansion ROM on a PCI card. PCI Local Bus Specification 3.0, 6.3.
// Not modelled: a flash part that could be written.
// Ignored bits: none.
// Reference: PCI Local Bus Specification 3.0, 6.2.5.2 (the BAR) and 6.3.1 (what is in it).
#include "devices/pci/rom/expansion_rom.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <span>

namespace viv {
namespace {

// Memory comes in pages; an image counts its units of 512 bytes in 16 bits, so one has less than 32 MiB.
constexpr uint64_t smallest = 4 << 10, largest = 16 << 20;

}  // namespace

Result<GuestMemory::Store> load_expansion_rom(const DeviceContext& context, const std::string& path) {
    const auto named = [&](const char* what) { return fmt::format("{} ROM '{}'", what, path); };
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
        return fail_usage(fmt::format("ROM '{}' is not a file", path));
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(named("cannot open"), errno);
    const uint64_t size = std::filesystem::file_size(path, error);
    if (error) return fail_errno(named("cannot read"), error.value());
    if (size > largest)
        return fail_usage(fmt::format("ROM '{}' has {} bytes; a card has room for {}", path, size, largest));
    const uint64_t room = std::bit_ceil(std::max(size, smallest));
    const GuestMemory::Store store = TRY(context.memory.add_store(room, "expansion ROM"));
    const std::span<std::byte> bytes = context.memory.bytes(store);
    std::ranges::fill(bytes, std::byte{0xFF});
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
    if (static_cast<uint64_t>(file.gcount()) < size || bytes[0] != std::byte{0x55} || bytes[1] != std::byte{0xAA})
        return fail_usage(fmt::format("ROM '{}' is none: it does not begin with 55h, AAh", path));
    return store;
}

}  // namespace viv
