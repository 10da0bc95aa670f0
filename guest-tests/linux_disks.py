#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own drivers and works with a disk on each controller and with the other
virtio devices; prints TAP: linux_disks.py VIV [--kernel amd64|i386] [--format raw|qcow2|both] [viv options...]. With `both`, the
default, every other disk is a qcow2 image.
       linux_disks.py VIV --all     both kernels, both formats, on the software CPU, with 4 CPUs, and by KVM: some minutes
A kernel is skipped when `tools/fetch-guests linux-disks`, or for i386 `linux-disks-i386`, has not been run."""
import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

from linux_guest import LinuxGuest, Report, fetched

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("viv")
parser.add_argument("--kernel", choices=("amd64", "i386"), default="amd64")
parser.add_argument("--format", choices=("raw", "qcow2", "both"), default="both")
parser.add_argument("--all", action="store_true")
arguments, options = parser.parse_known_args()

SOFT = ["--engine", "soft", "--clock", "virtual"]
if arguments.all:
    # Each by a run of this program, whose lines are the notes of one here.
    report = Report()
    runs = [(kernel, kind, SOFT) for kernel in ("amd64", "i386") for kind in ("raw", "qcow2")]
    runs.append(("amd64", "both", [*SOFT, "--cpus", "4"]))
    runs += [(kernel, "both", ["--engine", "kvm"]) for kernel in ("amd64", "i386")]
    for kernel, kind, engine in runs:
        run = subprocess.run([sys.executable, __file__, arguments.viv, "--kernel", kernel, "--format", kind, *engine, *options],
                             stdout=subprocess.PIPE, text=True)
        lines = run.stdout.splitlines()
        checks = sum(line.startswith("ok") for line in lines)
        report(run.returncode == 0, f"{kernel}, {kind}, {' '.join(engine)}: {checks} checks", *lines)
        print(*(line for line in lines if line.startswith(("# it ran", "1..0"))), sep="\n", flush=True)
    report.end()

cpus = int(options[options.index("--cpus") + 1]) if "--cpus" in options else 1
guest = fetched("linux-disks" if arguments.kernel == "amd64" else "linux-disks-i386", "ata_piix")

SIZE = 24 << 20
# Bytes that repeat nowhere.
CONTENT = b"".join(number.to_bytes(8, "little") * 64 for number in range(SIZE // 512))
# What a file system of this size needs for itself and a file of 1 MiB, in bytes of the host.
SMALL = 4 << 20


class Disk:
    def __init__(self, name, driver, *, of_viv, find, messages=None, packed=None):
        self.name, self.driver, self.of_viv, self.messages, self.packed = name, driver, of_viv, messages, packed
        # Prints its name as Linux has it.
        self.find = find
        self.path = self.device = self.format = None

    def make(self, folder, image_format):
        self.format = image_format
        self.path = os.path.join(folder, self.name)
        raw = self.path + ".raw" if image_format == "qcow2" else self.path
        with open(raw, "wb") as image:
            image.write(CONTENT)
        if image_format == "qcow2":
            subprocess.run([arguments.viv, "image", "convert", raw, self.path], check=True, stdout=subprocess.DEVNULL)
            os.unlink(raw)

    def space(self):
        """What it takes of the host's."""
        return os.stat(self.path).st_blocks * 512

    def sound(self, report):
        """Looks at the image without the guest: its own tables, and the file system in it."""
        raw = self.path
        if self.format == "qcow2":
            said = subprocess.run([arguments.viv, "image", "check", "--json", self.path], stdout=subprocess.PIPE, text=True)
            found = json.loads(said.stdout or "{}")
            report(said.returncode == 0 and found.get("errors") == 0 and found.get("leaks") == 0 and
                   found["allocated"] * 65536 < SMALL, f"{self.name}: the image is sound, and has few clusters", said.stdout)
            raw = self.path + ".raw"
            subprocess.run([arguments.viv, "image", "convert", "--format", "raw", self.path, raw], check=True, stdout=subprocess.DEVNULL)
        checker = shutil.which("e2fsck", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
        if not checker:
            print(f"# no e2fsck: the file system on {self.name} is not looked at from outside")
            return
        said = subprocess.run([checker, "-fn", raw], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        report(said.returncode == 0, f"{self.name}: the file system is sound", said.stdout)


def punches_holes(folder):
    """Whether the host's file system gives back what is in the middle of a file."""
    path = os.path.join(folder, "holes")
    with open(path, "wb") as file:
        file.write(CONTENT[: 1 << 20])
    done = subprocess.run(["fallocate", "--punch-hole", "--offset", "0", "--length", "524288", path], stderr=subprocess.DEVNULL)
    return done.returncode == 0 and os.stat(path).st_blocks * 512 < 900 << 10


def pci_disk(driver, pattern):
    return f"basename /sys/bus/pci/drivers/{driver}/0000:*/{pattern}"


def mmio_disk(number):
    """They are found by ACPI."""
    return f"basename /sys/bus/platform/drivers/virtio-mmio/LNRO0005:{number:02}/virtio*/block/*"


def md5(content):
    return hashlib.md5(content).hexdigest()


def work_with(disk, console, report, holes, random):
    """Reads, writes, trims and checks; `random` is the digest of /tmp/a."""
    words = console.answer(disk.find)
    disk.device = name = words[0] if words else "none"
    node = f"/dev/{name}"
    report(words is not None and len(words) == 1 and name.isalnum(), f"{disk.driver} drives {disk.name}, which is {name}", words)
    commands = []
    if disk.messages:
        commands.append(("by messages", f"grep {disk.messages[0]} /proc/interrupts | grep -c MSI", str(disk.messages[1])))
    if disk.packed is not None:
        commands.append(("by packed queues" if disk.packed else "by split queues",
                         f"cut -c{PACKED + 1} /sys/block/{name}/device/features", "1" if disk.packed else "0"))
    commands += [
        (f"{disk.name} has its size", f"cat /sys/block/{name}/size", str(SIZE // 512)),
        (f"{disk.name} reads as the image", f"dd if={node} bs=1M count=2 skip=3 2>/dev/null | md5sum", md5(CONTENT[3 << 20 : 5 << 20])),
        (f"{disk.name} takes what is written", f"dd if=/tmp/a of={node} bs=64k seek=100 2>/dev/null; sync; echo $?", "0"),
        ("and gives it back from the medium", f"echo 3 > /proc/sys/vm/drop_caches; dd if={node} bs=64k skip=100 count=16 2>/dev/null | md5sum", random),
        (f"{disk.name} takes a file system", f"mke2fs {node} > /dev/null; mkdir -p /mnt; mount -t ext4 {node} /mnt; cp /tmp/a /mnt/a; cp /tmp/a /mnt/b; umount /mnt; echo $?", "0"),
    ]
    for what, line, answer in commands:
        console.ask(what, line, answer)
    before = disk.space()
    report(before >= SIZE, f"all of {disk.name} takes space of the host", before)
    console.ask("what is not in use is trimmed", f"mount -t ext4 {node} /mnt; rm /mnt/b; fstrim /mnt; echo $?; umount /mnt", "0")
    after = disk.space()
    if holes:
        report(after < SMALL, f"and goes back to the host, on {disk.name}", before, after)
    console.ask("the rest is there after it was unmounted", f"echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 {node} /mnt; md5sum < /mnt/a; ls /mnt; umount /mnt", random, "a", "lost+found")


PORT_TEXT = "through the port"
# A virtio feature's place in the string of bits.
PACKED = 34
ATA = "{}/host*/target*/*/block/sd*"
DISKS = [
    Disk("ide", "ata_piix", of_viv="--disk {}", find=pci_disk("ata_piix", ATA.format("ata*"))),
    Disk("ahci", "ahci", of_viv="--disk {},bus=ahci", find=pci_disk("ahci", ATA.format("ata*")), messages=("ahci", 1)),
    Disk("nvme", "nvme", of_viv="--disk {},bus=nvme", find=pci_disk("nvme", "nvme/nvme*/nvme*n1"), messages=("nvme", cpus + 1)),
    Disk("virtio", "virtio_blk", of_viv="--disk {},bus=virtio", find="basename /sys/bus/virtio/devices/virtio0/block/*",
         messages=("virtio0-req", min(cpus, 4)), packed=True),
    Disk("virtio-split", "virtio_blk", of_viv="--virtio block,image={},split", find="basename /sys/bus/virtio/devices/virtio1/block/*",
         messages=("virtio1-req", min(cpus, 4)), packed=False),
    Disk("virtio-mmio", "virtio_mmio", of_viv="--disk {},bus=virtio-mmio", find=mmio_disk(0), packed=True),
    Disk("virtio-mmio-split", "virtio_mmio", of_viv="--virtio block,bus=mmio,image={},split", find=mmio_disk(1), packed=False),
]
commands = [
    ("virtio's random bytes are the kernel's source", "cat /sys/class/misc/hw_random/rng_current", "virtio_rng.0"),
    ("which can be read", "dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c", "256"),
    ("a port of a virtio console has its name", "cat /sys/class/virtio-ports/*/name", "org.vivarium.test"),
    ("and can be written to", f"echo {PORT_TEXT} > /dev/$(ls /sys/class/virtio-ports); echo $?", "0"),
    ("virtio's network card is up", "ip address add 10.0.2.15/24 dev eth0; ip link set eth0 up; cat /sys/class/net/eth0/carrier", "1"),
    ("and reaches the gateway", "ping -c 3 -s 1000 10.0.2.2 | grep -c 'seq='", "3"),
]
report = Report()
images = tempfile.TemporaryDirectory()
machine = [*options]
for number, disk in enumerate(DISKS):
    disk.make(images.name, ("raw", "qcow2")[number % 2] if arguments.format == "both" else arguments.format)
    machine += disk.of_viv.format(disk.path).split(" ")
holes = punches_holes(images.name)
if not holes:
    print("# this host's file system has no holes: what trimming gives back is not looked at")
port_file = os.path.join(images.name, "port")
machine += ["--virtio", "entropy", "--virtio", f"console,chardev=file:{port_file},name=org.vivarium.test", "--net", "user,model=virtio"]
# A KVM that interprets what it cannot run takes its time.
console = LinuxGuest(arguments.viv, guest, machine, report, patience=280 if "soft" in options else 1800)
console.wait_for_shell()
for what, line, answer in commands:
    console.ask(what, line, answer)
random = (console.answer("dd if=/dev/urandom of=/tmp/a bs=64k count=16 2>/dev/null; md5sum < /tmp/a") or ["none"])[0]
for disk in DISKS:
    work_with(disk, console, report, holes, random)
console.ask("no driver complains", "dmesg | grep -iE 'ata[0-9]|nvme|virtio|vd[a-d]|EXT4|I/O error' | grep -ciE 'error|fail|timeout|exception|abort|corrupt'", "0")
outcome = console.power_off()
print(f"# it ran on {outcome.get('engine')} at the end, {outcome.get('guest_seconds')} s of guest time")
with open(port_file) as port:
    report(port.read() == PORT_TEXT + "\n", "what was written to the port came out of it")
for disk in DISKS:
    disk.sound(report)
report.end()
