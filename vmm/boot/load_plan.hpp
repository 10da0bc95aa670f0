#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/kernel.hpp"
#include "vmm/boot/room.hpp"

namespace viv::boot {

/// Where a file that is no ELF goes, by addresses in its Multiboot or Multiboot2 header.
struct LoadAddresses {
    uint32_t header = 0;
    uint32_t load = 0;
    uint32_t load_end = 0;  // 0: up to the end of the file
    uint32_t bss_end = 0;   // 0: none
};

/// A kernel that is entered in 32-bit protected mode (or a program in real mode), and what goes where for it.
struct LoadPlan {
    /// `content`, and zeros behind it up to `size`.
    struct Part {
        uint64_t at = 0;
        std::span<const std::byte> content;
        uint64_t size = 0;
    };
    struct Module {
        uint32_t start = 0;
        uint32_t end = 0;
    };
    /// What power-on leaves in memory and the kernel wants a copy of.
    struct Copy {
        uint64_t from = 0;
        uint64_t to = 0;
        uint64_t size = 0;
    };

    explicit LoadPlan(KernelFiles kernel_files, const std::vector<MemoryMapEntry>& memory_map)
        : files(std::move(kernel_files)), room(memory_map) {}

    /// A part at a place of its own choice. Errors (usage): there is no free RAM.
    Result<void> add_part(const Part& part);
    Result<void> add_segments(const ElfImage& image);
    /// The whole kernel as one part; its header lies at `header_offset` of the file. Errors (usage): the addresses
    /// contradict each other or the file's size, or there is no free RAM.
    Result<void> add_addressed(uint64_t header_offset, const LoadAddresses& to);
    /// The modules on pages behind the kernel. Errors (usage): no room for them.
    Result<void> add_modules();
    /// What the loader tells the kernel, and the descriptor table: in low memory where that is free. `build` makes it
    /// for an address; its size does not depend on that. Returns the address.
    Result<uint32_t> add_info(const std::function<std::vector<std::byte>(uint32_t at)>& build);
    /// The descriptor table alone.
    Result<void> add_descriptor_table();

    enum class Mode : uint8_t { protected_32, real };

    KernelFiles files;  // `parts` refer to them
    Room room;
    std::vector<Part> parts;
    std::vector<Module> modules;  // where those of `files` are
    std::vector<std::byte> info;
    std::vector<Copy> copies;
    uint64_t info_at = 0;
    uint64_t gdt_at = 0;
    uint64_t entry = 0;
    Mode mode = Mode::protected_32;
    uint32_t eax = 0;
    uint32_t ebx = 0;
    bool with_task = false;  // TR has a busy 32-bit TSS at 0
};

std::unique_ptr<Kernel> kernel_of(LoadPlan plan);

/// Bytes that refer to each other by their addresses in memory.
class InfoWriter {
  public:
    explicit InfoWriter(uint32_t at) : at_(at) {}
    /// Appends at a multiple of `alignment`; returns the address.
    uint32_t append(std::span<const std::byte> bytes, size_t alignment = 8);
    /// With a zero at the end.
    uint32_t append(std::string_view text);
    template <class T>
    requires std::is_trivially_copyable_v<T> uint32_t append_value(const T& value, size_t alignment = 8) {
        return append(std::as_bytes(std::span(&value, 1)), alignment);
    }
    /// Overwrites what is there.
    void replace(uint32_t address, std::span<const std::byte> bytes);
    [[nodiscard]] size_t size() const { return bytes_.size(); }
    [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

  private:
    uint32_t at_;
    std::vector<std::byte> bytes_;
};

/// The RAM from 0 on and from 1 MiB on, in KiB, as the Multiboot specifications want it.
struct BasicMemory {
    uint32_t lower = 0;
    uint32_t upper = 0;
};
BasicMemory basic_memory(const std::vector<MemoryMapEntry>& memory_map);

}  // namespace viv::boot
