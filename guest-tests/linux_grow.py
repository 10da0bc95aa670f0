#!/usr/bin/env python3
"""Makes the virtio disks of the distribution's Linux larger while it runs; prints TAP: linux_grow.py VIV [viv options...].
It is skipped when `tools/fetch-guests linux-disks` has not been run."""
import hashlib
import json
import os
import subprocess
import sys
import tempfile

from linux_guest import LinuxGuest, Report, fetched

viv, *options = sys.argv[1:]
guest = fetched("linux-disks", "ata_piix")
OLD, NEW = 8 << 20, 20 << 20
CONTENT = b"".join(number.to_bytes(8, "little") * 64 for number in range(OLD // 512))
# Behind the old end, and up to the new one.
MORE = CONTENT[: 1 << 20]
PLACES = (OLD >> 20, (NEW >> 20) - 1)
EXPECTED = CONTENT + MORE + bytes((PLACES[1] - PLACES[0] - 1) << 20) + MORE


def digest(content):
    return hashlib.md5(content).hexdigest()


def use(name, console):
    """A disk that was told to grow."""
    node = f"/dev/{name}"
    wait = f"for i in $(seq 20); do [ $(cat /sys/block/{name}/size) = {OLD // 512} ] && sleep 1; done"
    console.ask(f"{name} has its new size", f"{wait}; cat /sys/block/{name}/size", str(NEW // 512))
    console.ask("the kernel says so", f"dmesg | grep '{name}. new size' | grep -c {NEW // 512}", "1")
    console.ask("what is new reads as zeros", f"dd if={node} bs=1M skip={OLD >> 20} 2>/dev/null | md5sum", digest(bytes(NEW - OLD)))
    for place in PLACES:
        console.ask(f"{name} is written to at {place} MiB", f"dd if={node} bs=1M count=1 2>/dev/null | dd of={node} bs=1M seek={place} conv=notrunc 2>/dev/null; sync; echo $?", "0")
    console.ask("and reads as a whole", f"echo 3 > /proc/sys/vm/drop_caches; md5sum < {node}", digest(EXPECTED))


report = Report()
with tempfile.TemporaryDirectory() as folder:
    raw, packed, copy = (os.path.join(folder, name) for name in ("raw.img", "packed.qcow2", "copy.img"))
    with open(raw, "wb") as image:
        image.write(CONTENT)
    subprocess.run([viv, "image", "convert", raw, packed], check=True, stdout=subprocess.DEVNULL)
    machine = ["--disk", f"{raw},bus=virtio", "--disk", f"{packed},bus=virtio", "--until", "please grow", "--grow", f"disk0={NEW >> 20}M",
               "--grow", f"disk1=+{NEW - OLD >> 20}M", "--until", "at the end", "--power-button", *options]
    console = LinuxGuest(viv, guest, machine, report, append="", patience=280 if "soft" in options else 1800)
    console.wait_for_shell()
    for name in ("vda", "vdb"):
        console.ask(f"{name} begins small", f"cat /sys/block/{name}/size", str(OLD // 512))
    console.answer("echo please' 'grow")
    for name in ("vda", "vdb"):
        use(name, console)
    console.ask("no driver complains", "dmesg | grep -E 'virtio|vd[ab]|I/O error' | grep -ciE 'error|fail|timeout'", "0")
    console.answer("echo at' 'the end")
    console.power_off()
    report(os.path.getsize(raw) == NEW, "the raw image is as long", os.path.getsize(raw))
    with open(raw, "rb") as image:
        report(image.read() == EXPECTED, "and has what the guest wrote")
    said = subprocess.run([viv, "image", "check", "--json", packed], stdout=subprocess.PIPE, text=True)
    found = json.loads(said.stdout or "{}")
    report(said.returncode == 0 and found.get("errors") == 0 and found.get("leaks") == 0, "the qcow2 image is sound", said.stdout)
    subprocess.run([viv, "image", "convert", "--format", "raw", packed, copy], check=True, stdout=subprocess.DEVNULL)
    with open(copy, "rb") as image:
        report(image.read() == EXPECTED, "and has the same")
report.end()
