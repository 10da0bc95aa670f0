#!/usr/bin/env python3
"""What `viv image` makes and changes, checked by itself and, where they are installed, by QEMU's tools. TAP.

usage: tools/image_command_tests.py VIV [--long] [PART...]     PART: only cases whose name contains one of these
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

MIB = 1 << 20
HAS_QEMU = bool(shutil.which('qemu-img') and shutil.which('qemu-io'))
CASES = []


class Skipped(Exception):
    """This host cannot run the case; says why."""


def case(function):
    CASES.append(function)
    return function


class Images:
    """A folder of images."""

    def __init__(self, viv, folder):
        self.viv, self.folder = viv, pathlib.Path(folder)
        self.random = random.Random(5)

    def run(self, *words, code=0, says=''):
        done = subprocess.run([str(word) for word in words], cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              check=False, timeout=120)
        text = done.stdout + done.stderr
        assert done.returncode == code and says in text, f'{words[:4]} ended with {done.returncode} for {code}: {text[-500:]}'
        return done.stdout

    def image(self, *words, **expected):
        return self.run(self.viv, 'image', *words, **expected)

    def qemu(self, *words):
        if not HAS_QEMU:
            raise Skipped('no qemu-img (package qemu-utils)')
        return self.run('qemu-img', *words)

    def data(self, name, size, *patches):
        """A raw image: half of it random; `patches` are places of more."""
        content = bytearray(size)
        for at in range(0, size - MIB // 4, MIB // 2):
            content[at:at + MIB // 4] = self.random.randbytes(MIB // 4)
        for at in patches:
            content[at:at + 3000] = self.random.randbytes(3000)
        (self.folder / name).write_bytes(content)
        return bytes(content)

    def overlay(self, name, base, base_format, content, *options):
        """An image over `base` that shows `content`."""
        (self.folder / 'wanted.img').write_bytes(content)
        self.image('convert', '--source-format', 'raw', '--backing', base, '--backing-format', base_format, *options, 'wanted.img', name)

    def holds(self, name, content, image_format='qcow2'):
        """The image shows this content and has nothing wrong, whoever looks at it."""
        expected = self.folder / 'expected.img'
        expected.write_bytes(content)
        self.image('compare', '--source-format', image_format, '--format', 'raw', name, 'expected.img')
        if image_format == 'qcow2':
            self.image('check', name, says='no errors')
        if HAS_QEMU:
            if image_format == 'qcow2':
                self.run('qemu-img', 'check', '-q', name)
            self.run('qemu-img', 'compare', '-q', '-f', image_format, '-F', 'raw', name, 'expected.img')

    def space(self, name):
        return (self.folder / name).stat().st_blocks * 512


def patched(content, size, rng, *holes):
    """The content in another size, with changes here and there, and zeros."""
    new = bytearray(content[:size].ljust(size, b'\0'))
    for _ in range(12):
        at = rng.randrange(size // 512 - 40) * 512
        new[at:at + 512 * 30] = rng.randbytes(512 * 30)
    for at in holes:
        new[at:at + MIB // 8] = bytes(MIB // 8)
    return bytes(new)


FORMS = [[], ['--extended-l2', '--cluster-size', '16K'], ['--compress', '--compression', 'zstd']]
MORE_FORMS = [['--version', '2'], ['--lazy-refcounts', '--refcount-bits', '64', '--cluster-size', '4K'], ['--compress'],
              ['--refcount-bits', '1', '--cluster-size', '512']]


@case
def what_is_like_the_backing_file_stays_out_of_a_converted_image(images):
    base = images.data('base.img', 4 * MIB)
    for options in FORMS:
        for size in (5 * MIB + 512, 3 * MIB):
            content = patched(base, size, images.random, MIB)
            images.overlay('top.qcow2', 'base.img', 'raw', content, '--force', *options)
            images.holds('top.qcow2', content)
            assert images.space('top.qcow2') < 2 * MIB, (options, images.space('top.qcow2'))
    images.image('convert', 'base.img', 'x', '--backing', 'base.img', code=2, says='--backing-format')
    images.image('convert', 'base.img', 'x', '--format', 'raw', '--backing', 'base.img', '--backing-format', 'raw', code=2, says='no backing file')
    images.image('convert', 'base.img', 'top.qcow2', '--force', '--backing', 'top.qcow2', '--backing-format', 'qcow2', code=2, says='back itself')


@case
def commit_moves_an_image_into_its_backing_file(images):
    start = images.data('start.img', 3 * MIB)
    for options in FORMS:
        for base, base_format in (('base.img', 'raw'), ('base.qcow2', 'qcow2')):
            images.image('convert', '--force', '--format', base_format, 'start.img', base)
            content = patched(start, 4 * MIB, images.random, MIB, 3 * MIB + MIB // 2)
            images.overlay('top.qcow2', base, base_format, content, '--force', *options)
            if options == FORMS[0]:
                images.image('commit', '--keep', 'top.qcow2')
                images.holds(base, content, base_format)
                images.holds('top.qcow2', content)
                content = patched(content, 4 * MIB, images.random, 2 * MIB)
                images.overlay('top.qcow2', base, base_format, content, '--force', *options)
            moved = json.loads(images.image('commit', '--json', 'top.qcow2'))
            assert moved['copied'] > 0 and moved['zeroed'] + moved['copied'] < 3 * MIB, moved
            images.holds(base, content, base_format)
            images.holds('top.qcow2', content)
            assert images.space('top.qcow2') < MIB
            assert json.loads(images.image('check', '--json', 'top.qcow2'))['allocated'] == 0
    # An image that QEMU commits and that goes on here.
    content = patched(content, 4 * MIB, images.random, 0)
    images.overlay('top.qcow2', 'base.qcow2', 'qcow2', content, '--force')
    if HAS_QEMU:
        images.qemu('commit', '-q', 'top.qcow2')
        images.holds('base.qcow2', content)
        images.image('commit', 'top.qcow2')
        images.holds('top.qcow2', content)
    images.image('commit', 'base.qcow2', code=2, says='has no backing file')
    images.image('commit', 'base.img', code=1, says='no qcow2 image')
    os.chmod(images.folder / 'base.qcow2', 0o400)
    if os.geteuid() != 0:
        images.image('commit', 'top.qcow2', code=1, says='for writing')


@case
def commit_takes_one_image_of_a_chain(images):
    lowest = images.data('low.img', 2 * MIB)
    middle = patched(lowest, 2 * MIB, images.random, MIB)
    top = patched(middle, 3 * MIB, images.random, MIB // 2)
    images.overlay('middle.qcow2', 'low.img', 'raw', middle)
    images.overlay('top.qcow2', 'middle.qcow2', 'qcow2', top)
    images.image('commit', 'top.qcow2')
    images.holds('middle.qcow2', top)
    images.holds('top.qcow2', top)
    assert (images.folder / 'low.img').read_bytes() == lowest
    images.image('commit', 'middle.qcow2')
    images.holds('low.img', top, 'raw')
    images.holds('top.qcow2', top)


@case
def rebase_moves_what_another_backing_file_does_not_have(images):
    base = images.data('base.img', 3 * MIB)
    other = bytearray(images.data('other.img', 5 * MIB))
    other[:MIB] = base[:MIB]
    (images.folder / 'other.img').write_bytes(other)
    images.image('convert', 'other.img', 'other.qcow2')
    for options in FORMS:
        content = patched(base, 4 * MIB, images.random, MIB)
        images.overlay('top.qcow2', 'base.img', 'raw', content, '--force', *options)
        images.image('rebase', '--backing', 'other.qcow2', '--backing-format', 'qcow2', 'top.qcow2')
        images.holds('top.qcow2', content)
        about = json.loads(images.image('info', '--json', 'top.qcow2'))
        assert (about['backing-file'], about['backing-format']) == ('other.qcow2', 'qcow2'), about
        images.image('rebase', 'top.qcow2')
        images.holds('top.qcow2', content)
        assert 'backing-file' not in json.loads(images.image('info', '--json', 'top.qcow2'))
        images.image('rebase', '--backing', 'other.img', '--backing-format', 'raw', 'top.qcow2')
        images.holds('top.qcow2', content)
        # The data that it had already are not looked for in the new one, and take no space twice.
        moved = json.loads(images.image('rebase', '--json', '--backing', 'base.img', '--backing-format', 'raw', 'top.qcow2'))
        assert moved == {'copied': 0, 'zeroed': 0}, moved
    images.image('rebase', '--unsafe', '--backing', 'other.img', '--backing-format', 'raw', 'top.qcow2')
    images.image('rebase', '--backing', 'top.qcow2', '--backing-format', 'qcow2', 'top.qcow2', code=1)
    images.image('rebase', '--backing', 'base.img', 'top.qcow2', code=2, says='--backing-format')
    images.image('rebase', '--backing', 'gone.img', '--backing-format', 'raw', 'top.qcow2', code=1, says='gone.img')
    images.holds('top.qcow2', content)


@case
def space_is_taken_when_an_image_is_made(images):
    for options in [['--format', 'raw']] + [form for form in FORMS if '--compress' not in form]:
        image_format = 'raw' if 'raw' in options else 'qcow2'
        for how in ('metadata', 'falloc', 'full'):
            if (image_format, how) == ('raw', 'metadata'):
                images.image('create', *options, '--preallocation', how, 'x', '1M', code=2, says='no metadata')
                continue
            images.image('create', '--force', *options, '--preallocation', how, 'new.img', '9M')
            images.holds('new.img', bytes(9 * MIB), image_format)
            space = images.space('new.img')
            assert space >= 9 * MIB if how != 'metadata' else space < 2 * MIB, (options, how, space)
            if image_format == 'qcow2':
                about = json.loads(images.image('check', '--json', 'new.img'))
                assert about['allocated'] == about['clusters'], about
            if HAS_QEMU:
                images.run('qemu-io', '-f', image_format, '-c', 'write -P 7 1M 3M', 'new.img')
                images.holds('new.img', bytes(MIB) + bytes([7]) * (3 * MIB) + bytes(5 * MIB), image_format)
    raw = images.data('data.img', 2 * MIB)
    for target in ('raw', 'qcow2'):
        images.image('convert', '--force', '--format', target, '--preallocation', 'falloc', 'data.img', 'new.img')
        images.holds('new.img', raw, target)
        assert images.space('new.img') >= 2 * MIB
    images.image('create', '--preallocation', 'some', 'x', '1M', code=2, says='use off, metadata, falloc or full')
    images.image('convert', '--compress', '--preallocation', 'full', 'data.img', 'x', code=2, says='leave one of them out')


@case
def internal_snapshots_are_listed_read_and_kept(images):
    first = images.data('data.img', 3 * MIB)
    images.image('convert', 'data.img', 'disk.qcow2')
    images.qemu('snapshot', '-c', 'before', 'disk.qcow2')
    images.run('qemu-io', '-c', 'write -P 9 1M 700k', 'disk.qcow2')
    images.qemu('snapshot', '-c', 'after it', 'disk.qcow2')
    second = first[:MIB] + bytes([9]) * (700 << 10) + first[MIB + (700 << 10):]
    listed = json.loads(images.image('info', '--json', 'disk.qcow2'))['snapshots']
    assert [(one['id'], one['name']) for one in listed] == [('1', 'before'), ('2', 'after it')], listed
    assert images.image('info', 'disk.qcow2').count("snapshot:") == 2
    for name, content in (('before', first), ('1', first), ('after it', second)):
        images.image('convert', '--force', '--format', 'raw', f'disk.qcow2,snapshot={name}', 'out.img')
        assert (images.folder / 'out.img').read_bytes() == content, name
    images.image('convert', 'disk.qcow2,snapshot=third', 'x', code=1, says="it has 'before', 'after it'")
    # They outlive work on the image, an overlay that is committed to it, and one that is emptied into what is below.
    third = patched(second, 3 * MIB, images.random, MIB)
    images.overlay('top.qcow2', 'disk.qcow2', 'qcow2', third)
    images.qemu('snapshot', '-c', 'of the top', 'top.qcow2')
    images.image('commit', 'top.qcow2')
    images.holds('disk.qcow2', third)
    images.holds('top.qcow2', third)
    for name, content in (('before', first), ('after it', second)):
        images.image('compare', f'disk.qcow2,snapshot={name}', 'out.img', code=0 if content == second else 1)
    images.image('resize', 'disk.qcow2', '+1M', code=1, says='internal snapshots')
    larger = images.data('larger.img', 4 * MIB)
    images.overlay('top2.qcow2', 'disk.qcow2', 'qcow2', larger)
    images.image('commit', 'top2.qcow2', code=1, says='internal snapshots')
    images.holds('disk.qcow2', third)
    images.holds('top2.qcow2', larger)


@case
def an_image_loses_its_end_only_if_that_is_wanted(images):
    content = images.data('data.img', 5 * MIB)
    for options in FORMS + [['--format', 'raw']]:
        image_format = 'raw' if 'raw' in options else 'qcow2'
        images.image('convert', '--force', *options, 'data.img', 'disk.img')
        images.image('resize', 'disk.img', '3M', code=2, says='give --shrink if you mean it')
        images.holds('disk.img', content, image_format)
        images.image('resize', '--shrink', 'disk.img', '3000K')
        images.holds('disk.img', content[:3000 << 10], image_format)
        images.image('resize', 'disk.img', '+2M')
        images.holds('disk.img', content[:3000 << 10].ljust(5048 << 10, b'\0'), image_format)


@case
def a_disk_that_is_said_to_be_raw_may_begin_like_qcow2(images):
    # These four bytes are instructions, too; then: mov al, 42; mov dx, 501h; out dx, al; hlt.
    sector = (b'QFI\xFB' + bytes.fromhex('B02A BA0105 EE F4')).ljust(510, b'\0') + b'\x55\xAA'
    (images.folder / 'disk.img').write_bytes(sector.ljust(MIB, b'\0'))
    run = [images.viv, 'run', '--engine', 'soft', '--clock', 'virtual', '--display', 'none', '--exit-port', '0x501']
    for bus in ('ide', 'virtio'):
        images.run(*run, '--disk', f'disk.img,format=raw,bus={bus}', code=42)
    images.run(*run, '--disk', 'disk.img', code=1, says='clusters have 2^0 bytes')
    images.image('convert', '--source-format', 'raw', 'disk.img', 'disk.qcow2')
    images.run(*run, '--disk', 'disk.qcow2,format=qcow2', code=42)
    images.run(*run, '--disk', 'expected.img,format=qcow2', code=1, says='expected.img')
    images.data('expected.img', MIB)
    images.run(*run, '--disk', 'expected.img,format=qcow2', code=1, says='no qcow2 image')
    images.run(*run, '--disk', 'expected.img,format=vdi', code=2, says='raw or qcow2')


def scratch():
    """Where folders for images go: memory, if there is enough, since everything that is made is flushed to the disk."""
    memory = '/dev/shm'
    if os.environ.get('TMPDIR') or not os.access(memory, os.W_OK):
        return None
    free = os.statvfs(memory)
    return memory if free.f_bavail * free.f_frsize > 256 * MIB else None


def main():
    viv, *parts = sys.argv[1:]
    if '--long' in parts:
        parts.remove('--long')
        FORMS.extend(MORE_FORMS)
    chosen = [function for function in CASES if not parts or any(part in function.__name__ for part in parts)]
    failed = 0
    print(f'1..{len(chosen)}')
    for number, function in enumerate(chosen, 1):
        name = function.__name__.replace('_', ' ')
        with tempfile.TemporaryDirectory(prefix='viv-image-', dir=scratch()) as folder:
            try:
                function(Images(os.path.abspath(viv), folder))
                print(f'ok {number} - {name}', flush=True)
            except Skipped as reason:
                print(f'ok {number} - {name} # SKIP {reason}', flush=True)
            except AssertionError as error:
                failed += 1
                print(f'not ok {number} - {name}\n# ' + str(error).replace('\n', '\n# '), flush=True)
    return 1 if failed else 0


sys.exit(main())
