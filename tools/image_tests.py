#!/usr/bin/env python3
"""Random work on qcow2 images, done in turn by Vivarium and by QEMU's tools, each of which checks what the other wrote. TAP.

usage: tools/image_tests.py IMAGE_IO [--operations N] [--seed N] [FORM...]     FORM: only those whose name contains one of these
N operations are done by either side on each form of image (100 if not said; 10000 is the long form). Each side reads what the other wrote:
QEMU in turn by qemu-img, and by qemu-nbd over a Unix socket.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

SECTOR = 512
# name -> (options of qemu-img create, whether there is a backing file)
FORMS = {
    'v3': ([], False),
    'v3 with a backing file': ([], True),
    'v2': (['compat=0.10'], False),
    'v2 with a backing file': (['compat=0.10'], True),
    'clusters of 512 bytes': (['cluster_size=512'], True),
    'clusters of 2 MiB': (['cluster_size=2M'], True),
    'lazy refcounts': (['lazy_refcounts=on'], True),
    'extended L2': (['extended_l2=on'], True),
    'extended L2, small clusters': (['extended_l2=on', 'cluster_size=16k'], False),
    'refcounts of 1 bit': (['refcount_bits=1'], False),
    'refcounts of 2 bits': (['refcount_bits=2'], True),
    'refcounts of 8 bits': (['refcount_bits=8', 'cluster_size=4k'], True),
    'refcounts of 64 bits': (['refcount_bits=64', 'cluster_size=1k'], True),
    'preallocated metadata': (['preallocation=metadata'], False),
    'space taken beforehand': (['preallocation=falloc'], False),
    'version 2, metadata beforehand': (['compat=0.10', 'preallocation=metadata'], False),
    'a chain of three': ([], True),
    'zstd': (['compression_type=zstd'], True),
    'compressed': ([], False),
    'compressed, version 2': (['compat=0.10'], False),
    'compressed, extended L2': (['extended_l2=on'], False),
    'compressed with zstd': (['compression_type=zstd'], False),
    'with an internal snapshot': ([], True),
}


def run(*words, text=None):
    done = subprocess.run([str(word) for word in words], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise AssertionError(f'{words[0]} ended with {done.returncode}: {done.stdout[-800:]}')
    return done.stdout


class Work:
    """Commands, and what a disk may hold after them."""

    def __init__(self, content, seed):
        self.random = random.Random(seed)
        self.content = content
        self.unsure = set()  # sectors that were discarded: zeros or as they were

    def commands(self, count):
        sectors = len(self.content) // SECTOR
        for _ in range(count):
            longest = self.random.choice((1, 8, 8, 64, 64, 300))
            first = self.random.randrange(sectors)
            length = min(self.random.randint(1, longest), sectors - first)
            place = f'{first * SECTOR} {length * SECTOR}'
            kind = self.random.randrange(20)
            if kind < 13:
                pattern = self.random.randrange(1, 256)
                self.set(first, length, pattern)
                yield f'write -P {pattern} {place}'
            elif kind < 17:
                self.set(first, length, 0)
                yield f'write -z {"-u " if kind == 16 else ""}{place}'
            elif kind < 19:
                self.unsure.update(range(first, first + length))
                yield f'discard {place}'
            else:
                yield 'flush'

    def set(self, first, length, pattern):
        self.content[first * SECTOR:(first + length) * SECTOR] = bytes([pattern]) * (length * SECTOR)
        self.unsure.difference_update(range(first, first + length))

    def compare(self, found, who):
        assert len(found) == len(self.content), f'{who} sees {len(found)} bytes'
        if not self.unsure and found == self.content:
            return
        for sector in range(len(found) // SECTOR):
            part = slice(sector * SECTOR, (sector + 1) * SECTOR)
            if found[part] != self.content[part]:
                assert sector in self.unsure and not any(found[part]), \
                    f'{who} sees {found[part][:4].hex()} for {self.content[part][:4].hex()} in sector {sector}'
        self.content[:] = found
        self.unsure.clear()


def read_through_nbd(image, target):
    """As another program sees it that asks a server of QEMU's."""
    socket = image.with_suffix('.socket')
    with subprocess.Popen(['qemu-nbd', '-r', '-f', 'qcow2', '-k', str(socket), str(image)]) as server:
        try:
            give_up = time.monotonic() + 60
            while not socket.exists():
                assert server.poll() is None and time.monotonic() < give_up, 'qemu-nbd does not serve the image'
                time.sleep(0.01)
            run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', f'nbd+unix:///?socket={socket}', target)
            # It ends with its client.
            assert server.wait(timeout=60) == 0, 'qemu-nbd failed'
        finally:
            if server.poll() is None:
                server.kill()


def read_by_qemu(image, target, through_nbd):
    if through_nbd and shutil.which('qemu-nbd'):
        read_through_nbd(image, target)
    else:
        run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, target)


def interchange(tool, folder, options, backed, operations, seed, name):
    size = (24 if operations >= 1000 else 6) << 20
    rng = random.Random(seed)
    base, image, ours, theirs = (folder / file for file in ('base.img', 'test.qcow2', 'ours.raw', 'theirs.raw'))
    content = bytearray(size)
    below = []
    if backed or 'compressed' in name:
        for _ in range(size >> 19):
            first = rng.randrange(size // SECTOR - 256)
            content[first * SECTOR:(first + 200) * SECTOR] = rng.randbytes(100 * SECTOR) + bytes([rng.randrange(256)]) * (100 * SECTOR)
        # Shorter than the disk.
        shorter = size // 6 * 5
        base.write_bytes(content[:shorter])
        content[shorter:] = bytes(size - shorter)
        below = ['-b', 'base.img', '-F', 'raw']
    if 'chain' in name:
        run('qemu-img', 'create', '-q', '-f', 'qcow2', *below, folder / 'middle.qcow2', size)
        below = ['-b', 'middle.qcow2', '-F', 'qcow2']
    words = [word for option in options for word in ('-o', option)]
    if 'compressed' in name:
        base.write_bytes(content)
        run('qemu-img', 'convert', '-f', 'raw', '-c', '-O', 'qcow2', *words, base, image)
    else:
        run('qemu-img', 'create', '-q', '-f', 'qcow2', *words, *below, image, size)
    work = Work(content, seed)
    snapshot = None
    step = max(1, min(250, operations // 2))
    for turn in range(2 * ((operations + step - 1) // step)):
        script = '\n'.join(work.commands(step)) + '\n'
        if turn % 2:
            run('qemu-io', '-f', 'qcow2', '-d', 'unmap', image, text=script)
            run(tool, image, ours, text='')
        else:
            run(tool, image, ours, text=script)
        run('qemu-img', 'check', '-q', image)
        # What we wrote, in every other round through the server.
        read_by_qemu(image, theirs, turn % 4 == 0)
        found = ours.read_bytes()
        assert found == theirs.read_bytes(), 'Vivarium and QEMU see different bytes'
        work.compare(found, 'Vivarium')
        if 'snapshot' in name and snapshot is None:
            run('qemu-img', 'snapshot', '-c', 'first', image)
            snapshot = bytes(work.content)
    if snapshot:
        run('qemu-img', 'convert', '-l', 'first', '-f', 'qcow2', '-O', 'raw', image, theirs)
        assert theirs.read_bytes() == snapshot, 'the internal snapshot changed'


def scratch():
    """Where folders for images go: memory, if there is enough, since everything that is made is flushed to the disk."""
    memory = '/dev/shm'
    if os.environ.get('TMPDIR') or not os.access(memory, os.W_OK):
        return None
    free = os.statvfs(memory)
    return memory if free.f_bavail * free.f_frsize > 512 << 20 else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('tool')
    parser.add_argument('--operations', type=int, default=100)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('forms', nargs='*')
    arguments = parser.parse_intermixed_args()
    names = [name for name in FORMS if not arguments.forms or any(word in name for word in arguments.forms)]
    missing = [tool for tool in ('qemu-img', 'qemu-io') if not shutil.which(tool)]
    failed = 0
    print(f'1..{len(names)}')
    for number, name in enumerate(names, 1):
        title = f'Vivarium and QEMU agree about a qcow2 image: {name}'
        if missing:
            print(f'ok {number} - {title} # SKIP no {missing[0]} (package qemu-utils)')
            continue
        with tempfile.TemporaryDirectory(prefix='viv-image-', dir=scratch()) as folder:
            try:
                options, backed = FORMS[name]
                interchange(pathlib.Path(arguments.tool).resolve(), pathlib.Path(folder), options, backed, arguments.operations,
                            arguments.seed, name)
                print(f'ok {number} - {title}\n# {arguments.operations} operations each way', flush=True)
            except AssertionError as error:
                failed += 1
                print(f'not ok {number} - {title}\n# {error}'.replace('\n', '\n# ').replace('# # ', '# '), flush=True)
    return 1 if failed else 0


sys.exit(main())
