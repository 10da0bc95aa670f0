#include "vmm/core/memory_return.hpp"

#include <sys/stat.h>

#include "vmm/core/catch.hpp"

using namespace viv;

namespace {

/// Bytes that the host holds for a region.
uint64_t held(GuestMemory& memory, Gpa address) {
    struct stat status {};
    REQUIRE(fstat(memory.file_descriptor(*memory.find(address)), &status) == 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
}

}  // namespace

TEST_CASE("Pages that are given back read as zeros and cost nothing") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM"));
    for (uint64_t at = 0; at < 0x100000; at += 8) memory.store(Gpa{at}, ~uint64_t{0});
    const uint64_t before = held(memory, Gpa{0});
    const uint32_t generation = memory.write_generation(Gpa{0x10000});
    // The pages at the ends are not whole.
    CHECK(give_back(memory, Gpa{0x10000 - 1}, 0x20002) == 0x20000);
    CHECK(held(memory, Gpa{0}) == before - 0x20000);
    CHECK(memory.load<uint64_t>(Gpa{0x10000}) == 0);
    CHECK(memory.load<uint64_t>(Gpa{0x2FFF8}) == 0);
    CHECK(memory.load<uint64_t>(Gpa{0x10000 - 8}) == ~uint64_t{0});
    CHECK(memory.load<uint64_t>(Gpa{0x30000}) == ~uint64_t{0});
    CHECK(memory.write_generation(Gpa{0x10000}) != generation);
    CHECK(memory.store(Gpa{0x10000}, uint64_t{5}));
    CHECK(memory.load<uint64_t>(Gpa{0x10000}) == 5);
    CHECK(give_back(memory, Gpa{0x10001}, 0x1000) == 0);
}

TEST_CASE("ROM, and what is not there, is not given back") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0x10000, GuestMemory::Kind::ram, "RAM"));
    REQUIRE(memory.add(Gpa{0x10000}, 0x10000, GuestMemory::Kind::rom, "ROM"));
    CHECK(give_back(memory, Gpa{0x10000}, 0x10000) == 0);
    CHECK(give_back(memory, Gpa{0x0}, 0x100000) == 0x10000);
    CHECK(give_back(memory, Gpa{0x20000}, 0x1000) == 0);
    CHECK(give_back(memory, Gpa{0}, ~uint64_t{0}) == 0);
    CHECK(give_back(memory, Gpa{~uint64_t{0} - 100}, 100) == 0);
}
