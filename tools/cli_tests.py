#!/usr/bin/env python3
"""Runs viv as a person would, in pipes and terminals, and misuses it; prints TAP.

usage: tools/cli_tests.py VIV [--engine NAME] [PART...]     PART: only cases whose name contains one of these
"""

import argparse
import inspect
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import cli_rig as rigs
from cli_rig import FLOPPY, Rig, Skipped, Terminal, wait_for, wait_for_machine

CASES = []  # (function, whether it runs a machine)


def case(function):
    CASES.append((function, True))
    return function


def case_without_machine(function):
    CASES.append((function, False))
    return function


def refused(done, code, *parts):
    """An error of one line that has these parts, and nothing on stdout."""
    assert done.code == code, done
    assert done.err.startswith('viv: ') and done.err.count('\n') == 1, done
    for part in parts:
        assert part in done.err, f'no {part!r} in: {done}'
    assert done.out == '', done


def succeeds(done, *parts):
    assert done.code == 0, done
    for part in parts:
        assert part in done.out, f'no {part!r} in: {done}'


# What the command line says without a machine


@case_without_machine
def help_is_shown_on_stdout(rig):
    succeeds(rig.command(rig.viv, '--help'), 'viv run [OPTIONS] IMAGE', 'Exit codes:')
    succeeds(rig.command(rig.viv), 'viv run [OPTIONS] IMAGE')
    succeeds(rig.command(rig.viv, 'run', '--help'), '--snapshot', '--until TEXT')
    succeeds(rig.command(rig.viv, 'board', '--help'), 'viv board > my.dts')
    succeeds(rig.command(rig.viv, '--version'), 'viv ')


@case_without_machine
def a_misspelt_option_is_told_the_right_one(rig):
    refused(rig.command(rig.viv, 'run', '--snapshoot', 'x.img'), 2, 'unknown option --snapshoot (did you mean --snapshot?)')


@case_without_machine
def a_misspelt_command_is_told_the_right_one(rig):
    refused(rig.command(rig.viv, 'rnu', 'x.img'), 2, "'rnu'", 'did you mean run?')


@case_without_machine
def a_missing_or_wrong_value_names_its_option(rig):
    refused(rig.command(rig.viv, 'run', '--memory'), 2, '--memory needs a value')
    refused(rig.command(rig.viv, 'run', '--memory', '12Q'), 2, "'12Q' is not a size (try 64M")
    refused(rig.command(rig.viv, 'run', '--timeout', 'soon'), 2, "--timeout: 'soon'")
    refused(rig.command(rig.viv, 'run', '--engine', 'fast'), 2, "--engine: there is no 'fast'; use auto")
    refused(rig.command(rig.viv, 'run', '--display', 'gtk'), 2, "--display: there is no 'gtk'")


@case_without_machine
def options_that_exclude_each_other_are_refused(rig):
    refused(rig.command(rig.viv, 'run', '--read-only', '--snapshot', 'x.img'), 2, '--read-only and --snapshot')


@case_without_machine
def impossible_sizes_are_refused(rig):
    refused(rig.command(rig.viv, 'run', '--memory', '1K'), 2, '1 MiB', 'try --memory')
    refused(rig.command(rig.viv, 'run', '--memory', '900T'), 2, '1 TiB')
    refused(rig.command(rig.viv, 'run', '--cpus', '0'), 2, '1 to 16 CPUs')


@case_without_machine
def a_missing_image_is_named(rig):
    refused(rig.command(rig.viv, 'run', '/no/such.img'), 1, "'/no/such.img'", 'No such file')
    refused(rig.command(rig.viv, 'run', '--disk', '/no/such.img'), 1, "'/no/such.img'", 'No such file')


@case_without_machine
def the_bus_of_a_drive_is_one_that_there_is(rig):
    refused(rig.command(rig.viv, 'run', '--disk', 'a.img,bus=scsi'), 2, "no bus 'scsi'", 'use ide')
    refused(rig.command(rig.viv, 'run', '--disk', '/no/such.img,bus=ahci'), 1, "'/no/such.img'", 'No such file')


@case_without_machine
def a_folder_a_fifo_and_a_device_are_no_images(rig):
    os.mkfifo(rig.path / 'fifo')
    refused(rig.command(rig.viv, 'run', '/tmp'), 1, "'/tmp'", 'directory')
    refused(rig.command(rig.viv, 'run', 'fifo'), 1, "'fifo'", 'neither a file')
    refused(rig.command(rig.viv, 'run', '/dev/null'), 1, "'/dev/null'", 'neither a file')


@case_without_machine
def an_empty_image_is_refused(rig):
    refused(rig.command(rig.viv, 'run', rig.image(b'', 0)), 1, 'empty')


@case_without_machine
def a_file_that_is_no_image_is_refused(rig):
    refused(rig.command(rig.viv, 'run', rig.file('notes.txt', 'remember the milk\n')), 2, "notes.txt'", 'neither a disk image')


@case_without_machine
def an_image_of_another_format_is_named(rig):
    refused(rig.command(rig.viv, 'run', rig.image(b'KDMV' + bytes(508), 65536)), 2, 'VMDK', 'qemu-img')
    refused(rig.command(rig.viv, 'run', rig.image(b'QFI\xfb' + bytes(508), 65536)), 1, 'clusters have 2^0 bytes')


@case_without_machine
def images_are_made_converted_resized_and_compared(rig):
    image = [rig.viv, 'image']
    refused(rig.command(*image, 'creat', 'x'), 2, "no command 'creat'", 'convert')
    raw = rig.image(bytes(range(256)) * 4096, 3 << 20)
    succeeds(rig.command(*image, 'convert', '--compress', raw, 'packed.qcow2'))
    succeeds(rig.command(*image, 'check', 'packed.qcow2'), 'no errors')
    succeeds(rig.command(*image, 'compare', raw, 'packed.qcow2'), 'they hold the same')
    succeeds(rig.command(*image, 'create', 'top.qcow2', '--backing', 'packed.qcow2', '--backing-format', 'qcow2'))
    refused(rig.command(*image, 'create', 'top.qcow2', '1M'), 1, "'top.qcow2' exists", '--force')
    chain = json.loads(rig.command(*image, 'info', '--json', '--chain', 'top.qcow2').out)
    assert [one['virtual-size'] for one in chain] == [3 << 20, 3 << 20], chain
    refused(rig.command(*image, 'resize', 'top.qcow2', '1M'), 2, 'would be lost', '--shrink')
    succeeds(rig.command(*image, 'resize', 'top.qcow2', '+5M'))
    succeeds(rig.command(*image, 'convert', '--format', 'raw', 'top.qcow2', 'back.img'))
    with open(raw, 'rb') as file:
        assert (rig.path / 'back.img').read_bytes() == file.read() + bytes(5 << 20)
    assert rig.command(*image, 'compare', 'back.img', rig.image(b'other', 8 << 20)).code == 1
    assert not [name for name in os.listdir(rig.path) if name.startswith('.')]


@case_without_machine
def an_image_one_may_not_read_is_refused(rig):
    path = rig.image(rigs.HANGS)
    os.chmod(path, 0)
    refused(rig.command(*without_rights(rig.viv), 'run', path), 1, path, 'Permission denied')


@case
def an_image_one_may_not_write_is_told_of_snapshot(rig):
    path = rig.image(rigs.HANGS)
    os.chmod(path, 0o444)
    words = rig.run_words('--until', 'hung', path)
    refused(rig.command(*without_rights(words[0]), *words[1:]), 1, path, 'for writing: Permission denied', '--snapshot')
    done = rig.command(*without_rights(words[0]), *words[1:], '--snapshot')
    assert done.code == 0, done


def without_rights(viv):
    """Words that run a program for which a file's permissions count, for root too."""
    if os.geteuid() != 0:
        return [viv]
    if not shutil.which('setpriv'):
        raise Skipped('setpriv is missing')
    return ['setpriv', '--inh-caps=-all', '--bounding-set=-all', viv]


@case_without_machine
def a_board_that_is_missing_or_none_is_refused(rig):
    refused(rig.command(rig.viv, 'run', '--board', '/no/such.dts'), 1, "'/no/such.dts'", 'No such file')
    refused(rig.command(rig.viv, 'run', '--board', rig.file('board.txt', 'milk\n')), 2, "board.txt'", 'not a board')
    refused(rig.command(rig.viv, 'run', '--board', rig.file('board.dtb', '\xd0\r\xfe\xed')), 2, "board.dtb'")


@case_without_machine
def a_syntax_error_in_a_board_names_its_line(rig):
    board = rig.command(rig.viv, 'board').out.splitlines()
    board.insert(4, '\t\tmilk = <;')
    done = rig.command(rig.viv, 'run', '--board', rig.file('broken.dts', '\n'.join(board)))
    assert done.code in (1, 2) and 'broken.dts' in done.err and ':5' in done.err, done


@case_without_machine
def a_printed_board_is_the_same_when_read(rig):
    first = rig.command(rig.viv, 'board', '--memory', '64M', '--cpus', '2')
    succeeds(first, '/dts-v1/', 'cpu@1')
    again = rig.command(rig.viv, 'board', '--board', rig.file('same.dts', first.out))
    succeeds(again)
    assert again.out == first.out


@case_without_machine
def an_output_that_takes_nothing_is_a_failure(rig):
    with open('/dev/full', 'w', encoding='ascii') as full:
        for words in (['board'], ['--help']):
            done = rig.command(rig.viv, *words, stdout=full)
            assert done.code == 1 and 'No space left' in done.err, done
    quiet = rig.command('bash', '-c', '"$0" run --milk 2>/dev/full', rig.viv)
    assert quiet.code == 2, quiet
    closed = rig.command('bash', '-c', '"$0" board >&-', rig.viv)
    assert closed.code == 1 and 'standard output' in closed.err, closed


@case_without_machine
def without_kvm_the_user_is_told_what_to_do(rig):
    """/dev/kvm hidden by an empty folder in a mount namespace of our own."""
    hide = 'mount -t tmpfs none /dev && exec "$0" run --display none --engine kvm --snapshot "$1"'
    done = rig.command('unshare', '-rm', 'bash', '-c', hide, rig.viv, rig.image(rigs.HANGS))
    if 'unshare' in done.err or 'mount:' in done.err:
        raise Skipped('no mount namespaces here')
    refused(done, 1, '/dev/kvm')


@case_without_machine
def kvm_that_one_may_not_use_is_told_apart(rig):
    """/dev/kvm as a file that nobody may open."""
    hide = 'mount -t tmpfs none /dev && touch /dev/kvm && chmod 0 /dev/kvm && exec "$@"'
    done = rig.command('unshare', '-rm', 'bash', '-c', hide, 'bash', *without_rights(rig.viv), 'run', '--display', 'none', '--engine', 'kvm',
                       '--snapshot', rig.image(rigs.HANGS))
    if 'unshare' in done.err or 'mount:' in done.err or 'setpriv' in done.err:
        raise Skipped('no mount namespaces here')
    refused(done, 1, '/dev/kvm', 'ermission')


# How a run ends


@case
def the_guest_gives_the_exit_code(rig):
    done = rig.viv_run('--exit-port', '0x501', rig.image(rigs.EXITS_42))
    assert done.code == 42 and done.err == '', done


def multiboot_kernel(code):
    """A Multiboot kernel that is no ELF, loaded to 1 MiB and entered behind its header."""
    magic, flags, at = 0x1BADB002, 0x10003, 0x100000
    header = struct.pack('<8I', magic, flags, -(magic + flags) & 0xFFFFFFFF, at, at, 0, 0, at + 32)
    return header + code


@case
def a_multiboot_kernel_is_entered_with_what_it_was_given(rig):
    module = rig.file('module', b'%')
    # EAX must be the magic; then: mov ecx, [ebx+24] (modules); mov ecx, [ecx] (start); mov al, [ecx]; out F4h, al
    code = bytes.fromhex('3d02b0ad2b' '7509' '8b4b18' '8b09' '8a01' 'e6f4' 'f4')
    kernel = rig.file('kernel', multiboot_kernel(code))
    done = rig.viv_run('--kernel', kernel, '--initrd', module, '--exit-port', '0xf4')
    assert done.code == ord('%'), done
    # As an image it is recognised; the test device's exit port has odd codes.
    done = rig.viv_run('--test-device', '--initrd', module, kernel)
    assert done.code == 2 * ord('%') + 1, done


@case
def another_firmware_runs_from_the_reset_vector(rig):
    # At FFFF0h: jmp short to FFFA0h, where AL goes from the ROM's first byte to the exit port: mov al, cs:[0]; out F4h, al
    rom = bytearray(b'\x90' * 0x10000)
    rom[0] = 77
    rom[0xFFF0:0xFFF2] = bytes.fromhex('ebae')
    rom[0xFFA0:0xFFA7] = bytes.fromhex('2ea00000e6f4f4')
    done = rig.viv_run('--firmware', rig.file('rom', bytes(rom)), '--exit-port', '0xf4')
    assert done.code == 77, done


@case_without_machine
def a_firmware_of_a_wrong_size_is_refused(rig):
    refused(rig.viv_run('--firmware', rig.file('rom', bytes(1000))), 2, 'has 1000 bytes', 'whole pages')


@case
def the_variables_of_a_firmware_are_locked_like_a_disk(rig):
    # jmp $
    rom = rig.file('rom', bytes(0xFFF0) + bytes.fromhex('ebfe') + bytes(14))
    variables = rig.file('vars', b'\xff' * 0x2000)
    options = ['--firmware', rom, '--firmware-vars', variables]
    first = rig.start('--until', 'never', *options)
    wait_for_machine(first)
    refused(rig.viv_run(*options), 1, variables, f'process {first.pid} (viv)')
    first.terminate()
    rig.finish(first)
    assert (rig.path / 'vars').read_bytes() == b'\xff' * 0x2000


@case_without_machine
def wrong_variables_of_a_firmware_are_refused(rig):
    rom, odd = rig.file('rom', bytes(0x10000)), rig.file('odd', bytes(1000))
    refused(rig.viv_run('--firmware-vars', odd), 2, 'of no use without --firmware')
    refused(rig.viv_run('--firmware', rom, '--firmware-vars', odd), 2, odd, 'has 1000 bytes', 'multiple of 4 KiB')
    refused(rig.viv_run('--firmware', rom, '--firmware-vars', 'nowhere.fd'), 1, 'nowhere.fd', 'No such file')


@case_without_machine
def wrong_words_of_smbios_are_refused(rig):
    refused(rig.viv_run('--smbios', 'colour=red'), 2, "there is no 'colour'; use uuid")
    refused(rig.viv_run('--smbios', 'serial=1,uuid=2'), 2, "'2' is not a UUID")
    succeeds(rig.command(rig.viv, 'board', '--smbios', 'serial=a,,b', '--smbios', 'sku=c'), '"serial=a,b", "sku=c"')


@case
def the_power_button_ends_a_guest_without_acpi(rig):
    done = rig.viv_run('--until', 'hung', '--power-button', '--json', rig.image(rigs.HANGS))
    assert done.code == 0 and json.loads(done.out)['outcome'] == 'powered-off', done


@case
def json_tells_how_it_ended(rig):
    done = rig.viv_run('--exit-port', '0x501', '--json', rig.image(rigs.EXITS_42))
    told = json.loads(done.out)
    assert done.code == 42 and told['outcome'] == 'guest-exit' and told['exit_code'] == 42 and told['screen'] == 'bye\n', done


@case
def a_script_that_is_done_is_success(rig):
    done = rig.viv_run('--until', 'ready', '--type', 'hello\\n', '--until', 'hello', rig.image(rigs.ECHO))
    assert (done.code, done.out, done.err) == (0, '', ''), done


@case
def a_text_on_the_serial_line_ends_a_wait(rig):
    done = rig.viv_run('--until', 'serial ok', '--serial', 'stdio', '--display', 'none', rig.image(rigs.SERIAL))
    assert done.code == 0 and 'serial ok' in done.out, done


@case
def a_time_out_shows_the_screen_and_what_was_awaited(rig):
    done = rig.viv_run('--timeout', '0.5', '--until', 'login:', rig.image(rigs.HANGS))
    assert done.code == 124 and "time-out after 0.5 s while waiting for the text 'login:'" in done.err and 'hung' in done.err, done


@case
def a_tiny_time_out_works(rig):
    for seconds in ('0.000001', '0.001', '0.01'):
        done = rig.viv_run('--timeout', seconds, '--display', 'none', rig.image(rigs.SPINS))
        assert done.code == 124 and 'time-out' in done.err, done


@case
def a_triple_fault_ends_a_run_that_must_not_reboot(rig):
    done = rig.viv_run('--no-reboot', '--display', 'none', rig.image(rigs.TRIPLE_FAULTS))
    assert done.code == 3 and 'triple fault' in done.err, done


@case
def a_guest_that_dies_before_its_script_is_done_is_told(rig):
    done = rig.viv_run('--until', 'alive', '--json', rig.image(rigs.TRIPLE_FAULTS))
    assert done.code == 3 and json.loads(done.out)['outcome'] == 'died', done


@case
def a_guest_may_reboot_for_ever(rig):
    done = rig.viv_run('--timeout', '1', '--json', rig.image(rigs.REBOOTS))
    assert done.code == 124 and json.loads(done.out)['resets'] >= 3, done


@case
def an_unknown_key_is_refused_before_the_run(rig):
    refused(rig.viv_run('--type', 'a<milk>', rig.image(rigs.ECHO)), 2, '--type', "'milk'", 'character 2')


@case
def signals_end_a_guest_that_does_nothing(rig):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for guest in (rigs.HANGS, rigs.SPINS):
            process = rig.start('--until', 'never', '--json', rig.image(guest))
            wait_for_machine(process)
            process.send_signal(number)
            done = rig.finish(process)
            assert done.code == 1 and json.loads(done.out)['outcome'] == 'interrupted', f'{number}: {done}'


# Files


@case
def a_screenshot_is_a_png(rig):
    done = rig.viv_run('--until', 'ready', '--screenshot', 'shot.png', rig.image(rigs.ECHO))
    assert done.code == 0 and (rig.path / 'shot.png').read_bytes().startswith(b'\x89PNG'), done


@case
def a_screenshot_that_cannot_be_written_is_told_before_the_run(rig):
    for target, why in (('/no/such/shot.png', 'No such file'), ('/proc/shot.png', ''), (str(rig.path), 'directory')):
        begin = time.monotonic()
        done = rig.viv_run('--timeout', '20', '--display', 'none', '--screenshot', target, rig.image(rigs.HANGS))
        refused(done, 1, f"'{target}'", why)
        assert time.monotonic() - begin < 15, 'it waited for the end of the run'
    assert rig.viv_run('--until', 'ready', '--screenshot', 'part/x.png', rig.image(rigs.ECHO)).code == 1


@case
def a_screenshot_that_failed_leaves_nothing(rig):
    done = on_a_full_disk(rig, 'code=0; "$0" run --engine "$ENGINE" --until ready --screenshot late.png "$1" || code=$?; ls; exit $code',
                          rig.image(rigs.ECHO))
    assert done.code == 1 and "'late.png'" in done.err and 'No space left' in done.err, done
    assert done.out == 'fill\n', done


def on_a_full_disk(rig, script, *words):
    """Runs a bash script with viv as $0 in a folder without room, which is a file system of its own."""
    (rig.path / 'small').mkdir(exist_ok=True)
    fill = 'mount -t tmpfs -o size=64k none small && cd small && (cat /dev/zero > fill; true) 2>/dev/null\n'
    done = rig.command('unshare', '-rm', 'bash', '-c', fill + script, rig.viv, *words,
                       env=rig.environment(ENGINE=rig.engine))
    if 'unshare' in done.err or 'mount:' in done.err or done.err.startswith('viv: /dev/kvm'):
        raise Skipped('no mount namespaces with /dev/kvm here')
    return done


@case
def json_on_a_full_disk_is_a_failure(rig):
    with open('/dev/full', 'w', encoding='ascii') as full:
        done = rig.viv_run('--json', '--until', 'ready', rig.image(rigs.ECHO), stdout=full)
    assert done.code == 1 and 'No space left' in done.err, done


@case
def a_second_writer_is_refused_and_told_the_first(rig):
    path = rig.image(rigs.HANGS)
    first = rig.start('--until', 'never', path)
    wait_for_machine(first)
    refused(rig.viv_run(path), 1, path, f'process {first.pid} (viv)')
    refused(rig.viv_run('--snapshot', path), 1, f'process {first.pid} (viv)', 'close that first')
    refused(rig.viv_run('--read-only', path), 1, f'process {first.pid} (viv)')
    first.terminate()
    rig.finish(first)
    assert rig.viv_run('--until', 'hung', path).code == 0, 'the image is free again'


@case
def readers_and_snapshots_share_an_image(rig):
    path = rig.image(rigs.HANGS)
    machines = [rig.start('--until', 'never', option, path) for option in ('--snapshot', '--read-only', '--snapshot')]
    for machine in machines:
        wait_for_machine(machine)
    refused(rig.viv_run(path), 1, 'in use by process', '--snapshot or --read-only')
    for machine in machines:
        machine.terminate()
        assert rig.finish(machine).code == 1


@case
def one_image_in_two_drives_is_refused(rig):
    path = rig.image(rigs.HANGS)
    refused(rig.viv_run('--floppy', path, '--floppy', path), 1, path, 'another drive of this machine')


@case
def killed_while_it_writes_the_image_stays_good(rig):
    path = rig.image(rigs.WRITES)
    for _ in range(5):
        machine = rig.start('--until', 'never', path)
        was = changed = second_sector(path)
        end = time.monotonic() + rigs.PATIENCE
        while changed == was and time.monotonic() < end:
            changed = second_sector(path)
        machine.kill()
        assert rig.finish(machine).code == -signal.SIGKILL
        assert changed != was, 'the guest wrote nothing'
        assert os.path.getsize(path) == FLOPPY
        with open(path, 'rb') as file:
            assert file.read(512) == rigs.WRITES
        assert second_sector(path)[:2] * 256 == second_sector(path), 'a sector is whole'
    assert rig.viv_run('--until', 'starts...', path).code == 0, 'it boots again, and nobody has it locked'


def second_sector(path):
    with open(path, 'rb') as file:
        file.seek(512)
        return file.read(512)


@case
def a_snapshot_changes_nothing(rig):
    path = rig.image(rigs.WRITES)
    assert rig.viv_run('--snapshot', '--until', 'starts...', path).code == 0
    assert second_sector(path) == bytes(512)
    assert rig.viv_run('--read-only', '--until', 'E', path).code == 0
    assert second_sector(path) == bytes(512)


@case
def a_file_that_may_not_grow_is_an_error_of_the_guests_disk(rig):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (rigs.DISK_LIMIT, rigs.DISK_LIMIT))

    path = rig.image(rigs.WRITES_BEHIND_LIMIT, rigs.DISK_SIZE)
    for more in ([], ['--snapshot']):
        done = rig.viv_run('--memory', '2M', '--until', 'E', *more, path, preexec_fn=limit)
        assert done.code == 0 and f"disk image '{path}': cannot write" in done.err and 'File too large' in done.err, done


@case
def a_full_file_system_is_an_error_of_the_guests_disk(rig):
    image = rig.image(rigs.WRITES_LAST)
    run = '"$0" run --engine "$ENGINE" --display none --timeout 30 --until E'
    done = on_a_full_disk(rig, f'truncate -s 1440k sparse; rm fill; head -c 512 "$1" | dd of=sparse conv=notrunc status=none; '
                               f'(cat /dev/zero > fill; true) 2>/dev/null; {run} sparse && TMPDIR=$PWD {run} --snapshot "$1"', image)
    assert done.code == 0 and done.err.count('No space left on device') == 2, done


@case
def an_image_that_was_cut_short_is_an_error_of_the_guests_disk(rig):
    path = rig.image(rigs.READS_LAST)
    machine = rig.start('--until', 'E', path)
    wait_for_machine(machine)
    os.truncate(path, 4096)
    done = rig.finish(machine)
    assert done.code == 0 and 'cannot read' in done.err, done


@case
def an_image_shorter_than_its_floppy_reads_zeros_behind(rig):
    assert rig.viv_run('--until', 'ready', rig.image(rigs.ECHO, 512)).code == 0
    assert rig.viv_run('--until', '..', rig.image(rigs.READS_LAST, 1000)).code == 0


@case
def a_wrong_board_is_refused_with_the_node(rig):
    board = rig.command(rig.viv, 'board').out
    for old, new, parts in (('"motorola,mc146818"', '"acme,clock"', ('acme,clock', 'known are')),
                            ('"intel,i8254"', '"acme,timer"', ('acme,timer',))):
        assert old in board, board
        done = rig.viv_run('--board', rig.file('wrong.dts', board.replace(old, new)), rig.image(rigs.HANGS))
        refused(done, 2, *parts)


@case
def wrong_serial_ports_are_refused(rig):
    refused(rig.viv_run('--serial', 'milk', rig.image(rigs.HANGS)), 2, "'milk'", 'file:PATH')
    refused(rig.viv_run('--serial', 'file:/no/such/log', rig.image(rigs.HANGS)), 1, '/no/such/log', 'No such file')
    refused(rig.viv_run('--serial', 'stdio', '--display', 'terminal', rig.image(rigs.HANGS)), 2, '--serial stdio', '--display none')


# Typing


@case
def five_hundred_keys_arrive_in_order(rig):
    text = ' '.join(f'{number}:{"aZ!~q?"[number % 6:]}' for number in range(60))[:480] + '+END+'
    done = rig.viv_run('--until', 'ready', '--type', text, '--until', '+END+', '--json', rig.image(rigs.ECHO))
    assert done.code == 0, done
    shown = json.loads(done.out)['screen'].split('ready\n', 1)[1].replace('\n', '').rstrip()
    assert shown.replace(' ', '') == text.replace(' ', ''), f'{shown!r}\n    instead of {text!r}'


@case
def keys_typed_before_the_guest_is_ready_wait_for_it(rig):
    text = 'abcdefghijklmnopqrstuvwxyz0123456789' * 2 + '+END+'
    done = rig.viv_run('--type', text, '--until', text, '--json', rig.image(rigs.ECHO))
    assert done.code == 0 and text in json.loads(done.out)['screen'], done


# Pipes


@case
def a_pipe_gets_plain_text(rig):
    process = rig.start(rig.image(rigs.ECHO))
    wait_for_machine(process)
    time.sleep(0.3)
    process.terminate()
    done = rig.finish(process)
    assert (done.code, done.out, done.err) == (0, 'ready\n', ''), done


@case
def a_reader_that_went_away_ends_the_run(rig):
    process = rig.start(rig.image(rigs.ECHO))
    assert process.stdout.read(5) == 'ready', 'the guest has nothing more to say'
    process.stdout.close()
    process.stdout = None
    done = rig.finish(process)
    assert done.code == 1 and 'standard output: Broken pipe' in done.err, done


@case
def standard_files_may_be_closed(rig):
    image = rig.image(rigs.EXITS_42)
    for closed in ('<&-', '>&-', '2>&-', '<&- >&- 2>&-'):
        done = rig.command('bash', '-c', f'"$@" {closed}', 'bash', *rig.run_words('--display', 'none', '--exit-port', '0x501', image))
        assert done.code == 42, f'{closed}: {done}'
    # With a message to print, whose descriptor must not have become the image's.
    for closed in ('2>&-', '>&- 2>&-', '<&- >&- 2>&-'):
        done = rig.command('bash', '-c', f'"$@" {closed}', 'bash', *rig.run_words('--timeout', '0.1', image))
        assert done.code == 124 if closed == '2>&-' else done.code in (1, 124), f'{closed}: {done}'
    with open(image, 'rb') as file:
        assert file.read() == rigs.EXITS_42.ljust(FLOPPY, b'\0'), 'what was printed went to the image'


# Terminals


@case
def a_terminal_shows_the_guest_and_comes_back(rig):
    with Terminal(rig, rig.image(rigs.ECHO)) as terminal:
        terminal.expect('ready')
        assert terminal.is_raw()
        terminal.type('hello\rworld\r')
        terminal.expect('hello\nworld')
        terminal.menu('q')
        assert terminal.end() == 0 and terminal.is_given_back(), terminal.raw


@case
def ctrl_c_and_ctrl_z_go_to_the_guest(rig):
    with Terminal(rig, rig.image(rigs.ECHO)) as terminal:
        terminal.expect('ready')
        terminal.type('a\x03b\x1ac')
        terminal.expect('a♥b→c')
        terminal.menu(']')
        terminal.expect('a♥b→c↔')


@case
def the_menu_pauses_resets_and_takes_screenshots(rig):
    with Terminal(rig, '--serial', 'null', rig.image(rigs.ECHO)) as terminal:
        terminal.expect('ready')
        terminal.menu('p')
        terminal.expect('Paused')
        terminal.type('x')
        terminal.menu('p')
        terminal.expect_gone('Paused')
        terminal.expect('ready\nx')
        for key in 'rc':
            terminal.type('before')
            terminal.expect('before')
            terminal.menu(key)
            terminal.expect_gone('before')
            terminal.expect('ready')
        terminal.menu('s')
        terminal.expect('Saved viv-1.png')
        assert (rig.path / 'viv-1.png').read_bytes().startswith(b'\x89PNG')
        terminal.menu('q')
        assert terminal.end() == 0


@case
def a_paused_machine_can_be_reset_and_left(rig):
    with Terminal(rig, rig.image(rigs.ECHO)) as terminal:
        terminal.expect('ready')
        terminal.type('before')
        terminal.expect('before')
        terminal.menu('p')
        terminal.expect('Paused')
        terminal.menu('r')
        terminal.menu('p')
        terminal.expect_gone('before')
        terminal.menu('p')
        terminal.expect('Paused')
        terminal.menu('q')
        assert terminal.end() == 0 and terminal.is_given_back()


@case
def a_paste_is_typed(rig):
    text = ''.join(f'{number:03}-' for number in range(120)) + 'END'
    with Terminal(rig, rig.image(rigs.ECHO)) as terminal:
        terminal.expect('ready')
        terminal.type(f'\x1b[200~{text}\x1b[201~')
        terminal.expect('END')
        assert text in terminal.text().replace('\n', ''), terminal.text()


@case
def a_terminal_may_be_tiny_and_change_its_size(rig):
    with Terminal(rig, rig.image(rigs.ECHO), columns=1, rows=1) as terminal:
        wait_for(lambda: terminal.receive() and '2J' in terminal.raw, 'picture')
        for columns, rows in ((5, 2), (200, 60), (3, 3), (100, 30)):
            terminal.resize(columns, rows)
            time.sleep(0.1)
        terminal.expect('ready')
        terminal.menu('q')
        assert terminal.end() == 0 and terminal.is_given_back()


@case
def signals_give_the_terminal_back(rig):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT):
        with Terminal(rig, rig.image(rigs.HANGS)) as terminal:
            terminal.expect('hung')
            assert terminal.is_raw()
            terminal.process.send_signal(number)
            code = terminal.end()
            ended_by_it = number in (signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT)
            assert code == (-number if ended_by_it else 0), f'{rigs.signal_name(number)}: {code}'
            assert terminal.is_given_back(), f'{rigs.signal_name(number)}: {terminal.raw!r}'


@case
def after_kill_9_reset_repairs_the_terminal(rig):
    with Terminal(rig, rig.image(rigs.HANGS)) as terminal:
        terminal.expect('hung')
        terminal.process.kill()
        assert terminal.end() == -signal.SIGKILL and terminal.is_raw()
        if not shutil.which('reset'):
            raise Skipped('reset is missing')
        repair = subprocess.Popen(['reset', '-Q'], stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave,
                                  env=rig.environment())
        wait_for(lambda: not terminal.receive() and repair.poll() is not None, 'end of reset')
        flags = termios.tcgetattr(terminal.slave)
        assert flags[3] & termios.ICANON and flags[3] & termios.ECHO and flags[0] & termios.ICRNL and flags[1] & termios.OPOST


@case
def a_stopped_viv_goes_on(rig):
    with Terminal(rig, rig.image(rigs.ECHO)) as terminal:
        terminal.expect('ready')
        for stop in (signal.SIGSTOP, signal.SIGTSTP):
            terminal.process.send_signal(stop)
            status = f'/proc/{terminal.process.pid}/stat'
            wait_for(lambda: open(status, encoding='ascii').read().rsplit(')', 1)[1].split()[0] == 'T', 'stop')
            terminal.process.send_signal(signal.SIGCONT)
            terminal.type('on\r')
            terminal.expect('on')
        terminal.menu('q')
        assert terminal.end() == 0 and terminal.is_given_back()


@case
def a_dumb_terminal_gets_lines(rig):
    with Terminal(rig, '--timeout', '0.5', rig.image(rigs.HANGS), env={'TERM': 'dumb'}) as terminal:
        assert terminal.end() == 124 and 'hung' in terminal.raw and '\x1b' not in terminal.raw, terminal.raw


@case
def messages_wait_for_the_end_of_the_display(rig):
    with Terminal(rig, rig.image(rigs.WRITES_LAST)) as terminal:
        terminal.expect('..')
    path = rig.image(rigs.READS_LAST)
    with Terminal(rig, path) as terminal:
        terminal.expect('..')
        os.truncate(path, 4096)
        terminal.expect('cannot read')
        terminal.menu('q')
        assert terminal.end() == 0
        assert 'cannot read' in terminal.raw.rsplit('\x1b[?1049l', 1)[1], 'on the screen that one returns to, too'


# Many


@case
def two_machines_run_at_once(rig):
    machines = [rig.start('--until', 'ready', '--type', f'machine {number}\\n', '--until', f'machine {number}', rig.image(rigs.ECHO))
                for number in range(2)]
    assert [rig.finish(machine).code for machine in machines] == [0, 0]


@case
def many_starts_leave_nothing_behind(rig):
    image = rig.image(rigs.EXITS_42)
    before = sorted(os.listdir(rig.path))
    for _ in range(40):
        done = rig.viv_run('--snapshot', '--display', 'none', '--exit-port', '0x501', image)
        assert done.code == 42 and done.err == '', done
    assert sorted(os.listdir(rig.path)) == before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('viv')
    parser.add_argument('--engine', default='kvm')
    parser.add_argument('part', nargs='*')
    arguments = parser.parse_intermixed_args()
    has_kvm = os.access('/dev/kvm', os.R_OK | os.W_OK)
    chosen = [entry for entry in CASES if not arguments.part or any(part in entry[0].__name__ for part in arguments.part)]
    failed = 0
    for number, (function, needs_machine) in enumerate(chosen, 1):
        name = function.__name__.replace('_', ' ')
        print(f'# running {name}', flush=True)
        rig = Rig(os.path.abspath(arguments.viv), arguments.engine)
        begin = time.monotonic()
        try:
            if needs_machine and arguments.engine == 'kvm' and not has_kvm:
                raise Skipped('this host has no /dev/kvm to use')
            function(rig)
            print(f'ok {number} - {name}\n# {time.monotonic() - begin:.2f} s', flush=True)
        except Skipped as reason:
            print(f'ok {number} - {name} # SKIP {reason}', flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            line = inspect.trace()[-1].lineno if inspect.trace() else 0
            print(f'not ok {number} - {name}\n    {type(error).__name__} (line {line}): {error}', flush=True)
        finally:
            rig.close()
    print(f'1..{len(chosen)}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
