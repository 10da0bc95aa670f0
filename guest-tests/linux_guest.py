"""The distribution's Linux, as tools/fetch-guests brings it, with a shell on COM1 that is asked; and TAP about its answers."""
import gzip
import lzma
import os
import re
import struct
import sys
import tempfile

from serial_console import SerialConsole

PROMPT = b"/ # "
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "vivarium", "guests")


def fetched(name, module=None):
    """Kernel and initramfs of a guest; says that the test is skipped, and ends it, when it is not there or was fetched without `module`."""
    kernel, initrd = os.path.join(CACHE, name, "vmlinuz"), os.path.join(CACHE, name, "initramfs.gz")
    if not (os.path.exists(kernel) and os.path.exists(initrd)):
        print(f"1..0 # SKIP {name}: run tools/fetch-guests {name} to have this guest")
        sys.exit(0)
    if module:
        with gzip.open(initrd) as archive:
            if f"{module}.ko".encode() not in archive.read():
                print(f"1..0 # SKIP {name}: it was fetched before it had {module}; run tools/fetch-guests --update {name}")
                sys.exit(0)
    return kernel, initrd


def unpacked(kernel):
    """The ELF program in a bzImage, as an open file: a guest on the software CPU takes ten seconds to unpack it. None when it is not
    packed with xz, or cannot be started without its setup."""
    with open(kernel, "rb") as file:
        image = file.read()
    setup_sectors = image[0x1F1] or 4
    # payload_offset and payload_length of the boot protocol; behind the stream is its size.
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    try:
        program = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[start : start + length])
    except lzma.LZMAError:
        return None
    if not re.search(rb"\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0", program):  # the note with the entry of PVH
        return None
    file = tempfile.NamedTemporaryFile(prefix="viv-vmlinux-")
    file.write(program)
    file.flush()
    return file


class Report:
    """Prints a line of TAP for each check, and how many there were at the end."""

    def __init__(self):
        self.number = 0
        self.failed = False

    def __call__(self, passed, what, *notes):
        """`notes` are told when it has not passed."""
        self.number += 1
        print(f"{'ok' if passed else 'not ok'} {self.number} - {what}", flush=True)
        if not passed:
            self.failed = True
            for note in notes:
                for line in str(note).splitlines():
                    print(f"# {line}", flush=True)
        return passed

    def end(self):
        print(f"1..{self.number}")
        sys.exit(self.failed)


class LinuxGuest(SerialConsole):
    """A machine that boots such a guest. After the first answer that does not come every check fails, without a wait."""

    def __init__(self, viv, guest, options, report, append="quiet", memory="192M", patience=280):
        """`guest` is what fetched() has; `options` are more of viv run; `patience` is in seconds of the host."""
        kernel, initrd = guest
        self.program = unpacked(kernel)
        kernel = self.program.name if self.program else kernel
        super().__init__([viv, "run", "--kernel", kernel, "--initrd", initrd, "--append", f"console=ttyS0 panic=-1 cryptomgr.notests {append}",
                          "--memory", memory, "--no-reboot", "--timeout", str(patience), *options])
        self.report = report
        self.alive = True

    def send(self, line):
        self.type(line.encode() + b"\n")

    def wait_for_shell(self):
        self.alive = self.read_until(PROMPT) is not None
        self.report(self.alive, "reaches a shell on the serial line")

    def answer(self, line):
        """The words that a command prints; None when the machine has ended."""
        if self.alive:
            self.send(line)
        return self.rest_of_answer(line)

    def rest_of_answer(self, line):
        """The same for a command that was sent before."""
        said = self.read_until(PROMPT) if self.alive else None
        self.alive = said is not None
        # Behind the echo of the command, which the terminal may have broken into lines, and before the prompt and what the shell asks of the terminal.
        return said.rpartition(PROMPT)[0].decode(errors="replace").split()[len(line.split()) :] if self.alive else None

    def ask(self, what, line, *answers):
        """Whether the output of a command has all these words."""
        words = self.answer(line)
        passed = words is not None and all(answer in words for answer in answers)
        return self.report(passed, what, f"{line!r} was answered by {words!r}")

    def power_off(self):
        """Returns the outcome, as finish()."""
        if self.alive:
            self.send("poweroff -f")
        outcome = self.finish()
        self.report_end(outcome, "powered-off", "powers off")
        return outcome

    def report_end(self, outcome, wanted, what):
        """Whether a run ended as it should; the end of the serial line if it did not."""
        self.report(outcome.get("outcome") == wanted and outcome["status"] == 0, what, "the serial line ends with:",
                    *self.output.decode(errors="replace").splitlines()[-15:], outcome["stderr"])
