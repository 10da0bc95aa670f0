#!/usr/bin/env python3
"""Ends runs of a guest that never stops talking: end_of_run.py VIV --engine NAME

The script is over and the run ends while a CPU writes to the serial port, which the script listens to: whatever is taken
apart then must be out of the CPU's reach. Built with AddressSanitizer viv tells when it is not."""
import argparse
import os
import subprocess
import sys
import tempfile

RUNS = 10
# mov ax,12h; int 10h; mov dx,3F8h; mov al,'x'; out dx,al; jmp to the OUT. In a picture the last look takes longer.
TALKER = bytes.fromhex("b81200 cd10 baf803 b078 ee ebfd")

parser = argparse.ArgumentParser()
parser.add_argument("viv")
parser.add_argument("--engine", required=True)
arguments = parser.parse_args()
if arguments.engine == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP end_of_run on kvm: this host has no /dev/kvm to use")
    sys.exit(0)

failed = False
with tempfile.NamedTemporaryFile(suffix=".img") as floppy:
    floppy.write(TALKER.ljust(510, b"\0") + b"\x55\xaa")
    floppy.truncate(1440 * 1024)
    floppy.flush()
    for number in range(1, RUNS + 1):
        run = subprocess.run(
            [arguments.viv, "run", "--engine", arguments.engine, "--display", "none", "--snapshot", "--serial",
             "file:/dev/null", "--timeout", "60", "--until", "xxxxxxxx", "--type", "k", "--until", "xxxxxxxx", floppy.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(f"{'ok' if run.returncode == 0 else 'not ok'} {number} - run {number} ends as its script says")
        if run.returncode:
            failed = True
            print(f"# exit code {run.returncode}\n{run.stdout.decode(errors='replace')}")
print(f"1..{RUNS}")
sys.exit(1 if failed else 0)
