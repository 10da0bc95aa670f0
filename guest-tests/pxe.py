#!/usr/bin/env python3
"""Boots from a network by iPXE's option ROM, from a file and on the card, with our BIOS, SeaBIOS and OVMF: pxe.py VIV. Prints TAP; needs tools/fetch-guests
ipxe-rom, and seabios and ovmf for their parts. On the software CPU and virtual time; the network is viv's own, with DHCP and TFTP."""
import os
import shutil
import struct
import subprocess
import sys
import tempfile

viv = os.path.abspath(sys.argv[1])
cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vivarium", "guests")
rom = os.path.join(cache, "ipxe-rom", "pxe-e1000.rom")
if not os.path.exists(rom):
    print("1..0 # SKIP ipxe-rom: run tools/fetch-guests ipxe-rom to have this guest")
    sys.exit(0)


def program(code):
    """mov dx,501h; mov al,CODE; out dx,al; hlt: a boot sector, and what a network boot loads."""
    return bytes([0xBA, 0x01, 0x05, 0xB0, code, 0xEE, 0xF4]).ljust(510, b"\0") + b"\x55\xAA"


def uefi_program(code):
    """The same for x86-64 UEFI: a PE32+ image with one section. PE format, sections 3 and 4."""
    text = bytes([0x66, 0xBA, 0x01, 0x05, 0xB0, code, 0xEE, 0xF4])
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22E)
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, 512, 0, 0, 0x1000, 0x1000) + struct.pack("<QII", 0, 0x1000, 512)
    optional += struct.pack("<6HIIIIHH4QII", 0, 0, 0, 0, 0, 0, 0, 0x2000, 512, 0, 10, 0, 0, 0, 0, 0, 0, 16) + bytes(16 * 8)
    section = struct.pack("<8sIIIIIIHHI", b".text", len(text), 0x1000, 512, 512, 0, 0, 0, 0, 0x60000020)
    headers = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0" + coff + optional + section
    return headers.ljust(512, b"\0") + text.ljust(512, b"\0")


FLOPPY = ["--boot", "network,floppy", "--snapshot", "--floppy", "floppy.img"]


def run(network, *options, memory="64M"):
    command = [viv, "run", "--engine", "soft", "--clock", "virtual", "--memory", memory, "--display", "none", "--net", network, *options,
               "--exit-port", "0x501", "--timeout", "240"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    os.mkdir("served")
    for path, content in (("served/hello.0", program(42)), ("floppy.img", program(43)), ("served/hello.efi", uefi_program(44))):
        with open(path, "wb") as file:
            file.write(content)
    served = "user,tftp=served,bootfile=hello.0"
    results = [(run(f"{served},rom={rom}", *FLOPPY), 42, "by the ROM on the card what DHCP names comes by TFTP and runs"),
               (run("user", "--option-rom", rom, *FLOPPY), 43, "by one of a file, without a boot file, the next device boots")]
    seabios = os.path.join(cache, "seabios", "bios-256k.bin")
    if os.path.exists(seabios):
        results += [(run(f"{served},rom={rom}", *FLOPPY, "--firmware", seabios), 42, "SeaBIOS finds the ROM on the card, and tries it before the floppy"),
                    (run(served, "--option-rom", rom, *FLOPPY, "--firmware", seabios), 42, "and so one of a file")]
    ovmf = os.path.join(cache, "ovmf")
    if os.path.exists(ovmf):
        # iPXE is a driver there, which it takes from the ROM in the card's BAR.
        shutil.copyfile(os.path.join(ovmf, "OVMF_VARS.fd"), "variables.fd")
        done = run(f"user,tftp=served,bootfile=hello.efi,rom={os.path.join(cache, 'ipxe-rom', 'efi-e1000.rom')}",
                   "--firmware", os.path.join(ovmf, "OVMF_CODE.fd"), "--firmware-vars", "variables.fd", memory="256M")
        results.append((done, 44, "OVMF finds the UEFI ROM on the card"))
for number, (done, code, what) in enumerate(results, 1):
    print(f"{'ok' if done.returncode == code else 'not ok'} {number} - {what}")
    if done.returncode != code:
        print("\n".join(f"# {line}" for line in [f"exit code {done.returncode}", *done.stderr.splitlines()]))
print(f"1..{len(results)}")
