#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own USB drivers, and types and clicks on USB devices; prints TAP:
linux_usb.py VIV [viv options...]. Skipped when `tools/fetch-guests linux-usb` has not been run."""
import sys

from linux_guest import LinuxGuest, Report, fetched

viv, *options = sys.argv[1:]
guest = fetched("linux-usb")



def events(device, count, ready):
    """A command that says `ready`, and prints that many events of an input device as type:code:value. It opens the device
    a while before: the driver throws away what comes in the first moments."""
    return (f"D=$(grep -l {device} /sys/class/input/event*/device/name | cut -d/ -f5); dd if=/dev/input/$D bs=24 count={count} of=/tmp/e "
            f"2>/dev/null & sleep 1; echo ready for a '{ready}'; wait; od -An -v -tu2 -w24 /tmp/e | awk '{{print $9\":\"$10\":\"$11}}'")


COMMANDS = [
    ("finds both devices", "sleep 3; grep -c 'Vivarium USB' /proc/bus/input/devices", ["2"]),
    ("the controller interrupts", "grep -c uhci_hcd /proc/interrupts", ["1"]),
    ("takes a click, in its place", events("Tablet", 9, "click"), ["3:0:8203", "3:1:16425", "1:273:1", "1:273:0"]),
    ("takes a key", events("Keyboard", 6, "key"), ["1:47:1", "1:47:0"]),
    ("takes a device back that it had given up", "cd /sys/bus/usb/devices; echo 0 > 1-1/authorized; echo 1 > 1-1/authorized; sleep 2; cat 1-1/bConfigurationValue 1-2/bConfigurationValue; cd /", ["1", "1"]),
    ("takes another click then", events("Tablet", 9, "second click"), ["3:0:32767", "3:1:32767", "1:272:1", "1:272:0"]),
    ("no driver complains", "dmesg | grep -iE 'usb|uhci|hid' | grep -ciE 'error|fail|timeout|unable|not respond'", ["0"]),
]
report = Report()
console = LinuxGuest(viv, guest, ["--usb", "tablet", "--usb", "keyboard",
                                  "--until", "ready for a click", "--click", "180,200,right", "--until", "ready for a key", "--type", "v",
                                  "--until", "ready for a second click", "--click", "9999,9999", "--until", "that is all", *options], report)
console.wait_for_shell()
for what, line, answers in COMMANDS:
    console.ask(what, line, *answers)
console.send("echo that is 'all'")
console.report_end(console.finish(), "done", "and the script is done")
report.end()
