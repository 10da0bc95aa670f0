#!/usr/bin/env python3
"""Runs the test guests on both engines and compares what they print: same_output.py VIV FOLDER [NAME OPTION... --]...; prints TAP.

What must differ is left out: measurements, which guests print as notes."""
import difflib
import os
import subprocess
import sys

viv, folder, *rest = sys.argv[1:]
here = os.path.dirname(os.path.abspath(__file__))
cases, current = [], []
for word in rest:
    if word == "--":
        cases.append((current[0], current[1:]))
        current = []
    else:
        current.append(word)

if not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP this host has no /dev/kvm to use")
    sys.exit(0)


def output(engine, name, options):
    # On virtual time where that can be: a busy host disturbs less.
    clock = ["--clock", "virtual", "--mips", "20"] if engine == "soft" else []
    command = [sys.executable, os.path.join(here, "run_guest.py"), viv, os.path.join(folder, name + ".img"), "--engine", engine, *clock, *options]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return [line for line in run.stdout.splitlines() if not line.startswith("#") or line.startswith("# turn")]


for number, (name, options) in enumerate(cases, 1):
    soft = output("soft", name, options)
    kvm = output("kvm", name, options)
    print(f"{'ok' if kvm == soft and kvm else 'not ok'} {number} - {name} prints the same on both engines", flush=True)
    if kvm != soft:
        for line in difflib.unified_diff(kvm, soft, "kvm", "soft", n=1, lineterm=""):
            print(f"# {line}", flush=True)
print(f"1..{len(cases)}")
