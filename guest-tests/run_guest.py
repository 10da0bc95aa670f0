#!/usr/bin/env python3
"""Runs a test guest and passes its TAP on: run_guest.py VIV IMAGE [--engine NAME] [--scratch-disk MIB] [viv options...]

--scratch-disk MIB adds a hard disk whose sector n begins with the number n, for tests that read and write one. An engine
that viv or this host does not have skips the test by name."""
import argparse
import os
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("viv")
parser.add_argument("image")
parser.add_argument("--engine", default="kvm")
parser.add_argument("--scratch-disk", type=int, action="append", default=[])
parser.add_argument("--timeout", default="120")
arguments, options = parser.parse_known_args()

name = os.path.basename(arguments.image)
if arguments.engine == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print(f"1..0 # SKIP {name} on kvm: this host has no /dev/kvm to use")
    sys.exit(0)

with tempfile.TemporaryDirectory() as folder:
    for number, size in enumerate(arguments.scratch_disk):
        path = os.path.join(folder, f"disk{number}.img")
        with open(path, "wb") as disk:
            disk.truncate(size << 20)
            for sector in range(0, min(size << 11, 4096)):
                disk.seek(sector * 512)
                disk.write(sector.to_bytes(4, "little"))
        options += ["--disk", path]
    command = [arguments.viv, "run", "--engine", arguments.engine, "--display", "none", "--snapshot", "--serial", "stdio",
               "--exit-port", "0x501", "--timeout", arguments.timeout, *options, arguments.image]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
errors = run.stderr.decode(errors="replace")
if run.returncode == 2 and "--engine" in errors:
    print(f"1..0 # SKIP {name} on {arguments.engine}: {errors.strip()}")
    sys.exit(0)
sys.stderr.write(errors)
# The guest sends "\n"; what a serial line adds is not part of TAP.
output = run.stdout.decode(errors="replace").replace("\r", "")
print(output, end="")
if run.returncode not in (0, 1) or "1.." not in output:
    print(f"Bail out! {name} ended with exit code {run.returncode} before its plan")
    sys.exit(1)
