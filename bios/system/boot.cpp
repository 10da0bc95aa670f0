// INT 18h and 19h: choosing a device and starting its boot sector.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 19H"; BIOS Boot Specification 1.01 (INT
// 18h).

#include "bios/system/disc.hpp"
#include "bios/system/option_roms.hpp"

namespace viv::rom {
namespace {

constexpr uint16_t boot_segment = 0x07C0;
constexpr uint16_t boot_signature = 0xAA55;
constexpr uint16_t key_f12 = 0x8600;
constexpr uint8_t no_menu_limit = 9;

VIV_MESSAGE(text_floppy, "Floppy ");
VIV_MESSAGE(text_disk, "Hard disk ");
VIV_MESSAGE(text_cdrom, "CD-ROM");
VIV_MESSAGE(text_network, "Network");
VIV_MESSAGE(text_device, "Device ");
VIV_MESSAGE(text_absent, ": no such drive\n");
VIV_MESSAGE(text_no_network, ": no option ROM that boots\n");
VIV_MESSAGE(text_network_failed, ": the option ROM gave up\n");
VIV_MESSAGE(text_no_media, ": no medium\n");
VIV_MESSAGE(text_read_error, ": cannot read the boot sector\n");
VIV_MESSAGE(text_no_signature, ": no boot signature (55AAh) in the first sector\n");
VIV_MESSAGE(text_no_catalog, ": not a bootable CD (no El Torito boot catalog)\n");
VIV_MESSAGE(text_bad_catalog, ": the boot catalog is damaged\n");
VIV_MESSAGE(text_no_boot_entry, ": the boot catalog has nothing for this kind of machine\n");
VIV_MESSAGE(text_unknown_emulation, ": the boot image is for a kind of drive that there is not\n");
VIV_MESSAGE(text_nothing, "\nNo bootable device.\n");
VIV_MESSAGE(text_empty_order, "  The boot order is empty.\n");
VIV_MESSAGE(text_refused, "\nThe boot program gave up (INT 18h).\n");
VIV_MESSAGE(text_retry, "Insert a boot medium and press any key to try again.\n");
VIV_MESSAGE(text_menu_hint, "Press F12 for the boot menu.\n");
VIV_MESSAGE(text_menu, "\nBoot from:\n");
VIV_MESSAGE(text_indent, "  ");
VIV_MESSAGE(text_space, " ");
VIV_MESSAGE(text_dot, ". ");
VIV_MESSAGE(text_line, "\n");
VIV_MESSAGE(text_choose, "Press a number, or Enter for the first.\n");

void report(BootProgress progress) {
    out_byte(firmware_progress_port, static_cast<uint8_t>(progress));
}

// Drive number of entry `index` of the boot order. False past its end.
bool boot_order(uint8_t index, uint8_t& drive) {
    FirmwareRequest request{};
    request.command = static_cast<uint8_t>(FirmwareCommand::boot_device);
    request.count = index;
    if (firmware_call(request) != DiskStatus::ok) return false;
    drive = request.drive;
    return true;
}

void print_drive(uint8_t drive) {
    if (drive == drive_network) {
        print(text_network);
    } else if (is_cdrom(drive)) {
        print(text_cdrom);
        if (drive > drive_cdrom) {
            print(text_space);
            print_number(drive - drive_cdrom + 1u);
        }
    } else if (is_disk(drive)) {
        print(text_disk);
        print_number((drive & 0x7Fu) + 1);
    } else if (drive < 2) {
        print(text_floppy);
        print_character(static_cast<char>('A' + drive));
    } else {
        print(text_device);
        print_number(drive);
    }
}

void print_failure(uint8_t drive, BootFailure failure) {
    print(text_indent);
    print_drive(drive);
    switch (failure) {
        case BootFailure::none:
        case BootFailure::absent: print(text_absent); break;
        case BootFailure::no_media: print(text_no_media); break;
        case BootFailure::read_error: print(text_read_error); break;
        case BootFailure::no_signature: print(text_no_signature); break;
        case BootFailure::no_catalog: print(text_no_catalog); break;
        case BootFailure::bad_catalog: print(text_bad_catalog); break;
        case BootFailure::no_boot_entry: print(text_no_boot_entry); break;
        case BootFailure::unknown_emulation: print(text_unknown_emulation); break;
        case BootFailure::no_network: print(text_no_network); break;
        case BootFailure::network_failed: print(text_network_failed); break;
    }
}

bool read_to(FirmwareRequest& request, uint32_t lba, uint32_t count, uint16_t segment) {
    return transfer(request, FirmwareCommand::read, lba, count, physical(segment, 0)) == DiskStatus::ok;
}

// Why there was no boot from a network, without trying again what may have taken a minute.
BootFailure network_failure() {
    return boot_from_option_roms(0xFF) ? BootFailure::network_failed : BootFailure::no_network;
}

// Starts the drive's boot sector; comes back only with the reason why not.
BootFailure boot_drive(uint8_t drive) {
    report(BootProgress::loading);
    end_disc_emulation();
    if (drive == drive_network) {
        boot_from_option_roms(ebda_get(VIV_EBDA_FIELD(network_next)));
        return network_failure();
    }
    FirmwareRequest request;
    if (!describe_drive(request, drive)) return BootFailure::absent;
    if (!has_media(request)) return BootFailure::no_media;
    if (request.media & media_changed) {
        request.command = static_cast<uint8_t>(FirmwareCommand::acknowledge);
        firmware_call(request);
    }
    if (is_cdrom(drive)) return boot_disc(request, drive);
    if (!read_to(request, 0, 1, boot_segment)) return BootFailure::read_error;
    if (far_read<uint16_t>(boot_segment, 510) != boot_signature) return BootFailure::no_signature;
    report(BootProgress::starting);
    start_boot_sector(drive, 0x00007C00);
}

// As boot_drive(), for entry `index` of the boot order; INT 18h goes on behind it.
BootFailure boot_entry_of_order(uint8_t index, uint8_t drive) {
    ebda_put(VIV_EBDA_FIELD(boot_next), static_cast<uint8_t>(index + 1));
    ebda_put(VIV_EBDA_FIELD(network_next), 0);
    return boot_drive(drive);
}

uint16_t read_key() {
    return static_cast<uint16_t>(call_int16(0x1000));
}

// Takes F12 out of the keyboard buffer if it is the next key.
bool menu_key_pressed() {
    const uint32_t key = call_int16(0x1100);
    if (key & 0x10000) return false;
    if (static_cast<uint16_t>(key) != key_f12) return false;
    read_key();
    return true;
}

bool menu_wanted() {
    if (in_byte(firmware_flags_port) & boot_menu_requested) return true;
    if (menu_key_pressed()) return true;
    const uint32_t wait = in_dword(firmware_menu_wait_port);
    if (wait == 0) return false;
    print(text_menu_hint);
    const uint32_t ticks = wait / 55 + 1;
    const uint32_t start = get(bda::timer_ticks);
    while (get(bda::timer_ticks) - start < ticks) {
        wait_for_interrupt();
        enable_interrupts();
        if (menu_key_pressed()) return true;
    }
    return false;
}

// The entry of the boot order that the user picks; 0 for Enter.
uint8_t menu_choice() {
    print(text_menu);
    uint8_t count = 0, drive;
    while (count < no_menu_limit && boot_order(count, drive)) {
        ++count;
        print(text_indent);
        print_number(count);
        print(text_dot);
        print_drive(drive);
        print(text_line);
    }
    print(text_choose);
    for (;;) {
        const auto character = static_cast<uint8_t>(read_key());
        if (character == '\r') return 0;
        if (character >= '1' && character < '1' + count) return static_cast<uint8_t>(character - '1');
    }
}

void wait_for_key_and_retry() {
    print(text_retry);
    read_key();
}

}  // namespace

// INT 19h.
extern "C" [[noreturn]] void boot_system() {
    uint8_t first = menu_wanted() ? menu_choice() : 0;
    for (;;) {
        uint8_t drive;
        for (uint8_t index = first; index != 0xFF && boot_order(index, drive); ++index) {
            boot_entry_of_order(index, drive);
        }
        // All failed. Only now is it worth the time to say why, so each is tried again.
        report(BootProgress::nothing_bootable);
        print(text_nothing);
        uint8_t index = first;
        for (; index != 0xFF && boot_order(index, drive); ++index) {
            print_failure(drive, drive == drive_network ? network_failure() : boot_entry_of_order(index, drive));
        }
        if (index == 0) print(text_empty_order);
        report(BootProgress::nothing_bootable);
        wait_for_key_and_retry();
        first = 0;
    }
}

// INT 18h: what a boot program calls that found nothing to start. The next device has its turn.
extern "C" void boot_refused() {
    uint8_t drive;
    // Of several option ROMs that boot, only the next one.
    if (ebda_get(VIV_EBDA_FIELD(network_next))) boot_drive(drive_network);
    for (uint8_t index = ebda_get(VIV_EBDA_FIELD(boot_next)); index != 0xFF && boot_order(index, drive); ++index) {
        boot_entry_of_order(index, drive);
    }
    print(text_refused);
    wait_for_key_and_retry();
}

}  // namespace viv::rom
