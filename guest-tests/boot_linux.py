#!/usr/bin/env python3
"""Boots the distribution's Linux kernel to a shell on the serial line, gives it commands and has it power off; prints TAP:
boot_linux.py VIV [viv options...]. Skipped when `tools/fetch-guests linux` has not been run."""
import sys

from linux_guest import LinuxGuest, Report, fetched

viv, *options = sys.argv[1:]
guest = fetched("linux")

COMMANDS = [
    ("calculates in the shell", "echo $((6 * 7))$?", "420"),
    ("has an ACPI soft-off", "dmesg | grep -c 'supports S0 S5'", "1"),
    ("sees the PM timer", "cat /sys/devices/system/clocksource/*/available_clocksource", "acpi_pm"),
    ("sees the HPET", "dmesg | grep -c 'hpet0: 3 comparators, 64-bit 100.000000 MHz counter'", "1"),
    ("keeps time by the HPET", "cat /sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"),
    ("knows the machine by SMBIOS", "cd /sys/class/dmi/id; cat sys_vendor product_serial product_uuid chassis_asset_tag; cd",
     "ACME", "A-4711", "00112233-4455-6677-8899-aabbccddeeff", "shelf,9"),
    ("interrupts come through the IOAPIC", "grep -c 'IO-APIC.*ttyS0' /proc/interrupts", "1"),
    ("has memory types on every CPU", "cat /proc/mtrr; dmesg | grep -c 'inconsistent .*MTRR'", "base=0x0c0000000", "uncachable", "0"),
    ("complains of no table and no firmware", "dmesg | grep -cE 'ACPI (BIOS )?(Error|Warning)|ACPI Exception'", "0"),
]
report = Report()
console = LinuxGuest(viv, guest, [
    "--smbios", "manufacturer=ACME,serial=A-4711,uuid=00112233-4455-6677-8899-aabbccddeeff", "--smbios", "asset=shelf,,9", *options], report,
    append="clocksource=hpet", memory="128M")
console.wait_for_shell()
for what, line, *answers in COMMANDS:
    console.ask(what, line, *answers)
console.power_off()
report.end()
