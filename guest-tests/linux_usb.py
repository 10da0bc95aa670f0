#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own USB drivers, and types and clicks on USB devices; prints TAP:
linux_usb.py VIV [viv options...]. Skipped when `tools/fetch-guests linux-usb` has not been run."""
import os
import sys

from serial_console import SerialConsole

viv, *options = sys.argv[1:]
cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
folder = os.path.join(cache, "vivarium", "guests", "linux-usb")
kernel, initrd = os.path.join(folder, "vmlinuz"), os.path.join(folder, "initramfs.gz")
if not (os.path.exists(kernel) and os.path.exists(initrd)):
    print("1..0 # SKIP linux-usb: run tools/fetch-guests linux-usb to have this guest")
    sys.exit(0)

PROMPT = b"/ # "


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
number = 0


def report(passed, what):
    global number
    number += 1
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)


print(f"1..{len(COMMANDS) + 2}")
command = [viv, "run", "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 panic=-1 quiet", "--memory", "192M",
           "--no-reboot", "--timeout", "240", "--usb", "tablet", "--usb", "keyboard",
           "--until", "ready for a click", "--click", "180,200,right", "--until", "ready for a key", "--type", "v",
           "--until", "ready for a second click", "--click", "9999,9999", "--until", "that is all", *options]
console = SerialConsole(command)
alive = console.read_until(PROMPT) is not None
report(alive, "reaches a shell on the serial line")
for what, line, answers in COMMANDS:
    if alive:
        console.type(line.encode() + b"\n")
    said = console.read_until(PROMPT) if alive else None
    alive = said is not None
    words = said[: -len(PROMPT)].decode(errors="replace").split() if alive else []
    passed = alive and all(answer in words for answer in answers)
    report(passed, what)
    if not passed:
        print(f"# {line!r} was answered by {said!r}")
if alive:
    console.type(b"echo that is 'all'\n")
outcome = console.finish()
report(outcome.get("outcome") == "done" and outcome["status"] == 0, "and the script is done")
if outcome.get("outcome") != "done":
    print("# the serial line ends with:")
    for line in console.output.decode(errors="replace").splitlines()[-15:] + outcome["stderr"].splitlines():
        print(f"# {line}")
