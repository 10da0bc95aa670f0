#include "vmm/cli/media_changer.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "devices/storage/image/probe.hpp"
#include "vmm/cli/options.hpp"

namespace viv::cli {

Result<const DriveRegistry::Entry*> MediaChanger::removable(std::string_view name) const {
    if (const DriveRegistry::Entry* entry = drives_->find(name); entry && entry->drive->removable()) return entry;
    std::vector<std::string> names;
    for (const DriveRegistry::Entry& entry : drives_->entries()) {
        if (entry.drive->removable()) names.push_back(entry.name);
    }
    return fail_usage(fmt::format("there is no drive '{}' for removable media; this machine has {}", name,
                                  names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
}

/// A "=" belongs to the file's name when what is before it does not look like a drive.
Result<MediaChanger::Order> MediaChanger::parse(std::string_view what) const {
    const size_t equals = what.find('=');
    const std::string_view name = what.substr(0, equals);
    const std::string_view kind = name.substr(0, name.find_first_of("0123456789"));
    if (equals == std::string_view::npos || (kind != "floppy" && kind != "cdrom" && kind != "disk")) {
        return Order{nullptr, std::string(what)};
    }
    Order order;
    order.drive = TRY(removable(name));
    order.path = what.substr(equals + 1);
    return order;
}

Result<const DriveRegistry::Entry*> MediaChanger::drive_for(const std::string& path) const {
    const auto probe = TRY(probe_image(path));
    if (probe.kind == ImageKind::cdrom) return removable("cdrom0");
    if (probe.kind == ImageKind::floppy) return removable("floppy0");
    return fail_usage(fmt::format("'{}' is {}, no medium to put into a drive; if it is one, say which: cdrom0={}", path,
                                  probe.description, path));
}

Result<MediaChanger::Growth> MediaChanger::parse_growth(std::string_view what) const {
    const size_t equals = what.find('=');
    const auto& entries = drives_->entries();
    const auto first = std::ranges::find_if(entries, [](const auto& entry) { return entry.drive->can_grow(); });
    Growth growth;
    if (equals != std::string_view::npos) {
        growth.drive = drives_->find(what.substr(0, equals));
    } else if (first != entries.end()) {
        growth.drive = &*first;
    }
    if (!growth.drive || growth.drive->drive->drive_kind() != DriveKind::disk) {
        return fail_usage(fmt::format(
            "'{}' names no disk that could grow; say which and how large it is to be, as in disk0=20G", what));
    }
    // It says why it cannot.
    if (!growth.drive->drive->can_grow()) TRY(growth.drive->drive->grow(0));
    std::string_view size = what.substr(equals == std::string_view::npos ? 0 : equals + 1);
    const bool more = size.starts_with('+');
    if (more) size.remove_prefix(1);
    growth.bytes = TRY(parse_size(std::string(size)));
    if (more) growth.bytes += growth.drive->drive->medium()->size();
    return growth;
}

Result<void> MediaChanger::check_grow(std::string_view what) const {
    const Growth growth = TRY(parse_growth(what));
    return check_growth(*growth.drive->drive->medium(), growth.bytes);
}

Result<std::string> MediaChanger::grow(std::string_view what) {
    const Growth growth = TRY(parse_growth(what));
    TRY(growth.drive->drive->grow(growth.bytes));
    return fmt::format("{}: {} bytes", growth.drive->name, growth.bytes);
}

Result<void> MediaChanger::check_insert(std::string_view what) const {
    const Order order = TRY(parse(what));
    if (order.path.empty()) return fail_usage("a file is missing: use DRIVE=FILE");
    if (access(order.path.c_str(), R_OK) != 0) return fail_errno(fmt::format("cannot open '{}'", order.path), errno);
    return {};
}

Result<void> MediaChanger::check_eject(std::string_view drive) const {
    TRY(removable(drive));
    return {};
}

Result<std::string> MediaChanger::insert(std::string_view what) {
    TRY(check_insert(what));
    Order order = TRY(parse(what));
    if (!order.drive) order.drive = TRY(drive_for(order.path));
    Drive& drive = *order.drive->drive;
    const bool cdrom = drive.drive_kind() == DriveKind::cdrom;
    // What is in goes first: it may be the same file, which a writer has for itself.
    TRY(drive.eject());
    auto image = TRY(open_disk_image(order.path, cdrom ? ImageAccess::read_only : floppy_access_));
    TRY(drive.insert(std::move(image)));
    return fmt::format("{}: {}", order.drive->name, order.path);
}

Result<std::string> MediaChanger::eject(std::string_view drive) {
    const DriveRegistry::Entry* entry = TRY(removable(drive));
    const DiskImage* medium = entry->drive->medium();
    const std::string name = medium ? medium->name() : std::string();
    TRY(entry->drive->eject());
    return name.empty() ? fmt::format("{} is empty", entry->name) : fmt::format("{}: took out {}", entry->name, name);
}

}  // namespace viv::cli
