#include "vmm/boot/flat_program.hpp"

#include "vmm/boot/kernel_test_files.hpp"

using namespace viv;
using namespace viv::boot;

namespace {

constexpr uint64_t mib = 1 << 20;

struct FlatBoard {
    GuestMemory memory;
    KernelMachine machine{{{0, 0x9F800, 1}, {0x9F800, 0x800, 2}, {mib, 15 * mib, 1}}, Gpa{0x9F870}};
    TreeNode chosen{"chosen", {}, {}};
    TemporaryFile file{std::as_bytes(std::span("program"))};

    FlatBoard() {
        REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
        REQUIRE(memory.add(Gpa{mib}, 15 * mib, GuestMemory::Kind::ram, "high").has_value());
        chosen.set_string("viv,kernel", file.path);
    }
    CpuState boot(uint32_t address) {
        chosen.set_u32("viv,load-address", address);
        const auto opened = open_kernel(chosen, machine);
        if (!opened) FAIL(opened.error().message);
        const CpuState state = (*opened)->load(memory);
        CHECK(memory.load<uint32_t>(Gpa{address}) == 0x676F7270);
        return state;
    }
    void refused(uint32_t address, std::string_view part) {
        chosen.set_u32("viv,load-address", address);
        const auto opened = open_kernel(chosen, machine);
        REQUIRE_FALSE(opened.has_value());
        INFO(opened.error().message);
        CHECK(opened.error().kind == ErrorKind::usage);
        CHECK(opened.error().message.find(part) != std::string::npos);
    }
};

}  // namespace

TEST_CASE("A program below 1 MiB is entered in real mode, with the stack right below it or below 64 KiB") {
    FlatBoard board;
    CpuState state = board.boot(0x7C00);
    CHECK(state.cr0 == 0x10);
    CHECK(state.cs.selector == 0);
    CHECK(state.cs.base == 0);
    CHECK(state.rip == 0x7C00);
    CHECK(state.ss.base == 0);
    CHECK(state.gpr[RSP] == 0x7C00);
    CHECK((state.rflags & 0x200) != 0);
    state = board.boot(0x12344);
    for (const SegmentRegister* segment : {&state.cs, &state.ds, &state.es}) {
        CHECK(segment->selector == 0x1234);
        CHECK(segment->base == 0x12340);
        CHECK(segment->limit == 0xFFFF);
    }
    CHECK(state.rip == 4);
    CHECK(state.ss.base == 0);
    CHECK(state.gpr[RSP] == 0);
}

TEST_CASE("A program from 1 MiB on is entered in 32-bit protected mode with flat segments") {
    FlatBoard board;
    const CpuState state = board.boot(2 * mib);
    CHECK(state.cr0 == 0x11);
    CHECK(state.rip == 2 * mib);
    CHECK(state.cs.limit == 0xFFFFFFFF);
    CHECK(state.cs.default_big);
    CHECK((state.rflags & 0x200) == 0);
    CHECK(state.gdtr.base >= 0x10000);
    CHECK(board.memory.load<uint64_t>(Gpa{state.gdtr.base + 0x10}) == 0x00CF9B000000FFFF);
}

TEST_CASE("Load addresses without free RAM, and what a program without header cannot be told, are refused") {
    FlatBoard board;
    board.refused(0x500, "no free RAM");  // interrupt vectors and BIOS data
    board.refused(0x9F7FC, "no free RAM");
    board.refused(0xF0000, "no free RAM");
    board.refused(16 * mib - 4, "no free RAM");
    board.chosen.set_string("bootargs", "verbose");
    board.refused(0x7C00, "no command line");
    board.chosen.erase("bootargs");
    const TemporaryFile empty(std::span<const std::byte>{});
    board.chosen.set_string("viv,kernel", empty.path);
    board.refused(0x7C00, "empty");
}
