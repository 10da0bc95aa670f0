#!/usr/bin/env python3
"""Boots from a network by iPXE's option ROM, from a file and on the card, with our BIOS and SeaBIOS: pxe.py VIV. Prints TAP; needs tools/fetch-guests
ipxe-rom, and seabios for its part. On the software CPU and virtual time; the network is viv's own, with DHCP and TFTP."""
import os
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


FLOPPY = ["--boot", "network,floppy", "--snapshot", "--floppy", "floppy.img"]


def run(network, *options):
    command = [viv, "run", "--engine", "soft", "--clock", "virtual", "--memory", "64M", "--display", "none", "--net", network, *options,
               "--exit-port", "0x501", "--timeout", "240"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    os.mkdir("served")
    for path, code in (("served/hello.0", 42), ("floppy.img", 43)):
        with open(path, "wb") as file:
            file.write(program(code))
    served = "user,tftp=served,bootfile=hello.0"
    results = [(run(f"{served},rom={rom}", *FLOPPY), 42, "by the ROM on the card what DHCP names comes by TFTP and runs"),
               (run("user", "--option-rom", rom, *FLOPPY), 43, "by one of a file, without a boot file, the next device boots")]
    seabios = os.path.join(cache, "seabios", "bios-256k.bin")
    if os.path.exists(seabios):
        # It tries disks first.
        results.append((run(f"{served},rom={rom}", "--firmware", seabios), 42, "SeaBIOS finds the ROM on the card"))
for number, (done, code, what) in enumerate(results, 1):
    print(f"{'ok' if done.returncode == code else 'not ok'} {number} - {what}")
    if done.returncode != code:
        print("\n".join(f"# {line}" for line in [f"exit code {done.returncode}", *done.stderr.splitlines()]))
print(f"1..{len(results)}")
