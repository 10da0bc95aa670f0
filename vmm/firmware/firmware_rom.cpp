#include "vmm/firmware/firmware_rom.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/boot/host_file.hpp"

namespace viv::firmware {

Result<Gpa> install_firmware_rom(GuestMemory& memory, const std::string& path) {
    constexpr uint64_t kib = 1024, mib = 1024 * kib, four_gib = uint64_t{4} << 30;
    constexpr uint64_t largest = 16 * mib, seen_below_1m = 128 * kib;
    const boot::HostFile file = TRY(boot::read_host_file(path, "firmware"));
    const uint64_t size = file.content.size();
    if (size == 0 || size > largest || size % GuestMemory::page_size) {
        return fail_usage(
            fmt::format("firmware '{}' has {} bytes; a ROM image has 4 KiB to 16 MiB, in whole pages", path, size));
    }
    const auto store = TRY(memory.add_store(size, "firmware"));
    std::ranges::copy(file.content, memory.bytes(store).begin());
    const uint64_t low = std::min(size, seen_below_1m);
    TRY(memory.show(Gpa{mib - low}, low, store, size - low, GuestMemory::Kind::rom, "firmware below 1 MiB"));
    const Gpa base{four_gib - size};
    TRY(memory.show(base, size, store, 0, GuestMemory::Kind::rom, "firmware"));
    return base;
}

}  // namespace viv::firmware
