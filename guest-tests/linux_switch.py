#!/usr/bin/env python3
"""Boots the distribution's stock Linux in two machines on one switch, which ping each other and send a file: linux_switch.py VIV.
Prints TAP; skipped when `tools/fetch-guests linux-net` has not been run. On virtual time, which goes as the host's while both wait."""
import os
import sys
import tempfile

from serial_console import SerialConsole

viv = os.path.abspath(sys.argv[1])
cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
folder = os.path.join(cache, "vivarium", "guests", "linux-net")
kernel, initrd = os.path.join(folder, "vmlinuz"), os.path.join(folder, "initramfs.gz")
if not (os.path.exists(kernel) and os.path.exists(initrd)):
    print("1..0 # SKIP linux-net: run tools/fetch-guests linux-net to have this guest")
    sys.exit(0)

PROMPT = b"/ # "
number = 0
failed = False


def report(passed, what, said=None):
    global number, failed
    number += 1
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)
    if not passed:
        failed = True
        print(f"# {said!r}")


def ask(machine, line, answer, what):
    machine.type(line.encode() + b"\n")
    said = machine.read_until(PROMPT)
    report(said is not None and answer in said[: -len(PROMPT)].split()[len(line.split()) :], what, said)


with tempfile.TemporaryDirectory() as runtime:
    os.environ["XDG_RUNTIME_DIR"] = runtime
    machines = [SerialConsole([viv, "run", "--engine", "soft", "--clock", "virtual", "--kernel", kernel, "--initrd", initrd, "--append",
                               "console=ttyS0 panic=-1 quiet net.ifnames=0", "--memory", "192M", "--no-reboot", "--timeout", "280",
                               "--net", f"switch:lab,delay=1ms,model={model},mac=52:54:00:00:00:0{index}"])
                for index, model in ((1, "e1000"), (2, "virtio"))]
    first, second = machines
    report(all(machine.read_until(PROMPT) is not None for machine in machines), "both reach a shell")
    for index, machine in enumerate(machines, 1):
        ask(machine, f"ip link set eth0 up; ip addr add 10.1.1.{index}/24 dev eth0; echo $?", b"0", f"machine {index} has an address")
    ask(first, "ping -c 3 10.1.1.2 | grep -c '64 bytes from 10.1.1.2'", b"3", "three pings are answered")
    second.type(b"nc -l -p 7 | md5sum\n")
    ask(first, "ping -c 1 10.1.1.2 > /dev/null; dd if=/dev/urandom of=/tmp/a bs=1k count=256 2> /dev/null; md5sum < /tmp/a > /tmp/sum; echo $?",
        b"0", "a file is made")
    ask(first, "nc 10.1.1.2 7 < /tmp/a; echo $?", b"0", "it is sent")
    first.type(b"cat /tmp/sum\n")
    wanted = (first.read_until(PROMPT) or b"").split()[2:3]
    got = (second.read_until(PROMPT) or b"").split()
    report(bool(wanted) and wanted[0] in got, "it arrives whole", (wanted, got))
    for machine in machines:
        machine.type(b"poweroff -f\n")
    outcomes = [machine.finish() for machine in machines]
    report(all(outcome.get("outcome") == "powered-off" for outcome in outcomes), "both power off", outcomes)
    left = [name for _, _, names in os.walk(runtime) for name in names]
    report(not left, "no socket is left", left)
print(f"1..{number}")
sys.exit(failed)
