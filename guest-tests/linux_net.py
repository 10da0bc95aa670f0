#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own driver of a NIC on a user network: it takes an address, fetches from
a server of the host, sends to one, is reached through a published port, and sees its cable pulled out and plugged in; prints TAP:
linux_net.py VIV MODEL DRIVER [--kib N] [viv options...]. Skipped when `tools/fetch-guests linux-net` has not been run."""
import hashlib
import random
import socket
import sys
import threading
import time

from linux_guest import PROMPT, LinuxGuest, Report, fetched

viv, model, driver, *options = sys.argv[1:]
KIB = 1024
if "--kib" in options:
    at = options.index("--kib")
    KIB = int(options[at + 1])
    del options[at : at + 2]
guest = fetched("linux-net", driver)

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
# The end of the steps would end the run; behind the button it waits for the guest to power off, which does so by itself.
STEPS = ["--until", "pull 42", "--link", "nic0=down", "--until", "plug 42", "--link", "nic0=up", "--until", "end 42", "--power-button"]
CARRIER = "cat /sys/class/net/eth0/carrier"


def carrier(word, wanted):
    """A command that has the cable changed, and waits half a minute at most for the driver to notice."""
    return f'echo {word} $((6*7)); i=0; while [ $({CARRIER}) != {wanted} ] && [ $i -lt 30 ]; do sleep 1; i=$((i+1)); done; {CARRIER}; echo "$i s"'


report = Report()
machine = LinuxGuest(viv, guest, ["--net", f"user,model={model}", "--publish", f"{published}:7", *STEPS, *options], report, append="quiet net.ifnames=0")
machine.wait_for_shell()
for what, line, answer in commands:
    machine.ask(what, line, answer)
report(hashlib.md5(b"".join(received)).hexdigest() == digest, "the host has it back whole")
reached = b""
if machine.alive:
    # Whoever connects before the guest listens is refused by the guest, and the host's side closes.
    machine.send("echo served by the guest | nc -l -p 7; echo closed")
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
    machine.alive = bool(reached) and machine.read_until(PROMPT) is not None
report(reached == b"served by the guest\n", "a published port leads to it")
machine.ask(*QUIET)
for word, wanted, what in (("pull", "0", "has no carrier when the cable is out"), ("plug", "1", "has one when it is in again")):
    if model == "ne2k_pci":  # the DP8390 does not know its cable
        machine.answer(f"echo {word} $((6*7)); sleep 1")
        continue
    words = machine.answer(carrier(word, wanted))
    report(bool(words) and words[-3] == wanted, f"{driver} {what}", words)
if model != "ne2k_pci":
    machine.ask("the router answers again", "ping -c 1 10.0.2.2 > /dev/null; echo $?", "0")
machine.answer("echo end $((6*7)); sleep 1")
if not machine.alive:
    machine.machine.terminate()
machine.power_off()
report.end()
