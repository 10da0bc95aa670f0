"""A machine whose COM1 is our standard input and output: what it prints is read, and commands are typed there."""
import json
import os
import subprocess


VIV = ("--serial", "stdio", "--display", "none", "--json")
QEMU = ("-serial", "stdio", "-display", "none")


class SerialConsole:
    def __init__(self, command, options=VIV):
        """`command` is viv run with its options; `options` are those for COM1 and the outcome."""
        self.machine = subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.output = b""

    def read_until(self, text):
        """What comes up to and with `text`; None when the machine ends before."""
        start = len(self.output)
        while text not in self.output[start:]:
            piece = os.read(self.machine.stdout.fileno(), 4096)
            if not piece:
                return None
            self.output += piece
        return self.output[start:].replace(b"\r", b"")

    def type(self, line):
        try:
            self.machine.stdin.write(line)
            self.machine.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; reading tells

    def finish(self):
        """Waits for the end. The outcome of `--json`, with the exit code as "status" and viv's own words as "stderr"."""
        while piece := os.read(self.machine.stdout.fileno(), 4096):
            self.output += piece
        stderr = self.machine.stderr.read().decode(errors="replace")
        status = self.machine.wait()
        try:
            outcome = json.loads(self.output[self.output.rindex(b'{"outcome"') :])
        except ValueError:
            outcome = {}
        return {**outcome, "status": status, "stderr": stderr}
