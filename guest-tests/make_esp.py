"""A disk with a GPT and one EFI system partition: make_esp.py IMAGE [NAME=FILE...]

NAME is a path on the partition ("EFI/BOOT/BOOTX64.EFI"). Needs mtools."""
import binascii
import os
import struct
import subprocess
import sys
import uuid

SECTOR = 512
FIRST = 2048  # of the partition: at a MiB
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
# Fixed, so that the same files make the same disk.
DISK = uuid.UUID("5d1f3a52-6c7b-4d2e-9f10-0123456789ab")
PARTITION = uuid.UUID("5d1f3a52-6c7b-4d2e-9f10-0123456789ac")


def header(here, other, table, sectors, entries):
    """A GPT header (UEFI Specification 2.10, 5.3.2)."""
    def pack(crc):
        return struct.pack("<8s4I4Q16sQ3I", b"EFI PART", 0x10000, 92, crc, 0, here, other, 34, sectors - 34, DISK.bytes_le,
                           table, 128, 128, binascii.crc32(entries))
    return pack(binascii.crc32(pack(0))).ljust(SECTOR, b"\0")


def make(path, files):
    size = sum(os.path.getsize(file) for file in files.values())
    partition = max(64 << 11, (size * 5 // 4 + (8 << 20)) // SECTOR // 2048 * 2048)
    sectors = FIRST + partition + 2048
    name = "EFI System".encode("utf-16le").ljust(72, b"\0")
    entry = ESP.bytes_le + PARTITION.bytes_le + struct.pack("<3Q", FIRST, FIRST + partition - 1, 0) + name
    entries = entry.ljust(128 * 128, b"\0")
    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors - 1)
    with open(path, "wb") as disk:
        disk.truncate(sectors * SECTOR)
        disk.seek(446)
        disk.write(protective.ljust(64, b"\0") + b"\x55\xaa")
        disk.write(header(1, sectors - 1, 2, sectors, entries) + entries)
        disk.seek((sectors - 33) * SECTOR)
        disk.write(entries + header(sectors - 1, 1, sectors - 33, sectors, entries))
    image = f"{path}@@{FIRST * SECTOR}"
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    run = lambda *command: subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)
    run("mformat", "-i", image, "-F", "-N", "56495645", "-h", "64", "-s", "32", "-T", str(partition), "-H", str(FIRST), "::")
    made = set()
    for name, file in files.items():
        folders = name.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            folder = "/".join(folders[:depth])
            if folder not in made:
                run("mmd", "-i", image, f"::{folder}")
                made.add(folder)
        run("mcopy", "-i", image, file, f"::{name}")


if __name__ == "__main__":
    make(sys.argv[1], dict(pair.split("=", 1) for pair in sys.argv[2:]))
