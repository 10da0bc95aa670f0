#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own driver of a NIC on a user network: it takes an address, fetches from
a server of the host, sends to one, and is reached through a published port; prints TAP:
linux_net.py VIV MODEL DRIVER [--kib N] [viv options...]. Skipped when `tools/fetch-guests linux-net` has not been run."""
import gzip
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

viv, model, driver, *options = sys.argv[1:]
KIB = 1024
if "--kib" in options:
    at = options.index("--kib")
    KIB = int(options[at + 1])
    del options[at : at + 2]
cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
folder = os.path.join(cache, "vivarium", "guests", "linux-net")
kernel, initrd = os.path.join(folder, "vmlinuz"), os.path.join(folder, "initramfs.gz")
if not (os.path.exists(kernel) and os.path.exists(initrd)):
    print("1..0 # SKIP linux-net: run tools/fetch-guests linux-net to have this guest")
    sys.exit(0)
with gzip.open(initrd) as file:
    if f"{driver}.ko".encode() not in file.read():
        print(f"1..0 # SKIP linux-net: it was fetched before it had {driver}; run tools/fetch-guests --update linux-net")
        sys.exit(0)

PROMPT = b"/ # "
CONTENT = random.Random(1).randbytes(KIB << 10)
received = []


def listener():
    server = socket.create_server(("127.0.0.1", 0))
    return server, server.getsockname()[1]


def serve(server):
    """The first who connects gets the content, the second gives some."""
    peer, _ = server.accept()
    peer.sendall(CONTENT)
    peer.close()
    peer, _ = server.accept()
    while piece := peer.recv(1 << 16):
        received.append(piece)
    peer.close()


def free_port():
    server, port = listener()
    server.close()
    return port


server, port = listener()
threading.Thread(target=serve, args=(server,), daemon=True).start()
published = free_port()
digest = hashlib.md5(CONTENT).hexdigest()
SCRIPT = r"""printf '#!/bin/sh\n[ "$1" = bound ] || exit 0\nip addr add $ip/$mask dev $interface\nip route add default via $router\n' > /tmp/lease; chmod +x /tmp/lease; echo $?"""
# A command, and a word that its output has.
commands = [
    (f"{driver} drives it", f"readlink /sys/class/net/eth0/device/driver | grep -c /{driver}", "1"),
    ("it has the address of the card", "cat /sys/class/net/eth0/address", "52:54:00:12:34:56"),
    ("the interface comes up", "ip link set lo up; ip link set eth0 up; echo $?", "0"),
    ("a script for the lease is written", SCRIPT, "0"),
    ("it leases 10.0.2.15", "udhcpc -q -n -t 8 -i eth0 -s /tmp/lease 2>&1 | grep -c 'lease of 10.0.2.15 obtained'", "1"),
    ("the router answers pings of all sizes", "ping -c 1 10.0.2.2 > /dev/null && ping -c 1 -s 1400 10.0.2.2 > /dev/null; echo $?", "0"),
    ("a file of the host arrives whole", f"nc 10.0.2.2 {port} < /dev/null > /tmp/a; md5sum /tmp/a", digest),
    ("and goes back", f"nc 10.0.2.2 {port} < /tmp/a; echo $?", "0"),
]
QUIET = ("no driver complains", "dmesg | grep eth0 | grep -ciE 'error|fail|timed|unit|abort|transmit'", "0")
number = 0


def report(passed, what):
    global number
    number += 1
    print(f"{'ok' if passed else 'not ok'} {number} - {what}", flush=True)


print(f"1..{len(commands) + 5}")
command = [viv, "run", "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 panic=-1 quiet net.ifnames=0", "--memory", "192M",
           "--serial", "stdio", "--display", "none", "--no-reboot", "--timeout", "280", "--json",
           "--net", f"user,model={model}", "--publish", f"{published}:7", *options]
machine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
output = b""


def read_until(text):
    """What comes up to and with `text`; None when the machine ends before."""
    global output
    start = len(output)
    while text not in output[start:]:
        piece = os.read(machine.stdout.fileno(), 4096)
        if not piece:
            return None
        output += piece
    return output[start:].replace(b"\r", b"")


def send(line):
    machine.stdin.write(line.encode() + b"\n")
    machine.stdin.flush()


def ask(what, line, answer):
    global alive
    if alive:
        send(line)
    said = read_until(PROMPT) if alive else None
    alive = said is not None
    # Behind the echo of the command, which the terminal may have broken into lines.
    passed = alive and answer.encode() in said[: -len(PROMPT)].split()[len(line.split()) :]
    report(passed, what)
    if not passed:
        print(f"# {line!r} was answered by {said!r}")


alive = read_until(PROMPT) is not None
report(alive, "reaches a shell on the serial line")
for what, line, answer in commands:
    ask(what, line, answer)
report(hashlib.md5(b"".join(received)).hexdigest() == digest, "the host has it back whole")
reached = b""
if alive:
    # Whoever connects before the guest listens is refused by the guest, and the host's side closes.
    send("echo served by the guest | nc -l -p 7; echo closed")
    for _ in range(300):
        try:
            with socket.create_connection(("127.0.0.1", published), timeout=20) as client:
                client.settimeout(20)
                while piece := client.recv(4096):
                    reached += piece
        except OSError:
            pass
        if reached:
            break
        time.sleep(0.1)
    alive = read_until(b"closed\r\n" + PROMPT) is not None if reached else False
report(reached == b"served by the guest\n", "a published port leads to it")
ask(*QUIET)
if alive:
    send("poweroff -f")
    read_until(b"\0 what no guest prints \0")
else:
    machine.terminate()
machine.wait()
try:
    outcome = json.loads(output[output.index(b'{"outcome"') :])
except ValueError:
    outcome = {}
report(outcome.get("outcome") == "powered-off" and machine.returncode == 0, "powers off")
if outcome.get("outcome") != "powered-off":
    print("# the serial line ends with:")
    for line in output.decode(errors="replace").splitlines()[-15:]:
        print(f"# {line}")
