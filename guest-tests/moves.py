#!/usr/bin/env python3
"""Machines that move between the engines while they run, and lose nothing: moves.py VIV LONG_MODE_IMAGE; prints TAP.

On host time they move between KVM and the software CPU, whichever they begin on. On virtual time, where KVM cannot run, they move from one software
CPU to another: like that the whole state passes through what engines exchange, and a machine that has moved a hundred times
must end like one that never has."""
import json
import os
import subprocess
import sys
import tempfile

viv, long_mode = sys.argv[1:3]
project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
guests = os.environ.get("VIV_GUESTS") or os.path.join(os.path.dirname(project), "shared", "guests")
freedos = os.path.join(guests, "freedos722.img")
has_kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)

HOST = ["--engine", "auto"]
VIRTUAL = ["--engine", "soft", "--clock", "virtual"]
KEYS = "viv moves"
SCANCODES = {"v": 0x2F, "i": 0x17, "m": 0x32, "o": 0x18, "e": 0x12, "s": 0x1F, " ": 0x39}
number = 0


def report(passed, what, notes=()):
    global number
    number += 1
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)
    if not passed:
        for note in notes:
            for line in str(note).splitlines():
                print(f"# {line}", flush=True)


def skip(what, why):
    global number
    number += 1
    print(f"ok {number} - {what} # SKIP {why}", flush=True)


def run(engine, steps, image, options=()):
    command = [viv, "run", *engine, "--display", "none", "--snapshot", "--json", "--digest", "--timeout", "150", *options, *steps, image]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        return done.returncode, json.loads(done.stdout), done.stderr
    except json.JSONDecodeError:
        return done.returncode, {}, done.stderr


def kvm_limits():
    """What this host's KVM cannot do, in lines."""
    command = [viv, "run", "--engine", "kvm", "--display", "none", "--json", "--timeout", "0.1"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


class Mover:
    """Steps that move to the other engine, or, where there is but one, to a new one of the kind."""

    def __init__(self, engine, moves):
        self.engine, self.moves = engine, moves
        self.where = "kvm"  # or somewhere else: the first move is to the software CPU

    def step(self):
        if not self.moves:
            return []
        self.where = "soft" if self.where == "kvm" or self.engine is VIRTUAL else "kvm"
        return ["--move", self.where]


def dos_steps(engine, moves):
    """A hundred moves: between commands, in the middle of what they print, and with a command half typed. Behind a text
    that was seen, so that on virtual time the run without moves takes the same course."""
    mover = Mover(engine, moves)
    steps = ["--until", r"A:\>"]
    for turn in range(20):
        steps += ["--type", "echo tu", "--until", r"A:\>echo tu", *mover.step()]
        steps += ["--type", f"rn{turn:02}x\\n", "--until", f"\nturn{turn:02}x", *mover.step()]
        steps += ["--type", r"dir\n", "--until", "Directory of", *mover.step(), "--until", "bytes free", *mover.step()]
        steps += ["--type", r"cls\n", "--until", "A:\\>", *mover.step()]
    return [*steps, "--type", r"ver\n", "--until", "FreeCom version"]


def long_mode_steps(engine, moves):
    mover = Mover(engine, moves)
    steps = []
    for turn in range(1, 100):
        steps += ["--until", f"# turn {turn}\n"] + mover.step()
        if turn % 10 == 0:
            steps += ["--type", KEYS[turn // 10 - 1]]
    return [*steps, *mover.step(), "--until", "end of test"]


def moves_of(result):
    return result.get("counters", {}).get("engine-moves", 0)


def dos(engine, clock):
    name = f"FreeDOS moves a hundred times ({clock} time)"
    if not os.path.exists(freedos):
        return skip(name, "no freedos722.img among the guests")
    if engine is HOST and not has_kvm:
        return skip(name, "this host has no /dev/kvm to use")
    code, result, errors = run(engine, dos_steps(engine, True), freedos)
    report(code == 0 and moves_of(result) == 100, name, [f"exit code {code}, {moves_of(result)} moves", result.get("message"), errors])
    if engine is VIRTUAL:
        # Not the digest: blocks that are decoded anew can begin elsewhere, and an interrupt be taken some instructions
        # later.
        _, still, _ = run(engine, dos_steps(engine, False), freedos)
        report(still.get("screen") == result.get("screen"), f"{name}: shows what one shows that stays", [still.get("screen"), result.get("screen")])


def long_mode_run(engine, moves):
    with tempfile.TemporaryDirectory() as folder:
        serial = os.path.join(folder, "serial")
        ended = run(engine, long_mode_steps(engine, moves), long_mode, ["--serial", f"file:{serial}"])
        with open(serial) as file:
            return *ended, file.read()


def in_long_mode(engine, clock):
    name = f"a guest in 64-bit mode moves a hundred times ({clock} time)"
    if engine is HOST and not has_kvm:
        return skip(name, "this host has no /dev/kvm to use")
    code, result, errors, serial = long_mode_run(engine, True)
    turns = "".join(f"# turn {turn}\n" for turn in range(1, 101))
    keys = [code for key in KEYS for code in (SCANCODES[key], SCANCODES[key] + 0x80)]
    typed = [int(code, 16) for line in serial.splitlines() if line.startswith("# keys") for code in line.split()[2:]]
    passed = code == 0 and moves_of(result) == 100 and turns in serial and "not ok" not in serial
    report(passed, name, [f"exit code {code}, {moves_of(result)} moves", result.get("message"), errors, serial])
    report(typed == keys, f"{name}: every key once, in order", [keys, typed])
    fixed_features = engine is HOST and "cannot be hidden" in kvm_limits()
    report(fixed_features or "CPU features changed" not in serial, f"{name}: CPUID shows the same features everywhere", [serial])
    if engine is VIRTUAL:
        _, still, _, quiet = long_mode_run(engine, False)
        report(quiet == serial, f"{name}: the same on the serial line", [serial])
        report(still.get("digest") == result.get("digest") and still.get("instructions") == result.get("instructions"),
               f"{name}: ends like one that stays", [still.get("digest"), result.get("digest"), still.get("instructions"), result.get("instructions")])


for engine, clock in ((VIRTUAL, "virtual"), (HOST, "host")):
    in_long_mode(engine, clock)
    dos(engine, clock)
print(f"1..{number}")
