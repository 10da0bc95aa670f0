#include "vmm/firmware/acpi/tables.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "vmm/boards/board.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/core/catch.hpp"
#include "vmm/firmware/acpi/aml.hpp"

using namespace viv;
using namespace viv::firmware;

namespace {

constexpr Gpa ebda{0x9F800};

/// A host bridge, the PIIX, and a card with an interrupt.
PciSetup plain_pci() {
    PciSetup setup{{}, pci_apertures(uint64_t{4} << 30)};
    for (const uint8_t device : std::array<uint8_t, 3>{0, 1, 5}) setup.plan.functions.push_back({{0, device, 0}});
    setup.plan.functions.back().interrupt_pin = 2;
    setup.plan.functions.back().pirq = 1;
    return setup;
}

/// The tables of a board in memory, read as an operating system reads them.
struct Written {
    explicit Written(const TreeNode& board, uint32_t cpus = 1, const PciSetup& pci = plain_pci()) {
        REQUIRE(memory.add(Gpa{0}, 0xA0000, GuestMemory::Kind::ram, "low").has_value());
        REQUIRE(memory.add(tables_at, tables_size, GuestMemory::Kind::ram, "tables").has_value());
        write_tables(memory, board, cpus, ebda, &pci);
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
    TreeNode* power = tree.find("/pci/power@1,3");
    REQUIRE(power);
    power->set_u32("interrupts", 10);
    const Written board(tree);
    const uint64_t fadt = board.find("FACP");
    REQUIRE(fadt != 0);
    CHECK(board.get<uint32_t>(fadt + 4) == 244);
    CHECK(board.get<uint16_t>(fadt + 46) == 10);
    CHECK(board.get<uint32_t>(fadt + 48) == 0xB2);
    CHECK(board.get<uint16_t>(fadt + 52) == 0xF0F1);
    CHECK(board.get<uint32_t>(fadt + 56) == 0x600);
    CHECK(board.get<uint32_t>(fadt + 64) == 0x604);
    CHECK(board.get<uint32_t>(fadt + 76) == 0x608);
    CHECK(board.get<uint32_t>(fadt + 80) == 0x60C);
    CHECK(board.get<uint8_t>(fadt + 92) == 4);
    CHECK(board.get<uint64_t>(fadt + 120) == 0xCF9);
    CHECK(board.get<uint8_t>(fadt + 128) == 0x06);
    CHECK(board.get<uint64_t>(fadt + 152) == 0x600);
    CHECK(board.get<uint64_t>(fadt + 212) == 0x608);
    CHECK(board.get<uint64_t>(fadt + 224) == 0x60C);
    const uint64_t facs = board.get<uint32_t>(fadt + 36), dsdt = board.get<uint32_t>(fadt + 40);
    CHECK(facs % 64 == 0);
    CHECK(board.text(facs, 4) == "FACS");
    CHECK(board.text(dsdt, 4) == "DSDT");
    CHECK(board.sum(dsdt, board.get<uint32_t>(dsdt + 4)) == 0);
}

TEST_CASE("MADT lists every CPU, the IOAPIC, and how IRQ 0, the SCI and PCI interrupts are wired") {
    const Written board(default_board(), 3);
    const uint64_t madt = board.find("APIC");
    REQUIRE(madt != 0);
    std::vector<std::string> entries;
    for (uint64_t at = madt + 44; at < madt + board.get<uint32_t>(madt + 4); at += board.get<uint8_t>(at + 1))
        entries.push_back(board.text(at, board.get<uint8_t>(at + 1)));
    REQUIRE(entries.size() == 10);
    CHECK(entries[2] == bytes({0, 8, 2, 2, 1, 0, 0, 0}));
    CHECK(entries[3] == bytes({1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0}));
    CHECK(entries[4] == bytes({2, 10, 0, 0, 2, 0, 0, 0, 0, 0}));
    for (size_t i = 0; i < 4; ++i) {
        const int irq = std::array<int, 4>{5, 9, 10, 11}[i];
        CHECK(entries[5 + i] == bytes({2, 10, 0, irq, irq, 0, 0, 0, 0x0D, 0}));
    }
    CHECK(entries[9] == bytes({4, 6, 0xFF, 0, 0, 1}));
}

TEST_CASE("Virtio devices over MMIO are described as Linux knows them") {
    CHECK(aml::name_text("_HID", "LNRO0005") ==
          bytes({0x08, '_', 'H', 'I', 'D', 0x0D, 'L', 'N', 'R', 'O', '0', '0', '0', '5', 0}));
    CHECK(aml::level_interrupt(5) == bytes({0x89, 6, 0, 9, 1, 5, 0, 0, 0}));
    TreeNode tree = default_board();
    const auto device = [](uint32_t number, uint32_t base, uint32_t irq) {
        return aml::device("VIO" + std::to_string(number),
                           aml::name_text("_HID", "LNRO0005") + aml::name_integer("_UID", number) +
                               aml::name_resources("_CRS", aml::memory(base, 0x200) + aml::level_interrupt(irq)));
    };
    const auto has = [](const Written& board, const std::string& text) {
        const uint64_t ssdt = board.find("SSDT");
        return board.text(ssdt, board.get<uint32_t>(ssdt + 4)).find(text) != std::string::npos;
    };
    CHECK_FALSE(has(Written(tree), "LNRO0005"));
    for (int i = 0; i < 2; ++i) REQUIRE(add_virtio(tree, "entropy", VirtioBus::mmio));
    const Written two(tree);
    CHECK(has(two, device(0, 0xFED10000, 5)));
    CHECK(has(two, device(1, 0xFED11000, 7)));
}

TEST_CASE("HPET table and device tell of the event timer, where there is one") {
    TreeNode tree = default_board();
    const auto device = aml::device(
        "HPET", aml::name_eisa_id("_HID", "PNP0103") + aml::name_resources("_CRS", aml::memory(0xFED00000, 0x400)));
    const auto ssdt_of = [](const Written& board) {
        const uint64_t ssdt = board.find("SSDT");
        return board.text(ssdt, board.get<uint32_t>(ssdt + 4));
    };
    const Written whole(tree);
    const uint64_t hpet = whole.find("HPET");
    REQUIRE(hpet != 0);
    CHECK(whole.get<uint32_t>(hpet + 4) == 56);
    CHECK(whole.sum(hpet, 56) == 0);
    CHECK(whole.get<uint32_t>(hpet + 36) == 0x8086A201);
    CHECK(whole.text(hpet + 40, 2) == bytes({0, 64}));
    CHECK(whole.get<uint64_t>(hpet + 44) == 0xFED00000);
    CHECK(ssdt_of(whole).find(device) != std::string::npos);

    tree.find("/hpet@fed00000")->set_string("status", "disabled");
    const Written less(tree);
    CHECK(less.find("HPET") == 0);
    CHECK(ssdt_of(less).find(device) == std::string::npos);
}

TEST_CASE("DSDT and SSDT name the devices that the board has, and only those") {
    TreeNode tree = default_board();
    const auto code_of = [](const Written& board, uint64_t at) { return board.text(at, board.get<uint32_t>(at + 4)); };
    const auto dsdt_of = [&](const Written& board) {
        return code_of(board, board.get<uint32_t>(board.find("FACP") + 40));
    };
    const Written whole(tree, 2);
    const std::string processors = code_of(whole, whole.find("SSDT"));
    for (const char* name : {"CP00", "CP01"}) CHECK(processors.find(name) != std::string::npos);
    CHECK(processors.find("CP02") == std::string::npos);
    const std::string devices = dsdt_of(whole);
    for (const char* name : {"LNKA", "COM1", "COM4", "KBD_", "MOU_", "FDC0", "RTC_"})
        CHECK(devices.find(name) != std::string::npos);

    tree.find("/isa/floppy@3f0")->set_string("status", "disabled");
    CHECK(dsdt_of(Written(tree)).find("FDC0") == std::string::npos);
}

TEST_CASE("ACPI's tables without an address tell a loader all that it has to correct") {
    const auto all = acpi_tables(default_board(), 2, 0xB000, plain_pci());
    REQUIRE(all.has_value());
    const auto at = [](const std::vector<std::byte>& bytes, size_t offset, unsigned size) {
        uint64_t value = 0;
        for (unsigned i = size; i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(bytes[offset + i]);
        return value;
    };
    const auto text = [](const std::vector<std::byte>& bytes, size_t offset) {
        std::string out;
        for (size_t i = offset; i < offset + 4; ++i) out += static_cast<char>(bytes[i]);
        return out;
    };
    // Every pointer leads to the start of a table, and each signature is reached.
    std::vector<std::string> reached;
    for (const auto& [part, offset, size] : all->pointers)
        reached.push_back(text(all->tables, at(part == AcpiPart::rsdp ? all->rsdp : all->tables, offset, size)));
    std::ranges::sort(reached);
    reached.erase(std::unique(reached.begin(), reached.end()), reached.end());
    CHECK(reached == std::vector<std::string>{"APIC", "DSDT", "FACP", "FACS", "HPET", "RSDT", "SSDT", "XSDT"});
    for (const auto& [part, offset, start, length] : all->checksums) {
        CHECK((part == AcpiPart::rsdp ? all->rsdp : all->tables)[offset] == std::byte{0});
        CHECK(offset >= start);
        CHECK(offset < start + length);
        CHECK(start + length <= (part == AcpiPart::rsdp ? all->rsdp : all->tables).size());
    }
    const uint64_t rsdt = at(all->rsdp, 16, 4), fadt = at(all->tables, rsdt + 36, 4);
    CHECK(text(all->tables, fadt) == "FACP");
    CHECK(at(all->tables, fadt + 56, 4) == 0xB000);
}

TEST_CASE("A board without the power management block has no ACPI, but MP tables") {
    TreeNode tree = default_board();
    tree.find("/pci/power@1,3")->set_string("status", "disabled");
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
    CHECK(seen == std::array<unsigned, 5>{16, 2, 1, 16, 2});
    CHECK(board.get<uint8_t>(table + 44 + 3) == 3);       // enabled, bootstrap
    CHECK(board.get<uint8_t>(table + 44 + 20 + 3) == 1);  // enabled
}

TEST_CASE("AML is encoded as the grammar says") {
    CHECK(aml::name_integer("_UID", 0) == bytes({0x08, '_', 'U', 'I', 'D', 0x00}));
    CHECK(aml::name_integer("A", 200) == bytes({0x08, 'A', '_', '_', '_', 0x0A, 200}));
    CHECK(aml::name_integer("_UID", 0x12345) == bytes({0x08, '_', 'U', 'I', 'D', 0x0C, 0x45, 0x23, 0x01, 0x00}));
    CHECK(aml::name_eisa_id("_HID", "PNP0A03") == bytes({0x08, '_', 'H', 'I', 'D', 0x0C, 0x41, 0xD0, 0x0A, 0x03}));
    CHECK(aml::processor("CP00", 5) == bytes({0x5B, 0x83, 11, 'C', 'P', '0', '0', 5, 0, 0, 0, 0, 0}));
    CHECK(aml::scope("_SB.ISA", "") == bytes({0x10, 11, '\\', 0x2E, '_', 'S', 'B', '_', 'I', 'S', 'A', '_'}));
    CHECK(
        aml::name_resources("_CRS", aml::io_ports(0x3F8, 8) + aml::irq(4)) ==
        bytes({0x08, '_', 'C', 'R', 'S', 0x11, 16, 0x0A, 13, 0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8, 0x22, 0x10, 0, 0x79, 0}));
}

TEST_CASE("AML of a host bridge is encoded as the grammar says") {
    CHECK(aml::path("_PR") == bytes({'\\', '_', 'P', 'R', '_'}));
    CHECK(aml::path("A.B.C") == bytes({'\\', 0x2F, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C', '_', '_', '_'}));
    CHECK(aml::package({aml::integer(0x1FFFF), aml::integer(1)}) ==
          bytes({0x12, 8, 2, 0x0C, 0xFF, 0xFF, 0x01, 0x00, 0x01}));
    CHECK(aml::bus_numbers(0, 255) == bytes({0x88, 13, 0, 2, 12, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 1}));
    CHECK(aml::port_window(0xD00, 0xFFFF) ==
          bytes({0x88, 13, 0, 1, 12, 3, 0, 0, 0, 0x0D, 0xFF, 0xFF, 0, 0, 0x00, 0xF3}));
    CHECK(aml::memory_window(0xA0000, 0xBFFFF) ==
          bytes({0x87, 23, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0xFF, 0xFF, 11, 0, 0, 0, 0, 0, 0, 0, 2, 0}));
    CHECK(aml::high_memory_window(0x100000000, 0x7FFFFFFFFF).size() == 46);
}

TEST_CASE("SSDT has the host bridge's windows and the wiring of all slots") {
    PciSetup pci = plain_pci();
    const Written low(default_board(), 1, pci);
    pci.plan.uses_high = true;
    const Written high(default_board(), 1, pci);
    const auto text = [](const Written& board) {
        const uint64_t table = board.find("SSDT");
        return board.text(table, board.get<uint32_t>(table + 4));
    };
    const auto has = [&](const Written& board, const std::string& part) {
        return text(board).find(part) != std::string::npos;
    };
    CHECK(has(low, aml::memory_window(0xC0000000, 0xFEBFFFFF)));
    CHECK_FALSE(has(low, aml::high_memory_window(0x100000000, 0x7FFFFFFFFF)));
    CHECK(has(high, aml::high_memory_window(0x100000000, 0x7FFFFFFFFF)));
    // Device 5, INTB#: PIRQB#; device 31, INTD#: PIRQB#.
    for (const auto& [address, pin] : {std::pair{0x0005FFFFu, 1u}, {0x001FFFFFu, 3u}}) {
        CHECK(
            has(low, aml::package({aml::integer(address), aml::integer(pin), aml::path("_SB.LNKB"), aml::integer(0)})));
    }
}

TEST_CASE("MP tables say to which pin of the IOAPIC a PCI interrupt goes") {
    const Written board(default_board());
    const uint64_t table = board.get<uint32_t>(board.mp_pointer() + 4);
    const std::string all = board.text(table, board.get<uint16_t>(table + 4));
    CHECK(all.find(bytes({1, 0}) + "PCI   " + bytes({1, 1}) + "ISA   ") != std::string::npos);
    CHECK(all.find(bytes({3, 0, 0x0D, 0, 0, 5 << 2 | 1, 0, 10})) != std::string::npos);
    CHECK(all.find(bytes({3, 0, 0x00, 0, 1, 4, 0, 4})) != std::string::npos);  // IRQ 4 of the ISA bus
}

TEST_CASE("AML packages of all sizes have lengths of one, two and three bytes") {
    const auto length_of = [](size_t body) { return aml::device("X", aml::Code(body, 'b')).substr(2, 4); };
    CHECK(length_of(58).substr(0, 1) == bytes({63}));
    CHECK(length_of(59).substr(0, 2) == bytes({0x40 | (65 & 15), 65 >> 4}));
    CHECK(length_of(4089).substr(0, 2) == bytes({0x4F, 0xFF}));
    CHECK(length_of(4090).substr(0, 3) == bytes({0x80 | (4097 & 15), (4097 >> 4) & 0xFF, 4097 >> 12}));
}
