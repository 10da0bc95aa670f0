#include "vmm/firmware/acpi/tables.hpp"

#include <optional>
#include <set>
#include <span>
#include <vector>

#include "vmm/firmware/acpi/board_view.hpp"
#include "vmm/firmware/acpi/mp_table.hpp"
#include "vmm/firmware/acpi/ssdt.hpp"
#include "vmm/firmware/acpi/table.hpp"
#include "vmm/firmware/smbios.hpp"

namespace viv::firmware {
namespace {

constexpr uint64_t local_apic_address = 0xFEE00000;

/// The power management block, as the FADT tells of it.
struct PowerManagement {
    uint16_t ports = 0;
    uint8_t sci = 0;
};

std::optional<PowerManagement> power_management(const TreeNode& board, uint16_t ports) {
    const auto nodes = board_devices(board, "intel,piix4-pm");
    if (nodes.empty()) return std::nullopt;
    const auto irq = nodes.front()->u32("interrupts");
    if (!irq) return std::nullopt;
    return PowerManagement{ports, static_cast<uint8_t>(*irq)};
}

/// Generic Address Structure (5.2.3.2) of I/O ports.
void add_ports(Table& table, uint64_t port, unsigned bits, unsigned access_size) {
    constexpr uint8_t system_io = 1;
    table.add(port ? system_io : 0, 1).add(bits, 1).add(0, 1).add(port ? access_size : 0, 1).add(port, 8);
}

/// 5.2.9, in the form of ACPI 2.0 that every later system reads and earlier ones read the front of.
Table fadt(const PowerManagement& pm, uint64_t facs_at, uint64_t dsdt_at) {
    constexpr uint32_t WBINVD = 1 << 0, PROC_C1 = 1 << 2, SLP_BUTTON = 1 << 5, FIX_RTC = 1 << 6,
                       RESET_REG_SUP = 1 << 10;
    constexpr uint8_t smi_command = 0xB2, acpi_enable = 0xF1, acpi_disable = 0xF0;
    constexpr uint16_t LEGACY_DEVICES = 1 << 0, IAPC_8042 = 1 << 1;
    constexpr uint16_t no_c2 = 0xFFFF, no_c3 = 0xFFFF;
    constexpr uint8_t desktop = 1, century_in_cmos = 0x32, full_reset = 0x06;
    constexpr uint16_t reset_control = 0xCF9;
    const uint64_t event = pm.ports, control = pm.ports + 4u, timer = pm.ports + 8u, gpe = pm.ports + 12u;
    Table table("FACP", 3);
    table.add(facs_at, 4).add(dsdt_at, 4).add(0, 1).add(desktop, 1).add(pm.sci, 2);
    table.add(smi_command, 4).add(acpi_enable, 1).add(acpi_disable, 1).add(0, 2);
    table.add(event, 4).add(0, 4).add(control, 4).add(0, 4).add(0, 4).add(timer, 4).add(gpe, 4).add(0, 4);
    table.add(4, 1).add(2, 1).add(0, 1).add(4, 1).add(4, 1).add(0, 3);  // lengths of the blocks; no CST_CNT
    table.add(no_c2, 2).add(no_c3, 2).add(0, 4).add(0, 2).add(0, 2).add(century_in_cmos, 1);
    table.add(LEGACY_DEVICES | IAPC_8042, 2).add(0, 1);
    table.add(WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | RESET_REG_SUP, 4);
    add_ports(table, reset_control, 8, 1);
    table.add(full_reset, 1).add(0, 3);
    table.add(0, 8).add(dsdt_at, 8);  // FACS has its 32-bit field
    add_ports(table, event, 32, 2);
    add_ports(table, 0, 0, 0);
    add_ports(table, control, 16, 2);
    add_ports(table, 0, 0, 0);
    add_ports(table, 0, 0, 0);
    add_ports(table, timer, 32, 3);
    add_ports(table, gpe, 32, 1);
    add_ports(table, 0, 0, 0);
    VIV_ASSERT(table.size() == 244);
    table.finish();
    return table;
}

/// 5.2.10
Table facs() {
    Table table;
    table.add_text("FACS").add(64, 4).add(0, 24).add(1, 1).add(0, 31);
    return table;
}

/// 5.2.12
Table madt(const TreeNode& board, uint32_t cpus, const PowerManagement& pm) {
    enum Entry : uint8_t { LOCAL_APIC = 0, IO_APIC = 1, SOURCE_OVERRIDE = 2, LOCAL_APIC_NMI = 4 };
    constexpr uint32_t PCAT_COMPAT = 1;
    constexpr uint16_t conforms_to_bus = 0, level_active_high = 0x0D;
    Table table("APIC", 1);
    table.add(local_apic_address, 4).add(PCAT_COMPAT, 4);
    for (uint32_t i = 0; i < cpus; ++i) table.add(LOCAL_APIC, 1).add(8, 1).add(i, 1).add(i, 1).add(1, 4);
    for (const TreeNode* node : board_devices(board, "intel,ioapic")) {
        const auto reg = node->cells("reg");
        if (reg.size() >= 2) table.add(IO_APIC, 1).add(12, 1).add(0, 1).add(0, 1).add(reg[1], 4).add(0, 4);
    }
    table.add(SOURCE_OVERRIDE, 1).add(10, 1).add(0, 1).add(0, 1).add(2, 4).add(conforms_to_bus, 2);
    // The SCI, and those that PCI interrupts may be routed to.
    for (const uint8_t irq : std::set<uint8_t>{pm.sci, 5, 10, 11})
        table.add(SOURCE_OVERRIDE, 1).add(10, 1).add(0, 1).add(irq, 1).add(irq, 4).add(level_active_high, 2);
    table.add(LOCAL_APIC_NMI, 1).add(6, 1).add(0xFF, 1).add(conforms_to_bus, 2).add(1, 1);
    table.finish();
    return table;
}

/// IA-PC HPET Specification 1.0a, 3.2.4
std::optional<Table> hpet(const TreeNode& board) {
    constexpr uint32_t hardware_id = 0x8086A201;  // the low half of GCAP_ID
    constexpr uint8_t system_memory = 0, register_bits = 64, number = 0;
    constexpr uint16_t minimum_tick = 100;  // a microsecond
    const auto nodes = board_devices(board, "intel,hpet");
    if (nodes.empty()) return std::nullopt;
    const auto reg = nodes.front()->cells("reg");
    if (reg.size() < 4) return std::nullopt;
    Table table("HPET", 1);
    table.add(hardware_id, 4).add(system_memory, 1).add(register_bits, 1).add(0, 2).add(reg[1], 8);
    table.add(number, 1).add(minimum_tick, 2).add(0, 1);
    table.finish();
    return table;
}

/// 5.2.5.3
Table rsdp(uint64_t rsdt_at, uint64_t xsdt_at) {
    Table table;
    table.add_text("RSD PTR ").add(0, 1).add_text("VIV   ").add(2, 1).add(rsdt_at, 4).add(36, 4).add(xsdt_at, 8);
    table.add(0, 4);
    table.set_checksum(8, 20);
    table.set_checksum(32, 36);
    return table;
}

/// A blob of tables, one after the other.
class Blob {
  public:
    explicit Blob(AcpiTables& out) : out_(out) {}
    /// The offset that the table gets. `pointers` are the offsets in it of addresses of other tables, with their sizes.
    struct Field {
        uint32_t offset;
        uint8_t size;
    };
    uint32_t place(std::span<const std::byte> table, std::initializer_list<Field> pointers = {}) {
        constexpr uint32_t alignment = 64, checksum = 9;  // FACS needs the one; ACPI's header has the other
        out_.tables.resize((out_.tables.size() + alignment - 1) / alignment * alignment);
        const auto at = static_cast<uint32_t>(out_.tables.size());
        out_.tables.insert(out_.tables.end(), table.begin(), table.end());
        for (const Field& field : pointers) out_.pointers.push_back({AcpiPart::tables, at + field.offset, field.size});
        if (pointers.size() != 0)
            out_.checksums.push_back({AcpiPart::tables, at + checksum, at, static_cast<uint32_t>(table.size())});
        return at;
    }
    /// RSDT (4 bytes an entry) or XSDT (8).
    uint32_t place_root(std::string_view signature, uint8_t size, std::span<const uint32_t> tables) {
        Table root(signature, 1);
        for (const uint32_t at : tables) root.add(at, size);
        root.finish();
        const uint32_t at = place(root.bytes());
        for (size_t i = 0; i < tables.size(); ++i)
            out_.pointers.push_back({AcpiPart::tables, static_cast<uint32_t>(at + 36 + i * size), size});
        out_.checksums.push_back({AcpiPart::tables, at + 9, at, static_cast<uint32_t>(root.size())});
        return at;
    }

  private:
    AcpiTables& out_;
};

/// Puts things one after the other into the memory for tables.
class Area {
  public:
    explicit Area(GuestMemory& memory) : memory_(memory) {
        memory_.write(tables_at, std::vector<std::byte>(tables_size));
    }
    /// Where the next thing goes.
    [[nodiscard]] uint64_t next() const { return next_; }
    uint64_t place(std::span<const std::byte> table) {
        constexpr uint64_t alignment = 64;
        const uint64_t at = next_;
        VIV_ASSERT(at + table.size() <= tables_at.value + tables_size);
        memory_.write(Gpa{at}, table);
        next_ = (at + table.size() + alignment - 1) / alignment * alignment;
        return at;
    }

  private:
    GuestMemory& memory_;
    uint64_t next_ = tables_at.value;
};

/// What a loader does with the tables: adds the address to all that point into them, and corrects checksums.
void relocate(AcpiTables& all, uint64_t at) {
    const auto part = [&all](AcpiPart which) { return std::span(which == AcpiPart::rsdp ? all.rsdp : all.tables); };
    for (const auto& [which, offset, size] : all.pointers) {
        const auto field = part(which).subspan(offset, size);
        uint64_t value = at;
        for (unsigned i = 0; i < size; ++i) value += std::to_integer<uint64_t>(field[i]) << (8 * i);
        for (unsigned i = 0; i < size; ++i) field[i] = static_cast<std::byte>(value >> (8 * i));
    }
    for (const auto& [which, offset, start, length] : all.checksums) {
        uint8_t sum = 0;
        for (const std::byte byte : part(which).subspan(start, length))
            sum = static_cast<uint8_t>(sum + std::to_integer<uint8_t>(byte));
        std::byte& checksum = part(which)[offset];
        checksum = static_cast<std::byte>(std::to_integer<unsigned>(checksum) - sum);
    }
}

void write_acpi(GuestMemory& memory, Area& area, const TreeNode& board, uint32_t cpus, Gpa ebda, const PciSetup* pci) {
    auto all = pci ? acpi_tables(board, cpus, pm_ports, *pci) : std::nullopt;
    if (!all) return;
    relocate(*all, area.next());
    area.place(all->tables);
    memory.write(ebda + rsdp_offset, all->rsdp);
}

/// Structures among the tables, and both entry points where systems look for them.
void write_smbios(GuestMemory& memory, Area& area, const TreeNode& board) {
    const auto identity = smbios_identity(board);
    VIV_ASSERT(identity.has_value());  // the machine has looked
    const SmbiosTables tables = smbios_tables(board, *identity, SmbiosBios::ours);
    const uint64_t at = area.place(tables.structures);
    const Gpa anchors{uint64_t{rom::system_rom_segment} * 16 + rom::smbios_anchors};
    const auto entry = smbios_entry_point(tables, static_cast<uint32_t>(at));
    memory.write_rom(anchors, entry);
    memory.write_rom(anchors + 32, smbios_entry_point_64(tables, at));
}

}  // namespace

std::optional<AcpiTables> acpi_tables(const TreeNode& board, uint32_t cpus, uint16_t ports, const PciSetup& pci) {
    const auto pm = power_management(board, ports);
    if (!pm) return std::nullopt;
    AcpiTables all;
    Blob blob(all);
    const uint32_t facs_at = blob.place(facs().bytes());
    const uint32_t dsdt_at = blob.place(dsdt(board).bytes());
    constexpr Blob::Field FIRMWARE_CTRL{36, 4}, DSDT{40, 4}, X_DSDT{140, 8};
    std::vector<uint32_t> tables{blob.place(fadt(*pm, facs_at, dsdt_at).bytes(), {FIRMWARE_CTRL, DSDT, X_DSDT}),
                                 blob.place(madt(board, cpus, *pm).bytes()),
                                 blob.place(ssdt(board, cpus, pci).bytes())};
    if (const auto timers = hpet(board)) tables.push_back(blob.place(timers->bytes()));
    const uint32_t rsdt_at = blob.place_root("RSDT", 4, tables);
    const uint32_t xsdt_at = blob.place_root("XSDT", 8, tables);
    const Table pointer = rsdp(rsdt_at, xsdt_at);
    all.rsdp.assign(pointer.bytes().begin(), pointer.bytes().end());
    all.pointers.push_back({AcpiPart::rsdp, 16, 4});
    all.pointers.push_back({AcpiPart::rsdp, 24, 8});
    all.checksums.push_back({AcpiPart::rsdp, 8, 0, 20});
    all.checksums.push_back({AcpiPart::rsdp, 32, 0, 36});
    for (const auto& checksum : all.checksums)
        (checksum.part == AcpiPart::rsdp ? all.rsdp : all.tables)[checksum.offset] = std::byte{0};
    return all;
}

bool has_acpi(const TreeNode& board) {
    return power_management(board, pm_ports).has_value();
}

void write_tables(GuestMemory& memory, const TreeNode& board, uint32_t cpus, Gpa ebda, const PciSetup* pci) {
    Area area(memory);
    write_acpi(memory, area, board, cpus, ebda, pci);
    write_smbios(memory, area, board);
    if (const auto configuration = mp_configuration(board, cpus, pci)) {
        memory.write(ebda + mp_pointer_offset, mp_floating_pointer(area.place(configuration->bytes())).bytes());
    }
}

}  // namespace viv::firmware
