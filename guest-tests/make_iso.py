#!/usr/bin/env python3
"""Writes a bootable CD-ROM: make_iso.py OUTPUT IMAGE [--emulation none|1.2|1.44|2.88|disk] [--in-section] [--damage WHAT]

IMAGE is what is booted: a boot sector and what it loads. An ISO 9660 volume with one file, READ.ME, is around it.
--in-section puts the boot entry into a section of the catalog behind a default entry for another kind of machine.
--damage makes a disc that does not boot: checksum, entry, platform, media, catalog, record."""
import argparse
import struct

BLOCK = 2048
MEDIA = {"none": 0, "1.2": 1, "1.44": 2, "2.88": 3, "disk": 4, "unknown": 7}
FLOPPY_SIZES = {"1.2": 1200 << 10, "1.44": 1440 << 10, "2.88": 2880 << 10, "disk": 1440 << 10}
X86, EFI = 0, 0xEF
# Blocks of the volume.
DESCRIPTORS, CATALOG, PATHS_LITTLE, PATHS_BIG, ROOT, README, BOOT_IMAGE = 16, 19, 20, 21, 22, 23, 24
README_TEXT = b"A disc for tests.\r\n"


def both(form, value):
    return struct.pack("<" + form, value) + struct.pack(">" + form, value)


def directory_record(name, block, size, flags):
    body = struct.pack("<B", 0) + both("I", block) + both("I", size) + bytes([126, 1, 1, 0, 0, 0, 0]) + bytes([flags, 0, 0])
    body += both("H", 1) + bytes([len(name)]) + name
    body += b"\0" * ((len(body) + 1) % 2)
    return bytes([len(body) + 1]) + body


def volume_descriptor(blocks):
    """ECMA-119, 8.4."""
    root = directory_record(b"\0", ROOT, BLOCK, 2)
    date = b"2026010100000000\0"
    descriptor = b"\1CD001\1\0" + b" " * 32 + b"VIVARIUM_TEST".ljust(32) + bytes(8) + both("I", blocks) + bytes(32)
    descriptor += both("H", 1) + both("H", 1) + both("H", BLOCK) + both("I", 10)
    descriptor += struct.pack("<II", PATHS_LITTLE, 0) + struct.pack(">II", PATHS_BIG, 0) + root
    descriptor += b" " * (128 * 4 + 37 * 3) + date * 2 + (b"0" * 16 + b"\0") * 2 + b"\1\0"
    return descriptor.ljust(BLOCK, b"\0")


def validation_entry(platform):
    entry = bytearray(struct.pack("<BBH24sHBB", 1, platform, 0, b"Vivarium", 0, 0x55, 0xAA))
    struct.pack_into("<H", entry, 28, -sum(struct.unpack("<16H", entry)) & 0xFFFF)
    return bytes(entry)


def boot_entry(media, sectors, bootable=True):
    return struct.pack("<BBHBBHI", 0x88 if bootable else 0, media, 0, 0, 0, sectors, BOOT_IMAGE).ljust(32, b"\0")


def boot_catalog(media, sectors, in_section, damage):
    if in_section:
        other = boot_entry(MEDIA["none"], 1)
        header = struct.pack("<BBH28s", 0x90, EFI, 1, b"other") + other.replace(b"\x88\0", b"\x88\x20", 1)
        header += b"\x44".ljust(32, b"\0")  # an extension of the entry before
        header += struct.pack("<BBH28s", 0x91, X86, 2, b"x86")
        catalog = validation_entry(EFI) + other + header + boot_entry(media, sectors, False) + boot_entry(media, sectors)
    else:
        platform = EFI if damage == "platform" else X86
        media = MEDIA["unknown"] if damage == "media" else media
        catalog = validation_entry(platform) + boot_entry(media, sectors, damage != "entry")
    catalog = bytearray(catalog.ljust(BLOCK, b"\0"))
    if damage == "checksum":
        catalog[4] ^= 1
    return bytes(catalog)


def emulated_image(image, emulation):
    """The image as the emulated drive shows it: as large as that, and with a partition that tells a disk's geometry."""
    image = bytearray(image[:FLOPPY_SIZES[emulation]].ljust(FLOPPY_SIZES[emulation], b"\0"))
    image[-512:-508] = b"LAST"
    if emulation == "disk":
        sectors = len(image) // 512
        image[446:462] = struct.pack("<BBBBBBBBII", 0x80, 0, 2, 0, 6, 1, 18, 79, 1, sectors - 1)
    return bytes(image)


def make_iso(image, emulation="none", in_section=False, damage=None):
    if emulation == "none":
        image = image.rstrip(b"\0")
        image = image.ljust((len(image) + BLOCK - 1) // BLOCK * BLOCK, b"\0")
        sectors = len(image) // 512
    else:
        image = emulated_image(image, emulation)
        sectors = 1
    blocks = [bytes(BLOCK)] * DESCRIPTORS
    total = BOOT_IMAGE + (len(image) + BLOCK - 1) // BLOCK
    catalog_block = 0x7FFFFFFF if damage == "catalog" else CATALOG
    blocks.append(volume_descriptor(total))
    record = b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", catalog_block)
    blocks.append((bytes(7) if damage == "record" else record).ljust(BLOCK, b"\0"))
    blocks.append(b"\xFFCD001\1".ljust(BLOCK, b"\0"))
    blocks.append(boot_catalog(MEDIA[emulation], sectors, in_section, damage))
    for order in "<>":
        blocks.append(struct.pack(order + "BBIHBB", 1, 0, ROOT, 1, 0, 0).ljust(BLOCK, b"\0"))
    entries = directory_record(b"\0", ROOT, BLOCK, 2) + directory_record(b"\1", ROOT, BLOCK, 2)
    entries += directory_record(b"READ.ME;1", README, len(README_TEXT), 0)
    blocks.append(entries.ljust(BLOCK, b"\0"))
    blocks.append(README_TEXT.ljust(BLOCK, b"\0"))
    iso = b"".join(blocks) + image
    return iso.ljust(total * BLOCK, b"\0")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("image")
    parser.add_argument("--emulation", default="none", choices=["none", "1.2", "1.44", "2.88", "disk"])
    parser.add_argument("--in-section", action="store_true")
    parser.add_argument("--damage", choices=["checksum", "entry", "platform", "media", "catalog", "record"])
    arguments = parser.parse_args()
    with open(arguments.image, "rb") as image:
        iso = make_iso(image.read(), arguments.emulation, arguments.in_section, arguments.damage)
    with open(arguments.output, "wb") as output:
        output.write(iso)


if __name__ == "__main__":
    main()
