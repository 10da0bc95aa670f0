#!/usr/bin/env python3
"""Boots OVMF with a flash for its variables: uefi.py VIV. Prints TAP; needs tools/fetch-guests ovmf linux, and mtools for the
disk that Linux is on. On the software CPU and virtual time, so that every run is the same."""
import os
import shutil
import subprocess
import sys
import tempfile

import make_esp

viv = sys.argv[1]
cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vivarium", "guests")
code, variables = (os.path.join(cache, "ovmf", name) for name in ("OVMF_CODE.fd", "OVMF_VARS.fd"))
kernel, initrd = (os.path.join(cache, "linux", name) for name in ("vmlinuz", "initramfs.gz"))
if not (os.path.exists(code) and os.path.exists(variables)):
    print("1..0 # SKIP ovmf: run tools/fetch-guests ovmf to have this guest")
    sys.exit(0)

VARIABLE = "VivTest -guid 12345678-1234-1234-1234-123456789abc"
SHOWN = "12345678-1234-1234-1234-123456789ABC - VivTest - 0002 Bytes"
number = 0


def run(folder, *options):
    """The finished process, and what came on the serial line."""
    serial = os.path.join(folder, "serial")
    command = [viv, "run", "--engine", "soft", "--clock", "virtual", "--memory", "256M", "--firmware", code, "--display", "none",
               "--serial", "file:" + serial, "--timeout", "250", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    with open(serial, "rb") as file:
        return done, file.read()


def report(passed, what, done=None):
    global number
    number += 1
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)
    if not passed and done:
        for line in (done.stderr or f"exit code {done.returncode}").splitlines():
            print(f"# {line}")


with tempfile.TemporaryDirectory() as folder:
    flash = os.path.join(folder, "vars.fd")
    shutil.copyfile(variables, flash)
    set_and_show = ["--until", "Shell>", "--type", f"setvar {VARIABLE} -nv -bs =0x4256\\n", "--type", f"setvar {VARIABLE}\\n"]
    done, _ = run(folder, "--firmware-vars", flash, *set_and_show, "--until", SHOWN)
    report(done.returncode == 0, "OVMF's shell sets a variable", done)
    done, _ = run(folder, "--firmware-vars", flash, "--until", "Shell>", "--type", f"setvar {VARIABLE}\\n", "--until", SHOWN)
    report(done.returncode == 0, "and finds it in the flash after the machine was off", done)
    with open(flash, "rb") as file:
        kept = file.read()
    if not (os.path.exists(kernel) and os.path.exists(initrd) and shutil.which("mformat")):
        print(f"ok {number + 1} - Linux boots by UEFI # SKIP needs tools/fetch-guests linux and mtools")
        print(f"1..{number + 1}")
        sys.exit(0)
    script, disk = os.path.join(folder, "startup.nsh"), os.path.join(folder, "disk.img")
    with open(script, "w", newline="\r\n", encoding="ascii") as file:
        file.write("fs0:\nvmlinuz.efi console=ttyS0 initrd=\\initramfs.gz panic=-1\n")
    make_esp.make(disk, {"vmlinuz.efi": kernel, "initramfs.gz": initrd, "startup.nsh": script})
    done, said = run(folder, "--firmware-vars", flash, "--snapshot", "--disk", disk, "--until", "/ # ")
    report(done.returncode == 0, "Linux boots by UEFI from a disk with a GPT to its shell", done)
    report(b"efi: EFI v2.70 by EDK II" in said, "and knows that it is UEFI")
    complaints = [line for line in said.splitlines() if b"ACPI" in line and (b"Error" in line or b"Warning" in line)]
    report(b"PM-Timer IO Port: 0xb008" in said and not complaints, "OVMF's ACPI tables are ours, without a complaint")
    for line in complaints:
        print("#", line.decode(errors="replace"))
    with open(flash, "rb") as file:
        report(file.read() == kept, "with --snapshot the file of the flash stays as it was")
print(f"1..{number}")
