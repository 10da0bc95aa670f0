#!/usr/bin/env python3
"""Old systems, unmodified, on the user network through their own drivers of our NICs: old_systems_net.py VIV. Prints TAP; needs
elks-0.7.img, kolibrios.img and openbsd-2.8.img in $VIV_GUESTS (by default the folder shared/guests beside the project).

ELKS and OpenBSD fetch a page of a server on this host; KolibriOS, whose screen is a picture, gets an address and pings the router,
which the record of frames shows."""
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

viv = os.path.abspath(sys.argv[1])
project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
guests = os.environ.get("VIV_GUESTS") or os.path.join(os.path.dirname(project), "shared", "guests")

PAGE = b"the page of a server on the host\n" * 1000
server = socket.create_server(("127.0.0.1", 0))
PORT = server.getsockname()[1]
requests = []


def serve():
    while True:
        peer, _ = server.accept()
        request = b""
        # It comes in several segments. Who closes with some of it unread resets the connection, and loses the page.
        while b"\r\n\r\n" not in request and (piece := peer.recv(4096)):
            request += piece
        requests.append(request)
        peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE))
        peer.close()


threading.Thread(target=serve, daemon=True).start()


def frames_of(record):
    """The frames of a pcap file."""
    at = 24
    while at < len(record):
        size = struct.unpack_from("<I", record, at + 8)[0]
        yield record[at + 16:at + 16 + size]
        at += 16 + size


def fetches(_, record):
    """The page was asked for once, and all of it came through the card."""
    asked = [request for request in requests if request.startswith(b"GET /there")]
    return [(len(asked) == 1, "asks the server for a page"), (sum(map(len, frames_of(record))) > len(PAGE), "and the record of frames is as long")]


def pings(_, record):
    """An address by DHCP, and as many answers as questions from the router."""
    udp = [frame for frame in frames_of(record) if frame[12:14] == b"\x08\x00" and frame[23] == 17]
    leases = [frame for frame in udp if frame[34:38] == b"\x00\x43\x00\x44" and b"\x35\x01\x05" in frame[280:]]
    echoes = [frame[34] for frame in frames_of(record) if frame[12:14] == b"\x08\x00" and frame[23] == 1]
    return [(len(leases) == 1, "gets an address by DHCP"), (echoes.count(8) > 1 and echoes.count(8) == echoes.count(0), "and answers to its pings")]


ELKS = ["--until", "login:", "--type", r"root\n", "--until", "# ", "--type", r"net start ne0\n",
        "--until", "mac 52.54.00.12.34.56 mtu 1500", "--until", "# ",
        "--type", rf"urlget http://10.0.2.2:{PORT}/there | wc\n", "--until", str(len(PAGE))]


def kolibri():
    """Win+R asks for a program. What it was asked for last stays in its line."""
    def line(text):
        return ["--type", r"\b" * 28 + text + r"\n"]
    return ["--memory", "256M", "--until", "Kolibri OS", "--wait", "25", "--type", "<win-r>", "--wait", "3", *line("/sys/network/netcfg A"), "--wait", "5",
            *line("/sys/network/zeroconf"), "--wait", "10", *line("/sys/network/ping 10.0.2.2"), "--wait", "8"]


def openbsd(interface):
    return ["--until", "boot>", "--type", r"\n", "--until", "or (S)hell?", "--type", r"s\n", "--until", "# ",
            "--type", rf"ifconfig {interface} 10.0.2.15 netmask 255.255.255.0; ping -c 2 10.0.2.2\n", "--until", "2 packets received", "--until", "# ",
            "--type", rf"ftp -V -o /tmp/page http://10.0.2.2:{PORT}/there; ls -l /tmp/page\n", "--until", f"{len(PAGE)} "]


# system and card, image, --net, the script, what is looked at afterwards
CASES = [
    ("ELKS, an NE2000", "elks-0.7.img", "model=ne2k_isa,irq=12", ELKS, fetches),
    ("KolibriOS, an 82540EM", "kolibrios.img", "model=e1000", kolibri(), pings),
    ("KolibriOS, an RTL8139", "kolibrios.img", "model=rtl8139", kolibri(), pings),
    ("KolibriOS, a PCnet", "kolibrios.img", "model=pcnet", kolibri(), pings),
    ("KolibriOS, an RTL8029", "kolibrios.img", "model=ne2k_pci", kolibri(), pings),
    ("OpenBSD 2.8, an RTL8139", "openbsd-2.8.img", "model=rtl8139", openbsd("rl0"), fetches),
    ("OpenBSD 2.8, an NE2000", "openbsd-2.8.img", "model=ne2k_isa,port=0x240,irq=9", openbsd("ne0"), fetches),
    ("OpenBSD 2.8, a PCnet", "openbsd-2.8.img", "model=pcnet", openbsd("le1"), fetches),
]

number = 0
for system, image, card, script, look in CASES:
    path = os.path.join(guests, image)
    if not os.path.exists(path):
        number += 1
        print(f"ok {number} - {system} # SKIP no {image} among the guests", flush=True)
        continue
    requests.clear()
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "frames.pcap")
        command = [viv, "run", "--engine", "soft", "--clock", "virtual", "--snapshot", "--display", "none", "--timeout", "300",
                   "--net", f"user,{card}", "--pcap", file, path, *script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        record = b""
        if os.path.exists(file):
            with open(file, "rb") as opened:
                record = opened.read()
    for passed, what in [(done.returncode == 0, "is at its end"), *look(done, record)]:
        number += 1
        print(f"{'ok' if passed else 'not ok'} {number} - {system}: {what}", flush=True)
    for text in done.stderr.splitlines() if done.returncode else []:
        print(f"# {text}", flush=True)
print(f"1..{number}")
