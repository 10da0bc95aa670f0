#include "vmm/cli/machine_setup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "devices/storage/image/probe.hpp"
#include "vmm/boards/board.hpp"
#include "vmm/boards/board_edit.hpp"
#include "vmm/cli/network_setup.hpp"
#include "vmm/cli/options.hpp"
#include "vmm/firmware/smbios.hpp"

namespace viv::cli {
namespace {

DriveAccess drive_access(const MachineOptions& options) {
    if (options.snapshot) return DriveAccess::snapshot;
    return options.read_only ? DriveAccess::read_only : DriveAccess::writable;
}

struct DriveFile {
    std::string path;
    DriveBus bus = DriveBus::ide;
    std::optional<std::string> format;
    std::optional<std::string> cache;
    std::optional<std::string> aio;
};

Result<DriveBus> parse_bus(const std::string& option, const std::string& name) {
    for (const auto& [known, bus] : {std::pair{"ide", DriveBus::ide},
                                     {"ahci", DriveBus::ahci},
                                     {"nvme", DriveBus::nvme},
                                     {"virtio", DriveBus::virtio},
                                     {"virtio-mmio", DriveBus::virtio_mmio}}) {
        if (name == known) return bus;
    }
    return fail_usage(
        fmt::format("{}: there is no bus '{}'; use ide, ahci, nvme, virtio or virtio-mmio", option, name));
}

/// "FILE" with any of ",bus=NAME", ",format=NAME", ",cache=NAME" and ",aio=NAME" behind it; a file's name may have
/// commas, too.
Result<DriveFile> parse_drive(const std::string& option, std::string text) {
    DriveFile drive;
    for (;;) {
        const size_t comma = text.rfind(',');
        const size_t equals = text.find('=', comma == std::string::npos ? text.size() : comma);
        if (equals == std::string::npos) break;
        const std::string key = text.substr(comma + 1, equals - comma - 1), value = text.substr(equals + 1);
        if (key == "bus") {
            drive.bus = TRY(parse_bus(option, value));
        } else if (key == "cache") {
            TRY(disk_cache_of(value));
            drive.cache = value;
        } else if (key == "format") {
            TRY(image_format_of(value));
            drive.format = value;
        } else if (key == "aio") {
            if (value != "io_uring" && value != "threads") {
                return fail_usage(fmt::format("{}: aio is io_uring or threads, not '{}'", option, value));
            }
            drive.aio = value;
        } else {
            break;
        }
        text.resize(comma);
    }
    drive.path = std::move(text);
    return drive;
}

Result<void> attach_image(TreeNode& board, const std::string& path, DriveAccess access) {
    const auto probe = TRY(probe_image(path));
    switch (probe.kind) {
        case ImageKind::floppy: return attach_floppy(board, path, access);
        case ImageKind::hard_disk: TRY(attach_disk(board, path, access)); break;
        case ImageKind::cdrom: return attach_cdrom(board, path);
        case ImageKind::linux_kernel:
        case ImageKind::pvh_kernel:
        case ImageKind::multiboot_kernel:
        case ImageKind::multiboot2_kernel: return set_kernel(board, path);
        case ImageKind::unsupported:
        case ImageKind::unknown:
            return fail_usage(fmt::format("'{}' is {}: {}", path, probe.description, probe.advice));
    }
    return {};
}

/// The words between commas.
std::vector<std::string> split_at_commas(const std::string& text) {
    std::vector<std::string> words;
    for (size_t at = 0;;) {
        const size_t comma = text.find(',', at);
        words.push_back(text.substr(at, comma - at));
        if (comma == std::string::npos) return words;
        at = comma + 1;
    }
}

/// What was given of a balloon's size as text, as a number of its node.
Result<void> set_balloon_size(TreeNode& balloon) {
    const auto text = balloon.string("viv,size");
    if (!text) return {};
    const uint64_t bytes = TRY(parse_size(*text));
    if (bytes >> 12 > UINT32_MAX) return fail_usage(fmt::format("--virtio balloon: size={} is too much", *text));
    balloon.erase("viv,size");
    balloon.set_u32("viv,pages", static_cast<uint32_t>(bytes >> 12));
    return {};
}

/// What was given as text, as a number.
Result<void> set_number(TreeNode& properties, std::string_view device, std::string_view key, std::string_view unit) {
    const std::string name = fmt::format("viv,{}", key);
    const auto text = properties.string(name);
    if (!text) return {};
    const bool good = !text->empty() && text->size() <= 5 && text->find_first_not_of("0123456789") == std::string::npos;
    if (!good) return fail_usage(fmt::format("--virtio {}: {}={} is not a number of {}", device, key, *text, unit));
    properties.set_u32(name, static_cast<uint32_t>(std::stoul(*text)));
    return {};
}

/// "FUNCTION" or "FUNCTION,KEY=VALUE,...": a virtio device and the properties of its node.
Result<void> attach_virtio(TreeNode& board, const std::string& text) {
    struct Kind {
        std::string_view name;
        std::vector<std::string_view> keys;
        std::vector<std::string_view> flags{};
    };
    const std::vector<Kind> kinds{{"balloon", {"size", "statistics"}},
                                  {"block", {"image", "serial"}, {"read-only"}},
                                  {"console", {"chardev", "name", "columns", "rows"}},
                                  {"entropy", {}},
                                  {"keyboard", {}},
                                  {"mouse", {}},
                                  {"tablet", {}}};
    const std::vector<std::string> words = split_at_commas(text);
    const auto kind = std::ranges::find(kinds, words[0], &Kind::name);
    if (kind == kinds.end()) {
        std::string known;
        for (const Kind& other : kinds) known += fmt::format("{}{}", known.empty() ? "" : ", ", other.name);
        return fail_usage(fmt::format("--virtio: there is no device '{}'; there are: {}", words[0], known));
    }
    TreeNode properties;
    VirtioBus bus = VirtioBus::pci;
    std::string last;  // key, whose value may have commas
    for (const std::string& word : std::span(words).subspan(1)) {
        const size_t equals = word.find('=');
        const std::string key = word.substr(0, equals);
        const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
        if (word == "split" || std::ranges::count(kind->flags, word)) {
            properties.set_flag("viv," + word);
        } else if (word == "bus=mmio" || word == "bus=pci") {
            bus = value == "mmio" ? VirtioBus::mmio : VirtioBus::pci;
        } else if (equals != std::string::npos && std::ranges::count(kind->keys, key)) {
            last = "viv," + key;
            properties.set_string(last, value);
        } else if (!last.empty()) {
            properties.set_string(last, *properties.string(last) + "," + word);
        } else {
            return fail_usage(fmt::format("--virtio {}: '{}' is not a choice of it; see docs/cli.md", words[0], word));
        }
    }
    if (words[0] == "balloon") TRY(set_balloon_size(properties));
    TRY(set_number(properties, words[0], "statistics", "seconds"));
    TRY(set_number(properties, words[0], "columns", "letters"));
    TRY(set_number(properties, words[0], "rows", "lines"));
    TreeNode* node = TRY(add_virtio(board, words[0], bus));
    for (const auto& [key, value] : properties.properties) node->set(key, value);
    return {};
}

/// "DIR[:TAG][,ro]": a folder of the host for the guest.
Result<void> attach_share(TreeNode& board, std::string folder) {
    constexpr std::string_view suffix = ",ro";
    const bool read_only = folder.ends_with(suffix);
    if (read_only) folder.resize(folder.size() - suffix.size());
    std::string tag = "share";
    const size_t colon = folder.rfind(':');
    if (colon != std::string::npos && folder.find('/', colon) == std::string::npos) {
        tag = folder.substr(colon + 1);
        folder.resize(colon);
    }
    if (tag.empty() || folder.empty())
        return fail_usage("--share wants a folder, and behind ':' the name that the guest mounts it by: DIR:TAG");
    for (const TreeNode& other : board.child("pci") ? board.child("pci")->children : board.children) {
        if (other.has("viv,folder") && other.string("viv,tag") == tag)
            return fail_usage(
                fmt::format("--share {0}: two folders have the tag '{1}'; give another (DIR:TAG)", folder, tag));
    }
    TreeNode* node = TRY(add_virtio(board, "9p"));
    node->set_string("viv,folder", folder);
    node->set_string("viv,tag", tag);
    if (read_only) node->set_flag("viv,read-only");
    return {};
}

/// "[cid=N,]socket=PATH": connections between the guest and programs of the host.
Result<void> attach_vsock(TreeNode& board, const std::string& text) {
    uint32_t cid = 3;
    std::string path;
    for (const std::string& word : split_at_commas(text)) {
        const std::string key = word.substr(0, word.find('='));
        const std::string value = key.size() == word.size() ? "" : word.substr(key.size() + 1);
        if (key == "cid") {
            const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), cid);
            if (error != std::errc{} || end != value.data() + value.size() || cid < 3 || cid == UINT32_MAX)
                return fail_usage(fmt::format("--vsock: '{}' is no number for a guest: use cid=3 or more", value));
        } else if (key == "socket" && path.empty()) {
            path = value;
        } else if (!path.empty()) {
            path += "," + word;
        } else {
            return fail_usage(fmt::format("--vsock: '{}' is not a choice of it: use [cid=N,]socket=PATH", word));
        }
    }
    if (path.empty()) return fail_usage("--vsock wants a path for a socket of the host: [cid=N,]socket=PATH");
    TreeNode* node = TRY(add_virtio(board, "socket"));
    node->set_u32("viv,cid", cid);
    node->set_string("viv,socket", path);
    return {};
}

Result<void> set_boot(TreeNode& board, const std::vector<std::string>& boot) {
    std::vector<std::string> order;
    for (const std::string& name : boot) {
        const std::string kind = name.substr(0, name.find_first_of("0123456789"));
        if (name == "menu") {
            board.ensure_child("chosen").set_flag("viv,boot-menu");
        } else if (kind == "floppy" || kind == "disk" || kind == "cdrom" || name == "network") {
            order.push_back(name);
        } else {
            return fail_usage(
                fmt::format("--boot: '{}' is not a drive: use floppy, disk or cdrom, one of them by number "
                            "(floppy1), network or menu",
                            name));
        }
    }
    if (!order.empty()) set_boot_order(board, order);
    return {};
}

/// "KEY=VALUE,KEY=VALUE": two commas are one of a value.
Result<void> set_smbios(TreeNode& board, const std::vector<std::string>& options) {
    if (options.empty()) return {};
    std::vector<std::string> pairs = board.ensure_child("chosen").strings("viv,smbios");
    for (const std::string& option : options) {
        std::string pair;
        for (size_t i = 0; i < option.size(); ++i) {
            if (option[i] != ',') {
                pair += option[i];
            } else if (option.substr(i, 2) == ",,") {
                pair += option[i++];
            } else {
                pairs.push_back(std::exchange(pair, {}));
            }
        }
        pairs.push_back(std::move(pair));
    }
    set_smbios_strings(board, pairs);
    const auto checked = firmware::smbios_identity(board);
    if (!checked) return std::unexpected(checked.error());
    return {};
}

}  // namespace

Result<TreeNode> make_board(const MachineOptions& options) {
    TreeNode board = options.board ? TRY(load_board(*options.board)) : default_board();
    if (options.memory) TRY(set_memory_size(board, *options.memory));
    if (options.cpus) TRY(set_cpus(board, *options.cpus));
    if (options.cpu_model) board.ensure_child("chosen").set_string("viv,cpu-model", *options.cpu_model);
    const DriveAccess access = drive_access(options);
    for (const std::string& path : options.floppies) TRY(attach_floppy(board, path, access));
    for (const std::string& text : options.disks) {
        const DriveFile file = TRY(parse_drive("--disk", text));
        TreeNode* node = TRY(attach_disk(board, file.path, access, file.bus));
        if (file.format) node->set_string("viv,format", *file.format);
        if (file.cache) node->set_string("viv,cache", *file.cache);
        if (file.aio) node->set_string("viv,aio", *file.aio);
    }
    for (const std::string& text : options.cdroms) {
        const DriveFile file = TRY(parse_drive("--cdrom", text));
        if (file.format || file.cache || file.aio) return fail_usage("--cdrom: format, cache and aio are for disks");
        const std::string& path = file.path;
        const DriveBus bus = file.bus;
        const auto probe = TRY(probe_image(path));
        if (probe.kind == ImageKind::unsupported) {
            return fail_usage(fmt::format("--cdrom {}: it is {}: {}", path, probe.description, probe.advice));
        }
        TRY(attach_cdrom(board, path, bus));
    }
    for (const std::string& path : options.images) TRY(attach_image(board, path, access));
    for (const std::string& text : options.virtio) TRY(attach_virtio(board, text));
    for (const std::string& text : options.shares) TRY(attach_share(board, text));
    if (options.vsock) TRY(attach_vsock(board, *options.vsock));
    TRY(add_networks(board, options.network));
    TRY(set_smbios(board, options.smbios));
    if (!options.option_roms.empty()) set_option_roms(board, options.option_roms);
    if (options.firmware) set_firmware(board, *options.firmware);
    if (options.firmware_variables) {
        const TreeNode* chosen = board.child("chosen");
        if (!chosen || !chosen->has("viv,firmware"))
            return fail_usage("--firmware-vars is of no use without --firmware: our BIOS keeps no variables");
        set_firmware_variables(board, *options.firmware_variables, access);
    }
    if (options.kernel) {
        // What --board names is replaced, what the command line names besides is a mistake.
        if (options.images.empty()) board.ensure_child("chosen").erase("viv,kernel");
        TRY(set_kernel(board, *options.kernel));
    }
    if (!options.initrds.empty()) set_initrd(board, options.initrds);
    if (options.kernel_command_line) set_kernel_command_line(board, *options.kernel_command_line);
    if (options.load_address) set_load_address(board, *options.load_address);
    if (options.kernel_entry) set_kernel_entry(board, *options.kernel_entry);
    for (size_t i = 0; i < options.serials.size(); ++i) {
        TRY(set_serial(board, static_cast<uint32_t>(i), options.serials[i]));
    }
    for (const std::string& kind : options.usb) TRY(add_usb_device(board, kind));
    TRY(set_boot(board, options.boot));
    if (options.exit_port) TRY(add_exit_port(board, *options.exit_port));
    if (options.test_device) {
        TRY(add_test_device(board));
        constexpr uint16_t customary_exit_port = 0xF4;
        if (!options.exit_port) TRY(add_exit_port(board, customary_exit_port, ExitCodes::odd));
    }
    return board;
}

}  // namespace viv::cli
