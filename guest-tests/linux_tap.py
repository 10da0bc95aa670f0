#!/usr/bin/env python3
"""Boots the distribution's stock Linux with a NIC at a bridge of the host and one at an interface of its own; host and guest ping each other:
linux_tap.py VIV. Prints TAP. It all is in a network namespace of its own; skipped by name where that, or /dev/net/tun, is not allowed, and when
`tools/fetch-guests linux-net` has not been run."""
import os
import socket
import struct
import subprocess
import sys
import time

from linux_guest import LinuxGuest, Report, fetched

viv = os.path.abspath(sys.argv[1])
guest = fetched("linux-net", "virtio_net")
if "VIV_OWN_NETWORK" not in os.environ:
    own = ["unshare", "--map-root-user", "--net"]
    try:
        # The namespace, an interface of it, and a bridge, are what the test needs.
        allowed = subprocess.run([*own, "sh", "-c", "ip tuntap add dev viv0 mode tap && ip link add br0 type bridge"], capture_output=True, text=True, check=False)
        why = allowed.stderr.strip().splitlines()[-1:] if allowed.returncode else []
    except OSError as error:
        why = [str(error)]
    if why:
        print(f"1..0 # SKIP no tap and no bridge in a network namespace here: {why[0]}")
        sys.exit(0)
    os.execvpe(own[0], [*own, sys.executable, *sys.argv], {**os.environ, "VIV_OWN_NETWORK": "1"})


def host(*command):
    subprocess.run(command, check=True)


def ping(address, count=3):
    """How many of so many pings are answered within half a minute each (RFC 792)."""
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as line:
        for number in range(count):
            header = struct.pack(">BBHHH", 8, 0, 0, 77, number)
            content = b"x" * (number * 600)
            total = sum(struct.unpack(f">{len(header + content) // 2}H", header + content))
            total = (total & 0xFFFF) + (total >> 16)
            total += total >> 16
            line.sendto(header[:2] + struct.pack(">H", ~total & 0xFFFF) + header[4:] + content, (address, 0))
            end = time.monotonic() + 30
            while (left := end - time.monotonic()) > 0:
                line.settimeout(left)
                try:
                    reply = line.recv(4096)
                except TimeoutError:
                    break
                if reply[20] == 0 and reply[24:] == header[4:] + content:
                    answered += 1
                    break
    return answered


def interfaces():
    return [name for _, name in socket.if_nameindex()]


report = Report()
host("ip", "link", "add", "br0", "type", "bridge")
host("ip", "link", "set", "br0", "up")
host("ip", "address", "add", "10.9.0.1/24", "dev", "br0")
machine = LinuxGuest(viv, guest, ["--engine", "soft", "--clock", "virtual", "--net", "tap:viv0,bridge=br0,model=e1000", "--net", "tap:viv1,model=virtio"],
                     report, append="quiet net.ifnames=0")
machine.wait_for_shell()
report(set(interfaces()) >= {"viv0", "viv1"}, "viv makes the interfaces", interfaces())
host("ip", "address", "add", "10.9.1.1/24", "dev", "viv1")
for number, name in enumerate(("a bridge", "an interface")):
    machine.ask(f"an address behind {name}", f"ip link set eth{number} up; ip addr add 10.9.{number}.2/24 dev eth{number}; echo $?", "0")
    answered = ping(f"10.9.{number}.2")
    report(answered == 3, "the guest answers pings of the host", f"{answered} of 3")
    machine.ask("the host answers those of the guest", f"ping -c 3 -s 1400 10.9.{number}.1 | grep -c '1408 bytes from 10.9.{number}.1'", "3")
machine.power_off()
report("viv0" not in interfaces() and "viv1" not in interfaces(), "no interface is left", interfaces())
report.end()
