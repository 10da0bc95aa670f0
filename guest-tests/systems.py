#!/usr/bin/env python3
"""Boots whole operating systems, unmodified, to a text that a person would wait for: systems.py VIV

Images come from $VIV_GUESTS (by default the folder shared/guests beside the project) and from what tools/fetch-guests brought.

Every case is one TAP line; an image that is not there is skipped by name. On the software CPU time is virtual, so a run is
the same every time; "twice" runs a system two times and compares the digests of memory and state."""
import json
import os
import subprocess
import sys
import tempfile

import png

viv = sys.argv[1]
project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
guests = os.environ.get("VIV_GUESTS") or os.path.join(os.path.dirname(project), "shared", "guests")
cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vivarium", "guests")

SOFT = ["--engine", "soft", "--clock", "virtual"]
KVM = ["--engine", "kvm"]
FREEDOS = ["--until", r"A:\>"]
FREEDOS_DIR = [*FREEDOS, "--type", r"dir\n", "--until", "bytes free"]
ELKS = ["--until", "login:", "--type", r"root\n", "--until", "# ", "--type", r"uname -a\n", "--until", "ELKS elks 0.7.0"]
LINUX_24 = ["--until", "Please press Enter to activate this console."]
OPENBSD = ["--until", "(I)nstall, (U)pgrade or (S)hell?"]
GRUB = ["--until", "GNU GRUB", "--type", "c", "--until", "grub> ", "--type", r"echo viv-works\n", "--until", "\nviv-works"]
IPXE = ["--until", "ISOLINUX 6", "--until", "iPXE initialising devices...ok"]
KOLIBRI = ["--memory", "256M", "--until", "Kolibri OS", "--wait", "25"]
NETWORK = ["--until", "net0: 10.0.2.15/255.255.255.0 gw 10.0.2.2"]

# A kernel, and what else of its folder goes with it; the console is COM1.
LINUX = ["--append", "console=ttyS0", "--memory", "128M", "--until", "/ # "]

# What its own setup does in real mode; the console is the frame buffer of the VBE mode 114h.
LINUX_VBE = ["--append", "console=tty0 vga=0x314", "--memory", "192M", "--until", "/ # "]

# Another firmware in place of ours; a case is skipped without it, too.
SEABIOS = ["--firmware", "seabios/bios-256k.bin"]

# What a picture is at least: its size, and how many colours it has.
DESKTOP = ((800, 600), 1000)
CONSOLE = ((800, 600), 2)

# name, image, engine, options, how many runs, and what the picture is at the end
CASES = [
    ("FreeDOS answers dir", "freedos722.img", SOFT, FREEDOS_DIR, 2),
    ("ELKS logs in", "elks-0.7.img", SOFT, ELKS, 1),
    ("Linux 2.4 starts its init", "linux-2.4.img", SOFT, LINUX_24, 2),
    ("OpenBSD 2.8 reaches its installer", "openbsd-2.8.img", SOFT, OPENBSD, 1),
    ("KolibriOS shows its desktop", "kolibrios.img", SOFT, KOLIBRI, 2, DESKTOP),
    ("GRUB answers at its command line", "grub/grub-rescue-floppy.img", SOFT, GRUB, 1),
    ("GRUB's CD answers at its command line", "grub/grub-rescue-cdrom.iso", SOFT, GRUB, 1),
    ("iPXE's CD starts by ISOLINUX", "ipxe/ipxe.iso", SOFT, IPXE, 1),
    ("iPXE gets an address through an 82540EM", "ipxe/ipxe.iso", SOFT, ["--net", "user,model=e1000", *NETWORK], 1),
    ("iPXE gets an address through an RTL8029", "ipxe/ipxe.iso", SOFT, ["--net", "user,model=ne2k_pci", *NETWORK], 1),
    ("iPXE gets an address through an NE2000", "ipxe/ipxe.iso", SOFT, ["--net", "user,model=ne2k_isa", *NETWORK], 1),
    ("iPXE starts without a boot loader, by its setup", "ipxe/ipxe.lkrn", SOFT, ["--until", "iPXE initialising devices...ok"], 1),
    ("iPXE gets an address through a PCnet", "ipxe/ipxe.iso", SOFT, ["--net", "user,model=pcnet", *NETWORK], 1),
    ("iPXE gets an address through an RTL8139", "ipxe/ipxe.iso", SOFT, ["--net", "user,model=rtl8139", *NETWORK], 1),
    ("iPXE gets an address through an RTL8139C+", "ipxe/ipxe.iso", SOFT, ["--net", "user,model=rtl8139cp", *NETWORK], 1),
    ("iPXE gets an address through virtio", "ipxe/ipxe.iso", SOFT, ["--net", "user,model=virtio", *NETWORK], 1),
    ("Linux 6.1 reaches its shell", "linux/vmlinuz", SOFT, LINUX, 2),
    ("Linux 6.1 sets a video mode by its setup", "linux-disks/vmlinuz", SOFT, LINUX_VBE, 1, CONSOLE),
    ("Linux 6.1 on 4 CPUs reaches its shell", "linux/vmlinuz", SOFT, [*LINUX, "--cpus", "4"], 2),
    ("FreeDOS by SeaBIOS answers dir", "freedos722.img", SOFT, [*SEABIOS, *FREEDOS_DIR], 2),
    ("ELKS by SeaBIOS logs in", "elks-0.7.img", SOFT, [*SEABIOS, *ELKS], 1),
    ("Linux 2.4 by SeaBIOS starts its init", "linux-2.4.img", SOFT, [*SEABIOS, *LINUX_24], 1),
    ("GRUB's CD by SeaBIOS answers at its command line", "grub/grub-rescue-cdrom.iso", SOFT, [*SEABIOS, *GRUB], 1),
    ("OpenBSD 2.8's loader gets to its prompt", "openbsd-2.8.img", KVM, ["--until", "boot>"], 1),
    ("FreeDOS answers dir", "freedos722.img", KVM, FREEDOS_DIR, 1),
    ("ELKS logs in", "elks-0.7.img", KVM, ELKS, 1),
]


def find(image):
    for folder in (guests, cache):
        path = os.path.join(folder, image)
        if os.path.exists(path):
            return path
    return None


def run(path, engine, options):
    """The exit code, the JSON with the bytes of COM1 as "serial" and the size and number of colours of its "picture", and stderr."""
    guest = [path]
    if os.path.basename(path) == "vmlinuz":
        guest = ["--kernel", path, "--initrd", os.path.join(os.path.dirname(path), "initramfs.gz")]
    with tempfile.TemporaryDirectory() as folder:
        serial = os.path.join(folder, "serial")
        screenshot = os.path.join(folder, "screen.png")
        command = [viv, "run", *engine, "--display", "none", "--snapshot", "--json", "--digest", "--timeout", "240",
                   "--serial", "file:" + serial, "--screenshot", screenshot, *options, *guest]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        try:
            with open(serial, "rb") as file:
                result = {**json.loads(done.stdout), "serial": file.read(), "picture": png.size_and_colours(screenshot)}
                return done.returncode, result, done.stderr
        except (OSError, json.JSONDecodeError):
            return done.returncode, {}, done.stderr


for number, (what, image, engine, options, runs, *picture) in enumerate(CASES, 1):
    name = f"{what} ({engine[1]})"
    path = find(image)
    missing = None if path else image
    if "--firmware" in options:
        at = options.index("--firmware") + 1
        firmware = find(options[at])
        missing = missing or (None if firmware else options[at])
        options = [*options[:at], firmware, *options[at + 1 :]]
    if missing:
        print(f"ok {number} - {name} # SKIP no {missing} among the guests", flush=True)
        continue
    if engine is KVM and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print(f"ok {number} - {name} # SKIP this host has no /dev/kvm to use", flush=True)
        continue
    results = [run(path, engine, options) for _ in range(runs)]
    failures = [f"exit code {code}: {result.get('message') or stderr}" for code, result, stderr in results if code != 0]
    ends = {(result.get("digest"), result.get("instructions"), result.get("serial")) for _, result, _ in results}
    if not failures and len(ends) != 1:
        failures.append(f"{runs} equal runs ended differently: {ends}")
    for size, colours in picture:
        for _, result, _ in results:
            seen = result.get("picture", (None, 0))
            if seen[0] != size or seen[1] < colours:
                failures.append(f"the picture should be {size} with {colours} colours, and is {seen}")
    print(f"{'not ok' if failures else 'ok'} {number} - {name}{' twice alike' if runs == 2 else ''}", flush=True)
    for failure in failures:
        for line in failure.splitlines():
            print(f"# {line}", flush=True)
print(f"1..{len(CASES)}")
