#!/usr/bin/env python3
"""Boots the distribution's Linux kernel to a shell on the serial line, gives it commands and has it power off; prints TAP:
boot_linux.py VIV [viv options...]. Skipped when `tools/fetch-guests linux` has not been run."""
import os
import sys

from serial_console import SerialConsole

viv, *options = sys.argv[1:]
cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
folder = os.path.join(cache, "vivarium", "guests", "linux")
kernel, initrd = os.path.join(folder, "vmlinuz"), os.path.join(folder, "initramfs.gz")
if not (os.path.exists(kernel) and os.path.exists(initrd)):
    print("1..0 # SKIP linux: run tools/fetch-guests linux to have this guest")
    sys.exit(0)

PROMPT = b"/ # "
COMMANDS = [
    ("calculates in the shell", b"echo $((6 * 7))$?\n", b"420"),
    ("has an ACPI soft-off", b"dmesg | grep -c 'supports S0 S5'\n", b"1"),
    ("sees the PM timer", b"cat /sys/devices/system/clocksource/*/available_clocksource\n", b"acpi_pm"),
    ("sees the HPET", b"dmesg | grep -c 'hpet0: 3 comparators, 64-bit 100.000000 MHz counter'\n", b"1"),
    ("keeps time by the HPET", b"cat /sys/devices/system/clocksource/clocksource0/current_clocksource\n", b"hpet"),
    ("knows the machine by SMBIOS", b"cd /sys/class/dmi/id; cat sys_vendor product_serial product_uuid chassis_asset_tag; cd\n",
     b"ACME", b"A-4711", b"00112233-4455-6677-8899-aabbccddeeff", b"shelf,9"),
    ("interrupts come through the IOAPIC", b"grep -c 'IO-APIC.*ttyS0' /proc/interrupts\n", b"1"),
    ("has memory types on every CPU", b"cat /proc/mtrr; dmesg | grep -c 'inconsistent .*MTRR'\n", b"base=0x0c0000000", b"uncachable", b"0"),
    ("complains of no table and no firmware", b"dmesg | grep -cE 'ACPI (BIOS )?(Error|Warning)|ACPI Exception'\n", b"0"),
]
COUNT = len(COMMANDS) + 2
number = 0


def report(passed, what):
    global number
    number += 1
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)


print(f"1..{COUNT}")
command = [viv, "run", "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 panic=-1 clocksource=hpet", "--memory", "128M",
           "--no-reboot", "--timeout", "240",
           "--smbios", "manufacturer=ACME,serial=A-4711,uuid=00112233-4455-6677-8899-aabbccddeeff", "--smbios", "asset=shelf,,9", *options]
console = SerialConsole(command)
alive = console.read_until(PROMPT) is not None
report(alive, "reaches a shell on the serial line")
for what, line, *answers in COMMANDS:
    if alive:
        console.type(line)
    said = console.read_until(PROMPT) if alive else None
    alive = said is not None
    # Between the echo of the command and the next prompt.
    words = said[len(line) : -len(PROMPT)].split() if alive else []
    passed = alive and all(answer in words for answer in answers)
    report(passed, what)
    if not passed:
        print(f"# {line!r} was answered by {said!r}")
if alive:
    console.type(b"poweroff -f\n")
outcome = console.finish()
report(outcome.get("outcome") == "powered-off" and outcome["status"] == 0, "powers off")
if outcome.get("outcome") != "powered-off":
    print("# the serial line ends with:")
    for line in console.output.decode(errors="replace").splitlines()[-15:] + outcome["stderr"].splitlines():
        print(f"# {line}")
