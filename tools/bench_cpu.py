"""The part of tools/bench that compares processors: the same disk image on the software CPU, QEMU's TCG and Bochs.

Each row is one run of the guest of bench_cpu.S, which says on its serial port when the measured part begins and ends. What
is measured is the processor time of the emulator's process between the two, which other programs disturb less than the clock.
"""

import contextlib
import json
import os
import pathlib
import pty
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import time
import tty

SECTOR = 512
PARAMETERS = 0x1E0  # where bench_cpu.S has what is patched in
CYLINDER = 16 * 63 * SECTOR
PATIENCE = 600  # seconds for one run
BEGIN, END, PROMPT = b'B', b'E', b'/ # '

# name, number in bench_cpu.S, rounds: about a second on the software CPU
ROWS = [
    ('integer loop', 0, 300),
    ('memory copy', 1, 1200),
    ('string copy', 2, 3000),
    ('pointer chase', 3, 3000),
    ('call and return', 4, 700),
    ('floating point, SSE2', 5, 250),
    ('floating point, x87', 6, 400),
    ('system calls', 7, 200),
    ('page faults', 8, 1000),
]
LINUX_ROW = 9
LINUX = 'Linux boot to shell'


class Failed(Exception):
    pass


def linux_files():
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'vivarium' / 'guests' / 'linux'
    files = cache / 'vmlinuz', cache / 'initramfs.gz'
    return files if all(file.exists() for file in files) else None


def in_sectors(data):
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b'\0')


def write_disk(path, guest, row, rounds):
    guest = in_sectors(guest)
    kernel = initrd = b''
    if row == LINUX_ROW:
        kernel, initrd = (file.read_bytes() for file in linux_files())
    kernel_at = len(guest) // SECTOR
    initrd_at = kernel_at + len(in_sectors(kernel)) // SECTOR
    parameters = struct.pack('<6I', row, rounds, kernel_at, initrd_at - kernel_at, initrd_at, len(initrd))
    image = guest[:PARAMETERS] + parameters + guest[PARAMETERS + len(parameters):] + in_sectors(kernel) + in_sectors(initrd)
    cylinders = len(image) // CYLINDER + 2
    path.write_bytes(image.ljust(cylinders * CYLINDER, b'\0'))
    return cylinders


def processor_seconds(pid):
    """Of all threads of a process (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


class Serial:
    """The guest's end of COM1: a terminal, which every emulator can open by name."""

    def __init__(self):
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.name = os.ttyname(slave)
        self.slave = slave

    def close(self):
        os.close(self.master)
        os.close(self.slave)


def viv_command(viv, disk, serial, folder):
    del serial, folder
    return [str(viv), 'run', '--engine', 'soft', '--disk', str(disk), '--snapshot', '--memory', '128M', '--serial', 'stdio', '--display',
            'none', '--no-reboot', '--json'], 'stdout'


def qemu_command(disk, serial, folder):
    del serial, folder
    return ['qemu-system-x86_64', '-machine', 'pc', '-accel', 'tcg', '-cpu', 'max', '-m', '128', '-nodefaults', '-no-user-config', '-vga', 'std',
            '-display', 'none', '-drive', f'file={disk},format=raw,if=ide,snapshot=on', '-serial', 'stdio'], 'stdout'


def bochs_command(disk, serial, folder, cylinders):
    share = pathlib.Path('/usr/share/bochs')
    configuration = folder / 'bochsrc'
    configuration.write_text('\n'.join([
        'megs: 128', f'romimage: file={share}/BIOS-bochs-latest', f'vgaromimage: file={share}/VGABIOS-lgpl-latest', 'boot: disk',
        f'ata0-master: type=disk, path={disk}, mode=volatile, cylinders={cylinders}, heads=16, spt=63',
        f'log: {folder}/bochs.log', 'panic: action=fatal', 'error: action=ignore', 'info: action=ignore',
        'display_library: term', 'clock: sync=none', 'cpu: ips=100000000',
        f'com1: enabled=1, mode=term, dev={serial.name}']) + '\n')
    commands = folder / 'commands'
    commands.write_text('continue\n')  # the distribution's has its debugger built in, which begins with a prompt
    return ['bochs', '-q', '-f', str(configuration), '-rc', str(commands)], 'serial'


def read_until(descriptor, text, seen, deadline):
    while text not in seen:
        if time.monotonic() > deadline:
            raise Failed(f'no {text!r} in time')
        try:
            piece = os.read(descriptor, 4096)
        except OSError as error:
            raise Failed(f'the serial line ended: {error}') from error
        if not piece:
            raise Failed(f'it ended before {text!r}: {seen[-200:]!r}')
        seen += piece
    return seen[seen.index(text) + len(text):]


def run(make_command, end):
    """Processor seconds from BEGIN to `end`, and what viv says of itself."""
    serial = Serial()
    terminal = Serial()  # Bochs has to have one for its screen
    try:
        command, where = make_command(serial)
        uses_stdout = where == 'stdout'
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL if uses_stdout else terminal.slave,
                                   stdout=subprocess.PIPE if uses_stdout else terminal.slave,
                                   stderr=subprocess.DEVNULL, env=dict(os.environ, TERM='linux'))
        try:
            source = process.stdout.fileno() if uses_stdout else serial.master
            deadline = time.monotonic() + PATIENCE
            rest = read_until(source, BEGIN, b'', deadline)
            begun = processor_seconds(process.pid)
            read_until(source, end, rest, deadline)
            taken = processor_seconds(process.pid) - begun
            told = b''
            if uses_stdout:
                process.send_signal(signal.SIGTERM)
                told = process.stdout.read()
            return taken, told
        finally:
            process.kill()
            process.wait()
    finally:
        serial.close()
        terminal.close()


def instructions_of(told):
    try:
        return json.loads(told[told.index(b'{"outcome"'):])['instructions']
    except ValueError:
        return 0


def measure(viv, guest, rounds, only, competitors):
    """A row each: seconds on every emulator and the instructions that the software CPU counted."""
    rows = [(name, number, work, END) for name, number, work in ROWS]
    if linux_files():
        rows.append((LINUX, LINUX_ROW, 1, PROMPT))
    rows = [row for row in rows if not only or any(part in row[0] for part in only)]
    if not rows:
        raise Failed(f'no row has one of {only} in its name')
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for title, number, work, end in rows:
            disk = folder / 'disk.img'
            cylinders = write_disk(disk, guest, number, work)
            ways = {'viv': lambda serial: viv_command(viv, disk, serial, folder)}
            if 'tcg' in competitors:
                ways['tcg'] = lambda serial: qemu_command(disk, serial, folder)
            if 'bochs' in competitors:
                ways['bochs'] = lambda serial, size=cylinders: bochs_command(disk, serial, folder, size)
            times = {way: [] for way in ways}
            instructions = 0
            for _ in range(rounds):
                for way, make_command in ways.items():
                    try:
                        taken, told = run(make_command, end)
                    except Failed as error:
                        raise Failed(f'{title} on {way}: {error}') from error
                    times[way].append(taken)
                    if way == 'viv':
                        instructions = instructions_of(told)
            medians = {way: statistics.median(values) for way, values in times.items()}
            result = {'row': title, 'instructions': instructions, 'seconds': medians,
                      'mips': instructions / medians['viv'] / 1e6,
                      'speed_to': {way: medians[way] / medians['viv'] for way in medians if way != 'viv'}}
            results.append(result)
            yield result


def installed():
    found = []
    if shutil.which('qemu-system-x86_64'):
        found.append('tcg')
    if shutil.which('bochs') and pathlib.Path('/usr/share/bochs/BIOS-bochs-latest').exists():
        found.append('bochs')
    return found


def bench(viv, guest, rounds, only, as_json):
    competitors = installed()
    names = {'tcg': 'QEMU, TCG', 'bochs': 'Bochs'}
    for way, package in (('tcg', 'qemu-system-x86'), ('bochs', 'bochs, bochs-term, bochsbios, vgabios')):
        if way not in competitors and not as_json:
            print(f'no {names[way]} (packages {package}): no column for it')
    if not as_json:
        print(f'{"":24}{"million":>10}{"viv, s":>9}{"million":>10}' + ''.join(f'{names[way]:>12}{"ratio":>8}' for way in competitors))
        print(f'{"":24}{"instr.":>10}{"":9}{"/ s":>10}' + ''.join(f'{"s":>12}{"":8}' for _ in competitors))
    results = []
    with contextlib.closing(measure(viv, guest.read_bytes(), rounds, only, competitors)) as measured:
        for row in measured:
            results.append(row)
            if as_json:
                continue
            print(f'{row["row"]:24}{row["instructions"] / 1e6:10.0f}{row["seconds"]["viv"]:9.2f}{row["mips"]:10.0f}' +
                  ''.join(f'{row["seconds"][way]:12.2f}{row["speed_to"][way]:8.2f}' for way in competitors), flush=True)
    if as_json:
        print(json.dumps(results))
    return 0
