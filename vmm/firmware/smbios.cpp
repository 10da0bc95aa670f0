#include "vmm/firmware/smbios.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "vmm/boards/board_edit.hpp"
#include "vmm/firmware/acpi/table.hpp"
#include "vmm/firmware/power_on.hpp"

namespace viv::firmware {
namespace {

constexpr uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

enum Type : uint8_t {
    BIOS_INFORMATION = 0,
    SYSTEM_INFORMATION = 1,
    CHASSIS = 3,
    PROCESSOR = 4,
    PHYSICAL_MEMORY_ARRAY = 16,
    MEMORY_DEVICE = 17,
    MEMORY_ARRAY_MAPPED_ADDRESS = 19,
    SYSTEM_BOOT = 32,
    END_OF_TABLE = 127,
};

constexpr uint16_t handle_of(Type type, unsigned number = 0) {
    return static_cast<uint16_t>(type << 8 | number);
}

/// A structure that is being made: a formatted part, then its strings.
class Structure {
  public:
    Structure(Type type, uint16_t handle) { body_.add(type, 1).add(0, 1).add(handle, 2); }
    Structure& add(uint64_t value, unsigned size) {
        body_.add(value, size);
        return *this;
    }
    Structure& add(std::span<const uint8_t> bytes) {
        body_.add_bytes(std::as_bytes(bytes));
        return *this;
    }
    /// The number of a string; 0 when it is empty.
    Structure& add(const std::string& text) {
        if (text.empty()) return add(0, 1);
        strings_.push_back(text);
        return add(strings_.size(), 1);
    }
    void put_into(SmbiosTables& tables) {
        body_.set(1, body_.size(), 1);
        for (const std::string& text : strings_) body_.add_text(text).add(0, 1);
        body_.add(0, strings_.empty() ? 2 : 1);
        const auto bytes = body_.bytes();
        tables.structures.insert(tables.structures.end(), bytes.begin(), bytes.end());
        ++tables.count;
        tables.largest_size = std::max(tables.largest_size, static_cast<uint16_t>(bytes.size()));
    }

  private:
    Table body_;
    std::vector<std::string> strings_;
};

void add_bios(SmbiosTables& tables, const SmbiosIdentity& identity) {
    // What the BIOS can do (7.1.1): PCI, shadowing, boot from CD, a choice of boot devices, EDD, 5.25" and 3.5"
    // floppies, print screen, 8042, serial, CGA.
    constexpr uint64_t characteristics = 1u << 7 | 1u << 12 | 1u << 15 | 1u << 16 | 1u << 19 | 1u << 22 | 1u << 23 |
                                         1u << 24 | 1u << 25 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30;
    constexpr uint8_t ACPI = 1, virtual_machine = 1 << 4;
    constexpr uint16_t segment = 0xF000;
    constexpr uint8_t size_64_kib = 0, no_embedded_controller = 0xFF;
    Structure bios(BIOS_INFORMATION, handle_of(BIOS_INFORMATION));
    bios.add(identity.bios_vendor).add(identity.bios_version).add(segment, 2).add(identity.bios_date);
    bios.add(size_64_kib, 1).add(characteristics, 8).add(ACPI, 1).add(virtual_machine, 1);
    bios.add(0, 2).add(no_embedded_controller, 1).add(no_embedded_controller, 1);
    bios.put_into(tables);
}

void add_system(SmbiosTables& tables, const SmbiosIdentity& identity) {
    constexpr uint8_t power_switch = 6;
    // The first three fields of a UUID are numbers, and little-endian like all others (7.2.1).
    std::array<uint8_t, 16> uuid = identity.uuid;
    std::reverse(uuid.begin(), uuid.begin() + 4);
    std::reverse(uuid.begin() + 4, uuid.begin() + 6);
    std::reverse(uuid.begin() + 6, uuid.begin() + 8);
    Structure system(SYSTEM_INFORMATION, handle_of(SYSTEM_INFORMATION));
    system.add(identity.manufacturer).add(identity.product).add(identity.version).add(identity.serial);
    system.add(uuid).add(power_switch, 1).add(identity.sku).add(identity.family);
    system.put_into(tables);
}

void add_chassis(SmbiosTables& tables, const SmbiosIdentity& identity) {
    constexpr uint8_t other = 1, safe = 3, no_security = 3;
    Structure chassis(CHASSIS, handle_of(CHASSIS));
    chassis.add(identity.manufacturer).add(other, 1).add(identity.version).add(identity.chassis_serial);
    chassis.add(identity.asset).add(safe, 1).add(safe, 1).add(safe, 1).add(no_security, 1);
    chassis.add(0, 4).add(0, 1).add(0, 1).add(0, 1).add(0, 1).add(std::string());
    chassis.put_into(tables);
}

/// One package that has all CPUs as cores, as CPUID says.
void add_processor(SmbiosTables& tables, const SmbiosIdentity& identity, uint32_t cpus) {
    constexpr uint8_t central_processor = 3, other = 1, enabled_in_socket = 0x41;
    constexpr uint16_t none = 0xFFFF;
    Structure processor(PROCESSOR, handle_of(PROCESSOR));
    processor.add(std::string("CPU 0")).add(central_processor, 1).add(other, 1).add(identity.manufacturer);
    processor.add(0, 8).add(std::string("Vivarium")).add(0, 1).add(0, 2).add(0, 2).add(0, 2);
    processor.add(enabled_in_socket, 1).add(other, 1).add(none, 2).add(none, 2).add(none, 2);
    processor.add(std::string()).add(std::string()).add(std::string());
    processor.add(cpus, 1).add(cpus, 1).add(cpus, 1);
    processor.add(cpus > 1 ? 0x000C : 0x0004, 2);  // 64-bit capable, multi-core
    processor.add(other, 2);
    processor.put_into(tables);
}

void add_memory(SmbiosTables& tables, const SmbiosIdentity& identity, uint64_t size) {
    constexpr uint8_t system_board = 3, system_memory = 3, no_ecc = 3;
    constexpr uint16_t no_error_information = 0xFFFE;
    Structure array(PHYSICAL_MEMORY_ARRAY, handle_of(PHYSICAL_MEMORY_ARRAY));
    array.add(system_board, 1).add(system_memory, 1).add(no_ecc, 1).add(size / kib, 4);
    array.add(no_error_information, 2).add(1, 2).add(0, 8);
    array.put_into(tables);

    constexpr uint16_t unknown_width = 0xFFFF, in_extended_size = 0x7FFF, in_kib = 0x8000, other_detail = 2;
    constexpr uint8_t dimm = 9, ram = 7;
    const bool whole_mib = size % mib == 0;
    const uint64_t units = whole_mib ? std::min<uint64_t>(size / mib, in_extended_size) : size / kib | in_kib;
    const bool extended = whole_mib && units == in_extended_size;
    Structure device(MEMORY_DEVICE, handle_of(MEMORY_DEVICE));
    device.add(handle_of(PHYSICAL_MEMORY_ARRAY), 2).add(no_error_information, 2);
    device.add(unknown_width, 2).add(unknown_width, 2).add(units & 0xFFFF, 2).add(dimm, 1).add(0, 1);
    device.add(std::string("DIMM 0")).add(std::string()).add(ram, 1).add(other_detail, 2).add(0, 2);
    device.add(identity.manufacturer).add(std::string()).add(std::string()).add(std::string()).add(0, 1);
    device.add(extended ? size / mib : 0, 4).add(0, 2).add(0, 2).add(0, 2).add(0, 2);
    device.put_into(tables);

    const MemoryLayout layout = memory_layout(size);
    unsigned number = 0;
    const auto add_range = [&](uint64_t base, uint64_t bytes) {
        Structure range(MEMORY_ARRAY_MAPPED_ADDRESS, handle_of(MEMORY_ARRAY_MAPPED_ADDRESS, number++));
        range.add(base / kib, 4).add((base + bytes) / kib - 1, 4).add(handle_of(PHYSICAL_MEMORY_ARRAY), 2).add(1, 1);
        range.add(0, 8).add(0, 8);
        range.put_into(tables);
    };
    add_range(0, layout.below_4g);
    if (layout.above_4g) add_range(4 * gib, layout.above_4g);
}

Result<std::array<uint8_t, 16>> parse_uuid(std::string_view text) {
    constexpr std::string_view form = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    const auto wrong = [&] {
        return fail_usage(fmt::format("'{}' is not a UUID (like {})", text, "12345678-9abc-def0-1234-56789abcdef0"));
    };
    if (text.size() != form.size()) return wrong();
    std::string digits;
    for (size_t i = 0; i < form.size(); ++i) {
        const bool is_digit = std::string_view("0123456789abcdefABCDEF").contains(text[i]);
        if (form[i] == '-' ? text[i] != '-' : !is_digit) return wrong();
        if (is_digit) digits += text[i];
    }
    std::array<uint8_t, 16> uuid{};
    for (size_t i = 0; i < uuid.size(); ++i)
        uuid[i] = static_cast<uint8_t>(std::stoul(digits.substr(2 * i, 2), nullptr, 16));
    return uuid;
}

struct Key {
    std::string_view name;
    std::string SmbiosIdentity::*value;
};
constexpr Key keys[] = {
    {"bios-vendor", &SmbiosIdentity::bios_vendor},
    {"bios-version", &SmbiosIdentity::bios_version},
    {"bios-date", &SmbiosIdentity::bios_date},
    {"manufacturer", &SmbiosIdentity::manufacturer},
    {"product", &SmbiosIdentity::product},
    {"version", &SmbiosIdentity::version},
    {"serial", &SmbiosIdentity::serial},
    {"sku", &SmbiosIdentity::sku},
    {"family", &SmbiosIdentity::family},
    {"chassis-serial", &SmbiosIdentity::chassis_serial},
    {"asset", &SmbiosIdentity::asset},
};

Result<void> set_key(SmbiosIdentity& identity, std::string_view name, std::string_view value) {
    constexpr size_t longest = 64;
    if (name == "uuid") {
        identity.uuid = TRY(parse_uuid(value));
        return {};
    }
    const auto key = std::ranges::find(keys, name, &Key::name);
    if (key == std::end(keys)) {
        std::string known = "uuid";
        for (const Key& one : keys) known += fmt::format(", {}", one.name);
        return fail_usage(fmt::format("there is no '{}'; use {}", name, known));
    }
    if (value.size() > longest || !std::ranges::all_of(value, [](char c) { return c >= ' ' && c <= '~'; }))
        return fail_usage(fmt::format("{} is at most {} characters of ASCII", name, longest));
    identity.*key->value = value;
    identity.names_bios = identity.names_bios || name.starts_with("bios-");
    return {};
}

}  // namespace

Result<SmbiosIdentity> smbios_identity(const TreeNode& board) {
    SmbiosIdentity identity;
    const TreeNode* chosen = board.child("chosen");
    if (!chosen) return identity;
    for (const std::string& text : chosen->strings("viv,smbios")) {
        const size_t equals = text.find('=');
        if (equals == std::string::npos) return fail_usage(fmt::format("SMBIOS: '{}' is not KEY=VALUE", text));
        const auto done =
            set_key(identity, std::string_view(text).substr(0, equals), std::string_view(text).substr(equals + 1));
        if (!done) return add_context(done.error(), "SMBIOS");
    }
    return identity;
}

SmbiosTables smbios_tables(const TreeNode& board, const SmbiosIdentity& identity, SmbiosBios bios) {
    SmbiosTables tables;
    if (bios == SmbiosBios::ours || identity.names_bios) add_bios(tables, identity);
    add_system(tables, identity);
    add_chassis(tables, identity);
    add_processor(tables, identity, cpu_count(board));
    add_memory(tables, identity, memory_size(board).value_or(0));
    Structure(SYSTEM_BOOT, handle_of(SYSTEM_BOOT)).add(0, 6).add(0, 1).put_into(tables);
    Structure(END_OF_TABLE, handle_of(END_OF_TABLE)).put_into(tables);
    return tables;
}

std::vector<std::byte> smbios_entry_point(const SmbiosTables& tables, uint32_t at) {
    constexpr uint8_t size = 31, major = 2, minor = 8, decimal_revision = 0x28;
    constexpr size_t intermediate = 16;
    Table table;
    table.add_text("_SM_").add(0, 1).add(size, 1).add(major, 1).add(minor, 1).add(tables.largest_size, 2);
    table.add(0, 1).add(0, 5);
    table.add_text("_DMI_").add(0, 1).add(tables.structures.size(), 2).add(at, 4).add(tables.count, 2);
    table.add(decimal_revision, 1);
    uint8_t sum = 0;
    for (const std::byte byte : table.bytes().subspan(intermediate)) sum = static_cast<uint8_t>(sum + uint8_t(byte));
    table.set(intermediate + 5, static_cast<uint8_t>(-sum), 1);
    table.set_checksum(4, size);
    return {table.bytes().begin(), table.bytes().end()};
}

std::vector<std::byte> smbios_entry_point_64(const SmbiosTables& tables, uint64_t at) {
    constexpr uint8_t size = 24, major = 3, minor = 0, revision = 1;
    Table table;
    table.add_text("_SM3_").add(0, 1).add(size, 1).add(major, 1).add(minor, 1).add(0, 1).add(revision, 1).add(0, 1);
    table.add(tables.structures.size(), 4).add(at, 8);
    table.set_checksum(5, size);
    return {table.bytes().begin(), table.bytes().end()};
}

}  // namespace viv::firmware
