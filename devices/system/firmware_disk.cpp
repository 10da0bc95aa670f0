#include "devices/system/firmware_disk.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace viv {
namespace {

using rom::FirmwareCommand;
using rom::FirmwareRequest;

enum class Offset : uint8_t { doorbell = 0, keyboard = 4, flags = 4, progress = 5, menu_wait = 8, version = 12 };
constexpr uint64_t port_count = 16;

/// Longer requests are refused: real mode reaches no more than this, and one doorbell must not hold the machine long.
constexpr uint32_t max_bytes = 1 << 20;
constexpr uint64_t a20_bit = 1 << 20;

Int13Status failure_of(DiskStatus status, Int13Status otherwise) {
    switch (status) {
        case DiskStatus::ok: return Int13Status::done;
        case DiskStatus::out_of_range: return Int13Status::sector_not_found;
        case DiskStatus::read_only: return Int13Status::write_protected;
        case DiskStatus::no_space:
        case DiskStatus::io_error: break;
    }
    return otherwise;
}

uint16_t clamp16(uint64_t value) {
    return static_cast<uint16_t>(std::min<uint64_t>(value, 0xFFFF));
}

}  // namespace

uint64_t FirmwareDisk::read(Access access) {
    std::array<uint8_t, port_count + 8> image{};
    std::fill_n(image.begin(), 4, uint8_t{0xFF});  // the doorbell cannot be read
    const auto put = [&image](Offset at, uint32_t value) {
        for (unsigned i = 0; i < 4; ++i) image[std::to_underlying(at) + i] = static_cast<uint8_t>(value >> (8 * i));
    };
    put(Offset::flags, menu_ == BootMenu::always ? rom::boot_menu_requested : 0);
    put(Offset::menu_wait, menu_wait_ms_);
    put(Offset::version, rom::firmware_version);
    uint64_t value = 0;
    for (unsigned i = 0; i < access.size; ++i) value |= uint64_t{image[(access.offset + i) % image.size()]} << (8 * i);
    return value;
}

void FirmwareDisk::write(Access access, uint64_t value) {
    if (access.offset == std::to_underlying(Offset::doorbell) && access.size == 4) return ring(value);
    for (unsigned i = 0; i < access.size; ++i) {
        const uint64_t offset = access.offset + i;
        const auto byte = static_cast<uint8_t>(value >> (8 * i));
        if (offset == std::to_underlying(Offset::keyboard)) report_key(byte);
        if (offset == std::to_underlying(Offset::progress)) report_progress(byte);
    }
}

void FirmwareDisk::report_key(uint8_t value) {
    const auto report = static_cast<rom::KeyReport>(value);
    if (report != rom::KeyReport::dropped && report != rom::KeyReport::stored) return;
    if (key_listener_) key_listener_(report);
}

void FirmwareDisk::report_progress(uint8_t value) {
    if (value == 0 || value > std::to_underlying(rom::BootProgress::nothing_bootable)) return;
    state_.progress = value;
    if (progress_listener_) progress_listener_(static_cast<rom::BootProgress>(value));
}

void FirmwareDisk::ring(uint64_t address) {
    FirmwareRequest request{};
    copy_out(address, std::as_writable_bytes(std::span(&request, 1)));
    const Int13Status status = execute(request);
    request.status = std::to_underlying(status);
    ++state_.requests;
    if (status != Int13Status::done) ++state_.failures;
    copy_in(address, std::as_bytes(std::span(&request, 1)));
}

Int13Status FirmwareDisk::execute(FirmwareRequest& request) {
    const auto command = static_cast<FirmwareCommand>(request.command);
    if (command == FirmwareCommand::boot_device) return boot_device(request);
    if (command == FirmwareCommand::option_rom) return option_rom(request);
    if (command == FirmwareCommand::describe) return describe(request);
    Drive* drive = drives_.find(request.drive);
    if (!drive || command > FirmwareCommand::unlock) {
        request.count = 0;
        return Int13Status::invalid;
    }
    if (command == FirmwareCommand::acknowledge) {
        drive->acknowledge_medium_change();
        return Int13Status::done;
    }
    if (command == FirmwareCommand::lock || command == FirmwareCommand::unlock) {
        return drive->set_locked(command == FirmwareCommand::lock) ? Int13Status::done : Int13Status::not_removable;
    }
    if (command == FirmwareCommand::eject) return eject(*drive);
    if (!drive->medium()) {
        request.count = 0;
        return drive->drive_kind() == DriveKind::floppy ? Int13Status::timeout : Int13Status::no_medium;
    }
    if (command == FirmwareCommand::flush) return failure_of(drive->medium()->flush(), Int13Status::write_fault);
    return transfer(request, *drive, command);
}

Int13Status FirmwareDisk::describe(FirmwareRequest& request) const {
    Drive* drive = drives_.find(request.drive);
    request.cylinders = request.heads = request.sectors_per_track = 0;
    request.total_sectors = 0;
    request.media = 0;
    request.io_base = 0;
    request.unit = 0;
    if (!drive) {
        request.bytes_per_sector = 0;
        request.drive_type = rom::drive_type_absent;
        return Int13Status::invalid;
    }
    const DriveGeometry geometry = drive->bios_geometry();
    request.cylinders = clamp16(geometry.cylinders);
    request.heads = clamp16(geometry.heads);
    request.sectors_per_track = clamp16(geometry.sectors);
    request.bytes_per_sector = clamp16(drive->block_size());
    request.drive_type = std::to_underlying(drive->floppy_type());
    request.io_base = drive->io_base();
    request.unit = drive->unit();
    if (drive->removable()) request.media |= rom::media_removable;
    if (drive->medium_changed()) request.media |= rom::media_changed;
    if (drive->locked()) request.media |= rom::media_locked;
    if (const DiskImage* image = drive->medium()) {
        request.media |= rom::media_present;
        if (image->read_only() || drive->drive_kind() == DriveKind::cdrom) request.media |= rom::media_read_only;
        request.total_sectors = image->sectors() * DiskImage::sector_size / drive->block_size();
    }
    return Int13Status::done;
}

Int13Status FirmwareDisk::eject(Drive& drive) {
    if (!drive.removable()) return Int13Status::not_removable;
    if (!drive.medium()) return Int13Status::no_medium;
    if (drive.open_tray()) return Int13Status::done;
    return drive.locked() ? Int13Status::locked : Int13Status::not_removable;
}

Int13Status FirmwareDisk::transfer(FirmwareRequest& request, Drive& drive, FirmwareCommand command) {
    DiskImage& image = *drive.medium();
    const bool in_sectors = (request.flags & rom::transfer_in_sectors) != 0;
    const uint32_t block = in_sectors ? uint32_t{DiskImage::sector_size} : drive.block_size();
    const uint64_t total = image.sectors() * DiskImage::sector_size / block;
    const uint64_t wanted = request.count;
    request.count = 0;
    if (wanted > max_bytes / block) return Int13Status::invalid;
    const bool writes = command == FirmwareCommand::write || command == FirmwareCommand::format;
    if (writes && (image.read_only() || drive.drive_kind() == DriveKind::cdrom)) return Int13Status::write_protected;
    const uint64_t available = request.lba < total ? std::min(wanted, total - request.lba) : 0;
    const Int13Status error = writes ? Int13Status::write_fault : Int13Status::read_error;
    while (request.count < available) {
        auto blocks = std::min<uint64_t>(available - request.count, chunk_bytes / block);
        const auto step = [&] {
            return move_chunk(image, command, (request.lba + request.count) * block,
                              request.buffer + uint64_t{request.count} * block, static_cast<size_t>(blocks * block));
        };
        DiskStatus status = step();
        if (status != DiskStatus::ok && blocks > 1) {
            // Block by block up to the bad one, so that the count tells where it is.
            blocks = 1;
            while ((status = step()) == DiskStatus::ok) ++request.count;
        }
        if (status != DiskStatus::ok) return failure_of(status, error);
        request.count += static_cast<uint32_t>(blocks);
    }
    return request.count == wanted ? Int13Status::done : Int13Status::sector_not_found;
}

DiskStatus FirmwareDisk::move_chunk(DiskImage& image, FirmwareCommand command, uint64_t offset, uint64_t buffer,
                                    size_t bytes) {
    const auto data = std::span(chunk_).first(bytes);
    if (command == FirmwareCommand::write) {
        copy_out(buffer, data);
        return image.write(offset, data);
    }
    if (command == FirmwareCommand::format) {
        std::ranges::fill(data, std::byte{0xF6});
        return image.write(offset, data);
    }
    const DiskStatus status = image.read(offset, data);
    if (status == DiskStatus::ok && command == FirmwareCommand::read) copy_in(buffer, data);
    return status;
}

Int13Status FirmwareDisk::boot_device(FirmwareRequest& request) const {
    std::vector<uint8_t> found;
    const auto add = [&found](uint8_t number) {
        if (std::ranges::find(found, number) == found.end()) found.push_back(number);
    };
    for (const std::string& wanted : boot_order_) {
        if (wanted == "network" && !option_roms_.empty()) add(rom::drive_network);
        // A kind, or one drive; of the floppies the kind is drive A alone, as on a PC.
        if (wanted == DriveRegistry::kind_name(DriveKind::floppy)) {
            if (const DriveRegistry::Entry* entry = drives_.find("floppy0")) add(entry->bios_number);
            continue;
        }
        for (const DriveRegistry::Entry& entry : drives_.entries()) {
            if (wanted == entry.name || wanted == DriveRegistry::kind_name(entry.drive->drive_kind()))
                add(entry.bios_number);
        }
    }
    if (request.count >= found.size()) return Int13Status::invalid;
    request.drive = found[request.count];
    return Int13Status::done;
}

Int13Status FirmwareDisk::option_rom(FirmwareRequest& request) {
    if (request.count >= option_roms_.size()) return Int13Status::invalid;
    const auto& [image, pci_address] = option_roms_[request.count];
    request.lba = pci_address;
    if (request.buffer < rom::option_rom_base || request.buffer > rom::option_rom_end ||
        image.size() > rom::option_rom_end - request.buffer) {
        return Int13Status::sector_not_found;
    }
    copy_in(request.buffer, image);
    return Int13Status::done;
}

/// Guest addresses as the CPU would put them on the bus: without A20 every odd megabyte is the even one below it.
template <class Step>
void FirmwareDisk::for_each_stretch(uint64_t address, size_t size, Step step) const {
    const uint64_t mask = system_.a20() ? ~uint64_t{0} : ~a20_bit;
    for (size_t done = 0; done < size;) {
        const uint64_t here = address + done;
        const size_t piece = static_cast<size_t>(std::min<uint64_t>(size - done, a20_bit - here % a20_bit));
        step(here & mask, done, piece);
        done += piece;
    }
}

/// Calls step(device, offset in its window, index) for the bytes of [address, address+size) that are no memory but a
/// device's: programs read files straight into the video window. The range does not wrap.
template <class Step>
void FirmwareDisk::for_each_device_byte(uint64_t address, size_t size, Step step) const {
    const uint64_t last = address + (size - 1);
    for (const Bus::Region& region : memory_bus_.regions()) {
        const uint64_t first = std::max(address, region.base);
        const uint64_t end = std::min(last, region.base + (region.size - 1));
        for (uint64_t at = first; at <= end && at >= first; ++at) {
            if (!memory_.find(Gpa{at})) step(*region.device, at - region.base, static_cast<size_t>(at - address));
        }
    }
}

void FirmwareDisk::copy_out(uint64_t address, std::span<std::byte> out) const {
    for_each_stretch(address, out.size(), [&](uint64_t at, size_t offset, size_t size) {
        const auto part = out.subspan(offset, size);
        if (memory_.read(Gpa{at}, part)) return;
        for_each_device_byte(at, size, [&](BusDevice& device, uint64_t place, size_t i) {
            part[i] = static_cast<std::byte>(device.read({place, 1}));
        });
    });
}

void FirmwareDisk::copy_in(uint64_t address, std::span<const std::byte> in) {
    for_each_stretch(address, in.size(), [&](uint64_t at, size_t offset, size_t size) {
        const auto part = in.subspan(offset, size);
        if (memory_.write(Gpa{at}, part)) return;
        for_each_device_byte(at, size, [&](BusDevice& device, uint64_t place, size_t i) {
            device.write({place, 1}, std::to_integer<uint64_t>(part[i]));
        });
    });
}

Result<std::unique_ptr<Device>> make_firmware_disk(DeviceContext& context) {
    const DriveRegistry& drives = *TRY(context.need<DriveRegistry>("the list of drives"));
    auto device = std::make_unique<FirmwareDisk>(context.memory, context.memory_bus, context.system, drives);
    TRY(context.map(0, *device));
    context.services.provide<FirmwarePort>(*device);
    return device;
}

}  // namespace viv
