"""The style rules that need a program: clang-format, the compiler, bash. Their results are kept by content."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

CLANG_FORMAT = 'clang-format-14'


class Skipped(Exception):
    """The rule cannot be checked on this host; the text says why."""


class Memory:
    """What was found good before, by the hash of everything that was looked at."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.used = set()
        try:
            self.known = set(json.loads(self.path.read_text()))
        except (OSError, ValueError):
            self.known = set()

    def key(self, *parts):
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            digest.update(len(data).to_bytes(8, 'little') + data)
        return digest.hexdigest()

    def has(self, key):
        if key in self.known:
            self.used.add(key)
        return key in self.known

    def add(self, key):
        self.known.add(key)
        self.used.add(key)

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f'{self.path.name}.{os.getpid()}')
        temporary.write_text(json.dumps(sorted(self.used)))
        os.replace(temporary, self.path)


def in_parallel(work, items):
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return [line for lines in pool.map(work, items) for line in lines]


def formatted(files, root, memory):
    """clang-format changes nothing. Versions differ in taste, so it is one version that decides."""
    program = shutil.which(CLANG_FORMAT)
    if not program:
        raise Skipped(f'no {CLANG_FORMAT}; apt-get install {CLANG_FORMAT}')
    style = next((file.data for file in files if file.path == '.clang-format'), b'')
    pending = []
    for file in files:
        if file.is_cpp:
            key = memory.key('format', style, file.data)
            if not memory.has(key):
                pending.append((file, key))

    def check(item):
        file, key = item
        run = subprocess.run([program, '--style=file', f'--assume-filename={root / file.path}'], input=file.data,
                             capture_output=True, check=False)
        if run.returncode != 0:
            return [f'{file.path}: {run.stderr.decode(errors="replace").strip()}']
        if run.stdout != file.data:
            line = next((number for number, (old, new) in enumerate(zip(file.data.split(b'\n'), run.stdout.split(b'\n')), 1)
                         if old != new), 1)
            return [f'{file.path}:{line}: run {CLANG_FORMAT} -i {file.path}']
        memory.add(key)
        return []

    return in_parallel(check, pending)


def closure(path, texts, seen):
    """The project's files that a file includes, itself among them."""
    if path in seen or path not in texts:
        return
    seen.add(path)
    for _, quoted, included in texts[path].includes():
        if quoted:
            closure(included, texts, seen)


def compile_commands(build):
    try:
        entries = json.loads((build / 'compile_commands.json').read_text())
    except (OSError, ValueError) as error:
        raise Skipped(f'no compile_commands.json in {build.name}: {error}') from error
    return entries


def headers_stand_alone(files, root, build, memory):
    """Each header compiles by itself. A source that includes it first and is part of the build has shown that already."""
    texts = {file.path: file for file in files}
    entries = compile_commands(build)
    shown = set()
    for entry in entries:
        source = os.path.relpath(os.path.join(entry['directory'], entry['file']), root)
        includes = texts[source].includes() if source in texts else []
        if includes and includes[0][1]:
            shown.add(includes[0][2])
    pending = [file for file in files if file.is_header and file.path not in shown]
    if not pending:
        return []
    if not entries:
        raise Skipped('the build has no sources')

    words = shlex.split(entries[0]['command'])
    compiler = next(word for word in words if re.search(r'(?:\+\+|/cc|^cc|gcc|clang)[-\d.]*$', word))
    flags = {word for entry in entries for word in shlex.split(entry['command'])
             if re.match(r'-(?:I|isystem|D|std=)', word) and 'FORTIFY' not in word}
    flags = sorted(f'-I{(build / word[2:]).resolve()}' if word.startswith('-I') else word for word in flags)
    version = subprocess.run([compiler, '--version'], capture_output=True, check=False).stdout

    def check(file):
        needs = set()
        closure(file.path, texts, needs)
        # Guest code is compiled for a machine without a library; what it shares with the host compiles as host code, too.
        ways = [['-m32', '-ffreestanding'], []] if file.path.startswith('bios/') else [[]]
        key = memory.key('header', version, *flags, *[part for path in sorted(needs) for part in (path, texts[path].data)])
        if memory.has(key):
            return []
        for way in ways:
            command = [compiler, *flags, *way, f'-I{root}', '-fsyntax-only', '-w', '-x', 'c++', str(root / file.path)]
            run = subprocess.run(command, cwd=build, capture_output=True, text=True, errors='replace', check=False)
            if run.returncode == 0:
                memory.add(key)
                return []
        errors = [line for line in run.stderr.splitlines() if 'error:' in line]
        return [f'{file.path}: does not compile alone: {errors[0] if errors else run.stderr.strip()[:300]}']

    return in_parallel(check, pending)


def shell_parses(files, root, memory):
    """bash accepts every script of ours, without running it."""
    wrong = []
    for file in files:
        if not re.match(rb'#!.*\b(?:ba)?sh\b', file.data):
            continue
        key = memory.key('bash', file.data)
        if memory.has(key):
            continue
        run = subprocess.run(['bash', '-n', str(root / file.path)], capture_output=True, text=True, check=False)
        if run.returncode == 0:
            memory.add(key)
        else:
            wrong.append(f'{file.path}: {run.stderr.strip().splitlines()[0]}')
    return wrong


def scripts_executable(files, root, _memory):
    """What starts with #! can be started, and the other way round."""
    wrong = []
    for file in files:
        executable = os.access(root / file.path, os.X_OK)
        if executable != file.data.startswith(b'#!'):
            wrong.append(f'{file.path}: {"executable without" if executable else "not executable in spite of"} a #! line')
    return wrong
