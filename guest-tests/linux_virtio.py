#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own virtio drivers, and uses each device but disks; prints TAP:
linux_virtio.py VIV [viv options...]. Skipped when `tools/fetch-guests linux-virtio` has not been run."""
import os
import sys

from serial_console import SerialConsole

viv, *options = sys.argv[1:]
cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
folder = os.path.join(cache, "vivarium", "guests", "linux-virtio")
kernel, initrd = os.path.join(folder, "vmlinuz"), os.path.join(folder, "initramfs.gz")
if not (os.path.exists(kernel) and os.path.exists(initrd)):
    print("1..0 # SKIP linux-virtio: run tools/fetch-guests linux-virtio to have this guest")
    sys.exit(0)

PROMPT = b"/ # "


def events(device, count, ready):
    """A command that says `ready`, and prints that many events of an input device as type:code:value."""
    return (f"D=$(grep -l {device} /sys/class/input/event*/device/name | cut -d/ -f5); dd if=/dev/input/$D bs=24 count={count} of=/tmp/e "
            f"2>/dev/null & sleep 1; echo ready for a '{ready}'; wait; od -An -v -tu2 -w24 /tmp/e | awk '{{print $9\":\"$10\":\"$11}}'")


# What is checked, the command, words that are in its output.
COMMANDS = [
    ("finds the input devices", "grep -c 'Vivarium Virtio' /proc/bus/input/devices", ["3"]),
    ("knows the tablet's places and buttons", "grep -A9 'Virtio Tablet' /proc/bus/input/devices", ["ABS=3", "KEY=1f0000"]),
    ("takes a click, in its place", events("Tablet", 7, "click"), ["3:0:8203", "3:1:16425", "1:273:1", "1:273:0"]),
    ("takes a key", events("Keyboard", 4, "key"), ["1:47:1", "1:47:0"]),
    ("takes what switches a lamp on", "printf '%16s\\021\\0\\001\\0\\001\\0\\0\\0' '' > /dev/input/$D; echo $?", ["0"]),
    ("no driver complains", "dmesg | grep -iE 'virtio|input' | grep -ciE 'error|fail|timeout|unable|invalid'", ["0"]),
]
number = 0


def report(passed, what):
    global number
    number += 1
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)


print(f"1..{len(COMMANDS) + 2}")
command = [viv, "run", "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 panic=-1 quiet", "--memory", "192M",
           "--no-reboot", "--timeout", "240", "--virtio", "tablet", "--virtio", "keyboard,split", "--virtio", "mouse",
           "--until", "ready for a click", "--click", "180,200,right", "--until", "ready for a key", "--type", "v",
           "--until", "that is all", *options]
console = SerialConsole(command)
alive = console.read_until(PROMPT) is not None
report(alive, "reaches a shell on the serial line")
for what, line, answers in COMMANDS:
    if alive:
        console.type(line.encode() + b"\n")
    said = console.read_until(PROMPT) if alive else None
    alive = said is not None
    # Behind the echo of the command, which the terminal may have broken into lines.
    words = said[: -len(PROMPT)].decode(errors="replace").split()[len(line.split()) :] if alive else []
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
