// Reference: System V ABI, Edition 4.1, "Object Files"; Xen, "x86/HVM direct boot ABI" (PVH) for the note.
#include "vmm/boot/elf_image.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace viv::boot {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint64_t gib = uint64_t{1} << 30;
constexpr uint32_t XEN_ELFNOTE_PHYS32_ENTRY = 18;

/// The bytes at `offset`, or nothing when they are not all in the file.
std::optional<Bytes> part(Bytes file, uint64_t offset, uint64_t size) {
    if (offset > file.size() || size > file.size() - offset) return std::nullopt;
    return file.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
}

template <class T>
T value_of(Bytes bytes) {
    T value{};
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
}

uint64_t padded(uint64_t size) {
    return (size + 3) / 4 * 4;
}

std::optional<uint32_t> find_pvh_entry(Bytes notes) {
    constexpr uint64_t header = sizeof(Elf32_Nhdr);  // the same in both classes
    uint64_t at = 0;
    while (const auto bytes = part(notes, at, header)) {
        const auto note = value_of<Elf32_Nhdr>(*bytes);
        const auto name = part(notes, at + header, note.n_namesz);
        const auto description = part(notes, at + header + padded(note.n_namesz), note.n_descsz);
        if (!name || !description) return std::nullopt;
        const bool is_xen = name->size() == 4 && std::memcmp(name->data(), "Xen", 4) == 0;
        if (is_xen && note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && description->size() >= 4)
            return value_of<uint32_t>(*description);
        at += header + padded(note.n_namesz) + padded(note.n_descsz);
    }
    return std::nullopt;
}

template <class FileHeader, class ProgramHeader>
Result<ElfImage> parse_class(Bytes file) {
    const auto start = part(file, 0, sizeof(FileHeader));
    if (!start) return fail_usage("the ELF file is cut short in its header");
    const auto header = value_of<FileHeader>(*start);
    if (header.e_machine != EM_386 && header.e_machine != EM_X86_64)
        return fail_usage(fmt::format("an ELF program for another processor (machine {})", header.e_machine));
    if (header.e_phnum && header.e_phentsize != sizeof(ProgramHeader))
        return fail_usage(fmt::format("the ELF file has program headers of {} bytes", header.e_phentsize));
    ElfImage image;
    image.entry = header.e_entry;
    for (uint64_t i = 0; i < header.e_phnum; ++i) {
        const auto bytes = part(file, header.e_phoff + i * sizeof(ProgramHeader), sizeof(ProgramHeader));
        if (!bytes || header.e_phoff > file.size()) return fail_usage("the ELF file is cut short in its headers");
        const auto segment = value_of<ProgramHeader>(*bytes);
        if (segment.p_type != PT_LOAD && segment.p_type != PT_NOTE) continue;
        const auto content = part(file, segment.p_offset, segment.p_filesz);
        if (!content) return fail_usage(fmt::format("the ELF file is cut short: segment {} is not all there", i));
        if (segment.p_type == PT_NOTE) {
            if (!image.pvh_entry) image.pvh_entry = find_pvh_entry(*content);
            continue;
        }
        if (segment.p_memsz == 0) continue;
        if (segment.p_filesz > segment.p_memsz)
            return fail_usage(fmt::format("segment {} of the ELF file is larger there than in memory", i));
        if (segment.p_paddr > 4 * gib || segment.p_memsz > 4 * gib - segment.p_paddr)
            return fail_usage(fmt::format("segment {} of the ELF file goes to {:#x}, above 4 GiB", i,
                                          static_cast<uint64_t>(segment.p_paddr)));
        image.segments.push_back({segment.p_paddr, segment.p_vaddr, segment.p_memsz, *content});
    }
    if (image.segments.empty()) return fail_usage("the ELF file has nothing to load");
    return image;
}

}  // namespace

uint64_t ElfImage::physical_entry() const {
    for (const ElfSegment& segment : segments) {
        if (entry >= segment.linear && entry - segment.linear < segment.size)
            return entry - segment.linear + segment.physical;
    }
    return entry;
}

bool is_elf(Bytes file) {
    return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfImage> parse_elf(Bytes file) {
    if (!is_elf(file) || file.size() < EI_NIDENT) return fail_usage("not an ELF file");
    if (std::to_integer<uint8_t>(file[EI_DATA]) != ELFDATA2LSB)
        return fail_usage("an ELF program for another processor (big-endian)");
    switch (std::to_integer<uint8_t>(file[EI_CLASS])) {
        case ELFCLASS32: return parse_class<Elf32_Ehdr, Elf32_Phdr>(file);
        case ELFCLASS64: return parse_class<Elf64_Ehdr, Elf64_Phdr>(file);
        default: return fail_usage("an ELF file of neither 32 nor 64 bits");
    }
}

}  // namespace viv::boot
