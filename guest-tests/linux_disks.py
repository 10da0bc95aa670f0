#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own drivers and works with a disk on each controller and with the other
virtio devices; prints TAP: linux_disks.py VIV [viv options...]. Skipped when `tools/fetch-guests linux-disks` has not been run."""
import hashlib
import os
import sys
import tempfile

from linux_guest import LinuxGuest, Report, fetched

viv, *options = sys.argv[1:]
cpus = int(options[options.index("--cpus") + 1]) if "--cpus" in options else 1
guest = fetched("linux-disks", "virtio_blk")

SIZE = 24 << 20
# Bytes that repeat nowhere.
CONTENT = b"".join(number.to_bytes(8, "little") * 64 for number in range(SIZE // 512))


def disk_commands(disk, driver):
    """A command, and a word that its output has."""
    messages = {"ahci": 1, "nvme": cpus + 1, "virtio0-req": min(cpus, 4), "virtio1-req": min(cpus, 4)}
    probe = []
    if driver in ("ahci", "nvme"):
        probe.append((f"{driver} drives {disk}", f"ls /sys/bus/pci/drivers/{driver} | grep -c 0000:", "1"))
    if driver in messages:
        probe.append(("by messages", f"grep {driver} /proc/interrupts | grep -c MSI", str(messages[driver])))
    return probe + [
        (f"{disk} has its size", f"cat /sys/block/{disk}/size", str(SIZE // 512)),
        (f"{disk} reads as the image", f"dd if=/dev/{disk} bs=1M count=4 skip=3 2>/dev/null | md5sum", md5(CONTENT[3 << 20 : 7 << 20])),
        (f"{disk} takes what is written", f"dd if=/dev/urandom of=/tmp/a bs=64k count=32 2>/dev/null; dd if=/tmp/a of=/dev/{disk} bs=64k seek=100 2>/dev/null; sync; echo $?", "0"),
        ("and gives it back from the medium", f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/{disk} bs=64k skip=100 count=32 2>/dev/null | cmp - /tmp/a; echo $?", "0"),
        (f"{disk} takes a file system", f"mke2fs /dev/{disk} > /dev/null; mkdir -p /mnt; mount -t ext4 /dev/{disk} /mnt; cp /tmp/a /mnt/a; fstrim /mnt; umount /mnt; echo $?", "0"),
        ("that is there after it was unmounted", f"echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 /dev/{disk} /mnt; cmp /mnt/a /tmp/a; echo $?; umount /mnt", "0"),
    ]


def md5(content):
    return hashlib.md5(content).hexdigest()


PORT_TEXT = "through the port"
# A virtio feature's place in the string of bits.
PACKED = 34
# How the disk hangs on; its name; what its interrupts are called.
DISKS = [("bus=ahci", "sda", "ahci"), ("bus=nvme", "nvme0n1", "nvme"), ("bus=virtio", "vda", "virtio0-req"),
         ("split", "vdb", "virtio1-req")]
commands = [
    ("a virtio disk has packed queues", f"cut -c{PACKED + 1} /sys/bus/virtio/devices/virtio0/features", "1"),
    ("one that does not offer them has split ones", f"cut -c{PACKED + 1} /sys/bus/virtio/devices/virtio1/features", "0"),
    ("virtio's random bytes are the kernel's source", "cat /sys/class/misc/hw_random/rng_current", "virtio_rng.0"),
    ("which can be read", "dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c", "256"),
    ("a port of a virtio console has its name", "cat /sys/class/virtio-ports/*/name", "org.vivarium.test"),
    ("and can be written to", f"echo {PORT_TEXT} > /dev/$(ls /sys/class/virtio-ports); echo $?", "0"),
    ("virtio's network card is up", "ip address add 10.0.2.15/24 dev eth0; ip link set eth0 up; cat /sys/class/net/eth0/carrier", "1"),
    ("and reaches the gateway", "ping -c 3 -s 1000 10.0.2.2 | grep -c 'seq='", "3"),
]
for _, disk, driver in DISKS:
    commands += disk_commands(disk, driver)
commands.append(("no driver complains", "dmesg | grep -iE 'ata[0-9]|nvme|virtio|vd[ab]|I/O error' | grep -ciE 'error|fail|timeout|exception|abort'", "0"))
report = Report()
images = tempfile.TemporaryDirectory()
machine = [*options]
for bus, disk, _ in DISKS:
    path = os.path.join(images.name, disk)
    with open(path, "wb") as image:
        image.write(CONTENT)
    machine += ["--virtio", f"block,image={path},split"] if bus == "split" else ["--disk", f"{path},{bus}"]
port_file = os.path.join(images.name, "port")
machine += ["--virtio", "entropy", "--virtio", f"console,chardev=file:{port_file},name=org.vivarium.test", "--net", "user,model=virtio"]
console = LinuxGuest(viv, guest, machine, report)
console.wait_for_shell()
for what, line, answer in commands:
    console.ask(what, line, answer)
console.power_off()
with open(port_file) as port:
    report(port.read() == PORT_TEXT + "\n", "what was written to the port came out of it")
report.end()
