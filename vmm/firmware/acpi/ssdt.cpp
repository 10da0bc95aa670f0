#include "vmm/firmware/acpi/ssdt.hpp"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <span>
#include <string>

#include "vmm/firmware/acpi/aml.hpp"
#include "vmm/firmware/acpi/board_view.hpp"
#include "vmm/firmware/acpi/dsdt.hpp"
#include "vmm/firmware/acpi/pci_root.hpp"

namespace viv::firmware {
namespace {

/// How a kind of board device appears. A node may appear as several, each with some of its interrupts.
struct Appearance {
    std::string_view compatible;
    std::string_view name;  // three letters when there can be several: a number follows
    std::string_view hardware_id;
    bool has_ports = true;
    std::optional<size_t> interrupt = std::nullopt;  // the index in `interrupts`
};

constexpr std::array appearances{
    Appearance{"intel,i8259", "PIC", "PNP0000"},
    Appearance{"intel,i8237", "DMAC", "PNP0200"},
    Appearance{"intel,i8254", "TMR", "PNP0100", true, 0},
    Appearance{"motorola,mc146818", "RTC", "PNP0B00", true, 0},
    Appearance{"intel,i8042", "KBD", "PNP0303", true, 0},
    Appearance{"intel,i8042", "MOU", "PNP0F13", false, 1},
    Appearance{"intel,82077aa", "FDC0", "PNP0700", true, 0},
    Appearance{"ns16550a", "COM", "PNP0501", true, 0},
};

aml::Code resources(const TreeNode& node, const Appearance& appearance) {
    aml::Code code;
    const auto reg = node.cells("reg");
    for (size_t i = 0; appearance.has_ports && i + 3 <= reg.size(); i += 3) {
        const bool is_port = reg[i] & 1;
        if (is_port && reg[i + 1] <= 0xFFFF && reg[i + 2] <= 0xFF)
            code += aml::io_ports(static_cast<uint16_t>(reg[i + 1]), static_cast<uint8_t>(reg[i + 2]));
    }
    const auto interrupts = node.cells("interrupts");
    if (appearance.interrupt && *appearance.interrupt < interrupts.size() && interrupts[*appearance.interrupt] < 16)
        code += aml::irq(static_cast<uint8_t>(interrupts[*appearance.interrupt]));
    // The second controller's cascade input takes channel 4.
    const auto channel = appearance.hardware_id == "PNP0200" ? std::optional<uint32_t>(4) : node.u32("viv,dma");
    if (channel && *channel < 8) code += aml::dma(static_cast<uint8_t>(*channel));
    return code;
}

aml::Code isa_devices(const TreeNode& board) {
    aml::Code code;
    for (const Appearance& appearance : appearances) {
        uint32_t number = 0;
        for (const TreeNode* node : board_devices(board, appearance.compatible)) {
            const bool numbered = appearance.compatible == "ns16550a";
            if (++number > (numbered ? 9u : 1u)) break;
            const std::string name =
                numbered ? fmt::format("{}{}", appearance.name, number) : std::string(appearance.name);
            aml::Code body = aml::name_eisa_id("_HID", appearance.hardware_id);
            if (numbered) body += aml::name_integer("_UID", number);
            code += aml::device(name, body + aml::name_resources("_CRS", resources(*node, appearance)));
        }
    }
    // The coprocessor is in the CPU; its error wire is the board's.
    return code + aml::device("FPU", aml::name_eisa_id("_HID", "PNP0C04") +
                                         aml::name_resources("_CRS", aml::io_ports(0xF0, 1) + aml::irq(13)));
}

aml::Code event_timers(const TreeNode& board) {
    aml::Code code;
    for (const TreeNode* node : board_devices(board, "intel,hpet")) {
        const auto reg = node->cells("reg");
        if (reg.size() < 4) continue;
        const aml::Code body =
            aml::name_eisa_id("_HID", "PNP0103") + aml::name_resources("_CRS", aml::memory(reg[1], reg[3]));
        code += aml::scope("_SB", aml::device("HPET", body));
    }
    return code;
}

/// Virtio over MMIO, as Linux knows it.
aml::Code virtio_devices(const TreeNode& board) {
    aml::Code code;
    uint32_t number = 0;
    for (const TreeNode* node : board_devices(board, "virtio,mmio")) {
        const auto reg = node->cells("reg");
        const auto interrupts = node->cells("interrupts");
        if (reg.size() < 4 || interrupts.empty() || number > 9) continue;
        const aml::Code body =
            aml::name_text("_HID", "LNRO0005") + aml::name_integer("_UID", number) +
            aml::name_resources("_CRS", aml::memory(reg[1], reg[3]) + aml::level_interrupt(interrupts[0]));
        code += aml::scope("_SB", aml::device(fmt::format("VIO{}", number++), body));
    }
    return code;
}

}  // namespace

Table ssdt(const TreeNode& board, uint32_t cpus, const PciSetup& pci) {
    aml::Code processors;
    for (uint32_t i = 0; i < cpus; ++i)
        processors += aml::processor(fmt::format("CP{:02X}", i), static_cast<uint8_t>(i));
    Table table("SSDT", 2);
    table.add_text(aml::scope("_PR", processors))
        .add_text(pci_root(pci))
        .add_text(event_timers(board))
        .add_text(virtio_devices(board));
    table.finish();
    return table;
}

Table dsdt(const TreeNode& board) {
    Table table;
    table.add_bytes(common_dsdt()).add_text(aml::scope("_SB.PCI0.ISA", isa_devices(board)));
    table.finish();
    return table;
}

}  // namespace viv::firmware
