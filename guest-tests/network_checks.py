"""Moves data through each NIC of a Linux guest and compares checksums, resolves a name, fetches by HTTP, and logs in by ssh: the cases of
`tools/check-systems --network`."""
import gzip
import hashlib
import http.server
import os
import queue
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from linux_guest import CACHE, LinuxGuest
from serial_console import SerialConsole

# model of --net -> the modules that drive it in Linux, the name of the driver
NICS = {'virtio': ('virtio_pci virtio_net', 'virtio_net'), 'e1000': ('e1000', 'e1000'), 'rtl8139': ('8139too', '8139too'),
        'rtl8139cp': ('8139cp', '8139cp'), 'pcnet': ('pcnet32', 'pcnet32'), 'ne2k_pci': ('ne2k-pci', 'ne2k-pci')}
# kernel -> the guest of tools/fetch-guests with it, its kernel and its initramfs. The installer's i386 kernel is that of linux-image-686.
KERNELS = {'amd64': ('linux-net', 'vmlinuz', 'initramfs.gz'), 'i386': ('installer-i386', 'linux', 'initrd.gz')}
NAME = 'files.vivarium.test'
BLOCK = random.Random(4).randbytes((1 << 20) - 12)
PATIENCE = 3600  # seconds of the host, for a case


class Failed(Exception):
    """What was expected and did not come."""


def pieces(count):
    """`count` MiB of which no two are alike."""
    for number in range(count):
        yield b'%011d\n' % number + BLOCK


def digest_of(count):
    digest = hashlib.md5()
    for piece in pieces(count):
        digest.update(piece)
    return digest.hexdigest()


class Files(http.server.BaseHTTPRequestHandler):
    """GET /block is the block, GET /N so many MiB of pieces()."""

    def do_GET(self):
        count = 0 if self.path == '/block' else int(self.path[1:])
        self.send_response(200)
        self.send_header('Content-Length', str(count << 20 if count else len(BLOCK)))
        self.end_headers()
        for piece in pieces(count) if count else [BLOCK]:
            self.wfile.write(piece)

    def log_message(self, *_):
        pass


def processor_time(process):
    """In seconds."""
    with open(f'/proc/{process.pid}/stat', encoding='ascii', errors='replace') as file:
        times = file.read().rpartition(')')[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf('SC_CLK_TCK')


class Host:
    """Servers on 127.0.0.1: files by HTTP, one who takes the sum of what is sent to it, and names (if this is an own network)."""

    def __init__(self, names):
        self.files = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Files)
        threading.Thread(target=self.files.serve_forever, daemon=True).start()
        self.taker = socket.create_server(('127.0.0.1', 0))
        self.taken = queue.Queue()  # (bytes, digest) of each connection that has ended
        threading.Thread(target=self.take, daemon=True).start()
        self.questions = 0
        if names:
            self.names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.names.bind(('127.0.0.1', 53))
            threading.Thread(target=self.answer, daemon=True).start()
        self.files_at = f'{NAME if names else "10.0.2.2"}:{self.files.server_address[1]}'
        self.taker_port = self.taker.getsockname()[1]

    def take(self):
        while True:
            peer, _ = self.taker.accept()
            digest, count = hashlib.md5(), 0
            try:
                while piece := peer.recv(1 << 18):
                    digest.update(piece)
                    count += len(piece)
            except OSError:
                pass
            self.taken.put((count, digest.hexdigest()))
            peer.close()

    def answer(self):
        """A name server that knows one name, which is 10.0.2.2 (RFC 1035, section 4)."""
        wanted = b''.join(bytes([len(label)]) + label.encode() for label in NAME.split('.')) + b'\0'
        while True:
            question, peer = self.names.recvfrom(512)
            end = question.find(b'\0', 12) + 5
            known, kind = question[12 : end - 4] == wanted, question[end - 4 : end - 2]
            found = known and kind == b'\0\1'
            self.questions += found
            header = question[:2] + struct.pack('>HHHHH', 0x8180 | (0 if known else 3), 1, found, 0, 0)
            address = b'\xC0\x0C\0\1\0\1\0\0\0\x3C\0\4' + socket.inet_aton('10.0.2.2') if found else b''
            self.names.sendto(header + question[12:end] + address, peer)


def missing(kernel):
    """What a case with this kernel lacks; None if nothing."""
    name, *files = KERNELS[kernel]
    return None if all(os.path.exists(os.path.join(CACHE, name, file)) for file in files) else f'no {name}: run tools/fetch-guests {name}'


def installer_initramfs(path):
    """Of the installer's initramfs, which a guest on the software CPU takes a minute to unpack, what a shell and drivers of NICs need; an open file."""
    left_out = re.compile(r'(usr/share|usr/lib/(?!i386)|lib/firmware|lib/udev|var)/|.*\.ko$')
    wanted = re.compile(r'.*/(mii|e1000|8390|ne2k-pci|pcnet32|8139cp|8139too|virtio\w*|failover|net_failover)\.ko$')
    with gzip.open(path) as packed:
        archive = packed.read()
    file = tempfile.NamedTemporaryFile(prefix='viv-initramfs-')
    at = 0
    while True:
        # newc: a header of 110 characters, the name, the content, each padded to 4 bytes.
        size, name_size = int(archive[at + 54 : at + 62], 16), int(archive[at + 94 : at + 102], 16)
        name = archive[at + 110 : at + 109 + name_size].decode()
        end = (at + 110 + name_size + 3 & ~3) + size + 3 & ~3
        if wanted.match(name) or not left_out.match(name.removeprefix('./')):
            file.write(archive[at:end])
        if name == 'TRAILER!!!':
            break
        at = end
    file.flush()
    return file


def expect(true, what, *notes):
    if not true:
        raise Failed('\n'.join([what, *map(str, notes)]))


def move(viv, host, kernel, model, mebibytes, options):
    """So many MiB each way through a NIC, compared by checksums. Raises Failed; returns a note with the rates."""
    name, image, initrd = KERNELS[kernel]
    folder = os.path.join(CACHE, name)
    modules, driver = NICS[model]
    ramdisk = os.path.join(folder, initrd)
    small = installer_initramfs(ramdisk) if kernel == 'i386' else None
    machine = LinuxGuest(viv, (os.path.join(folder, image), small.name if small else ramdisk), ['--net', f'user,model={model}', *options], expect,
                         append='quiet net.ifnames=0' + (' rdinit=/bin/sh' if kernel == 'i386' else ''), memory='256M', patience=PATIENCE)
    try:
        if kernel == 'i386':
            # A shell alone, before any mount; it has no prompt of ours.
            expect(machine.read_until(b'# ') is not None, 'no shell')
            machine.send("PS1='/ ''# '; mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; "
                         f"for m in {modules}; do modprobe $m; done; sleep 1")
        machine.wait_for_shell()
        machine.ask(f'{driver} drives it', f'readlink /sys/class/net/eth0/device/driver | grep -c /{driver}', '1')
        machine.ask('it has an address', 'ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; '
                    'mkdir -p /etc; echo nameserver 10.0.2.3 > /etc/resolv.conf; echo $?', '0')
        wanted = digest_of(mebibytes)
        spent = processor_time(machine.machine)
        begin = time.monotonic()
        machine.ask('what the host sends arrives whole', f'wget -q -O - http://{host.files_at}/{mebibytes} | md5sum', wanted)
        middle = time.monotonic()
        machine.ask('a block arrives', f'wget -q -O /tmp/block http://{host.files_at}/block; wc -c < /tmp/block', str(len(BLOCK)))
        # With nc's own loop between, a byte would go through it in pieces of 1 KiB, a segment each.
        machine.answer(f"echo 'i=0; while [ $i -lt {mebibytes} ]; do printf \"%011d\\n\" $i; cat /tmp/block; i=$((i+1)); done' > /tmp/pieces")
        again = time.monotonic()
        machine.ask('the guest sends', f'nc 10.0.2.2 {host.taker_port} -e sh /tmp/pieces; echo $?', '0')
        # The end of the connection comes later than that of the command.
        taken = host.taken.get(timeout=PATIENCE)
        end = time.monotonic()
        spent = processor_time(machine.machine) - spent
        expect(taken == (mebibytes << 20, wanted), 'what the guest sent did not arrive whole', taken, (mebibytes << 20, wanted))
        counts = machine.answer('(cd /sys/class/net/eth0/statistics; cat rx_errors tx_errors rx_dropped tx_dropped)')
        complaints = machine.answer("dmesg | grep eth0 | grep -iE 'error|fail|timed|unit|abort|transmit'")
        expect(not complaints, 'the driver complains', complaints)
        outcome = machine.power_off()
    finally:
        machine.machine.kill()
        machine.machine.wait()
    return (f'{mebibytes} MiB in at {mebibytes / (middle - begin):.1f} MiB/s, out at {mebibytes / (end - again):.1f} MiB/s, '
            f'{spent:.0f} s of processor time; errors and drops {"/".join(counts[-4:])}; ran on {outcome["engine"]}')


def log_in(viv, image, model, options):
    """A login by ssh on Debian's disk, by the address and port that --ssh prints. Raises Failed; returns a note."""
    with tempfile.TemporaryDirectory() as folder:
        answer = os.path.join(folder, 'answer')
        with open(answer, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\necho viv\n')
        os.chmod(answer, 0o700)
        begin = time.monotonic()
        machine = SerialConsole([viv, 'run', '--memory', '512M', '--snapshot', '--disk', image, '--net', f'user,model={model}', '--ssh',
                                 '--timeout', str(PATIENCE), *options])
        try:
            line = ''
            while 'to log in: ' not in line:
                line = machine.machine.stderr.readline().decode()
                expect(line, 'viv printed no command that logs in')
            command = line.partition('to log in: ')[2].replace('USER@', 'root@').split()
            expect(machine.read_until(b'login: ') is not None, 'the login did not come on the serial line')
            ready = time.monotonic()
            content = random.Random(9).randbytes(8 << 20)
            options = ['-o', 'StrictHostKeyChecking=no', '-o', f'UserKnownHostsFile={folder}/known', '-o', 'PubkeyAuthentication=no',
                       '-o', 'ConnectTimeout=600']
            done = subprocess.run([command[0], *options, *command[1:], 'uname -r; readlink /sys/class/net/e*/device/driver; md5sum'], input=content,
                                  capture_output=True, check=False, timeout=PATIENCE,
                                  env={**os.environ, 'SSH_ASKPASS': answer, 'SSH_ASKPASS_REQUIRE': 'force'})
            said = done.stdout.decode(errors='replace')
            expect(done.returncode == 0 and hashlib.md5(content).hexdigest() in said, f'ssh ended with {done.returncode}', said,
                   done.stderr.decode(errors='replace'))
            expect(NICS[model][1] in said, 'another driver', said)
            return f'{ready - begin:.0f} s to the login prompt, {time.monotonic() - ready:.0f} s for ssh with 8 MiB; ' + ' '.join(said.split()[:2])
        finally:
            machine.machine.terminate()
            machine.finish()


def enter_own_network(arguments):
    """Begins again with a network and a /etc/resolv.conf of its own, so that there can be a name server. False where that is not allowed."""
    if os.environ.get('VIV_OWN_NETWORK'):
        with tempfile.NamedTemporaryFile('w', prefix='viv-resolv-') as file:
            file.write('nameserver 127.0.0.1\n')
            file.flush()
            subprocess.run(['mount', '--bind', file.name, '/etc/resolv.conf'], check=True)
        subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
        return True
    own = ['unshare', '--map-root-user', '--mount', '--net']
    try:
        subprocess.run([*own, 'sh', '-c', 'ip link set lo up && mount --bind /dev/null /etc/resolv.conf'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    os.execvpe(own[0], [*own, sys.executable, *arguments], {**os.environ, 'VIV_OWN_NETWORK': '1'})
