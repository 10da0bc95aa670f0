"""What tools/cli_tests.py runs viv with: small guests, runs to their end, and a terminal."""

import codecs
import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time

PATIENCE = 30  # seconds for what takes milliseconds on an idle machine
FLOPPY = 1474560


class Skipped(Exception):
    """This host cannot run the case; says why."""


def assemble(*parts):
    """A boot sector: bytes, 'label:' and (opcode, 'label') for a jump with one byte of distance."""
    code, labels, jumps = b'', {}, []
    for part in parts:
        if isinstance(part, bytes):
            code += part
        elif isinstance(part, str):
            labels[part.removesuffix(':')] = len(code)
        else:
            code += part[0] + b'\0'
            jumps.append((len(code), part[1]))
    code = bytearray(code)
    for end, label in jumps:
        code[end - 1] = (labels[label] - end) & 0xFF
    assert len(code) <= 510
    return bytes(code.ljust(510, b'\0')) + b'\x55\xAA'


def saying(text, *then):
    """A guest that prints a text through the BIOS and goes on with code that may use the segments 0."""
    start = bytes.fromhex('31C0 8ED8 8EC0 8ED0 BC007C FB')  # segments 0, stack below us, interrupts on
    message = (0x7C00 + 512 - 2 - len(text) - 1).to_bytes(2, 'little')
    put = bytes.fromhex('B40E BB0700 CD10')  # int 10h: teletype
    sector = assemble(start, b'\xBE' + message, 'next:', bytes.fromhex('AC 84C0'), (b'\x74', 'said'), put, (b'\xEB', 'next'),
                      'said:', *then)
    code = sector[:510].rstrip(b'\0')
    assert len(code) + len(text) + 1 <= 510
    return sector[:510 - len(text) - 1] + text.encode() + b'\0' + sector[510:]


TELETYPE = bytes.fromhex('B40E BB0700 CD10')
HALT = bytes.fromhex('FA F4 EB FD')
# Echoes keys; Enter begins a new line.
ECHO = saying('ready\r\n', 'key:', bytes.fromhex('30E4 CD16'), TELETYPE, bytes.fromhex('3C0D'), (b'\x75', 'key'),
              bytes.fromhex('B00A'), TELETYPE, (b'\xEB', 'key'))
# Does nothing, for ever, with interrupts off.
HANGS = saying('hung', HALT)
SPINS = saying('spins', bytes.fromhex('FA EBFE'))
EXITS_42 = saying('bye', bytes.fromhex('BA0105 B02A EE'), HALT)
# Empty IDT, protected mode, UD2.
TRIPLE_FAULTS = saying('dying', bytes.fromhex('FA 0F011E0080 0F20C0 0C01 0F22C0 0F0B'), HALT)
# Port CF9h, again and again.
REBOOTS = saying('again', bytes.fromhex('BAF90C B006 EE'), HALT)
# "serial ok" on COM1.
SERIAL = saying('sent', bytes.fromhex('BAF803'), *[bytes([0xB0, byte, 0xEE]) for byte in b'serial ok\n'], HALT)


def disk_loop(service, cylinder_sector, head):
    """Reads (02h) or writes (03h) one sector for ever, a dot each; E at the first error."""
    return saying('starts', 'again:', bytes.fromhex('FF060080 A10080 BF0080 B90001 F3AB'),  # the next pattern at 8000h
                  bytes([0xB8, 1, service]), bytes.fromhex('BB0080'), b'\xB9' + cylinder_sector.to_bytes(2, 'little'),
                  bytes([0xB6, head]), bytes.fromhex('CD13'), (b'\x72', 'failed'), bytes.fromhex('B02E'), TELETYPE, (b'\xEB', 'again'),
                  'failed:', bytes.fromhex('B045'), TELETYPE, HALT)


WRITES = disk_loop(3, 0x0002, 0)  # the second sector
LAST = (79 << 8) | 18  # of 80 cylinders, 2 heads and 18 sectors
WRITES_LAST = disk_loop(3, LAST, 1)
READS_LAST = disk_loop(2, LAST, 1)
# On a disk of 16 heads and 63 sectors: behind DISK_LIMIT, which is more than any piece of the machine's memory.
DISK_SIZE, DISK_LIMIT = 20 << 20, 18_000_000
WRITES_BEHIND_LIMIT = disk_loop(3, (36 << 8) | 18, 1)


class Finished:
    """How a run ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __str__(self):
        return f'exit code {self.code}\n    stdout: {self.out[-1500:]!r}\n    stderr: {self.err[-1500:]!r}'


class Rig:
    """A folder with images, and viv."""

    def __init__(self, viv, engine):
        self.viv = viv
        self.engine = engine
        self.folder = tempfile.TemporaryDirectory(prefix='viv-cli-')
        self.path = pathlib.Path(self.folder.name)
        self.path.chmod(0o755)
        self.started = []
        self.count = 0

    def image(self, content, size=FLOPPY):
        self.count += 1
        path = self.path / f'image{self.count}.img'
        with open(path, 'wb') as file:
            file.write(content)
            file.truncate(max(size, len(content)))
        return str(path)

    def file(self, name, content):
        (self.path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(self.path / name)

    def environment(self, **more):
        values = {**os.environ, 'TERM': 'xterm-256color', 'UBSAN_OPTIONS': 'print_stacktrace=1', **more}
        values.pop('COLORTERM', None)
        return {name: value for name, value in values.items() if value is not None}

    def run_words(self, *words):
        """viv run with a time limit, so that no case leaves a machine behind."""
        return [self.viv, 'run', '--engine', self.engine, *(() if '--timeout' in words else ('--timeout', str(PATIENCE))), *words]

    def start(self, *words, env=None, **more):
        process = subprocess.Popen(self.run_words(*words), stdin=more.pop('stdin', subprocess.DEVNULL),
                                   stdout=more.pop('stdout', subprocess.PIPE), stderr=more.pop('stderr', subprocess.PIPE), text=True,
                                   env=env or self.environment(), cwd=self.path, **more)
        self.started.append(process)
        return process

    def viv_run(self, *words, **more):
        return self.finish(self.start(*words, **more))

    @staticmethod
    def finish(process):
        out, err = process.communicate(timeout=2 * PATIENCE)
        return Finished(process.returncode, out or '', err or '')

    def command(self, *words, **more):
        """Any command, not only viv run."""
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=more.pop('stdout', subprocess.PIPE),
                                   stderr=subprocess.PIPE, text=True, env=more.pop('env', self.environment()), cwd=self.path, **more)
        self.started.append(process)
        return self.finish(process)

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.folder.cleanup()


def wait_for(true, what, patience=PATIENCE):
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f'no {what} after {patience} s'
        time.sleep(0.01)


def wait_for_machine(process):
    """Until its loop and its CPU have threads, which they get when all its files are open. KVM's own are not counted."""
    def runs():
        assert process.poll() is None, f'viv ended with {process.returncode}'
        try:
            names = [thread.read_text() for thread in pathlib.Path(f'/proc/{process.pid}/task').glob('*/comm')]
        except OSError:  # a thread of KVM's has ended meanwhile
            return False
        return names.count('viv\n') >= 3

    wait_for(runs, 'running machine')


class Terminal:
    """A pseudo terminal with viv in it: keys go in, a grid of characters comes out."""

    SEQUENCE = re.compile(r'\x1b(?:\[([?]?)([0-9;]*) ?([A-Za-z])|.)')

    def __init__(self, rig, *words, columns=100, rows=30, env=None):
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.grid, self.row, self.column = {}, 0, 0
        self.raw, self.rest = '', ''
        self.decoder = codecs.getincrementaldecoder('utf-8')()

        def own_the_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            # A shell has its background jobs ignore these, and whatever they start.
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)

        self.process = subprocess.Popen(rig.run_words(*words), stdin=self.slave, stdout=self.slave, stderr=self.slave, cwd=rig.path,
                                        env=rig.environment(**(env or {})), preexec_fn=own_the_terminal)
        rig.started.append(self.process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def receive(self, seconds=0.02):
        """Takes what the terminal was sent; False when nothing came."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        text = self.decoder.decode(os.read(self.master, 65536))
        self.raw += text
        self.draw(text)
        return True

    def draw(self, text):
        text = self.rest + text
        self.rest = ''
        at = 0
        while at < len(text):
            if text[at] == '\x1b':
                found = self.SEQUENCE.match(text, at)
                if not found:
                    self.rest = text[at:]
                    return
                self.sequence(*found.groups())
                at = found.end()
                continue
            if text[at] == '\n':
                self.row += 1
            elif text[at] == '\r':
                self.column = 0
            else:
                self.grid[self.row, self.column] = text[at]
                self.column += 1
            at += 1

    def sequence(self, private, numbers, letter):
        if letter == 'H':
            row, _, column = (numbers or '').partition(';')
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
        elif letter == 'J' or (private and numbers == '1049'):
            self.grid = {}

    def text(self):
        lines = {}
        for (row, column), character in self.grid.items():
            lines.setdefault(row, {})[column] = character
        return '\n'.join(''.join(lines.get(row, {}).get(column, ' ') for column in range(max(lines.get(row, {0: 0})) + 1)).rstrip()
                         for row in range(max(lines, default=-1) + 1))

    def expect(self, wanted, patience=PATIENCE):
        """Waits until the grid shows the text."""
        end = time.monotonic() + patience
        while wanted not in self.text():
            self.receive()
            assert time.monotonic() < end, f'{wanted!r} does not appear in:\n{self.text()}'
            assert self.process.poll() is None or self.receive(), f'ended ({self.process.poll()}) before {wanted!r}:\n{self.text()}'

    def expect_gone(self, unwanted, patience=PATIENCE):
        end = time.monotonic() + patience
        while unwanted in self.text():
            self.receive()
            assert time.monotonic() < end, f'{unwanted!r} stays in:\n{self.text()}'

    def type(self, keys):
        os.write(self.master, keys.encode())

    def menu(self, key, prompt='C-A-Del'):
        self.type('\x1d')
        self.expect(prompt)
        self.type(key)

    def end(self):
        """The exit code; minus the signal."""
        wait_for(lambda: not self.receive() and self.process.poll() is not None, f'end of viv; it shows:\n{self.text()}')
        while self.receive(0):
            pass
        return self.process.returncode

    def is_given_back(self):
        """Whether mode, screen, cursor and paste mode are as before."""
        mode = termios.tcgetattr(self.slave) == self.before
        return mode and self.raw.rfind('\x1b[?1049l') > self.raw.rfind('\x1b[?1049h') and \
            self.raw.rfind('\x1b[?25h') > self.raw.rfind('\x1b[?25l') and self.raw.rfind('\x1b[?2004l') > self.raw.rfind('\x1b[?2004h')

    def is_raw(self):
        return termios.tcgetattr(self.slave)[3] & termios.ICANON == 0


def signal_name(number):
    return signal.Signals(number).name
