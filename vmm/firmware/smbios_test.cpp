#include "vmm/firmware/smbios.hpp"

#include <map>
#include <string>

#include "vmm/boards/board.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/firmware/acpi/tables.hpp"

using namespace viv;
using namespace viv::firmware;

namespace {

TreeNode board_with(std::initializer_list<std::string> pairs) {
    TreeNode board = default_board();
    set_smbios_strings(board, std::vector<std::string>(pairs));
    return board;
}

/// The structures, read as an operating system reads them.
struct Decoded {
    explicit Decoded(const TreeNode& board, SmbiosBios bios = SmbiosBios::ours)
        : tables(smbios_tables(board, smbios_identity(board).value(), bios)) {
        for (const std::byte byte : tables.structures) bytes += static_cast<char>(byte);
        for (size_t at = 0; at < bytes.size();) {
            const size_t start = at;
            REQUIRE(at + 4 <= bytes.size());
            at += static_cast<uint8_t>(bytes[at + 1]);
            while (bytes.substr(at, 2) != std::string(2, 0)) {
                REQUIRE(at + 2 < bytes.size());
                ++at;
            }
            at += 2;
            largest = std::max(largest, at - start);
            starts.emplace(static_cast<uint8_t>(bytes[start]), start);
            ++count;
        }
    }
    uint64_t get(uint8_t type, size_t offset, unsigned size, unsigned number = 0) const {
        const size_t at = std::next(starts.find(type), number)->second + offset;
        uint64_t value = 0;
        for (unsigned i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
        return value;
    }
    /// The string whose number is at an offset.
    std::string text(uint8_t type, size_t offset) const {
        const auto wanted = get(type, offset, 1);
        size_t at = starts.find(type)->second;
        at += static_cast<uint8_t>(bytes[at + 1]);
        for (uint64_t i = 1; i < wanted; ++i) at = bytes.find('\0', at) + 1;
        return wanted ? bytes.c_str() + at : "";
    }
    SmbiosTables tables;
    std::string bytes;
    std::multimap<uint8_t, size_t> starts;
    size_t largest = 0;
    unsigned count = 0;
};

uint8_t sum(std::span<const std::byte> bytes) {
    uint8_t total = 0;
    for (const std::byte byte : bytes) total = static_cast<uint8_t>(total + std::to_integer<uint8_t>(byte));
    return total;
}

}  // namespace

TEST_CASE("SMBIOS has the structures of a machine, and counts them") {
    const Decoded decoded(default_board());
    std::vector<int> types;
    for (const auto& [type, at] : decoded.starts) types.push_back(type);
    CHECK(types == std::vector<int>{0, 1, 3, 4, 16, 17, 19, 32, 127});
    CHECK(decoded.tables.count == decoded.count);
    CHECK(decoded.tables.largest_size == decoded.largest);
    // The lengths that version 2.8 gives them.
    for (const auto& [type, length] : std::map<uint8_t, unsigned>{
             {0, 0x18}, {1, 0x1B}, {3, 0x16}, {4, 0x2A}, {16, 0x17}, {17, 0x28}, {19, 0x1F}, {32, 0x0B}, {127, 4}})
        CHECK(decoded.get(type, 1, 1) == length);
    CHECK(decoded.text(1, 4) == "Vivarium");
    CHECK(decoded.text(1, 5) == "Vivarium PC");
    CHECK(decoded.text(1, 7).empty());
    CHECK(decoded.get(1, 8, 8) == 0);
}

TEST_CASE("SMBIOS says what was chosen, the UUID in its mixed byte order") {
    const Decoded decoded(board_with({"manufacturer=ACME, Inc.", "product=Anvil", "serial=4711", "family=Heavy",
                                      "uuid=00112233-4455-6677-8899-AABBccddeeff", "chassis-serial=12", "asset=a=b",
                                      "serial=4712", "bios-version=7"}));
    CHECK(decoded.text(1, 4) == "ACME, Inc.");
    CHECK(decoded.text(1, 5) == "Anvil");
    CHECK(decoded.text(1, 7) == "4712");
    CHECK(decoded.text(1, 0x1A) == "Heavy");
    CHECK(decoded.text(3, 7) == "12");
    CHECK(decoded.text(3, 8) == "a=b");
    CHECK(decoded.text(0, 5) == "7");
    CHECK(decoded.get(1, 8, 8) == 0x6677'4455'00112233);
    CHECK(decoded.get(1, 16, 8) == 0xFFEEDDCC'BBAA9988);
}

TEST_CASE("SMBIOS counts CPUs and memory") {
    TreeNode board = default_board();
    REQUIRE(set_cpus(board, 4));
    SECTION("memory below 4 GiB") {
        REQUIRE(set_memory_size(board, 128u << 20));
        const Decoded decoded(board);
        CHECK(decoded.get(4, 0x23, 1) == 4);
        CHECK(decoded.get(16, 7, 4) == 128 << 10);
        CHECK(decoded.get(17, 12, 2) == 128);
        CHECK(decoded.get(19, 4, 4) == 0);
        CHECK(decoded.get(19, 8, 4) == (128 << 10) - 1);
    }
    SECTION("memory below and above 4 GiB") {
        REQUIRE(set_memory_size(board, uint64_t{64} << 30));
        const Decoded decoded(board);
        CHECK(decoded.get(17, 12, 2) == 0x7FFF);
        CHECK(decoded.get(17, 0x1C, 4) == 64 << 10);
        CHECK(decoded.starts.count(19) == 2);
        CHECK(decoded.get(19, 8, 4) == (3 << 20) - 1);
        CHECK(decoded.get(19, 4, 4, 1) == 4 << 20);
        CHECK(decoded.get(19, 8, 4, 1) == (65u << 20) - 1);
    }
    SECTION("less than a multiple of a MiB") {
        REQUIRE(set_memory_size(board, (1 << 20) + (1 << 16)));
        CHECK(Decoded(board).get(17, 12, 2) == (0x8000 | 1088));
    }
}

TEST_CASE("SMBIOS of another firmware has its own type 0, unless one was chosen") {
    CHECK(Decoded(default_board(), SmbiosBios::other).starts.count(0) == 0);
    CHECK(Decoded(board_with({"bios-vendor=me"}), SmbiosBios::other).starts.count(0) == 1);
}

TEST_CASE("SMBIOS choices that cannot be are refused with the reason") {
    const auto reason = [](const std::string& pair) { return smbios_identity(board_with({pair})).error().message; };
    CHECK(reason("serial").find("KEY=VALUE") != std::string::npos);
    CHECK(reason("colour=red").find("there is no 'colour'; use uuid, ") != std::string::npos);
    CHECK(reason("serial=\x01").find("ASCII") != std::string::npos);
    CHECK(reason("serial=" + std::string(65, 'x')).find("64") != std::string::npos);
    for (const char* uuid : {"", "1", "00112233-4455-6677-8899-AABBccddeefg", "00112233445566778899AABBccddeeff----"})
        CHECK(reason(std::string("uuid=") + uuid).find("is not a UUID") != std::string::npos);
}

TEST_CASE("SMBIOS entry points in the ROM's segment lead to the structures") {
    GuestMemory memory;
    REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low"));
    REQUIRE(memory.add(tables_at, tables_size, GuestMemory::Kind::ram, "tables"));
    REQUIRE(memory.add(Gpa{0xF0000}, 0x10000, GuestMemory::Kind::rom, "rom"));
    const TreeNode board = default_board();
    write_tables(memory, board, 1, Gpa{0x9F800}, nullptr);
    const Decoded decoded(board);
    std::string segment(0x10000, 0);
    memory.read(Gpa{0xF0000}, std::as_writable_bytes(std::span(segment)));
    const size_t old = segment.find("_SM_"), young = segment.find("_SM3_");
    REQUIRE(old != std::string::npos);
    REQUIRE(young != std::string::npos);
    CHECK(old % 16 == 0);
    CHECK(young % 16 == 0);
    const auto bytes = std::as_bytes(std::span(segment));
    CHECK(sum(bytes.subspan(old, 31)) == 0);
    CHECK(sum(bytes.subspan(old + 16, 15)) == 0);
    CHECK(sum(bytes.subspan(young, 24)) == 0);
    CHECK(segment.substr(old + 16, 5) == "_DMI_");
    const Gpa entry{0xF0000 + old}, entry_64{0xF0000 + young};
    CHECK(memory.load<uint16_t>(entry + 8) == decoded.largest);
    CHECK(memory.load<uint16_t>(entry + 22) == decoded.bytes.size());
    CHECK(memory.load<uint16_t>(entry + 28) == decoded.count);
    const Gpa at{memory.load<uint32_t>(entry + 24)};
    CHECK(memory.load<uint64_t>(entry_64 + 16) == at.value);
    std::string found(decoded.bytes.size(), 0);
    memory.read(at, std::as_writable_bytes(std::span(found)));
    CHECK(found == decoded.bytes);
}
