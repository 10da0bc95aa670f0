#include "vmm/boot/linux_kernel.hpp"

#include <array>

#include "vmm/boot/kernel_test_files.hpp"

using namespace viv;
using namespace viv::boot;

namespace {

constexpr uint64_t mib = 1 << 20;

/// A bzImage of protocol 2.15 as a 64-bit kernel has it, with recognisable code.
struct Bzimage : FileBytes {
    Bzimage() {
        bytes.resize(5 * 512 + 4096);
        set<uint8_t>(0x1F1, 4);
        set<uint32_t>(0x1F4, 4096 / 16);
        set<uint16_t>(0x1FE, 0xAA55);
        set<uint16_t>(0x200, 0x6AEB);
        set<uint32_t>(0x202, 0x53726448);
        set<uint16_t>(0x206, 0x020F);
        set<uint8_t>(0x211, 0x01);
        set<uint32_t>(0x22C, 0x7FFFFFFF);
        set<uint32_t>(0x230, 0x200000);
        set<uint8_t>(0x234, 1);
        set<uint16_t>(0x236, 0x0001);
        set<uint32_t>(0x238, 2047);
        set<uint64_t>(0x258, 0x1000000);
        set<uint32_t>(0x260, 4 * mib);
        for (size_t i = 0; i < 4096; ++i) bytes[5 * 512 + i] = static_cast<std::byte>(i * 7);
    }
};

std::vector<MemoryMapEntry> map_of(uint64_t memory_size) {
    return {{0, 0x9F800, 1}, {0x9F800, 0x800, 2}, {mib, memory_size - mib, 1}};
}

void check_refused(const Bzimage& kernel, std::string_view part) {
    const auto image = parse_linux_image(kernel.bytes);
    REQUIRE_FALSE(image.has_value());
    CHECK(image.error().kind == ErrorKind::usage);
    INFO(image.error().message);
    CHECK(image.error().message.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("A 64-bit bzImage is entered in long mode at the place it prefers") {
    const Bzimage kernel;
    const auto image = parse_linux_image(kernel.bytes);
    REQUIRE(image.has_value());
    CHECK(image->protocol == 0x020F);
    CHECK(image->entry == LinuxEntry::long_64);
    CHECK(image->relocatable);
    CHECK(image->preferred_address == 0x1000000);
    CHECK(image->memory_size == 4 * mib);
    CHECK(image->initrd_limit == 0x80000000);
    CHECK(image->command_line_limit == 2047);
    CHECK(image->code.size() == 4096);
    CHECK(image->setup_header.size() == 0x26C - 0x1F1);
}

TEST_CASE("A kernel without the 64-bit flag, or of a protocol before it, is entered in protected mode") {
    Bzimage kernel;
    kernel.set<uint16_t>(0x236, 0);
    CHECK(parse_linux_image(kernel.bytes)->entry == LinuxEntry::protected_32);
    kernel.set<uint16_t>(0x236, 1);
    kernel.set<uint16_t>(0x206, 0x020B);
    CHECK(parse_linux_image(kernel.bytes)->entry == LinuxEntry::protected_32);
}

TEST_CASE("Fields that a protocol does not have yet are not read") {
    Bzimage kernel;
    kernel.set<uint16_t>(0x206, 0x0204);
    kernel.set<uint16_t>(0x236, 0);
    const auto image = parse_linux_image(kernel.bytes);
    REQUIRE(image.has_value());
    CHECK_FALSE(image->relocatable);
    CHECK(image->preferred_address == 0x100000);
    CHECK(image->memory_size == 4096);
    CHECK(image->command_line_limit == 255);
}

TEST_CASE("A setup of zero sectors has four") {
    Bzimage kernel;
    kernel.set<uint8_t>(0x1F1, 0);
    CHECK(parse_linux_image(kernel.bytes)->code.size() == 4096);
}

TEST_CASE("Wrong kernels are refused with the reason") {
    Bzimage kernel;
    SECTION("too short for a header") {
        kernel.bytes.resize(1023);
        check_refused(kernel, "header alone takes 1024");
    }
    SECTION("no signature") {
        kernel.set<uint32_t>(0x202, 0);
        check_refused(kernel, "HdrS");
    }
    SECTION("too old") {
        kernel.set<uint16_t>(0x206, 0x0105);
        check_refused(kernel, "protocol 1.05");
    }
    SECTION("a header that ends behind its place") {
        kernel.set<uint8_t>(0x201, 0xFF);
        check_refused(kernel, "would end at 0x301");
    }
    SECTION("code cut short") {
        kernel.bytes.resize(kernel.bytes.size() - 17);
        check_refused(kernel, "cut short");
    }
    SECTION("no code at all") {
        kernel.set<uint8_t>(0x1F1, 0xFF);
        check_refused(kernel, "its code begins at 131072");
    }
    SECTION("an alignment that is none") {
        kernel.set<uint32_t>(0x230, 0);
        check_refused(kernel, "no power of 2");
    }
    SECTION("no room for the 64-bit entry") {
        kernel.bytes.resize(5 * 512 + 512);
        kernel.set<uint32_t>(0x1F4, 512 / 16);
        check_refused(kernel, "64-bit entry");
    }
}

TEST_CASE("The initrd goes as high as memory and kernel allow") {
    Bzimage kernel;
    auto image = parse_linux_image(kernel.bytes);
    const auto placement = place_linux(*image, 5000, map_of(64 * mib));
    REQUIRE(placement.has_value());
    CHECK(placement->code.value == 0x1000000);
    CHECK(placement->initrd.value == 64 * mib - 0x2000);
    image->initrd_limit = 32 * mib;
    CHECK(place_linux(*image, 5000, map_of(64 * mib))->initrd.value == 32 * mib - 0x2000);
}

TEST_CASE("A relocatable kernel moves down where memory is short, and the initrd takes what is left") {
    Bzimage kernel;
    const auto image = parse_linux_image(kernel.bytes);
    const auto low = place_linux(*image, 4096, map_of(8 * mib));
    REQUIRE(low.has_value());
    CHECK(low->code.value == 0x200000);
    CHECK(low->initrd.value == 8 * mib - 0x1000);
    // 20 MiB: the kernel at 16 MiB leaves nothing above it, but much below.
    const auto below = place_linux(*image, 4096, map_of(20 * mib));
    REQUIRE(below.has_value());
    CHECK(below->code.value == 0x1000000);
    CHECK(below->initrd.value == 0x1000000 - 0x1000);
}

TEST_CASE("A machine that is too small for the kernel says how much it needs") {
    Bzimage kernel;
    auto image = parse_linux_image(kernel.bytes);
    const auto placement = place_linux(*image, 0, map_of(4 * mib));
    REQUIRE_FALSE(placement.has_value());
    CHECK(placement.error().message.find("need 6 MiB") != std::string::npos);
    CHECK_FALSE(place_linux(*image, 60 * mib, map_of(64 * mib)).has_value());
    image->relocatable = false;
    CHECK_FALSE(place_linux(*image, 0, map_of(8 * mib)).has_value());
    image->preferred_address = ~uint64_t{0} - 100;
    CHECK_FALSE(place_linux(*image, 0, map_of(64 * mib)).has_value());
}

TEST_CASE("Loading fills memory and gives the state of the 64-bit entry") {
    const Bzimage kernel;
    const TemporaryFile file(kernel.bytes);
    const std::vector<std::byte> disk(3000, std::byte{0xA5});
    const TemporaryFile initrd(disk);
    TreeNode chosen{"chosen", {}, {}};
    chosen.set_string("viv,kernel", file.path);
    chosen.set_string("viv,initrd", initrd.path);
    chosen.set_string("bootargs", "console=ttyS0");
    const auto loader = open_kernel(chosen, {map_of(64 * mib), Gpa{0x9F870}});
    REQUIRE(loader.has_value());

    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
    REQUIRE(memory.add(Gpa{mib}, 63 * mib, GuestMemory::Kind::ram, "high").has_value());
    const CpuState state = (*loader)->load(memory);
    CHECK(state.rip == 0x1000200);
    CHECK(state.cs.long_mode);
    CHECK(state.efer == 0x500);
    CHECK((state.cr0 & 0x80000001) == 0x80000001);
    CHECK((state.rflags & 0x200) == 0);
    CHECK(memory.load<uint8_t>(Gpa{0x1000001}) == 7);

    const Gpa parameters{state.gpr[RSI]};
    CHECK(memory.load<uint32_t>(parameters + 0x202) == 0x53726448);
    CHECK(memory.load<uint8_t>(parameters + 0x210) == 0xFF);
    CHECK(memory.load<uint64_t>(parameters + 0x70) == 0x9F870);
    CHECK(memory.load<uint8_t>(parameters + 0x1E8) == 3);
    CHECK(memory.load<uint64_t>(parameters + 0x2D0 + 2 * 20) == mib);
    CHECK(memory.load<uint8_t>(parameters + 0x1EF) == 0);  // the sentinel
    const Gpa placed{memory.load<uint32_t>(parameters + 0x218)};
    CHECK(memory.load<uint32_t>(parameters + 0x21C) == 3000);
    CHECK(memory.load<uint8_t>(placed + 2999) == 0xA5);
    std::array<char, 14> text{};
    memory.read(Gpa{memory.load<uint32_t>(parameters + 0x228)}, std::as_writable_bytes(std::span(text)));
    CHECK(std::string(text.data()) == "console=ttyS0");

    // The page tables map the first 4 GiB to themselves.
    const auto entry = [&](uint64_t table, uint64_t index) { return memory.load<uint64_t>(Gpa{table + index * 8}); };
    constexpr uint64_t frame = ~uint64_t{0xFFF};
    const uint64_t pdpt = entry(state.cr3, 0) & frame;
    CHECK(entry(entry(pdpt, 3) & frame, 511) == (0xFFE00000 | 0x83));
}

TEST_CASE("Several initrds are one, each at a multiple of 4") {
    const Bzimage kernel;
    const TemporaryFile file(kernel.bytes);
    const TemporaryFile first(std::vector<std::byte>(5, std::byte{0x11}));
    const TemporaryFile second(std::vector<std::byte>(3, std::byte{0x22}));
    TreeNode chosen{"chosen", {}, {}};
    chosen.set_string("viv,kernel", file.path);
    const std::string list = first.path + '\0' + second.path;
    chosen.set_string("viv,initrd", list);
    const auto loader = open_kernel(chosen, {map_of(64 * mib), Gpa{0}});
    REQUIRE(loader.has_value());
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
    REQUIRE(memory.add(Gpa{mib}, 63 * mib, GuestMemory::Kind::ram, "high").has_value());
    const Gpa parameters{(*loader)->load(memory).gpr[RSI]};
    const Gpa initrd{memory.load<uint32_t>(parameters + 0x218)};
    CHECK(memory.load<uint32_t>(parameters + 0x21C) == 11);
    CHECK(memory.load<uint64_t>(initrd) == 0x0000001111111111);
    CHECK(memory.load<uint16_t>(initrd + 8) == 0x2222);
}

TEST_CASE("Loading a 32-bit kernel gives a flat protected mode without paging") {
    Bzimage kernel;
    kernel.set<uint16_t>(0x236, 0);
    const TemporaryFile file(kernel.bytes);
    TreeNode chosen{"chosen", {}, {}};
    chosen.set_string("viv,kernel", file.path);
    const auto loader = open_kernel(chosen, {map_of(64 * mib), Gpa{0}});
    REQUIRE(loader.has_value());
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
    REQUIRE(memory.add(Gpa{mib}, 63 * mib, GuestMemory::Kind::ram, "high").has_value());
    const CpuState state = (*loader)->load(memory);
    CHECK(state.rip == 0x1000000);
    CHECK(state.cr0 == 0x11);
    CHECK(state.cs.selector == 0x10);
    CHECK(state.ss.selector == 0x18);
    CHECK(state.cs.default_big);
    CHECK(state.gpr[RBX] == 0);
    CHECK(memory.load<uint64_t>(Gpa{state.gdtr.base + 0x10}) == 0x00CF9B000000FFFF);
}

TEST_CASE("Kernels without a 32-bit entry, zImages, and a choice are entered by their setup") {
    Bzimage kernel;
    const auto entry = [&] { return parse_linux_image(kernel.bytes)->entry; };
    SECTION("before protocol 2.10") {
        kernel.set<uint16_t>(0x206, 0x0209);
        CHECK(entry() == LinuxEntry::real_16);
        auto image = parse_linux_image(kernel.bytes);
        CHECK_FALSE(choose_entry(*image, LinuxEntry::protected_32).has_value());
        CHECK(image->entry == LinuxEntry::real_16);
    }
    SECTION("a zImage") {
        kernel.set<uint8_t>(0x211, 0);
        kernel.set<uint16_t>(0x206, 0x0201);
        CHECK(entry() == LinuxEntry::real_16);
    }
    SECTION("by choice") {
        auto image = parse_linux_image(kernel.bytes);
        CHECK(choose_entry(*image, LinuxEntry::real_16).has_value());
        CHECK(image->entry == LinuxEntry::real_16);
    }
    SECTION("no 64-bit entry") {
        kernel.set<uint16_t>(0x236, 0);
        auto image = parse_linux_image(kernel.bytes);
        CHECK_FALSE(choose_entry(*image, LinuxEntry::long_64).has_value());
    }
}

namespace {

/// Opened with this command line, and loaded into 64 MiB.
struct Loaded {
    explicit Loaded(const Bzimage& kernel, const std::string& command_line, std::optional<uint32_t> bits = {}) {
        const TemporaryFile file(kernel.bytes);
        const TemporaryFile initrd(std::vector<std::byte>(3000, std::byte{0xA5}));
        TreeNode chosen{"chosen", {}, {}};
        chosen.set_string("viv,kernel", file.path);
        chosen.set_string("viv,initrd", initrd.path);
        chosen.set_string("bootargs", command_line);
        if (bits) chosen.set_u32("viv,kernel-entry", *bits);
        const auto loader = open_kernel(chosen, {map_of(64 * mib), Gpa{0}});
        if (!loader) {
            error = loader.error().message;
            return;
        }
        REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
        REQUIRE(memory.add(Gpa{mib}, 63 * mib, GuestMemory::Kind::ram, "high").has_value());
        state = (*loader)->load(memory);
    }
    std::string text(uint64_t at) {
        std::array<char, 64> bytes{};
        memory.read(Gpa{at}, std::as_writable_bytes(std::span(bytes)));
        return bytes.data();
    }
    GuestMemory memory;
    CpuState state;
    std::string error;
};

}  // namespace

TEST_CASE("A video mode is set by the kernel's setup, in real mode") {
    Bzimage kernel;
    kernel.set<uint8_t>(0x200 + 100, 0x77);
    Loaded loaded(kernel, "quiet vga=0x317 ro");
    REQUIRE(loaded.error.empty());
    CHECK(loaded.state.cs.selector == 0x1020);
    CHECK(loaded.state.cs.base == 0x10200);
    CHECK(loaded.state.rip == 0);
    CHECK((loaded.state.cr0 & 1) == 0);
    CHECK((loaded.state.rflags & 0x200) == 0);
    for (const SegmentRegister& segment :
         {loaded.state.ds, loaded.state.es, loaded.state.fs, loaded.state.gs, loaded.state.ss}) {
        CHECK(segment.selector == 0x1000);
    }
    CHECK(loaded.state.gpr[RSP] == 0xE000);
    const Gpa setup{0x10000};
    CHECK(loaded.memory.load<uint8_t>(setup + 0x200 + 100) == 0x77);
    CHECK(loaded.memory.load<uint16_t>(setup + 0x1FA) == 0x317);
    CHECK(loaded.memory.load<uint8_t>(setup + 0x211) == 0x81);
    CHECK(loaded.memory.load<uint16_t>(setup + 0x224) == 0xDE00);
    CHECK(loaded.text(loaded.memory.load<uint32_t>(setup + 0x228)) == "quiet vga=0x317 ro");
    // The code at 1 MiB, the initrd above what the kernel will take at its place.
    CHECK(loaded.memory.load<uint8_t>(Gpa{mib + 1}) == 7);
    const uint32_t initrd = loaded.memory.load<uint32_t>(setup + 0x218);
    CHECK(initrd == 64 * mib - 0x1000);
    CHECK(loaded.memory.load<uint8_t>(Gpa{initrd} + 2999) == 0xA5);
}

TEST_CASE("The words of vga= are modes, and what is none is refused") {
    const Bzimage kernel;
    const auto mode = [&](const std::string& words) {
        Loaded loaded(kernel, words, 16);
        INFO(loaded.error);
        REQUIRE(loaded.error.empty());
        return loaded.memory.load<uint16_t>(Gpa{0x101FA});
    };
    CHECK(mode("quiet") == 0xFFFF);
    CHECK(mode("vga=normal") == 0xFFFF);
    CHECK(mode("vga=ext") == 0xFFFE);
    CHECK(mode("vga=ask") == 0xFFFD);
    CHECK(mode("vga=791") == 791);
    CHECK(mode("vga=1 vga=0x314") == 0x314);
    CHECK(mode("novga=5") == 0xFFFF);
    CHECK(Loaded(kernel, "vga=huge").error.find("'vga=huge'") != std::string::npos);
    CHECK(Loaded(kernel, "vga=").error.find("a video mode is") != std::string::npos);
    CHECK(Loaded(kernel, "vga=65536").error.find("a video mode is") != std::string::npos);
    CHECK(Loaded(kernel, "vga=normal").state.cs.long_mode);
    CHECK(Loaded(kernel, "vga=ask", 64).state.cs.long_mode);
    CHECK(Loaded(kernel, "", 48).error.find("16, 32 or 64") != std::string::npos);
}

TEST_CASE("A zImage lies where LILO put it, and finds its command line the old way") {
    Bzimage kernel;
    kernel.set<uint8_t>(0x211, 0);
    kernel.set<uint16_t>(0x206, 0x0201);
    Loaded loaded(kernel, "root=/dev/fd0");
    REQUIRE(loaded.error.empty());
    CHECK(loaded.state.cs.selector == 0x9020);
    CHECK(loaded.state.gpr[RSP] == 0x9800);
    const Gpa setup{0x90000};
    CHECK(loaded.memory.load<uint16_t>(setup + 0x20) == 0xA33F);
    CHECK(loaded.text(0x90000 + loaded.memory.load<uint16_t>(setup + 0x22)) == "root=/dev/fd0");
    CHECK(loaded.memory.load<uint16_t>(setup + 0x224) == 0x9600);
    CHECK(loaded.memory.load<uint8_t>(Gpa{0x10001}) == 7);
    CHECK(loaded.memory.load<uint32_t>(setup + 0x21C) == 3000);
    kernel.bytes.resize(5 * 512 + 0x80001);
    CHECK(Loaded(kernel, "").error.find("there is room for 524288") != std::string::npos);
}

TEST_CASE("A setup that leaves no room for its stack is refused") {
    Bzimage kernel;
    kernel.set<uint16_t>(0x206, 0x0201);
    kernel.set<uint8_t>(0x1F1, 80);
    kernel.bytes.resize(81 * 512 + 4096);
    CHECK(Loaded(kernel, "").error.find("no room for its stack") != std::string::npos);
}

TEST_CASE("Opening a kernel names the file that is wrong") {
    const auto refused = [](const TreeNode& chosen, std::string_view part) {
        const auto loader = open_kernel(chosen, {map_of(64 * mib), Gpa{0}});
        REQUIRE_FALSE(loader.has_value());
        INFO(loader.error().message);
        CHECK(loader.error().message.find(part) != std::string::npos);
    };
    const Bzimage kernel;
    const TemporaryFile good(kernel.bytes);
    const TemporaryFile bad(std::span(kernel.bytes).first(100));
    const TemporaryFile nothing({});
    TreeNode chosen{"chosen", {}, {}};
    chosen.set_string("viv,kernel", "/nonexistent/vmlinuz");
    refused(chosen, "cannot open kernel '/nonexistent/vmlinuz'");
    chosen.set_string("viv,kernel", "/tmp");
    refused(chosen, "kernel '/tmp' is not a file");
    chosen.set_string("viv,kernel", bad.path);
    refused(chosen, "kernel '" + bad.path + "'");
    chosen.set_string("viv,kernel", good.path);
    chosen.set_string("viv,initrd", nothing.path);
    refused(chosen, "is empty");
    chosen.erase("viv,initrd");
    chosen.set_string("bootargs", std::string(2048, 'x'));
    refused(chosen, "has 2048 characters");
    chosen.set_string("bootargs", std::string(2047, 'x'));
    CHECK(open_kernel(chosen, {map_of(64 * mib), Gpa{0}}).has_value());
}
