#!/usr/bin/env python3
"""Runs the option ROM of option_rom.S three times in one machine and passes its TAP on: option_rom.py VIV ROM [--engine NAME]
[viv options...]. The last run has the ROM in a file behind one for UEFI, as the ROMs of cards have it."""
import os
import subprocess
import sys
import tempfile

viv, rom, *options = sys.argv[1:]
if "kvm" in options and not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP option_rom on kvm: this host has no /dev/kvm to use")
    sys.exit(0)
with open(rom, "rb") as file:
    image = bytearray(file.read())
size = image[2] * 512
assert len(image) < size, "the ROM is larger than it says"
image = image.ljust(size, b"\0")
image[-1] = -sum(image) & 0xFF
# A header and a PCI data structure with code type 3, and nothing else.
uefi = bytearray(b"\x55\xAA\x01".ljust(24, b"\0") + b"\x1C\0\0\0" + b"PCIR" + b"\x34\x12\x78\x56" + b"\0\0\x18\0\0\0\0\x02")
uefi = (uefi + b"\x01\0\0\0\x03\0\0\0").ljust(512, b"\0")
with tempfile.TemporaryDirectory() as folder:
    plain, second = os.path.join(folder, "plain.rom"), os.path.join(folder, "second.rom")
    for path, content in ((plain, image), (second, uefi + image)):
        with open(path, "wb") as file:
            file.write(content)
    run = subprocess.run([viv, "run", "--display", "none", "--serial", "stdio", "--exit-port", "0x501", "--timeout", "120", "--memory", "16M",
                          "--option-rom", plain, "--option-rom", second, "--option-rom", plain, *options],
                         stdin=subprocess.DEVNULL, capture_output=True, check=False)
output = run.stdout.decode(errors="replace").replace("\r", "")
print(output, end="", flush=True)
sys.stderr.write(run.stderr.decode(errors="replace"))
if "1.." not in output:
    print(f"Bail out! option_rom ended with exit code {run.returncode} before its plan")
    sys.exit(1)
