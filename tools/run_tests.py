#!/usr/bin/env python3
"""Runs the tests of one or more Meson build folders, counts their test cases, and remembers what passed.

usage: tools/run_tests.py [--all] [--jobs N] [--failed NAME]... BUILD[:SUITE,SUITE]...

A test program says what its cases did in TAP: on its output (Meson `protocol: 'tap'`), or in the file named by VIV_TAP
(unit tests). A program that says nothing is one case by its exit code, 77 being "skipped".

A program that passed is not run again while everything its result can depend on is the same: the program, the files
among its arguments, the build targets it `depends` on, the files and folders in its VIV_TEST_INPUTS, its environment,
the installed packages, the kernel, access to /dev/kvm and the guest images on this host. --all (or CI=true) runs all.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAP_LINE = re.compile(r'^(not )?ok\b\s*\d*\s*(?:- )?(.*?)(?:(?<!\\)#\s*(SKIP)\S*\s*(.*))?$', re.IGNORECASE)
RUNNING = set()  # programs under way, to be stopped with us
PLAN = re.compile(r'^1\.\.(\d+)\s*(?:#\s*SKIP\S*\s*(.*))?$', re.IGNORECASE)


@dataclasses.dataclass
class Result:
    """What one test program did: how many cases passed, and by name the others."""
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)  # names
    skipped: list = dataclasses.field(default_factory=list)  # [name, reason]
    output: str = ''
    seconds: float = 0.0
    cached: bool = False


def parse_tap(text, name):
    """The cases in a TAP text; a missing plan means that the program died before its end."""
    result = Result()
    planned = None
    seen = 0
    running = ''
    for line in text.splitlines():
        if line.startswith('# running '):
            running = line[len('# running '):]
            continue
        plan = PLAN.match(line)
        if plan:
            planned = int(plan.group(1))
            if planned == 0:
                result.skipped.append([name, plan.group(2) or 'no reason given'])
            continue
        case = TAP_LINE.match(line)
        if not case:
            continue
        seen += 1
        title = case.group(2).strip().replace('\\#', '#').replace('\\\\', '\\') or f'case {seen}'
        if case.group(1):
            result.failed.append(title)
        elif case.group(3):
            result.skipped.append([title, (case.group(4) or '').strip() or 'no reason given'])
        else:
            result.passed += 1
        running = ''
    if planned is None:
        result.failed.append(f'{name}: ended before its plan' + (f', while running: {running}' if running else ''))
    elif planned != seen:
        result.failed.append(f'{name}: planned {planned} cases, ran {seen}')
    return result


class Hashes:
    """Content hashes of files, kept by (size, mtime, inode) so that an unchanged file is not read again."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        try:
            self.known = json.loads(path.read_text())
        except (OSError, ValueError):
            self.known = {}

    def save(self):
        write_whole(self.path, json.dumps(self.known))

    def of(self, path):
        try:
            stat = os.stat(path)
        except OSError:
            return 'absent'
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        key = str(path)
        with self.lock:
            known = self.known.get(key)
        if known and known[0] == stamp:
            return known[1]
        digest = hashlib.blake2b(digest_size=16)
        try:
            with open(path, 'rb') as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            return f'unreadable: {error}'
        with self.lock:
            self.known[key] = [stamp, digest.hexdigest()]
        return digest.hexdigest()

    def of_tree(self, path):
        """A file, or all files below a folder; in the project's own folder those that git would take."""
        path = pathlib.Path(path)
        if not path.is_dir():
            return [[str(path), self.of(path)]]
        listed = subprocess.run(['git', '-C', str(path), 'ls-files', '-z', '-co', '--exclude-standard'],
                                capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            names = [path / name for name in listed.stdout.split('\0') if name]
        else:
            names = [entry for entry in path.rglob('*') if entry.is_file()]
        return [[str(name), self.of(name)] for name in sorted(set(names))]


def write_whole(path, text):
    """Replaces a file in one step, so that two runs at once never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.{os.getpid()}')
    temporary.write_text(text)
    os.replace(temporary, path)


def guest_folders():
    """Where guest images come from: VIV_GUESTS, and what tools/fetch-guests has fetched."""
    guests = os.environ.get('VIV_GUESTS') or ROOT.parent / 'shared' / 'guests'
    cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    return [pathlib.Path(guests), pathlib.Path(cache) / 'vivarium' / 'guests']


def host_facts():
    """What a result can depend on outside the build: all of it is part of every key."""
    def stamp(path):
        try:
            stat = os.stat(path)
            return [str(path), stat.st_size, stat.st_mtime_ns]
        except OSError:
            return [str(path), 'absent']

    guests = []
    for folder in guest_folders():
        guests += [stamp(entry) for entry in sorted(folder.rglob('*')) if entry.is_file()] if folder.is_dir() else []
    return {
        'runner': stamp(__file__),
        'packages': stamp('/var/lib/dpkg/status'),
        'kernel': platform.release(),
        'kvm': os.access('/dev/kvm', os.R_OK | os.W_OK),
        'guests': guests,
        'environment': {name: value for name, value in os.environ.items() if name.startswith('VIV_')},
    }


class Test:
    """One test program of a build folder."""

    def __init__(self, build, entry, targets):
        self.build = build
        self.entry = entry
        self.suites = [suite.split(':')[-1] for suite in entry['suite']]
        self.label = f"{build.name} {self.suites[0] if self.suites else 'test'}: {entry['name']}"
        self.depends = sorted(file for target in entry.get('depends', []) for file in targets.get(target, []))
        self.cache = build / 'test-results' / (re.sub(r'[^\w.-]+', '_', entry['name']) + '.json')

    def key(self, hashes, facts):
        files = [[word, hashes.of_tree(word) if os.path.isdir(word) else hashes.of(word)]
                 for word in self.entry['cmd'] if os.path.isabs(word) and word != str(self.build)]
        declared = [path for path in self.entry['env'].get('VIV_TEST_INPUTS', '').split(':') if path]
        whole = [self.entry['cmd'], files, self.entry['env'], facts, [[file, hashes.of(file)] for file in self.depends],
                 [hashes.of_tree(path) for path in declared]]
        return hashlib.blake2b(json.dumps(whole, sort_keys=True).encode(), digest_size=16).hexdigest()

    def cached(self, key):
        try:
            saved = json.loads(self.cache.read_text())
        except (OSError, ValueError):
            return None
        if saved['key'] != key:
            return None
        return Result(passed=saved['passed'], skipped=saved['skipped'], cached=True)

    def remember(self, key, result):
        if result.failed:
            self.cache.unlink(missing_ok=True)
        else:
            write_whole(self.cache, json.dumps({'key': key, 'passed': result.passed, 'skipped': result.skipped,
                                                'seconds': result.seconds}))

    def expected_seconds(self):
        """How long it took last time, or may take at most; the long ones start first."""
        try:
            return json.loads(self.cache.read_text())['seconds']
        except (OSError, ValueError, KeyError):
            return self.entry['timeout'] or 30

    def run(self, slow_factor):
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            tap = pathlib.Path(scratch) / 'tap'
            environment = {'UBSAN_OPTIONS': 'print_stacktrace=1', **os.environ, **self.entry['env'], 'VIV_TAP': str(tap)}
            # A unit test that finds no files of the project cannot depend on one that the key does not have.
            folder = self.entry['workdir'] or (scratch if 'unit' in self.suites else self.build)
            status, output = self.execute(environment, folder, (self.entry['timeout'] or 30) * slow_factor)
            if self.entry['protocol'] == 'tap':
                result = parse_tap(output, self.entry['name'])
            elif tap.exists():
                result = parse_tap(tap.read_text(errors='replace'), self.entry['name'])
            elif status == 77:
                reason = output.strip().splitlines()[-1] if output.strip() else 'no reason given'
                result = Result(skipped=[[self.entry['name'], reason]])
            else:
                result = Result(passed=1) if status == 0 else Result()
        if status not in (0, 77) and not result.failed:
            result.failed.append(f"{self.entry['name']}: {status if isinstance(status, str) else f'exit code {status}'}")
        result.output = output
        result.seconds = time.monotonic() - begin
        return result

    def execute(self, environment, folder, seconds):
        """Exit code (or the words for a death or a time-out) and output; a program over its time dies with its children."""
        process = subprocess.Popen(self.entry['cmd'], cwd=folder, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        RUNNING.add(process)
        try:
            output, _ = process.communicate(timeout=seconds)
            status = process.returncode
            if status < 0:
                status = f'killed by {signal.Signals(-status).name}'
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            status = f'no end after {seconds:.0f} s'
        finally:
            RUNNING.discard(process)
        return status, output.decode(errors='replace')


def load(argument):
    """The tests of BUILD[:suites] in Meson's order, and how much more time a sanitizer build may take."""
    folder, _, suites = argument.partition(':')
    build = pathlib.Path(folder).resolve()
    info = build / 'meson-info'
    targets = {target['id']: target['filename'] for target in json.loads((info / 'intro-targets.json').read_text())}
    options = {option['name']: option['value'] for option in json.loads((info / 'intro-buildoptions.json').read_text())}
    tests = [Test(build, entry, targets) for entry in json.loads((info / 'intro-tests.json').read_text())]
    wanted = set(suites.split(',')) if suites else None
    chosen = [test for test in tests if wanted is None or wanted & set(test.suites)]
    return chosen, 3 if options.get('b_sanitize', 'none') != 'none' else 1


class Report:
    """Prints progress as results come in, and sums them up."""

    def __init__(self, total):
        self.total = total
        self.done = 0
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.lock = threading.Lock()

    def add(self, test, result):
        with self.lock:
            self.done += 1
            self.passed += result.passed
            self.failed += [f'{test.label}: {name}' for name in result.failed]
            self.skipped += [f'{test.label}: {name}: {reason}' for name, reason in result.skipped]
            counts = f'{result.passed} passed'
            counts += f', {len(result.failed)} failed' if result.failed else ''
            counts += f', {len(result.skipped)} skipped' if result.skipped else ''
            how = 'cached' if result.cached else f'{result.seconds:.1f} s'
            print(f'[{self.done}/{self.total}] {test.label}: {counts} ({how})', flush=True)
            if result.failed:
                for line in result.output.splitlines()[-80:]:
                    print(f'    {line}')

    def close(self):
        for title, lines in (('Skipped', self.skipped), ('Failed', self.failed)):
            if lines:
                print(f'\n{title}:')
                print('\n'.join(f'  {line}' for line in lines))
        print(f'\n{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped', flush=True)
        return 1 if self.failed else 0


def main():
    parser = argparse.ArgumentParser(description='Runs and counts tests; see the head of this file.')
    parser.add_argument('--all', action='store_true', help='run also what passed before and has not changed')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='programs at a time')
    parser.add_argument('--failed', action='append', default=[], metavar='NAME', help='count this as a failure, too')
    parser.add_argument('builds', nargs='+', metavar='BUILD[:SUITE,SUITE]')
    arguments = parser.parse_args()
    everything = arguments.all or os.environ.get('CI', '').lower() in ('1', 'true', 'yes')

    work = []
    for argument in arguments.builds:
        try:
            tests, factor = load(argument)
        except OSError as error:
            print(f'tools/run_tests.py: {error}; is this a build folder that `meson setup` made?', file=sys.stderr)
            return 2
        work += [(test, factor) for test in tests]

    os.environ.setdefault('VIV_GUESTS', str(guest_folders()[0]))
    hashes = Hashes(pathlib.Path(arguments.builds[0].partition(':')[0]) / 'test-results' / 'hashes')
    facts = host_facts()
    report = Report(len(work))
    report.failed += arguments.failed

    def handle(test, factor):
        key = test.key(hashes, facts)
        result = None if everything else test.cached(key)
        if result is None:
            result = test.run(factor)
            test.remember(key, result)
        report.add(test, result)

    work.sort(key=lambda item: -item[0].expected_seconds())
    with concurrent.futures.ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        pending = [pool.submit(handle, *item) for item in work if item[0].entry['is_parallel']]
        try:
            for done in pending:
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    for item in work:
        if not item[0].entry['is_parallel']:
            handle(*item)
    hashes.save()
    return report.close()


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
