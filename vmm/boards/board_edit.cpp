#include "vmm/boards/board_edit.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

#include "devices/network/link/link.hpp"

namespace viv {
namespace {

bool is_compatible(const TreeNode& node, std::string_view compatible) {
    return std::ranges::count(node.strings("compatible"), compatible) > 0;
}

/// The nodes below the board's buses with this `compatible`, in tree order.
std::vector<TreeNode*> find_all(TreeNode& board, std::string_view compatible) {
    std::vector<TreeNode*> found;
    for (TreeNode& node : board.children) {
        if (is_compatible(node, compatible)) found.push_back(&node);
        for (TreeNode& inner : node.children) {
            if (is_compatible(inner, compatible)) found.push_back(&inner);
        }
    }
    return found;
}

void put_image(TreeNode& drive, std::string_view path, DriveAccess access) {
    drive.set_string("viv,image", path);
    drive.erase("viv,read-only");
    drive.erase("viv,snapshot");
    if (access == DriveAccess::read_only) drive.set_flag("viv,read-only");
    if (access == DriveAccess::snapshot) drive.set_flag("viv,snapshot");
}

enum class Place { untyped, cdrom };

/// The first place of these controllers that has no image: one that is nothing yet, or an empty CD-ROM drive.
TreeNode* free_place(TreeNode& board, std::string_view controllers, Place wanted) {
    for (TreeNode* controller : find_all(board, controllers)) {
        for (TreeNode& drive : controller->children) {
            const bool cdrom = drive.string("viv,drive-type") == "cdrom";
            if (!drive.has("viv,image") && cdrom == (wanted == Place::cdrom)) return &drive;
        }
    }
    return nullptr;
}

/// Adds a card below the PCI bus, on the first device number from 3 on that is free: below are the board's own.
Result<TreeNode*> add_pci_card(TreeNode& board, std::string_view name, std::string_view compatible) {
    TreeNode* pci = board.child("pci");
    if (!pci) return fail_usage(fmt::format("the board has no /pci bus for '{}'", name));
    for (uint32_t device = 3; device < 32; ++device) {
        const auto taken = [device](const TreeNode& node) {
            const auto reg = node.cells("reg");
            return !reg.empty() && reg[0] == device;
        };
        if (std::ranges::any_of(pci->children, taken)) continue;
        TreeNode& card = pci->children.emplace_back(TreeNode{fmt::format("{}@{:x}", name, device), {}, {}});
        card.set_string("compatible", compatible);
        card.set_cells("reg", std::array<uint32_t, 2>{device, 0});
        return &card;
    }
    return fail_usage(fmt::format("the PCI bus has no place left for '{}'", name));
}

/// Where fixed windows of virtio devices are, and their ISA interrupts, which no other device of the board uses.
struct MmioPlace {
    uint32_t base;
    uint32_t irq;
};
constexpr std::array mmio_places{MmioPlace{0xFED10000, 5}, MmioPlace{0xFED11000, 7}};

enum class NicBus { pci, isa, virtio, virtio_mmio };
struct NicModel {
    std::string_view name;
    std::string_view compatible;  // of those that are no virtio devices
    NicBus bus = NicBus::pci;
};
constexpr std::array network_cards{
    NicModel{"e1000", "intel,82540em"},
    NicModel{"ne2k_pci", "realtek,8029"},
    NicModel{"ne2k_isa", "novell,ne2000", NicBus::isa},
    NicModel{"pcnet", "amd,79c970a"},
    NicModel{"rtl8139", "realtek,8139"},
    NicModel{"rtl8139cp", "realtek,8139cp"},
    NicModel{"virtio", {}, NicBus::virtio},
    NicModel{"virtio-mmio", {}, NicBus::virtio_mmio},
};

constexpr std::string_view ide = "intel,piix-ide", ahci = "intel,ich9-ahci";

Result<void> add_ahci(TreeNode& board) {
    constexpr uint32_t ports = 6;
    TreeNode* card = TRY(add_pci_card(board, "sata", ahci));
    card->set_u32("#address-cells", 1);
    card->set_u32("#size-cells", 0);
    for (uint32_t port = 0; port < ports; ++port) {
        TreeNode& drive = card->children.emplace_back(TreeNode{fmt::format("drive@{}", port), {}, {}});
        drive.set_u32("reg", port);
    }
    return {};
}

/// A free place for a drive; on the other controllers than IDE there is always one.
Result<TreeNode*> place_for(TreeNode& board, std::string_view path, Place first, DriveBus bus) {
    const Place second = first == Place::untyped ? Place::cdrom : Place::untyped;
    const std::string_view controllers = bus == DriveBus::ide ? ide : ahci;
    if (TreeNode* place = free_place(board, controllers, first)) return place;
    // A fourth disk takes the place of a CD-ROM drive that nothing is in.
    if (TreeNode* place = free_place(board, controllers, second)) return place;
    if (bus == DriveBus::ide) {
        return fail_usage(
            fmt::format("no IDE channel has a place left for '{}': the board takes four drives; more go "
                        "on another controller (FILE,bus=ahci, nvme or virtio)",
                        path));
    }
    TRY(add_ahci(board));
    return free_place(board, controllers, Place::untyped);
}

TreeNode* memory_node(TreeNode& board) {
    for (TreeNode& node : board.children) {
        if (node.string("device_type") == "memory") return &node;
    }
    return nullptr;
}

void set_strings(TreeNode& node, std::string_view key, std::span<const std::string> strings) {
    std::vector<std::byte> list;
    for (const std::string& text : strings) {
        for (char c : text) list.push_back(static_cast<std::byte>(c));
        list.push_back(std::byte{0});
    }
    node.set(key, std::move(list));
}

void set_chosen_strings(TreeNode& board, std::string_view key, std::span<const std::string> strings) {
    set_strings(board.ensure_child("chosen"), key, strings);
}

}  // namespace

Result<void> set_memory_size(TreeNode& board, uint64_t bytes) {
    constexpr uint64_t least = 1u << 20, most = uint64_t{1} << 40, step = 1u << 16;
    if (bytes < least || bytes > most) {
        return fail_usage(
            fmt::format("a machine has 1 MiB to 1 TiB of memory, not {} bytes (try --memory 256M)", bytes));
    }
    if (bytes % step) return fail_usage(fmt::format("the memory size of {} bytes is not a multiple of 64 KiB", bytes));
    TreeNode* node = memory_node(board);
    if (!node) return fail_usage("the board has no node with device_type = \"memory\"");
    node->set_cells("reg",
                    std::array<uint32_t, 4>{0, 0, static_cast<uint32_t>(bytes >> 32), static_cast<uint32_t>(bytes)});
    return {};
}

Result<uint64_t> memory_size(const TreeNode& board) {
    const TreeNode* node = memory_node(const_cast<TreeNode&>(board));
    if (!node) return fail_usage("the board has no node with device_type = \"memory\"");
    const auto reg = node->cells("reg");
    if (reg.size() != 4 || reg[0] || reg[1]) {
        return fail_usage(fmt::format("/{}: `reg` is not one range <0 0 size size> that starts at 0", node->name));
    }
    return uint64_t{reg[2]} << 32 | reg[3];
}

Result<void> set_cpus(TreeNode& board, uint32_t count) {
    if (count < 1 || count > 16) return fail_usage(fmt::format("a machine has 1 to 16 CPUs, not {}", count));
    TreeNode* cpus = board.child("cpus");
    if (!cpus || cpus->children.empty()) return fail_usage("the board has no /cpus/cpu node to copy");
    const TreeNode pattern = cpus->children.front();
    cpus->children.clear();
    for (uint32_t i = 0; i < count; ++i) {
        TreeNode& cpu = cpus->children.emplace_back(pattern);
        cpu.name = fmt::format("cpu@{:x}", i);
        cpu.set_u32("reg", i);
    }
    return {};
}

uint32_t cpu_count(const TreeNode& board) {
    const TreeNode* cpus = board.child("cpus");
    return cpus ? static_cast<uint32_t>(cpus->children.size()) : 0;
}

Result<void> attach_floppy(TreeNode& board, std::string_view path, DriveAccess access, std::optional<uint32_t> unit) {
    for (TreeNode* controller : find_all(board, "intel,82077aa")) {
        for (TreeNode& drive : controller->children) {
            if (unit ? drive.u32("reg") != unit : drive.has("viv,image")) continue;
            put_image(drive, path, access);
            return {};
        }
    }
    return fail_usage(fmt::format("no floppy drive is free for '{}': the board has two at most", path));
}

Result<TreeNode*> attach_disk(TreeNode& board, std::string_view path, DriveAccess access, DriveBus bus) {
    TreeNode* node = nullptr;
    if (bus == DriveBus::nvme) {
        node = TRY(add_pci_card(board, "nvme", "viv,nvme"));
    } else if (bus == DriveBus::virtio || bus == DriveBus::virtio_mmio) {
        node = TRY(add_virtio(board, "block", bus == DriveBus::virtio ? VirtioBus::pci : VirtioBus::mmio));
    } else {
        node = TRY(place_for(board, path, Place::untyped, bus));
        node->erase("viv,drive-type");
    }
    put_image(*node, path, access);
    return node;
}

Result<void> attach_cdrom(TreeNode& board, std::string_view path, DriveBus bus) {
    if (bus != DriveBus::ide && bus != DriveBus::ahci) {
        return fail_usage(fmt::format("NVMe and virtio have no CD-ROM drives: give '{}' the bus ide or ahci", path));
    }
    TreeNode* place = TRY(place_for(board, path, Place::cdrom, bus));
    place->set_string("viv,drive-type", "cdrom");
    put_image(*place, path, DriveAccess::read_only);
    return {};
}

Result<TreeNode*> add_virtio(TreeNode& board, std::string_view function, VirtioBus bus) {
    TreeNode* node = nullptr;
    if (bus == VirtioBus::pci) {
        node = TRY(add_pci_card(board, "virtio", "virtio,pci"));
    } else {
        for (const MmioPlace& place : mmio_places) {
            const std::string name = fmt::format("virtio@{:x}", place.base);
            if (board.child(name)) continue;
            node = &board.children.emplace_back(TreeNode{name, {}, {}});
            node->set_string("compatible", "virtio,mmio");
            node->set_cells("reg", std::array<uint32_t, 4>{0, place.base, 0, 0x200});
            node->set_u32("interrupts", place.irq);
            break;
        }
        if (!node) return fail_usage("the board has two places for virtio over MMIO, and both are taken");
    }
    node->set_string("viv,function", function);
    return node;
}

namespace {

Result<TreeNode*> add_isa_nic(TreeNode& board, std::string_view compatible, const NicChoice& nic) {
    TreeNode* isa = board.child("isa");
    if (!isa) return fail_usage(fmt::format("the board has no /isa bus for the NIC '{}'", nic.model));
    const uint32_t port = nic.port.value_or(0x300), irq = nic.irq.value_or(5);
    const std::string name = fmt::format("ethernet@{:x}", port);
    if (isa->child(name))
        return fail_usage(fmt::format("two NICs are at port {:x}h: give one another (port=0x320)", port));
    TreeNode& node = isa->children.emplace_back(TreeNode{name, {}, {}});
    node.set_string("compatible", compatible);
    node.set_cells("reg", std::array<uint32_t, 3>{1, port, 32});
    node.set_u32("interrupts", irq);
    return &node;
}

Result<TreeNode*> add_nic(TreeNode& board, const NicModel& model, const NicChoice& nic) {
    switch (model.bus) {
        case NicBus::pci: return add_pci_card(board, "ethernet", model.compatible);
        case NicBus::isa: return add_isa_nic(board, model.compatible, nic);
        case NicBus::virtio: return add_virtio(board, "network", VirtioBus::pci);
        case NicBus::virtio_mmio: return add_virtio(board, "network", VirtioBus::mmio);
    }
    return nullptr;
}

}  // namespace

Result<void> attach_nic(TreeNode& board, const NicChoice& nic) {
    const auto model = std::ranges::find(network_cards, nic.model, &NicModel::name);
    if (model == network_cards.end()) {
        return fail_usage(fmt::format("there is no NIC model '{}'; use {}", nic.model, fmt::join(nic_models(), ", ")));
    }
    size_t others = 0;
    const auto is_nic = [](const TreeNode& node) { return node.has("local-mac-address"); };
    for (const TreeNode& bus : board.children)
        others += static_cast<size_t>(is_nic(bus)) + static_cast<size_t>(std::ranges::count_if(bus.children, is_nic));
    // The first six bits of this range say that nobody was given it; QEMU's guests know it, too.
    MacAddress mac{0x52, 0x54, 0x00, 0x12, 0x34, static_cast<uint8_t>(0x56 + others)};
    if (nic.mac) mac = TRY(parse_mac_address(*nic.mac));
    if (model->bus != NicBus::isa && (nic.port || nic.irq)) {
        return fail_usage(
            fmt::format("the NIC '{}' takes no port and no irq: the system gives it what it needs", nic.model));
    }
    const bool is_virtio = model->bus == NicBus::virtio || model->bus == NicBus::virtio_mmio;
    if (!is_virtio && (nic.mtu || nic.queues || nic.split))
        return fail_usage(
            fmt::format("the NIC '{}' takes no mtu, no queues and no split: these are virtio's", nic.model));
    const bool is_pci = model->bus == NicBus::pci || model->bus == NicBus::virtio;
    if (!is_pci && !nic.rom.empty())
        return fail_usage(fmt::format("the NIC '{}' takes no rom: it is no PCI card; use --option-rom", nic.model));
    TreeNode* node = TRY(add_nic(board, *model, nic));
    if (!nic.rom.empty()) node->set_string("viv,rom", nic.rom);
    if (nic.mtu) node->set_u32("viv,mtu", *nic.mtu);
    if (nic.queues) node->set_u32("viv,queues", *nic.queues);
    if (nic.split) node->set_flag("viv,split");
    if (!nic.record.empty()) node->set_string("viv,pcap", nic.record);
    std::vector<std::byte> bytes;
    for (const uint8_t byte : mac) bytes.push_back(std::byte{byte});
    node->set("local-mac-address", std::move(bytes));
    node->set_string("viv,link", nic.link);
    node->set_u32("viv,nic", static_cast<uint32_t>(others));
    if (!nic.published.empty()) set_strings(*node, "viv,publish", nic.published);
    return {};
}

std::vector<std::string_view> nic_models() {
    std::vector<std::string_view> names;
    for (const NicModel& model : network_cards) names.push_back(model.name);
    return names;
}

Result<void> set_serial(TreeNode& board, uint32_t port, std::string_view spec) {
    const auto ports = find_all(board, "ns16550a");
    if (port >= ports.size())
        return fail_usage(fmt::format("the board has {} serial ports; there is no COM{}", ports.size(), port + 1));
    ports[port]->set_string("viv,chardev", spec);
    return {};
}

Result<void> add_usb_device(TreeNode& board, std::string_view kind) {
    constexpr std::array kinds{"tablet", "keyboard", "mouse"};
    constexpr std::string_view uhci = "intel,piix3-uhci";
    constexpr uint32_t ports = 2;
    if (std::ranges::find(kinds, kind) == kinds.end()) {
        return fail_usage(fmt::format("--usb: there is no device '{}'; use tablet, keyboard or mouse", kind));
    }
    if (find_all(board, uhci).empty()) {
        TreeNode* pci = board.child("pci");
        if (!pci) return fail_usage("the board has no /pci bus for a USB controller");
        TreeNode& node = pci->children.emplace_back(TreeNode{"usb@1,2", {}, {}});
        node.set_string("compatible", uhci);
        node.set_cells("reg", std::array<uint32_t, 2>{1, 2});  // a function of the PIIX
        node.set_u32("#address-cells", 1);
        node.set_u32("#size-cells", 0);
        for (uint32_t port = 1; port <= ports; ++port)
            node.children.emplace_back(TreeNode{fmt::format("port@{}", port), {}, {}}).set_u32("reg", port);
    }
    for (TreeNode* controller : find_all(board, uhci)) {
        for (TreeNode& port : controller->children) {
            if (port.has("viv,device-type")) continue;
            port.set_string("viv,device-type", kind);
            return {};
        }
    }
    return fail_usage(fmt::format("--usb: there is no port left for a {}: the controller has two", kind));
}

void set_boot_order(TreeNode& board, std::span<const std::string> order) {
    set_chosen_strings(board, "viv,boot-order", order);
}

void set_option_roms(TreeNode& board, std::span<const std::string> paths) {
    set_chosen_strings(board, "viv,option-roms", paths);
}

Result<void> set_kernel(TreeNode& board, std::string_view path) {
    TreeNode& chosen = board.ensure_child("chosen");
    if (const auto other = chosen.string("viv,kernel")) {
        return fail_usage(fmt::format("a machine boots one kernel, not both '{}' and '{}'", *other, path));
    }
    chosen.set_string("viv,kernel", path);
    return {};
}

void set_initrd(TreeNode& board, std::span<const std::string> paths) {
    set_chosen_strings(board, "viv,initrd", paths);
}

void set_kernel_command_line(TreeNode& board, std::string_view text) {
    board.ensure_child("chosen").set_string("bootargs", text);
}

void set_load_address(TreeNode& board, uint32_t address) {
    board.ensure_child("chosen").set_u32("viv,load-address", address);
}

void set_kernel_entry(TreeNode& board, uint32_t bits) {
    board.ensure_child("chosen").set_u32("viv,kernel-entry", bits);
}

void set_firmware(TreeNode& board, std::string_view path) {
    board.ensure_child("chosen").set_string("viv,firmware", path);
}

void set_firmware_variables(TreeNode& board, std::string_view path, DriveAccess access) {
    TreeNode& node = board.ensure_child("firmware-variables");
    node.set_string("compatible", "cfi-flash");
    put_image(node, path, access);
}

void set_smbios_strings(TreeNode& board, std::span<const std::string> pairs) {
    set_chosen_strings(board, "viv,smbios", pairs);
}

Result<void> add_exit_port(TreeNode& board, uint16_t port, ExitCodes codes) {
    TreeNode* isa = board.child("isa");
    if (!isa) return fail_usage("the board has no /isa bus for an exit port");
    TreeNode& node = isa->ensure_child(fmt::format("exit-port@{:x}", port));
    node.set_string("compatible", "viv,exit-port");
    node.set_cells("reg", std::array<uint32_t, 3>{1, port, 1});
    if (codes == ExitCodes::odd) node.set_flag("viv,odd-codes");
    return {};
}

Result<void> add_test_device(TreeNode& board) {
    TreeNode* isa = board.child("isa");
    if (!isa) return fail_usage("the board has no /isa bus for a test device");
    TreeNode& node = isa->ensure_child("test-device@e0");
    node.set_string("compatible", "viv,test-device");
    node.set_cells("reg", std::array<uint32_t, 12>{1, 0xE0, 4, 1, 0xE4, 4, 1, 0x2000, 24, 0, 0xFF000000, 0x10000});
    return {};
}

}  // namespace viv
