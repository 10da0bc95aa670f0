// Feeds the loaders of ELF, PVH, Multiboot and Multiboot2 kernels with anything; what they accept must go into the RAM
// that there is, whatever its headers say.
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/multiboot.hpp"
#include "vmm/boot/multiboot2.hpp"
#include "vmm/boot/pvh.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace viv;
    constexpr uint64_t mib = 1 << 20, memory_size = 8 * mib;
    const auto bytes = std::as_bytes(std::span(data, size));
    const boot::KernelMachine machine{{{0, 0x9F800, 1}, {mib, memory_size - mib, 1}}, Gpa{0x9F870}};
    const auto files = [&] {
        return boot::KernelFiles{
            {"kernel", {bytes.begin(), bytes.end()}}, {{"module", std::vector<std::byte>(100)}}, "text"};
    };
    const auto try_load = [](const Result<std::unique_ptr<boot::Kernel>>& kernel) {
        if (!kernel) return;
        GuestMemory memory;
        VIV_ASSERT(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
        VIV_ASSERT(memory.add(Gpa{mib}, memory_size - mib, GuestMemory::Kind::ram, "high").has_value());
        VIV_ASSERT(((*kernel)->load(memory).cr0 & 1) == 1);
    };
    if (boot::is_elf(bytes)) {
        const auto image = boot::parse_elf(bytes);
        if (image && image->pvh_entry) try_load(boot::make_pvh_kernel(files(), machine));
    }
    if (boot::has_multiboot_header(bytes)) try_load(boot::make_multiboot_kernel(files(), machine));
    if (boot::has_multiboot2_header(bytes)) try_load(boot::make_multiboot2_kernel(files(), machine));
    return 0;
}
