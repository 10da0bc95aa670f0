#!/usr/bin/env python3
"""CD-ROMs that do not boot, and what the BIOS says of them; the boot menu: boot_discs.py VIV [--engine NAME]"""
import argparse
import os
import subprocess
import sys
import tempfile

import make_iso

parser = argparse.ArgumentParser()
parser.add_argument("viv")
parser.add_argument("--engine", default="soft")
arguments = parser.parse_args()

REASONS = {
    "record": "CD-ROM: not a bootable CD (no El Torito boot catalog)",
    "catalog": "CD-ROM: cannot read the boot sector",
    "checksum": "CD-ROM: the boot catalog is damaged",
    "entry": "CD-ROM: the boot catalog has nothing for this kind of machine",
    "platform": "CD-ROM: the boot catalog has nothing for this kind of machine",
    "media": "CD-ROM: the boot image is for a kind of drive that there is not",
}
# Writes "hi" to the screen: mov ax,0E68h; int 10h; mov al,'i'; int 10h; hlt; jmp $-1
PROGRAM = bytes([0xB8, 0x68, 0x0E, 0xCD, 0x10, 0xB0, 0x69, 0xCD, 0x10, 0xF4, 0xEB, 0xFD]).ljust(510, b"\0") + b"\x55\xAA"
points = failed = 0


def run(name, options):
    global points, failed
    command = [arguments.viv, "run", "--engine", arguments.engine, "--display", "none", "--timeout", "60", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    points += 1
    if done.returncode == 0:
        print(f"ok {points} - {name}")
        return
    failed += 1
    print(f"not ok {points} - {name}")
    for line in done.stderr.splitlines():
        print("# " + line)


with tempfile.TemporaryDirectory() as folder:
    disc = os.path.join(folder, "disc.iso")

    def write(content):
        with open(disc, "wb") as file:
            file.write(content)

    for damage, reason in REASONS.items():
        write(make_iso.make_iso(PROGRAM, damage=damage))
        run(f"{damage}: {reason}", ["--cdrom", disc, "--until", reason])
    run("an empty drive is passed over with the reason", ["--boot", "cdrom", "--until", "CD-ROM: no medium"])
    write(make_iso.make_iso(PROGRAM))
    run("an image with a boot catalog is taken for a CD-ROM", [disc, "--until", "hi"])
    floppy = os.path.join(folder, "floppy.img")
    with open(floppy, "wb") as file:
        file.write(PROGRAM.replace(b"\x68\x0E", b"\x6E\x0E").replace(b"\xB0i", b"\xB0o"))
    both = ["--floppy", floppy, "--cdrom", disc]
    run("a floppy comes first", [*both, "--until", "no"])
    run("--boot cdrom changes that", [*both, "--boot", "cdrom", "--until", "hi"])
    run("the boot menu has the CD-ROM", [*both, "--boot", "menu", "--until", "2. CD-ROM", "--type", "2", "--until", "hi"])
    run("a disc that is put in at the prompt boots",
        ["--until", "Insert a boot medium", "--insert", disc, "--type", "\\n", "--until", "hi"])
print(f"1..{points}")
sys.exit(1 if failed else 0)
