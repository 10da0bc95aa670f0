"""Debian 12 from a disk to its login prompt: our BIOS against SeaBIOS, OVMF against OVMF, the software CPU against QEMU's TCG.

Time is the CPU time of the emulator's process, which a busy host disturbs less than the clock on the wall. Used by tools/bench."""

import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

GUESTS = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'vivarium' / 'guests'
POINTS = [('boot loader', b'GNU GRUB'), ('login', b'vivdeb login: ')]
PATIENCE = 3600  # seconds
TICKS = os.sysconf('SC_CLK_TCK')


class Failed(Exception):
    """A run that did not come to its end."""


def cpu_seconds(pid):
    """User and system time of a process, all threads."""
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(command):
    """CPU seconds from exec to each of POINTS."""
    times = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            said, end = b'', time.monotonic() + PATIENCE
            while len(times) < len(POINTS):
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece or time.monotonic() > end:
                    raise Failed(f'{command[0]} did not come to "{POINTS[len(times)][1].decode()}"')
                said += piece
                if POINTS[len(times)][1] in said:
                    times.append(cpu_seconds(process.pid))
        finally:
            process.kill()
    return times


def ways(viv, disk, variables):
    """name, firmware, command; `variables` is a copy of OVMF's flash."""
    ours = [str(viv), 'run', '--engine', 'soft', '--memory', '512M', '--snapshot', '--disk', str(disk), '--display', 'none',
            '--serial', 'stdio']
    qemu = ['qemu-system-x86_64', '-machine', 'pc', '-accel', 'tcg', '-cpu', 'max', '-m', '512', '-nodefaults', '-no-user-config', '-vga', 'std',
            '-display', 'none', '-serial', 'stdio', '-drive', f'file={disk},format=raw,if=ide,snapshot=on']
    found = [('viv, our BIOS', 'a BIOS', ours)]
    if shutil.which('qemu-system-x86_64'):
        found.append(('QEMU, SeaBIOS', 'a BIOS', qemu))
    code = GUESTS / 'ovmf' / 'OVMF_CODE.fd'
    if variables:
        found.append(('viv, OVMF', 'OVMF', [*ours, '--firmware', str(code), '--firmware-vars', str(variables)]))
        if shutil.which('qemu-system-x86_64'):
            flash = ['-drive', f'if=pflash,format=raw,readonly=on,file={code}', '-drive', f'if=pflash,format=raw,snapshot=on,file={variables}']
            found.append(('QEMU, OVMF', 'OVMF', [*qemu, *flash]))
    return found


def bench(viv, rounds):
    disk = GUESTS / 'debian' / 'debian.img'
    if not disk.exists():
        raise Failed(f'no {disk}: run guest-tests/make-debian-disk')
    with tempfile.TemporaryDirectory() as folder:
        variables = None
        if (GUESTS / 'ovmf' / 'OVMF_VARS.fd').exists():
            variables = pathlib.Path(folder) / 'vars.fd'
            shutil.copyfile(GUESTS / 'ovmf' / 'OVMF_VARS.fd', variables)
        else:
            print('no OVMF (tools/fetch-guests ovmf): only BIOSes')
        rows = ways(viv, disk, variables)
        times = {name: [] for name, _, _ in rows}
        for _ in range(rounds):
            for name, _, command in rows:
                times[name].append(measure(command))
    print(f'CPU seconds from exec to the boot loader\'s title and to Debian\'s login prompt, median of {rounds}')
    print(f'{"":16}' + ''.join(f'{what:>14}{"viv is":>14}' for what, _ in POINTS))
    medians = {name: [statistics.median(values) for values in zip(*times[name])] for name in times}
    qemus = {firmware: medians[name] for name, firmware, _ in rows if name.startswith('QEMU')}
    for name, firmware, _ in rows:
        line = f'{name:16}'
        for point, value in enumerate(medians[name]):
            ratio = f'{qemus[firmware][point] / value:.2f} x' if firmware in qemus and name.startswith('viv') else ''
            line += f'{value:14.2f}{ratio:>14}'
        print(line)
    return 0
