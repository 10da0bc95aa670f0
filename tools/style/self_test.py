#!/usr/bin/env python3
"""Tests of the style rules and of the test runner: each must find the fault in a small bad example, and pass a good one."""

import pathlib
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import compiled  # noqa: E402
import rules  # noqa: E402
import run_tests  # noqa: E402
import tree  # noqa: E402

HEAD = '// Models: a chip\n// Not modelled: nothing\n// Ignored bits: none\n// Reference: a data sheet, section 1\n'
DEVICE = HEAD + '#pragma once\n#include "vmm/core/bus.hpp"\nstd::uint64_t read(Access access);\n'


def files(**by_name):
    """Files from keyword arguments or pairs; used as files(**{'path': 'text'})."""
    return [tree.File(path, text if isinstance(text, bytes) else text.encode()) for path, text in by_name.items()]


# rule, bad example, a word of the complaint, good example
EXAMPLES = [
    ('top_level', {'extra/a.cpp': ''}, 'extra', {'vmm/core/a.cpp': '', 'README.md': ''}),
    ('file_size', {'vmm/a.cpp': 'int a;\n' * 801}, '801', {'vmm/a.cpp': 'int a;\n' * 800}),
    ('no_binaries', {'docs/a.bin': b'a\0b'}, 'binary', {'docs/a.png': b'a\0b', 'docs/b.md': 'b\n'}),
    ('no_binaries', {'docs/a.md': 'a' * 300000}, '300000', {'docs/a.md': 'a' * 1000}),
    ('include_direction', {'vmm/core/a.hpp': '#include "vmm/engine/b.hpp"\n'}, 'must not', {'vmm/engine/a.hpp': '#include "vmm/core/b.hpp"\n'}),
    ('include_direction', {'devices/serial/a.cpp': '#include "vmm/machine/b.hpp"\n'}, 'must not', {'vmm/machine/a.cpp': '#include "devices/serial/b.hpp"\n'}),
    ('include_direction', {'vmm/machine/a.cpp': '#include "vmm/engine/kvm/b.hpp"\n'}, 'only vmm/engine', {'vmm/engine/a.cpp': '#include "vmm/engine/kvm/b.hpp"\n'}),
    ('include_direction', {'vmm/machine/a.cpp': '#include "vmm/engine/soft/b.hpp"\n'}, 'only vmm/engine', {'vmm/machine/a.cpp': '#include "vmm/engine/soft/soft_engine.hpp"\n'}),
    ('include_direction', {'vmm/cli/a.cpp': '#include "vmm/engine/kvm/kvm_engine.hpp"\n'}, 'only vmm/engine', {'tools/a.cpp': '#include "vmm/engine/kvm/kvm_api.hpp"\n'}),
    ('include_direction', {'bios/a.cpp': '#include "vmm/core/catch.hpp"\n'}, 'must not', {'bios/a_test.cpp': '#include "vmm/core/catch.hpp"\n'}),
    ('include_direction', {'vmm/core/a.cpp': '#include "font_8x8.inc"\n'}, 'from the root', {'bios/a.S': '#include "font_8x8.inc"\n'}),
    ('include_direction', {'devices/pci/a.cpp': '#include "bios/layout.hpp"\n'}, 'must not', {'devices/system/a.cpp': '#include "bios/layout.hpp"\n'}),
    ('include_direction', {'devices/systems/a.cpp': '#include "bios/layout.hpp"\n'}, 'must not', {'vmm/firmware/a.cpp': '#include "bios/layout.hpp"\n'}),
    ('include_direction', {'vmm/firmware/a.cpp': '#include "bios/int13.hpp"\n'}, 'must not', {'vmm/firmware/a.cpp': '#include "bios/layout.hpp"\n'}),
    ('include_direction', {'vmm/core/a.cpp': '#include "a.hpp"\n'}, 'from the root', {'vmm/core/a.cpp': '#include "vmm/core/a.hpp"\n#include <vector>\n'}),
    ('include_direction', {'vmm/core/a.cpp': '#include "../core/a.hpp"\n'}, 'from the root', {'vmm/core/a.cpp': '#include <Zydis/Zydis.h>\n'}),
    ('header_guards', {'vmm/a.hpp': '// #pragma once\nint a();\n'}, 'pragma',
     {'vmm/a.hpp': '#pragma once\nint a();\n', 'vmm/pch/a.hpp': '#include <string>\n'}),
    ('header_guards', {'vmm/a.hpp': '#pragma once\nusing namespace std;\n'}, 'namespace', {'vmm/a.hpp': '#pragma once\nusing std::string;\n'}),
    ('file_names', {'vmm/Bus.cpp': ''}, 'Bus', {'vmm/bus_2.cpp': ''}),
    ('file_names', {'vmm/bus.h': ''}, 'bus.h', {'vmm/bus.hpp': ''}),
    ('sources_built', {'vmm/a/b.cpp': '', 'vmm/meson.build': "files('c.cpp')"}, 'b.cpp', {'vmm/a/b.cpp': '', 'vmm/meson.build': "files('a/b.cpp')"}),
    ('sources_built', {'vmm/a.cpp': '', 'devices/meson.build': "files('a.cpp')"}, 'a.cpp', {'vmm/b.cpp': '', 'vmm/a/meson.build': "files('../b.cpp')"}),
    ('device_purity', {'devices/timer/a.cpp': 'auto t = std::chrono::steady_clock::now();\n'}, 'clock', {'devices/timer/a.cpp': '// not steady_clock\nauto t = clock.now();\n'}),
    ('device_purity', {'devices/timer/a.cpp': 'auto t = time(nullptr);\n'}, 'clock', {'devices/timer/a.cpp': 'auto t = wall_time(0) + rtc.time(0);\n'}),
    ('device_purity', {'devices/timer/a_test.cpp': 'int r = rand();\n'}, 'randomness', {'devices/timer/a_test.cpp': 'int r = brand();\n'}),
    ('device_purity', {'devices/timer/a.hpp': 'std::mutex lock_;\n'}, 'lock', {'devices/timer/a.hpp': 'const char* s = "std::mutex";\n'}),
    ('device_purity', {'devices/timer/test_a.hpp': 'std::thread t;\n'}, 'thread', {'devices/timer/test_a.hpp': '#include <mutex>\nstd::mutex lock;\n'}),
    ('device_purity', {'devices/timer/a.hpp': '#include <atomic>\n'}, 'atomic', {'devices/timer/a.hpp': '#include <array>\n'}),
    ('device_purity', {'devices/timer/a.cpp': '#include <unistd.h>\n'}, 'host side', {'devices/storage/image/a.cpp': '#include <unistd.h>\n'}),
    ('device_purity', {'devices/storage/image/a.cpp': 'std::thread worker;\n'}, 'thread', {'vmm/machine/a.cpp': 'std::thread worker;\n'}),
    ('device_head', {'devices/serial/a.hpp': '#pragma once\nvoid write(Access access);\n'}, 'Models', {'devices/serial/a.hpp': DEVICE}),
    ('device_head', {'devices/serial/a.hpp': DEVICE.replace('// Ignored bits: none\n', '')}, 'Ignored bits', {'devices/serial/a.hpp': '#pragma once\n' + DEVICE}),
    ('device_tests', {'devices/serial/a.hpp': DEVICE}, 'a.hpp', {'devices/serial/a.hpp': DEVICE, 'devices/serial/a_test.cpp': '#include "devices/serial/a.hpp"\n'}),
    ('device_pages', {'devices/serial/a.hpp': DEVICE}, 'serial.md', {'devices/serial/a.hpp': DEVICE, 'docs/devices/serial.md': '# Serial\n'}),
    ('forbidden_words', {'vmm/a.cpp': '// TO' 'DO: later\n'}, 'unfinished', {'vmm/a.cpp': '// char name[] = "XXXXXX"\n'}),
    ('forbidden_words', {'vmm/a.cpp': '// last ses' 'sion\n'}, 'workplace', {'vmm/core/catch_main.cpp': 'Catch::Ses' 'sion().run();\n', 'devices/storage/cd.cpp': '// ses' 'sion 1\n'}),
    ('forbidden_words', {'docs/a.md': 'see iss' 'ue #12\n'}, 'number', {'docs/a.md': 'the issue is settled\n'}),
    ('forbidden_words', {'tools/a': 'cd /wor' 'k/main\n'}, 'path', {'tools/a': 'cd build/work/main\n'}),
    ('plain_text', {'vmm/a.cpp': 'int a; \n'}, 'blanks', {'vmm/a.cpp': 'int a;\n'}),
    ('plain_text', {'vmm/a.cpp': 'int a;'}, 'line end', {'vmm/a.cpp': ''}),
    ('plain_text', {'tools/a': 'a\r\nb\n'}, 'carriage', {'tools/a': 'a\nb\n'}),
    ('python_parses', {'tools/a.py': 'def a(:\n'}, 'a.py', {'tools/a.py': 'def a(): pass\n'}),
    ('packages_explained', {'tools/packages': '# a\nlibx-dev  =  text\n', 'docs/dependencies.md': 'libx\n'}, 'libx-dev', {'tools/packages': '# a\nlibx-dev  =  text\n', 'docs/dependencies.md': '- `libx-dev`: text\n'}),
    ('links_resolve', {'README.md': '[a](docs/a.md)\n'}, 'nowhere', {'docs/a.md': '[b](../README.md) [c](https://example.org) [d](#part)\n', 'README.md': '[a](docs/a.md#top) [docs](docs/)\n'}),
]


def rule_finds(name, bad, word):
    found = getattr(rules, name)(files(**bad))
    assert any(word in line for line in found), f'expected a complaint with "{word}", got {found}'


def rule_accepts(name, good):
    found = getattr(rules, name)(files(**good))
    assert not found, f'expected no complaint, got {found}'


def near_limit_is_reported_but_no_complaint():
    example = files(**{'vmm/a.cpp': 'int a;\n' * 601})
    assert rules.near_file_size(example) == ['vmm/a.cpp: 601 lines']
    assert not rules.file_size(example)


def code_keeps_line_numbers():
    code = files(**{'a.cpp': '/* one\n two */ int a; // three\nauto s = R"x(\n)x";\nint b;\n'})[0].code
    assert code.splitlines()[4] == 'int b;', code
    assert 'two' not in code and 'three' not in code


def on_disk(check, **by_name):
    """Runs a check that reads from the disk, in a folder of its own, twice: the second time from memory."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        build = root / 'build'
        build.mkdir()
        for path, text in by_name.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (build / 'compile_commands.json').write_text(
            '[{"directory": "%s", "file": "../vmm/first.cpp", "command": "g++ -std=c++23 -I.. -c ../vmm/first.cpp"}]' % build)
        memory = compiled.Memory(build / 'memory')
        first = check(tree.read_tree(root), root, build, memory)
        memory.save()
        again = check(tree.read_tree(root), root, build, compiled.Memory(build / 'memory'))
        assert first == again, f'a second run says {again} instead of {first}'
        return first


def header_that_needs_another_is_found():
    found = on_disk(compiled.headers_stand_alone, **{'vmm/a.hpp': '#pragma once\nstd::string name();\n', 'vmm/first.cpp': ''})
    assert len(found) == 1 and 'vmm/a.hpp' in found[0], found


def header_that_stands_alone_is_accepted():
    assert not on_disk(compiled.headers_stand_alone,
                       **{'vmm/a.hpp': '#pragma once\n#include "vmm/b.hpp"\nB b();\n', 'vmm/b.hpp': '#pragma once\nstruct B {};\n'})


def header_shown_by_a_source_is_not_compiled_again():
    assert not on_disk(compiled.headers_stand_alone, **{'vmm/a.hpp': 'this would not compile\n', 'vmm/first.cpp': '#include "vmm/a.hpp"\n'})


def unformatted_source_is_found():
    if not shutil.which(compiled.CLANG_FORMAT):
        return f'no {compiled.CLANG_FORMAT}'
    style = {'.clang-format': 'BasedOnStyle: Google\n'}
    check = lambda files, root, build, memory: compiled.formatted(files, root, memory)  # noqa: E731
    found = on_disk(check, **style, **{'vmm/a.cpp': 'int   a;\n'})
    assert len(found) == 1 and 'vmm/a.cpp:1' in found[0], found
    assert not on_disk(check, **style, **{'vmm/a.cpp': 'int a;\n'})
    return None


def broken_script_is_found():
    check = lambda files, root, build, memory: compiled.shell_parses(files, root, memory)  # noqa: E731
    assert on_disk(check, **{'tools/a': '#!/usr/bin/env bash\nif true\n'})
    assert not on_disk(check, **{'tools/a': '#!/usr/bin/env bash\nif true; then :; fi\n', 'tools/b': 'if true\n'})


def script_without_its_mode_is_found():
    check = lambda files, root, build, memory: compiled.scripts_executable(files, root, memory)  # noqa: E731
    assert on_disk(check, **{'tools/a': '#!/usr/bin/env bash\n'}) and not on_disk(check, **{'tools/a': 'text\n'})


def tap_counts_passed_failed_and_skipped():
    result = run_tests.parse_tap('ok 1 - a\nnot ok 2 - b\n    detail\nok 3 - c # SKIP no kvm\nok 4 - d \\#1\n1..4\n', 'x')
    assert (result.passed, result.failed, result.skipped) == (2, ['b'], [['c', 'no kvm']]), result


def tap_without_a_plan_is_a_failure():
    result = run_tests.parse_tap('# running a\nok 1 - a\n# running b\n', 'x')
    assert result.passed == 1 and result.failed == ['x: ended before its plan, while running: b'], result


def tap_short_of_its_plan_is_a_failure():
    assert run_tests.parse_tap('1..3\nok 1\nok 2\n', 'x').failed == ['x: planned 3 cases, ran 2']


def tap_skipped_as_a_whole_names_the_reason():
    assert run_tests.parse_tap('1..0 # SKIP no guests\n', 'x').skipped == [['x', 'no guests']]


def program(folder, script, **entry):
    build = pathlib.Path(folder)
    path = build / 'program'
    path.write_text('#!/usr/bin/env bash\n' + script)
    path.chmod(0o755)
    whole = {'name': 'program', 'suite': ['viv:unit'], 'cmd': [str(path)], 'env': {}, 'workdir': None, 'timeout': 5,
             'protocol': 'exitcode', 'depends': [], 'is_parallel': True, **entry}
    return run_tests.Test(build, whole, {})


def exit_codes_count_as_one_case():
    with tempfile.TemporaryDirectory() as folder:
        assert program(folder, 'exit 0').run(1).passed == 1
        assert program(folder, 'exit 3').run(1).failed == ['program: exit code 3']
        assert program(folder, 'echo no disk; exit 77').run(1).skipped == [['program', 'no disk']]
        assert program(folder, 'kill -SEGV $$').run(1).failed == ['program: killed by SIGSEGV']
        assert program(folder, 'sleep 60', timeout=1).run(1).failed == ['program: no end after 1 s']


def a_clean_tap_file_does_not_hide_a_bad_exit():
    with tempfile.TemporaryDirectory() as folder:
        result = program(folder, 'printf "ok 1 - a\\n1..1\\n" > "$VIV_TAP"; exit 1').run(1)
        assert result.passed == 1 and result.failed == ['program: exit code 1'], result


def a_result_is_kept_until_an_input_changes():
    with tempfile.TemporaryDirectory() as folder:
        declared = pathlib.Path(folder) / 'declared'
        declared.mkdir()
        (declared / 'input').write_text('one')
        test = program(folder, 'exit 0', env={'VIV_TEST_INPUTS': str(declared)})

        def key():
            return test.key(run_tests.Hashes(pathlib.Path(folder) / 'hashes'), {'kvm': True})

        before = key()
        test.remember(before, test.run(1))
        assert test.cached(key()).passed == 1
        (declared / 'input').write_text('other')
        assert test.cached(key()) is None, 'a declared input changed'
        (declared / 'input').write_text('one')
        assert key() == before
        assert program(folder, 'exit 0 # other').key(run_tests.Hashes(pathlib.Path(folder) / 'hashes'), {'kvm': True}) != before
        assert test.key(run_tests.Hashes(pathlib.Path(folder) / 'hashes'), {'kvm': False}) != before


def a_failure_is_not_kept():
    with tempfile.TemporaryDirectory() as folder:
        test = program(folder, 'exit 1')
        key = test.key(run_tests.Hashes(pathlib.Path(folder) / 'hashes'), {})
        test.remember(key, test.run(1))
        assert test.cached(key) is None


def main():
    cases = []
    for name, bad, word, good in EXAMPLES:
        cases.append((f'{name} finds {", ".join(bad)} ({word})', lambda name=name, bad=bad, word=word: rule_finds(name, bad, word)))
        cases.append((f'{name} accepts {", ".join(good)} instead of that ({word})', lambda name=name, good=good: rule_accepts(name, good)))
    for test in (near_limit_is_reported_but_no_complaint, code_keeps_line_numbers, header_that_needs_another_is_found,
                 header_that_stands_alone_is_accepted, header_shown_by_a_source_is_not_compiled_again, unformatted_source_is_found,
                 broken_script_is_found, script_without_its_mode_is_found, tap_counts_passed_failed_and_skipped,
                 tap_without_a_plan_is_a_failure, tap_short_of_its_plan_is_a_failure, tap_skipped_as_a_whole_names_the_reason,
                 exit_codes_count_as_one_case, a_clean_tap_file_does_not_hide_a_bad_exit, a_result_is_kept_until_an_input_changes,
                 a_failure_is_not_kept):
        cases.append((test.__name__.replace('_', ' '), test))

    tested = {name for name, *_ in EXAMPLES}
    untested = {rule.__name__ for rule in rules.RULES.values()} - tested
    cases.append(('every rule has a bad example', lambda: untested and sys.exit(f'no example for {untested}')))

    failed = 0
    for number, (name, test) in enumerate(cases, 1):
        try:
            reason = test()
            print(f'ok {number} - {name}' + (f' # SKIP {reason}' if reason else ''), flush=True)
        except (Exception, SystemExit) as error:  # pylint: disable=broad-except
            failed += 1
            print(f'not ok {number} - {name}\n    {type(error).__name__}: {error}', flush=True)
    print(f'1..{len(cases)}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
