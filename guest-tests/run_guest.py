#!/usr/bin/env python3
"""Runs a test guest and passes its TAP on: run_guest.py VIV IMAGE [--engine NAME] [--scratch-disk MIB]
[--scratch-floppy] [--scratch-disc BLOCKS] [--scratch-socket] [--scratch-echo] [--next DRIVE TEXT BLOCKS] [--as-disc EMULATION] [viv options...]

--scratch-disk MIB adds a hard disk whose sector n begins with the number n, for tests that read and write one, and
--scratch-floppy such a floppy; --scratch-disc BLOCKS puts in a CD-ROM whose block n begins with n; --scratch-socket gives it sockets
of the host that nobody is behind, --scratch-echo a virtio console that sends back what is above 100, and --scratch-read-only MIB a
virtio disk as above that refuses writes. --next waits for TEXT and puts such a medium of BLOCKS blocks into DRIVE (0: takes out what is there). --as-disc boots the guest from a
CD-ROM with that emulation of make_iso.py, or "section". An engine that viv or this host does not have skips the test by
name."""
import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading

import make_iso


def write_numbered(path, blocks, block_size):
    """A medium of zeros whose block n begins with n, in the first blocks at least."""
    with open(path, "wb") as medium:
        medium.truncate(blocks * block_size)
        for block in range(0, min(blocks, 4096)):
            medium.seek(block * block_size)
            medium.write(block.to_bytes(4, "little"))
    return path


def echo(listener):
    with listener.accept()[0] as peer:
        while bytes_in := peer.recv(4096):
            peer.sendall(bytes(number for number in bytes_in if number > 100))


parser = argparse.ArgumentParser()
parser.add_argument("viv")
parser.add_argument("image")
parser.add_argument("--engine", default="kvm")
parser.add_argument("--scratch-disk", action="append", default=[], metavar="MIB[,bus=NAME]")
parser.add_argument("--scratch-floppy", action="store_true")
parser.add_argument("--scratch-disc", metavar="BLOCKS[,bus=NAME]")
parser.add_argument("--scratch-socket", action="store_true")
parser.add_argument("--scratch-echo", action="store_true")
parser.add_argument("--scratch-read-only", metavar="MIB")
parser.add_argument("--next", nargs=3, action="append", default=[], metavar=("DRIVE", "TEXT", "BLOCKS"))
parser.add_argument("--as-disc")
parser.add_argument("--timeout", default="120")
arguments, options = parser.parse_known_args()

name = os.path.basename(arguments.image)
if arguments.engine == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print(f"1..0 # SKIP {name} on kvm: this host has no /dev/kvm to use")
    sys.exit(0)

with tempfile.TemporaryDirectory() as folder:
    for number, size in enumerate(arguments.scratch_disk):
        size, comma, bus = size.partition(",")
        path = write_numbered(os.path.join(folder, f"disk{number}.img"), int(size) << 11, 512)
        options += ["--disk", path + comma + bus]
    if arguments.scratch_floppy:
        options += ["--floppy", write_numbered(os.path.join(folder, "floppy.img"), 2880, 512)]
    if arguments.scratch_disc:
        blocks, comma, bus = arguments.scratch_disc.partition(",")
        options += ["--cdrom", write_numbered(os.path.join(folder, "disc.iso"), int(blocks), 2048) + comma + bus]
    if arguments.scratch_socket:
        options += ["--vsock", f"cid=7,socket={folder}/socket"]
    if arguments.scratch_echo:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(folder, "echo"))
        listener.listen(1)
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        options += ["--virtio", f"console,chardev=unix:{folder}/echo"]
    if arguments.scratch_read_only:
        path = write_numbered(os.path.join(folder, "read-only.img"), int(arguments.scratch_read_only) << 11, 512)
        options += ["--virtio", f"block,read-only,image={path}"]
    for number, (drive, text, blocks) in enumerate(arguments.next):
        path = os.path.join(folder, f"next{number}.img")
        block_size = 2048 if drive.startswith("cdrom") else 512
        change = ["--eject", drive]
        if int(blocks):
            change = ["--insert", f"{drive}={write_numbered(path, int(blocks), block_size)}"]
        options += ["--until", text, *change]
    if arguments.next:
        options += ["--until", "end of test"]
    if arguments.as_disc:
        in_section = arguments.as_disc == "section"
        with open(arguments.image, "rb") as program, open(os.path.join(folder, "boot.iso"), "wb") as disc:
            disc.write(make_iso.make_iso(program.read(), "none" if in_section else arguments.as_disc, in_section))
        arguments.image = disc.name
        options += ["--boot", "cdrom"]
    if "--net" not in options:
        options += ["--net", "none"]
    command = [arguments.viv, "run", "--engine", arguments.engine, "--display", "none", "--snapshot", "--serial", "stdio",
               "--exit-port", "0x501", "--timeout", arguments.timeout, *options, arguments.image]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
errors = run.stderr.decode(errors="replace")
if run.returncode == 2 and "--engine" in errors:
    print(f"1..0 # SKIP {name} on {arguments.engine}: {errors.strip()}")
    sys.exit(0)
# The guest sends "\n"; what a serial line adds is not part of TAP.
output = run.stdout.decode(errors="replace").replace("\r", "")
print(output, end="", flush=True)
# What viv says comes last: why a run ended is what a reader of a long output looks for.
sys.stderr.write(errors)
if run.returncode not in (0, 1) or "1.." not in output:
    print(f"Bail out! {name} ended with exit code {run.returncode} before its plan")
    sys.exit(1)
