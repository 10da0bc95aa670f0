#!/usr/bin/env python3
"""Boots the distribution's stock Linux with its own virtio drivers, and uses each device but disks; prints TAP:
linux_virtio.py VIV VSOCK_PEER [viv options...]. Skipped when `tools/fetch-guests linux-virtio` has not been run."""
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import threading
import time

from linux_guest import LinuxGuest, Report, fetched

viv, vsock_peer, *options = sys.argv[1:]
cpus = options[options.index("--cpus") + 1] if "--cpus" in options else "1"
guest = fetched("linux-virtio")



def events(device, count, ready):
    """A command that says `ready`, and prints that many events of an input device as type:code:value."""
    return (f"D=$(grep -l {device} /sys/class/input/event*/device/name | cut -d/ -f5); dd if=/dev/input/$D bs=24 count={count} of=/tmp/e "
            f"2>/dev/null & sleep 1; echo ready for a '{ready}'; wait; od -An -v -tu2 -w24 /tmp/e | awk '{{print $9\":\"$10\":\"$11}}'")


# A folder that the guest gets, and a secret beside it.
host = tempfile.TemporaryDirectory()
folder, outside = os.path.join(host.name, "folder"), os.path.join(host.name, "outside")
for path in (folder, outside, os.path.join(folder, "many")):
    os.mkdir(path)
CONTENT = b"".join(number.to_bytes(8, "little") * 64 for number in range(6000))
MANY = 300
with open(os.path.join(folder, "from-host"), "wb") as file:
    file.write(CONTENT)
with open(os.path.join(outside, "secret"), "w") as file:
    file.write("a secret\n")
for number in range(MANY):
    open(os.path.join(folder, "many", f"a name of some length {number}"), "w").close()
os.symlink(outside, os.path.join(folder, "out"))
os.symlink("../outside/secret", os.path.join(folder, "up"))
DIGEST = hashlib.md5(CONTENT).hexdigest()

BALLOON = 24 << 20

# Who connects first gets the content, the second gives some.
server = socket.create_server(("127.0.0.1", 0))
PORT = server.getsockname()[1]
received = []


def serve():
    peer, _ = server.accept()
    peer.sendall(CONTENT)
    peer.close()
    peer, _ = server.accept()
    while piece := peer.recv(1 << 16):
        received.append(piece)
    peer.close()


threading.Thread(target=serve, daemon=True).start()

# Programs of the host at two ports of the guest's sockets: one gives, one takes. A third comes to the guest.
shutil.copy(vsock_peer, os.path.join(folder, "peer"))
SOCKETS = os.path.join(host.name, "sockets")
taken, answered = [], []


def read_all(peer):
    pieces = []
    while piece := peer.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def serve_guest(port, act):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{SOCKETS}_{port}")
    listener.listen(1)

    def run():
        peer, _ = listener.accept()
        with peer:
            act(peer)

    threading.Thread(target=run, daemon=True).start()


def give(peer):
    peer.sendall(CONTENT)
    peer.shutdown(socket.SHUT_WR)
    taken.append(read_all(peer))


def call_guest():
    """Tries until the guest listens."""
    while not answered:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(SOCKETS)
            peer.sendall(b"CONNECT 1234\n")
            if not (line := peer.makefile("rb", buffering=0).readline()).startswith(b"OK "):
                time.sleep(0.05)
                continue
            # While it gives, for the guest waits for neither.
            giver = threading.Thread(target=lambda: (peer.sendall(CONTENT[::-1]), peer.shutdown(socket.SHUT_WR)), daemon=True)
            giver.start()
            answered.append((line, read_all(peer)))
            giver.join()


serve_guest(80, give)
serve_guest(81, lambda peer: taken.append(read_all(peer)))

# What is checked, the command, words that are in its output.
COMMANDS = [
    ("finds the input devices", "grep -c 'Vivarium Virtio' /proc/bus/input/devices", ["3"]),
    ("knows the tablet's places and buttons", "grep -A9 'Virtio Tablet' /proc/bus/input/devices", ["ABS=3", "KEY=1f0000"]),
    ("takes a click, in its place", events("Tablet", 7, "click"), ["3:0:8203", "3:1:16425", "1:273:1", "1:273:0"]),
    ("takes a key", events("Keyboard", 4, "key"), ["1:47:1", "1:47:0"]),
    ("takes what switches a lamp on", "printf '%16s\\021\\0\\001\\0\\001\\0\\0\\0' '' > /dev/input/$D; echo $?", ["0"]),
    ("finds a device over MMIO by ACPI", "grep -c virtio_rng /sys/class/misc/hw_random/rng_available; ls -d /sys/bus/platform/devices/LNRO0005:00/virtio* | wc -l", ["1", "1"]),
    ("and reads random bytes from it", "dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c", ["256"]),
    ("mounts the shared folder", "mkdir -p /mnt /ro; mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 files /mnt; echo $?", ["0"]),
    ("reads what the host wrote", "md5sum < /mnt/from-host", [DIGEST]),
    ("writes what the host will read", "cat /mnt/from-host /mnt/from-host > /mnt/both; sync; echo $?", ["0"]),
    ("lists a large folder", "ls /mnt/many | wc -l; ls -a /mnt/many | md5sum | wc -w", [str(MANY), "2"]),
    ("makes, renames and removes", "cd /mnt; mkdir d && echo text > d/a && mv d e && mv e/a e/b && ln e/b e/c && chmod 640 e/c && touch -d @1000 e/c && rm e/b && "
     "stat -c %a:%Y:%h:%s e/c; cd /", ["640:1000:1:5"]),
    ("finds no way out by a link of the host", "cat /mnt/out/secret /mnt/up; ls /mnt/out/; echo $?", ["1"]),
    ("nor by one of its own", "ln -s /proc/1 /mnt/own; ln -s ../outside /mnt/own2; ls /mnt/own/root /mnt/own2/ | grep -c secret; echo x > /mnt/up; echo $?", ["0", "1"]),
    ("has the file system's size", "df /mnt | grep -c files", ["1"]),
    ("runs a program out of it", "cp /bin/busybox /mnt/busybox; /mnt/busybox echo it 'ran'", ["ran"]),
    ("mounts a folder for reading only", "mount -t 9p -o trans=virtio,version=9p2000.L fixed /ro; cat /ro/secret; echo x > /ro/new; echo $?", ["secret", "1"]),
    ("the network card segments, and has several queues", "cut -c12-14,20,23 $(dirname $(ls -d /sys/bus/virtio/devices/*/net))/features; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up", ["11111"]),
    ("a pair for each CPU", "cat /sys/class/net/eth0/speed; ls -d /sys/class/net/eth0/queues/rx-* | wc -l", ["10000", cpus]),
    ("a file comes through it", f"nc 10.0.2.2 {PORT} < /dev/null | md5sum", [DIGEST]),
    ("and goes back", f"nc 10.0.2.2 {PORT} < /mnt/from-host; echo $?", ["0"]),
    ("a program of the host is reached by a socket", "cp /mnt/peer /; echo 'thank you' | /peer connect 80 | md5sum", [DIGEST]),
    ("and takes what it is sent", "/peer connect 81 < /mnt/both; echo $?", ["0"]),
    ("where none is the connection is refused", "/peer connect 82 < /dev/null; echo $?", ["reset", "1"]),
    ("a program of the host reaches the guest", "/peer listen 1234 < /mnt/from-host 2>/dev/null | md5sum", [hashlib.md5(CONTENT[::-1]).hexdigest()]),
    ("fills the balloon", "sleep 2; awk '/balloon_inflate/{print $2}' /proc/vmstat", [str(BALLOON >> 12)]),
    ("no driver complains", "dmesg | grep -iE 'virtio|9p|input' | grep -ciE 'error|fail|timeout|unable|invalid'", ["0"]),
]
report = Report()
console = LinuxGuest(viv, guest, [
    "--virtio", "tablet", "--virtio", "keyboard,split", "--virtio", "mouse", "--virtio", "entropy,bus=mmio", "--share", f"{folder}:files",
    "--share", f"{outside}:fixed,ro", "--net", "user,model=virtio,queues=4", "--vsock", f"cid=42,socket={SOCKETS}", "--virtio", f"balloon,size={BALLOON >> 20}M,statistics=1",
    "--until", "ready for a click", "--click", "180,200,right", "--until", "ready for a key", "--type", "v",
    "--until", "that is all", *options], report, append="quiet net.ifnames=0")
console.wait_for_shell()
for what, line, answers in COMMANDS:
    if "/peer listen" in line:
        threading.Thread(target=call_guest, daemon=True).start()
    console.ask(what, line, *answers)
console.send("echo that is 'all'")
outcome = console.finish()
console.report_end(outcome, "done", "and the script is done")


def host_reads(*names):
    try:
        with open(os.path.join(host.name, *names), "rb") as file:
            return file.read()
    except OSError as error:
        return str(error).encode()


counters = outcome.get("counters", {})
report(counters.get("balloon.inflated", 0) >= BALLOON and counters.get("balloon.actual") == BALLOON, "memory came back to the host")
report(100 << 20 < counters.get("balloon.total", 0) < 192 << 20 and counters.get("balloon.free", 0) > 0, "and statistics came")
report(b"".join(received) == CONTENT, "what went through the network card is whole")
report(taken == [b"thank you\n", CONTENT * 2], "and what went through sockets")
report(len(answered) == 1 and answered[0][1] == CONTENT, "both ways")
report(host_reads("folder", "both") == CONTENT * 2, "the host reads what the guest wrote")
report(host_reads("folder", "e", "c") == b"text\n", "in the file that was renamed")
report(host_reads("outside", "secret") == b"a secret\n" and os.listdir(outside) == ["secret"], "and nothing outside has changed")
report.end()
