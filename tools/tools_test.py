#!/usr/bin/env python3
"""Tests of the scripts in tools/ that need neither network nor root; prints TAP."""

import gzip
import os
import pathlib
import subprocess
import sys
import tempfile

TOOLS = pathlib.Path(__file__).resolve().parent


def run(*command, **environment):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
                          env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


def package_names_of_both_systems_are_complete():
    rows = [line.split() for line in (TOOLS / 'packages').read_text().splitlines() if line.strip() and not line.startswith('#')]
    assert rows and all(len(row) >= 3 for row in rows), 'a row has two names and a purpose'
    status, listed, _ = run(TOOLS / 'install-packages', '--list')
    names = listed.split()
    assert status == 0 and len(names) == len(rows), names
    assert '=' not in names and all(name in row[:2] for name, row in zip(names, rows)), names


def an_unknown_option_of_install_packages_is_refused():
    status, out, _ = run(TOOLS / 'install-packages', '--nope')
    assert status == 2 and 'usage' in out, out


def the_list_of_guests_says_what_is_there():
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / 'grub').mkdir()
        (pathlib.Path(folder) / 'grub' / 'version').write_text('grub-rescue-pc 1\nfloppy.img\n')
        status, out, _ = run(TOOLS / 'fetch-guests', '--dir', folder, '--list')
        lines = {line.split()[0]: line for line in out.splitlines()}
        assert status == 0 and lines['grub'].endswith('grub-rescue-pc 1'), out
        assert lines['memtest'].endswith(' -'), out


def a_guest_that_is_there_is_not_fetched_again():
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / 'grub'
        target.mkdir()
        (target / 'version').write_text('grub-rescue-pc 1\nfloppy.img\n')
        status, out, error = run(TOOLS / 'fetch-guests', '--dir', folder, 'grub')
        assert status == 0 and out == f'{target}/floppy.img\n', (out, error)
        assert os.listdir(folder) == ['grub'], 'nothing else is left behind'


def a_kernel_that_the_distribution_has_not_is_skipped_by_name():
    with tempfile.TemporaryDirectory() as folder:
        for program in ('apt-get', 'apt-cache', 'dpkg'):
            # It knows of no package.
            (pathlib.Path(folder) / program).write_text('#!/bin/sh\n')
            (pathlib.Path(folder) / program).chmod(0o755)
        status, out, error = run(TOOLS / 'fetch-guests', '--dir', folder + '/guests', 'linux-disks-i386', PATH=f'{folder}:{os.environ["PATH"]}')
        assert status == 0 and out == '' and 'linux-disks-i386: skipped: ' in error, (status, out, error)
        status, out, error = run(TOOLS / 'fetch-guests', '--dir', folder + '/guests', 'linux-disks', PATH=f'{folder}:{os.environ["PATH"]}')
        assert status == 1 and "no package 'linux-image-amd64'" in error, (status, out, error)


def the_folder_follows_the_cache_setting():
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / 'vivarium' / 'guests' / 'grub'
        target.mkdir(parents=True)
        (target / 'version').write_text('grub-rescue-pc 1\nfloppy.img\n')
        status, out, _ = run(TOOLS / 'fetch-guests', 'grub', XDG_CACHE_HOME=folder)
        assert status == 0 and out == f'{target}/floppy.img\n', out


def an_unknown_guest_is_named():
    with tempfile.TemporaryDirectory() as folder:
        status, out, error = run(TOOLS / 'fetch-guests', '--dir', folder, 'nope')
        assert status == 1 and out == '' and "no guest 'nope'" in error, error


def fetching_nothing_shows_the_usage():
    status, _, error = run(TOOLS / 'fetch-guests')
    assert status == 2 and 'usage' in error and 'memtest' in error, error


def quickstart_refuses_before_it_builds():
    status, _, error = run(TOOLS / 'quickstart', '/no/such.img', '--until', 'x')
    assert status == 2 and 'no such image: /no/such.img' in error, error
    status, _, error = run(TOOLS / 'quickstart', TOOLS / 'packages')
    assert status == 2 and '--until' in error, error


def an_initramfs_unpacks_to_what_went_in():
    with tempfile.TemporaryDirectory() as folder:
        busybox, output = pathlib.Path(folder) / 'busybox', pathlib.Path(folder) / 'initramfs.gz'
        busybox.write_bytes(b'\x7fELF' + bytes(range(7)))
        assert run(TOOLS / 'make_initramfs.py', busybox, output)[0] == 0
        first = output.read_bytes()
        data, files = gzip.decompress(first), {}
        at = 0
        while True:
            assert at % 4 == 0 and data[at:at + 6] == b'070701', f'no header at {at}'
            mode, size, length = (int(data[at + 6 + 8 * field:at + 14 + 8 * field], 16) for field in (1, 6, 11))
            name = data[at + 110:at + 110 + length - 1].decode()
            at += (110 + length + 3) // 4 * 4
            files[name] = (mode, data[at:at + size])
            at += (size + 3) // 4 * 4
            if name == 'TRAILER!!!':
                break
        assert files['bin/busybox'] == (0o100755, busybox.read_bytes()), files
        assert files['dev/console'][0] == 0o020600 and files['init'][1].startswith(b'#!/bin/busybox sh\n'), files
        assert run(TOOLS / 'make_initramfs.py', busybox, output)[0] == 0 and output.read_bytes() == first, 'the same again'


def main():
    cases = [package_names_of_both_systems_are_complete, an_unknown_option_of_install_packages_is_refused,
             the_list_of_guests_says_what_is_there, a_guest_that_is_there_is_not_fetched_again,
             a_kernel_that_the_distribution_has_not_is_skipped_by_name,
             the_folder_follows_the_cache_setting, an_unknown_guest_is_named, fetching_nothing_shows_the_usage,
             quickstart_refuses_before_it_builds,
             an_initramfs_unpacks_to_what_went_in]
    failed = 0
    for number, case in enumerate(cases, 1):
        try:
            case()
            print(f'ok {number} - {case.__name__.replace("_", " ")}', flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f'not ok {number} - {case.__name__.replace("_", " ")}\n    {type(error).__name__}: {error}', flush=True)
    print(f'1..{len(cases)}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
