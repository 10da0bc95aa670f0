#!/usr/bin/env python3
"""Boots ELKS, whose driver of an NE2000 on the ISA bus and TCP fetch a page of a server on this host: elks_net.py VIV. Prints TAP;
needs elks-0.7.img in $VIV_GUESTS (by default the folder shared/guests beside the project)."""
import os
import socket
import subprocess
import sys
import tempfile
import threading

viv = os.path.abspath(sys.argv[1])
project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
image = os.path.join(os.environ.get("VIV_GUESTS") or os.path.join(os.path.dirname(project), "shared", "guests"), "elks-0.7.img")
if not os.path.exists(image):
    print("1..0 # SKIP no elks-0.7.img among the guests")
    sys.exit(0)

PAGE = b"the page of a server on the host\n"
server = socket.create_server(("127.0.0.1", 0))
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
with tempfile.TemporaryDirectory() as folder:
    record = os.path.join(folder, "frames.pcap")
    command = [viv, "run", "--engine", "soft", "--clock", "virtual", "--snapshot", "--display", "none", "--timeout", "200",
               "--net", "user,model=ne2k_isa,irq=12", "--pcap", record, image, "--until", "login:", "--type", r"root\n", "--until", "# ",
               "--type", r"net start ne0\n", "--until", "mac 52.54.00.12.34.56 mtu 1500", "--until", "# ",
               "--type", rf"urlget http://10.0.2.2:{server.getsockname()[1]}/there\n", "--until", PAGE.decode().strip()]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        with open(record, "rb") as file:
            frames = file.read()
    except OSError:
        frames = b""
results = [(done.returncode == 0, "the page comes through an NE2000"),
           (len(requests) == 1 and requests[0].startswith(b"GET /there"), "the server was asked for it"),
           (frames[:4] == bytes([0x4D, 0x3C, 0xB2, 0xA1]) and PAGE in frames, "the record of frames has it")]
for number, (passed, what) in enumerate(results, 1):
    print(f"{'ok' if passed else 'not ok'} {number} - {what}")
for line in done.stderr.splitlines() if done.returncode else []:
    print(f"# {line}")
print(f"1..{len(results)}")
