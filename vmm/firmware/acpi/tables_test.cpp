#include "vmm/firmware/acpi/tables.hpp"

#include <array>
#include <string>
#include <vector>

#include "vmm/boards/board.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/firmware/acpi/aml.hpp"

using namespace viv;
using namespace viv::firmware;

namespace {

constexpr Gpa ebda{0x9F800};

/// The tables of a board in memory, read as an operating system reads them.
struct Written {
    explicit Written(const TreeNode& board, uint32_t cpus = 1) {
        REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
        REQUIRE(memory.add(tables_at, tables_size, GuestMemory::Kind::ram, "tables").has_value());
        write_tables(memory, board, cpus, ebda);
    }
    std::string text(uint64_t at, size_t size) const {
        std::string out(size, 0);
        memory.read(Gpa{at}, std::as_writable_bytes(std::span(out)));
        return out;
    }
    template <class T>
    T get(uint64_t at) const {
        return memory.load<T>(Gpa{at});
    }
    uint8_t sum(uint64_t at, uint64_t size) const {
        uint8_t total = 0;
        for (uint64_t i = 0; i < size; ++i) total = static_cast<uint8_t>(total + get<uint8_t>(at + i));
        return total;
    }
    uint64_t rsdp() const { return ebda.value + rsdp_offset; }
    uint64_t mp_pointer() const { return ebda.value + mp_pointer_offset; }
    /// The address of the XSDT's table with this signature, or 0.
    uint64_t find(std::string_view signature) const {
        const auto xsdt = get<uint64_t>(rsdp() + 24);
        for (uint64_t at = xsdt + 36; at < xsdt + get<uint32_t>(xsdt + 4); at += 8) {
            if (text(get<uint64_t>(at), 4) == signature) return get<uint64_t>(at);
        }
        return 0;
    }
    GuestMemory memory;
};

std::string bytes(std::initializer_list<int> values) {
    std::string out;
    for (const int value : values) out.push_back(static_cast<char>(value));
    return out;
}

}  // namespace

TEST_CASE("RSDP is on a paragraph and leads to both root tables, which list the same tables") {
    const Written board(default_board());
    CHECK(board.rsdp() % 16 == 0);
    CHECK(board.text(board.rsdp(), 8) == "RSD PTR ");
    CHECK(board.sum(board.rsdp(), 20) == 0);
    CHECK(board.sum(board.rsdp(), 36) == 0);
    const uint64_t rsdt = board.get<uint32_t>(board.rsdp() + 16), xsdt = board.get<uint64_t>(board.rsdp() + 24);
    CHECK(board.text(rsdt, 4) == "RSDT");
    CHECK(board.text(xsdt, 4) == "XSDT");
    const auto count = (board.get<uint32_t>(rsdt + 4) - 36) / 4;
    REQUIRE(count == (board.get<uint32_t>(xsdt + 4) - 36) / 8);
    for (uint64_t i = 0; i < count; ++i) {
        const uint64_t table = board.get<uint64_t>(xsdt + 36 + i * 8);
        CHECK(board.get<uint32_t>(rsdt + 36 + i * 4) == table);
        INFO(board.text(table, 4));
        CHECK(board.sum(table, board.get<uint32_t>(table + 4)) == 0);
    }
    CHECK(board.sum(rsdt, board.get<uint32_t>(rsdt + 4)) == 0);
    CHECK(board.sum(xsdt, board.get<uint32_t>(xsdt + 4)) == 0);
}

TEST_CASE("FADT tells of the power management block where the board has it") {
    TreeNode tree = default_board();
    TreeNode* power = tree.find("/isa/power@600");
    REQUIRE(power);
    power->set_cells("reg", std::array<uint32_t, 3>{1, 0xB000, 12});
    power->set_u32("interrupts", 10);
    const Written board(tree);
    const uint64_t fadt = board.find("FACP");
    REQUIRE(fadt != 0);
    CHECK(board.get<uint32_t>(fadt + 4) == 244);
    CHECK(board.get<uint16_t>(fadt + 46) == 10);
    CHECK(board.get<uint32_t>(fadt + 56) == 0xB000);
    CHECK(board.get<uint32_t>(fadt + 64) == 0xB004);
    CHECK(board.get<uint32_t>(fadt + 76) == 0xB008);
    CHECK(board.get<uint64_t>(fadt + 120) == 0xCF9);
    CHECK(board.get<uint8_t>(fadt + 128) == 0x06);
    CHECK(board.get<uint64_t>(fadt + 152) == 0xB000);
    CHECK(board.get<uint64_t>(fadt + 212) == 0xB008);
    const uint64_t facs = board.get<uint32_t>(fadt + 36), dsdt = board.get<uint32_t>(fadt + 40);
    CHECK(facs % 64 == 0);
    CHECK(board.text(facs, 4) == "FACS");
    CHECK(board.text(dsdt, 4) == "DSDT");
    CHECK(board.sum(dsdt, board.get<uint32_t>(dsdt + 4)) == 0);
}

TEST_CASE("MADT lists every CPU, the IOAPIC, and how IRQ 0 and the SCI are wired") {
    const Written board(default_board(), 3);
    const uint64_t madt = board.find("APIC");
    REQUIRE(madt != 0);
    std::vector<std::string> entries;
    for (uint64_t at = madt + 44; at < madt + board.get<uint32_t>(madt + 4); at += board.get<uint8_t>(at + 1))
        entries.push_back(board.text(at, board.get<uint8_t>(at + 1)));
    REQUIRE(entries.size() == 7);
    CHECK(entries[2] == bytes({0, 8, 2, 2, 1, 0, 0, 0}));
    CHECK(entries[3] == bytes({1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0}));
    CHECK(entries[4] == bytes({2, 10, 0, 0, 2, 0, 0, 0, 0, 0}));
    CHECK(entries[5] == bytes({2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0}));
    CHECK(entries[6] == bytes({4, 6, 0xFF, 0, 0, 1}));
}

TEST_CASE("SSDT names the devices that the board has, and only those") {
    TreeNode tree = default_board();
    const Written whole(tree, 2);
    const uint64_t ssdt = whole.find("SSDT");
    const std::string code = whole.text(ssdt, whole.get<uint32_t>(ssdt + 4));
    for (const char* name : {"CP00", "CP01", "COM1", "COM4", "KBD_", "MOU_", "FDC0", "RTC_"})
        CHECK(code.find(name) != std::string::npos);
    CHECK(code.find("CP02") == std::string::npos);

    tree.find("/isa/floppy@3f0")->set_string("status", "disabled");
    const Written less(tree);
    const uint64_t other = less.find("SSDT");
    CHECK(less.text(other, less.get<uint32_t>(other + 4)).find("FDC0") == std::string::npos);
}

TEST_CASE("A board without the power management block has no ACPI, but MP tables") {
    TreeNode tree = default_board();
    tree.find("/isa/power@600")->set_string("status", "disabled");
    CHECK_FALSE(has_acpi(tree));
    const Written board(tree);
    CHECK(board.get<uint64_t>(board.rsdp()) == 0);
    CHECK(board.text(board.mp_pointer(), 4) == "_MP_");
}

TEST_CASE("MP tables list CPUs, the ISA bus, the IOAPIC and all interrupts") {
    const Written board(default_board(), 16);
    CHECK(board.mp_pointer() % 16 == 0);
    CHECK(board.sum(board.mp_pointer(), 16) == 0);
    const uint64_t table = board.get<uint32_t>(board.mp_pointer() + 4);
    CHECK(board.text(table, 4) == "PCMP");
    const uint64_t size = board.get<uint16_t>(table + 4);
    CHECK(board.sum(table, size) == 0);
    std::array<unsigned, 5> seen{};
    unsigned count = 0;
    for (uint64_t at = table + 44; at < table + size; ++count) {
        const auto type = board.get<uint8_t>(at);
        REQUIRE(type < 5);
        ++seen[type];
        at += type == 0 ? 20 : 8;
    }
    CHECK(count == board.get<uint16_t>(table + 34));
    CHECK(seen == std::array<unsigned, 5>{16, 1, 1, 15, 2});
    CHECK(board.get<uint8_t>(table + 44 + 3) == 3);       // enabled, bootstrap
    CHECK(board.get<uint8_t>(table + 44 + 20 + 3) == 1);  // enabled
}

TEST_CASE("AML is encoded as the grammar says") {
    CHECK(aml::name_integer("_UID", 0) == bytes({0x08, '_', 'U', 'I', 'D', 0x00}));
    CHECK(aml::name_integer("A", 200) == bytes({0x08, 'A', '_', '_', '_', 0x0A, 200}));
    CHECK(aml::name_integer("_UID", 0x12345) == bytes({0x08, '_', 'U', 'I', 'D', 0x0C, 0x45, 0x23, 0x01, 0x00}));
    CHECK(aml::name_eisa_id("_HID", "PNP0A03") == bytes({0x08, '_', 'H', 'I', 'D', 0x0C, 0x41, 0xD0, 0x0A, 0x03}));
    CHECK(aml::processor("CP00", 5) == bytes({0x5B, 0x83, 11, 'C', 'P', '0', '0', 5, 0, 0, 0, 0, 0}));
    CHECK(aml::scope("_SB", "ISA", "") == bytes({0x10, 11, '\\', 0x2E, '_', 'S', 'B', '_', 'I', 'S', 'A', '_'}));
    CHECK(
        aml::name_resources("_CRS", aml::io_ports(0x3F8, 8) + aml::irq(4)) ==
        bytes({0x08, '_', 'C', 'R', 'S', 0x11, 16, 0x0A, 13, 0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8, 0x22, 0x10, 0, 0x79, 0}));
}

TEST_CASE("AML packages of all sizes have lengths of one, two and three bytes") {
    const auto length_of = [](size_t body) { return aml::device("X", aml::Code(body, 'b')).substr(2, 4); };
    CHECK(length_of(58).substr(0, 1) == bytes({63}));
    CHECK(length_of(59).substr(0, 2) == bytes({0x40 | (65 & 15), 65 >> 4}));
    CHECK(length_of(4089).substr(0, 2) == bytes({0x4F, 0xFF}));
    CHECK(length_of(4090).substr(0, 3) == bytes({0x80 | (4097 & 15), (4097 >> 4) & 0xFF, 4097 >> 12}));
}
