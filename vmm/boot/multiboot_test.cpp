// Multiboot, Multiboot2 and PVH kernels, as a boot loader's user sees them: files in, memory and registers out.
#include <elf.h>

#include <memory>

#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/kernel.hpp"
#include "vmm/boot/kernel_test_files.hpp"
#include "vmm/boot/multiboot.hpp"

using namespace viv;
using namespace viv::boot;

namespace {

constexpr uint64_t mib = 1 << 20;
constexpr size_t code_offset = 0x1000, code_size = 0x100;

/// An ELF file with one segment that goes to 2 MiB and has as many zeros behind it, with room for a header at 200h.
template <class FileHeader, class ProgramHeader>
struct Elf : FileBytes {
    FileHeader header{};
    std::vector<ProgramHeader> segments;

    Elf() {
        bytes.resize(code_offset + code_size);
        for (size_t i = 0; i < code_size; ++i) set<uint8_t>(code_offset + i, static_cast<uint8_t>(i + 1));
        std::memcpy(header.e_ident, ELFMAG, SELFMAG);
        header.e_ident[EI_CLASS] = sizeof(FileHeader) == sizeof(Elf64_Ehdr) ? ELFCLASS64 : ELFCLASS32;
        header.e_ident[EI_DATA] = ELFDATA2LSB;
        header.e_machine = EM_386;
        header.e_phoff = 0x80;
        header.e_phentsize = sizeof(ProgramHeader);
        header.e_entry = 0xC0200010;
        ProgramHeader segment{};
        segment.p_type = PT_LOAD;
        segment.p_offset = code_offset;
        segment.p_vaddr = 0xC0200000;
        segment.p_paddr = 2 * mib;
        segment.p_filesz = code_size;
        segment.p_memsz = 2 * code_size;
        segments.push_back(segment);
        finish();
    }
    void finish() {
        header.e_phnum = static_cast<uint16_t>(segments.size());
        set<FileHeader>(0, header);
        for (size_t i = 0; i < segments.size(); ++i) set<ProgramHeader>(0x80 + i * sizeof(ProgramHeader), segments[i]);
    }
};
using Elf32 = Elf<Elf32_Ehdr, Elf32_Phdr>;
using Elf64 = Elf<Elf64_Ehdr, Elf64_Phdr>;

void set_multiboot_header(FileBytes& file, size_t at, uint32_t flags) {
    file.set<uint32_t>(at, 0x1BADB002);
    file.set<uint32_t>(at + 4, flags);
    file.set<uint32_t>(at + 8, 0u - 0x1BADB002u - flags);
}

/// A header with these tags, each padded to 8 bytes.
void set_multiboot2_header(FileBytes& file, size_t at, const std::vector<std::vector<uint32_t>>& tags) {
    size_t end = at + 16;
    for (const auto& tag : tags) {
        for (size_t i = 0; i < tag.size(); ++i) file.set<uint32_t>(end + i * 4, tag[i]);
        end += (tag.size() * 4 + 7) / 8 * 8;
    }
    file.set<uint32_t>(at, 0xE85250D6);
    file.set<uint32_t>(at + 4, 0);
    file.set<uint32_t>(at + 8, static_cast<uint32_t>(end - at));
    file.set<uint32_t>(at + 12, 0u - 0xE85250D6u - static_cast<uint32_t>(end - at));
}

/// A machine of 16 MiB whose RAM is not zeroed.
struct Board {
    GuestMemory memory;
    KernelMachine machine{{{0, 0x9F800, 1}, {0x9F800, 0x800, 2}, {mib, 15 * mib, 1}}, Gpa{0x9F870}};
    TreeNode chosen{"chosen", {}, {}};
    std::vector<std::unique_ptr<TemporaryFile>> files;

    Board() {
        REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
        REQUIRE(memory.add(Gpa{mib}, 15 * mib, GuestMemory::Kind::ram, "high").has_value());
        memory.write(Gpa{2 * mib}, std::vector<std::byte>(0x1000, std::byte{0xEE}));
        memory.write(Gpa{0x9F870}, std::as_bytes(std::span("RSD PTR ", 8)));
    }
    std::string add(const FileBytes& file) {
        files.push_back(std::make_unique<TemporaryFile>(file.bytes));
        return files.back()->path;
    }
    CpuState boot(const FileBytes& kernel) {
        chosen.set_string("viv,kernel", add(kernel));
        const auto opened = open_kernel(chosen, machine);
        if (!opened) FAIL(opened.error().message);
        return (*opened)->load(memory);
    }
    void refused(const FileBytes& kernel, std::string_view part) {
        chosen.set_string("viv,kernel", add(kernel));
        const auto opened = open_kernel(chosen, machine);
        REQUIRE_FALSE(opened.has_value());
        INFO(opened.error().message);
        CHECK(opened.error().kind == ErrorKind::usage);
        CHECK(opened.error().message.find(part) != std::string::npos);
    }
    [[nodiscard]] uint32_t word(uint64_t at) const { return memory.load<uint32_t>(Gpa{at}); }
    [[nodiscard]] std::string text(uint64_t at) const {
        std::string text;
        while (const auto letter = memory.load<char>(Gpa{at++})) text += letter;
        return text;
    }
    /// The content of the first Multiboot2 tag of a type, or 0.
    [[nodiscard]] uint64_t tag(uint64_t info, uint32_t type) const {
        for (uint64_t at = info + 8; at < info + word(info); at += (word(at + 4) + 7) / 8 * 8) {
            if (word(at) == type) return at + 8;
        }
        return 0;
    }
};

void check_flat_protected_mode(const CpuState& state) {
    CHECK(state.cr0 == 0x11);
    CHECK(state.efer == 0);
    CHECK((state.rflags & 0x20200) == 0);
    for (const SegmentRegister* segment : {&state.cs, &state.ds, &state.es, &state.ss}) {
        CHECK(segment->base == 0);
        CHECK(segment->limit == 0xFFFFFFFF);
        CHECK(segment->default_big);
    }
}

}  // namespace

TEST_CASE("A Multiboot ELF kernel goes to its physical addresses, with zeros behind") {
    Elf32 kernel;
    set_multiboot_header(kernel, 0x200, 0x3);
    Board board;
    const CpuState state = board.boot(kernel);
    check_flat_protected_mode(state);
    CHECK(state.gpr[RAX] == 0x2BADB002);
    CHECK(state.rip == 2 * mib + 0x10);  // e_entry by the segment's addresses
    CHECK(board.word(2 * mib) == 0x04030201);
    CHECK(board.word(2 * mib + code_size) == 0);
    CHECK(board.word(2 * mib + 2 * code_size - 4) == 0);
    CHECK(board.word(2 * mib + 2 * code_size) == 0xEEEEEEEE);
}

TEST_CASE("A Multiboot kernel is told of memory, command line, modules and loader") {
    Elf32 kernel;
    set_multiboot_header(kernel, 0x200, 0x7);
    Board board;
    FileBytes first, second;
    first.set<uint32_t>(0x1003, 0x11111111);
    second.set<uint32_t>(0, 0x22222222);
    const std::string first_path = board.add(first), second_path = board.add(second);
    board.chosen.set_string("viv,initrd", first_path + '\0' + second_path);
    board.chosen.set_string("bootargs", "one two");
    const CpuState state = board.boot(kernel);
    const uint64_t info = state.gpr[RBX];
    CHECK((board.word(info) & 0x124D) == 0x124D);
    CHECK(board.word(info + 4) == 638);
    CHECK(board.word(info + 8) == 15 * 1024);
    CHECK(board.text(board.word(info + 16)) == board.files.back()->path + " one two");
    CHECK(board.word(info + 20) == 2);
    const uint64_t modules = board.word(info + 24);
    CHECK(board.word(modules) == 2 * mib + 0x1000);
    CHECK(board.word(modules + 4) == 2 * mib + 0x1000 + 0x1007);
    CHECK(board.text(board.word(modules + 8)) == board.files[0]->path);
    CHECK(board.word(board.word(modules) + 0x1003) == 0x11111111);
    CHECK(board.word(modules + 16) == 2 * mib + 0x3000);
    CHECK(board.word(board.word(modules + 16)) == 0x22222222);
    CHECK(board.word(info + 44) == 3 * 24);
    const uint64_t map = board.word(info + 48);
    CHECK(board.word(map) == 20);
    CHECK(board.word(map + 48 + 4) == mib);
    CHECK(board.word(map + 48 + 12) == 15 * mib);
    CHECK(board.word(map + 24 + 20) == 2);
    CHECK(board.text(board.word(info + 64)) == "Vivarium");
    CHECK(board.word(info + 88) == 0xB8000);
    CHECK(board.memory.load<uint8_t>(Gpa{info + 109}) == 2);
}

TEST_CASE("A Multiboot kernel without video wish and command line gets its name and no screen") {
    Elf32 kernel;
    set_multiboot_header(kernel, 0x200, 0);
    Board board;
    const uint64_t info = board.boot(kernel).gpr[RBX];
    CHECK((board.word(info) & 0x1000) == 0);
    CHECK(board.word(info + 20) == 0);
    CHECK(board.text(board.word(info + 16)) == board.files.back()->path);
}

TEST_CASE("A Multiboot kernel that is no ELF goes where its header says") {
    FileBytes kernel;
    for (uint32_t i = 0; i < 0x400; i += 4) kernel.set<uint32_t>(i, i);
    set_multiboot_header(kernel, 0x40, 0x10000);
    const auto set_addresses = [&](std::array<uint32_t, 5> addresses) {
        for (size_t i = 0; i < addresses.size(); ++i) kernel.set<uint32_t>(0x4C + i * 4, addresses[i]);
    };
    Board board;
    SECTION("a part of the file, and zeros") {
        set_addresses({0x200020, 0x200000, 0x200100, 0x200200, 0x200080});
        const CpuState state = board.boot(kernel);
        CHECK(state.rip == 0x200080);
        CHECK(board.word(0x200000) == 0x20);  // the file's bytes from 40h - 20h on
        CHECK(board.word(0x2000FC) == 0x11C);
        CHECK(board.word(0x200100) == 0);
        CHECK(board.word(0x200200) == 0xEEEEEEEE);
    }
    SECTION("the whole file") {
        set_addresses({0x200040, 0x200000, 0, 0, 0x200080});
        board.boot(kernel);
        CHECK(board.word(0x2003FC) == 0x3FC);
        CHECK(board.word(0x200400) == 0xEEEEEEEE);
    }
    SECTION("low memory, so that the information goes elsewhere") {
        set_addresses({0x10040, 0x10000, 0, 0x20000, 0x10080});
        const CpuState state = board.boot(kernel);
        CHECK(state.gpr[RBX] >= 0x20000);
        CHECK(state.gdtr.base >= 0x20000);
        CHECK(board.word(0x103FC) == 0x3FC);
    }
    SECTION("before the file") {
        set_addresses({0x200050, 0x200000, 0, 0, 0x200080});
        board.refused(kernel, "before the file");
    }
    SECTION("behind the header") {
        set_addresses({0x200000, 0x200010, 0, 0, 0x200080});
        board.refused(kernel, "before the file");
    }
    SECTION("more than the file") {
        set_addresses({0x200040, 0x200000, 0x200401, 0, 0x200080});
        board.refused(kernel, "outside the file");
        set_addresses({0x200040, 0x200000, 0x1FFFFF, 0, 0x200080});
        board.refused(kernel, "outside the file");
    }
    SECTION("zeros that end too early") {
        set_addresses({0x200040, 0x200000, 0x200400, 0x200300, 0x200080});
        board.refused(kernel, "before that begins");
    }
    SECTION("memory that is not there") {
        set_addresses({0x9F840, 0x9F800, 0, 0, 0x9F800});
        board.refused(kernel, "no free RAM");
    }
}

TEST_CASE("Multiboot kernels that cannot be started are refused with the reason") {
    Elf32 kernel;
    Board board;
    SECTION("a requirement of another time") {
        set_multiboot_header(kernel, 0x200, 0x8);
        board.refused(kernel, "flags 0x8");
    }
    SECTION("a header too far behind") {
        kernel.bytes.resize(0x4000);
        set_multiboot_header(kernel, 8192 - 8, 0);
        board.refused(kernel, "without a PVH note or Multiboot header");
    }
    SECTION("a wrong checksum") {
        set_multiboot_header(kernel, 0x200, 0);
        kernel.set<uint32_t>(0x204, 1);
        board.refused(kernel, "without a PVH note or Multiboot header");
    }
    SECTION("neither addresses nor ELF") {
        FileBytes flat;
        flat.bytes.resize(4096);
        set_multiboot_header(flat, 0, 0);
        board.refused(flat, "no ELF program");
    }
    SECTION("no room for a module") {
        set_multiboot_header(kernel, 0x200, 0);
        FileBytes module;
        module.bytes.resize(14 * mib);
        board.chosen.set_string("viv,initrd", board.add(module));
        board.refused(kernel, "no room for");
    }
    SECTION("nothing that anybody knows") {
        FileBytes text;
        text.bytes.resize(2000, std::byte{'x'});
        board.refused(text, "HdrS");
    }
}

TEST_CASE("A 64-bit ELF file can be a Multiboot kernel") {
    Elf64 kernel;
    kernel.header.e_machine = EM_X86_64;
    kernel.finish();
    set_multiboot_header(kernel, 0x200, 0x3);
    Board board;
    CHECK(board.boot(kernel).rip == 2 * mib + 0x10);
    CHECK(board.word(2 * mib) == 0x04030201);
}

TEST_CASE("ELF files that are wrong are refused with the reason") {
    Elf64 kernel;
    const auto refused = [&](std::string_view part) {
        kernel.finish();
        const auto image = parse_elf(kernel.bytes);
        REQUIRE_FALSE(image.has_value());
        INFO(image.error().message);
        CHECK(image.error().message.find(part) != std::string::npos);
    };
    SECTION("for another processor") {
        kernel.header.e_machine = EM_AARCH64;
        refused("machine 183");
    }
    SECTION("big-endian") {
        kernel.header.e_ident[EI_DATA] = ELFDATA2MSB;
        refused("big-endian");
    }
    SECTION("of no class") {
        kernel.header.e_ident[EI_CLASS] = 0;
        refused("32 nor 64");
    }
    SECTION("headers outside the file") {
        kernel.header.e_phoff = ~uint64_t{0} - 20;
        refused("cut short");
    }
    SECTION("a segment outside the file") {
        kernel.segments[0].p_offset = ~uint64_t{0};
        refused("segment 0 is not all there");
    }
    SECTION("a segment that is larger in the file") {
        kernel.segments[0].p_memsz = code_size - 1;
        refused("larger there than in memory");
    }
    SECTION("a segment above 4 GiB") {
        kernel.segments[0].p_paddr = 0xFFFFFFF0;
        refused("above 4 GiB");
        kernel.segments[0].p_paddr = ~uint64_t{0};
        refused("above 4 GiB");
    }
    SECTION("nothing to load") {
        kernel.segments[0].p_type = PT_DYNAMIC;
        refused("nothing to load");
    }
    SECTION("program headers of another size") {
        kernel.header.e_phentsize = 1;
        refused("headers of 1 bytes");
    }
}

TEST_CASE("A PVH kernel is entered by its note") {
    Elf64 kernel;
    kernel.header.e_machine = EM_X86_64;
    Elf64_Phdr note{};
    note.p_type = PT_NOTE;
    note.p_offset = 0x400;
    note.p_filesz = 44;
    kernel.segments.push_back(note);
    kernel.finish();
    // Another's note first, with a name that needs padding.
    kernel.set<std::array<uint32_t, 5>>(0x400, {2, 4, 18, 0x4141, 7});
    kernel.set<std::array<uint32_t, 5>>(0x414, {4, 4, 18, 0x006E6558, 0x200020});
    Board board;
    FileBytes module;
    module.set<uint32_t>(0, 0x33333333);
    board.chosen.set_string("viv,initrd", board.add(module));
    board.chosen.set_string("bootargs", "quiet");
    const CpuState state = board.boot(kernel);
    check_flat_protected_mode(state);
    CHECK(state.rip == 0x200020);
    CHECK(state.tr.limit == 0x67);
    CHECK(state.tr.type == 11);
    const uint64_t info = state.gpr[RBX];
    CHECK(board.word(info) == 0x336EC578);
    CHECK(board.word(info + 4) == 1);
    CHECK(board.word(info + 12) == 1);
    CHECK(board.word(board.word(board.word(info + 16))) == 0x33333333);
    CHECK(board.word(board.word(info + 16) + 8) == 4);
    CHECK(board.text(board.word(info + 24)) == "quiet");
    CHECK(board.word(info + 32) == 0x9F870);
    CHECK(board.word(info + 48) == 3);
    CHECK(board.word(board.word(info + 40) + 2 * 24) == mib);
}

TEST_CASE("A Multiboot2 kernel gets what its header asks for") {
    Elf32 kernel;
    // Requires command line and memory map, and has an entry of its own; wishes for a module alignment.
    set_multiboot2_header(kernel, 0x200, {{1, 16, 1, 6}, {3, 12, 0x200030}, {6, 8}, {10, 24, 0, 0, 0, 0}, {0, 8}});
    Board board;
    FileBytes module;
    module.set<uint32_t>(0, 0x44444444);
    board.chosen.set_string("viv,initrd", board.add(module));
    board.chosen.set_string("bootargs", "single");
    const CpuState state = board.boot(kernel);
    check_flat_protected_mode(state);
    CHECK(state.gpr[RAX] == 0x36D76289);
    CHECK(state.rip == 0x200030);
    const uint64_t info = state.gpr[RBX];
    CHECK(info % 8 == 0);
    CHECK(board.text(board.tag(info, 1)) == "single");
    CHECK(board.text(board.tag(info, 2)) == "Vivarium");
    CHECK(board.word(board.word(board.tag(info, 3))) == 0x44444444);
    CHECK(board.text(board.tag(info, 3) + 8) == board.files[0]->path);
    CHECK(board.word(board.tag(info, 4) + 4) == 15 * 1024);
    CHECK(board.word(board.tag(info, 6)) == 24);
    CHECK(board.word(board.tag(info, 6) + 8 + 2 * 24) == mib);
    CHECK(board.text(board.tag(info, 15)).starts_with("RSD PTR "));
    CHECK(board.word(board.tag(info, 21)) == 2 * mib);
    CHECK(board.word(info + board.word(info) - 4) == 8);  // the end tag
}

TEST_CASE("A Multiboot2 kernel that is no ELF goes where its address tag says") {
    FileBytes kernel;
    for (uint32_t i = 0; i < 0x400; i += 4) kernel.set<uint32_t>(i, i);
    Board board;
    SECTION("with an entry") {
        set_multiboot2_header(kernel, 0x40, {{2, 24, 0x200040, 0xFFFFFFFF, 0, 0}, {3, 12, 0x200100}, {0, 8}});
        CHECK(board.boot(kernel).rip == 0x200100);
        CHECK(board.word(0x2003FC) == 0x3FC);
    }
    SECTION("without one") {
        set_multiboot2_header(kernel, 0x40, {{2, 24, 0x200040, 0x200000, 0, 0}, {0, 8}});
        board.refused(kernel, "no entry");
    }
}

TEST_CASE("Multiboot2 kernels that cannot be started are refused with the reason") {
    Elf32 kernel;
    Board board;
    SECTION("required information that is not there") {
        set_multiboot2_header(kernel, 0x200, {{1, 12, 12}, {0, 8}});
        board.refused(kernel, "information of type 12");
    }
    SECTION("a required tag of another time") {
        set_multiboot2_header(kernel, 0x200, {{99, 8}, {0, 8}});
        board.refused(kernel, "tag 99");
    }
    SECTION("a tag without a size") {
        set_multiboot2_header(kernel, 0x200, {{6, 0}, {0, 8}});
        board.refused(kernel, "without a size");
    }
    SECTION("optional ones are passed over") {
        set_multiboot2_header(kernel, 0x200, {{99 | 0x10000, 8}, {1 | 0x10000, 12, 12}, {0, 8}});
        CHECK(board.boot(kernel).rip == 2 * mib + 0x10);
    }
}
