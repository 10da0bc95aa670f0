"""The part of tools/bench that compares disks and networks: a Linux guest on Vivarium and on QEMU, and the host itself.

The same static program (bench_io_guest.cpp) measures in every guest and on the host: 4 KiB transfers at random places and
1 MiB transfers in order on a virtio disk whose image is a file of the host, and a TCP connection to a server on the host
through the user network and through a tap of the host. The guest is `tools/fetch-guests linux-disks`, booted directly, with the
program added to its files.
"""

import contextlib
import gzip
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading

import make_initramfs

PATIENCE = 300  # seconds for one run
NO_TAP = 'no tap in a network of its own here (unshare --map-root-user --net, ip tuntap)'
IMAGE_SIZE = 512 << 20
DISK_ROWS = ['randread-1', 'randwrite-1', 'randread-32', 'randwrite-32', 'read', 'write']
NET_ROWS = ['round-trip', 'receive', 'send']
TAP_ROWS = ['tap-' + row for row in NET_ROWS]
TITLES = {'randread-1': '4 KiB random read, depth 1', 'randwrite-1': '4 KiB random write, depth 1',
          'randread-32': '4 KiB random read, depth 32', 'randwrite-32': '4 KiB random write, depth 32',
          'read': '1 MiB read in order', 'write': '1 MiB write in order',
          'round-trip': 'network, round trips', 'receive': 'network, receive', 'send': 'network, send',
          'tap-round-trip': 'tap, round trips', 'tap-receive': 'tap, receive', 'tap-send': 'tap, send'}
TAP, TAP_HOST = 'vivbench0', '10.9.1.1'
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*; do insmod "$module"; done
echo none > /sys/block/vda/queue/scheduler
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
[ ! -e /sys/class/net/eth1 ] || ip address add 10.9.1.2/24 dev eth1
[ ! -e /sys/class/net/eth1 ] || ip link set eth1 up
echo; echo begin
{commands}
echo end
poweroff -f
"""


class Failed(Exception):
    pass


def guest_files():
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'vivarium' / 'guests' / 'linux-disks'
    files = cache / 'vmlinuz', cache / 'initramfs.gz'
    if not all(file.exists() for file in files):
        raise Failed('no Linux guest: run tools/fetch-guests linux-disks first')
    return files


class Server(threading.Thread):
    """Echoes single bytes ('p'), sends without end ('d') or swallows and then says so ('u')."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(('', 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def serve(connection):
        with connection, contextlib.suppress(OSError):
            mode = connection.recv(1)
            block = bytes(1 << 16)
            while mode == b'd':
                connection.sendall(block)
            while piece := connection.recv(1 if mode == b'p' else 1 << 20):
                if mode == b'p':
                    connection.sendall(piece)
            connection.sendall(b'.')


def write_initrd(path, original, program, commands):
    """Linux unpacks one archive after the other; what comes later wins."""
    archive = make_initramfs.Archive()
    archive.add('bench', 0o100755, program.read_bytes())
    archive.add('init', 0o100755, INIT.format(commands=commands).encode())
    archive.add('TRAILER!!!', 0)
    path.write_bytes(original.read_bytes() + gzip.compress(bytes(archive.data), 1))


def viv_command(viv, kernel, initrd, image, choice, tap):
    network = ['--net', f'tap:{TAP},model=virtio'] if tap else []
    return [str(viv), 'run', '--engine', choice.engine, '--memory', '512M', '--kernel', str(kernel), '--initrd', str(initrd), '--append',
            'console=ttyS0 quiet', '--disk', f'{image},bus=virtio,cache={choice.cache}', '--net', 'user,model=virtio', '--serial',
            'stdio', '--display', 'none', '--no-reboot', *network]


def qemu_command(kernel, initrd, image, choice, tap):
    accel = {'soft': ['-accel', 'tcg', '-cpu', 'max'], 'kvm': ['-accel', 'kvm', '-cpu', 'host']}[choice.engine]
    aio = 'native' if choice.cache == 'none' else 'threads'  # the faster one of each
    if choice.aio:
        aio = choice.aio
    vhost = 'on' if choice.engine == 'kvm' and os.access('/dev/vhost-net', os.R_OK | os.W_OK) else 'off'
    network = ['-netdev', f'tap,id=t,ifname={TAP},script=no,downscript=no,vhost={vhost}', '-device', 'virtio-net-pci,netdev=t,romfile='] if tap else []
    return ['qemu-system-x86_64', '-machine', 'pc', *accel, '-m', '512', '-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio',
            '-kernel', str(kernel), '-initrd', str(initrd), '-append', 'console=ttyS0 quiet',
            '-drive', f'file={image},format=raw,if=none,id=d,cache={choice.cache},aio={aio}', '-device', 'virtio-blk-pci,drive=d',
            '-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n,romfile=', *network, '-no-reboot']


def rows_of(text):
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == 'row':
            found[words[1]] = float(words[2])
    return found


def run(command):
    """What a guest printed between its two marks, as rows."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        said, complaint = process.communicate()
    finally:
        timer.cancel()
        process.kill()
    text = said.decode(errors='replace')
    if 'end' not in text.split():
        raise Failed(f'{command[0]}: the guest did not end: {text[-400:]!r} {complaint.decode(errors="replace")[-400:]!r}')
    return rows_of(text)


def run_host(program, arguments):
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode:
        raise Failed(f'on the host: {done.stderr.strip()}')
    return rows_of(done.stdout)


def make_image(path):
    block = bytes(range(256)) * 4096
    with open(path, 'wb') as image:
        for _ in range(IMAGE_SIZE // len(block)):
            image.write(block)
        image.flush()
        os.fsync(image.fileno())


def tap_refused():
    """Makes the tap, if this is a network of its own; why there are no rows for one, or None."""
    if 'VIV_OWN_NETWORK' not in os.environ:
        return NO_TAP
    for command in (['link', 'set', 'lo', 'up'], ['tuntap', 'add', 'dev', TAP, 'mode', 'tap'], ['address', 'add', f'{TAP_HOST}/24', 'dev', TAP],
                    ['link', 'set', TAP, 'up']):
        done = subprocess.run(['ip', *command], capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()
    return None


def enter_own_network():
    """Begins again with a network of its own, in which the tap may be made; comes back where that is not allowed."""
    if 'VIV_OWN_NETWORK' in os.environ:
        return
    own = ['unshare', '--map-root-user', '--net']
    with contextlib.suppress(OSError):
        if subprocess.run([*own, 'ip', 'tuntap', 'add', 'dev', TAP, 'mode', 'tap'], capture_output=True, check=False).returncode == 0:
            os.execvpe(own[0], [*own, sys.executable, *sys.argv], {**os.environ, 'VIV_OWN_NETWORK': '1'})


def measure(viv, program, choice):
    kernel, initramfs = guest_files()
    wanted = [row for row in DISK_ROWS + NET_ROWS + TAP_ROWS if not choice.rows or any(row.startswith(part) or part in row.split('-') for part in choice.rows)]
    tap = any(row in TAP_ROWS for row in wanted)
    if tap and (why := tap_refused()):
        print(f'skipped: {", ".join(row for row in wanted if row in TAP_ROWS)}: {why}', file=sys.stderr)
        wanted = [row for row in wanted if row not in TAP_ROWS]
        tap = False
    if not wanted:
        raise Failed(f'no row has one of {choice.rows} in its name')
    disk_rows = [row for row in wanted if row in DISK_ROWS]
    uses_net = any(row in NET_ROWS for row in wanted)
    server = Server()
    server.start()
    folder_name = os.environ.get('TMPDIR') or '/var/tmp'
    with tempfile.TemporaryDirectory(dir=folder_name) as name:
        folder = pathlib.Path(name)
        image, initrd = folder / 'disk.img', folder / 'initrd'
        make_image(image)
        commands = []
        if disk_rows:
            access = 'direct' if choice.cache == 'none' else 'warm'
            commands.append(f'/bench disk /dev/vda {access} {choice.seconds} {" ".join(disk_rows)}')
        if uses_net:
            commands.append(f'/bench net 10.0.2.2 {server.port} {choice.seconds}')
        if tap:
            commands.append(f'/bench net {TAP_HOST} {server.port} {choice.seconds} tap-')
        write_initrd(initrd, initramfs, program, '\n'.join(commands))
        ways = {'viv': lambda: run(viv_command(viv, kernel, initrd, image, choice, tap))}
        if shutil.which('qemu-system-x86_64'):
            ways['qemu'] = lambda: run(qemu_command(kernel, initrd, image, choice, tap))

        def on_host():
            found = {}
            if disk_rows:
                access = 'direct' if choice.cache == 'none' else 'cached'
                found |= run_host(program, ['disk', str(image), access, str(choice.seconds), *disk_rows])
            if uses_net or tap:
                found |= run_host(program, ['net', '127.0.0.1', str(server.port), str(choice.seconds)])
                found |= {'tap-' + row: found[row] for row in NET_ROWS}
            return found

        ways['host'] = on_host
        times = {way: {row: [] for row in wanted} for way in ways}
        for _ in range(choice.rounds):
            for way, once in ways.items():
                for row, value in once().items():
                    if row in times[way]:
                        times[way][row].append(value)
    for row in wanted:
        if not all(times[way][row] for way in ways):
            raise Failed(f'{row}: not every way has a number')
        medians = {way: statistics.median(times[way][row]) for way in ways}
        result = {'row': row, 'unit': 'MB/s' if row.removeprefix('tap-') in ('read', 'write', 'receive', 'send') else '1/s', 'rates': medians,
                  'ratio_to': {way: medians['viv'] / medians[way] for way in medians if way != 'viv'}}
        yield result


def bench(viv, program, choice):
    if choice.engine == 'kvm' and os.path.exists('/sys/module/kvm_pvm'):
        raise Failed("this host's KVM cannot run Linux under QEMU (docs/engines.md); only --engine soft has a comparison here")
    enter_own_network()
    if not shutil.which('qemu-system-x86_64') and not choice.json:
        print('no QEMU (package qemu-system-x86): no column for it')
    results = list(measure(viv, program, choice))
    if choice.json:
        print(json.dumps(results))
        return 0
    print(f'{"":30}{"unit":>6}{"viv":>12}{"QEMU":>12}{"ratio":>8}{"host":>12}{"ratio":>8}')
    for result in results:
        rates, ratios = result['rates'], result['ratio_to']
        qemu = f'{rates["qemu"]:12.1f}{ratios["qemu"]:8.2f}' if 'qemu' in rates else ' ' * 20
        print(f'{TITLES[result["row"]]:30}{result["unit"]:>6}{rates["viv"]:12.1f}{qemu}{rates["host"]:12.1f}{ratios["host"]:8.3f}')
    return 0
