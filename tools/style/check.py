#!/usr/bin/env python3
"""Checks the style of all the project's files; prints one TAP case per rule.

usage: tools/style/check.py [ROOT [BUILD]]     BUILD is a Meson build folder (for the compiler's flags), default ROOT/build
"""

import pathlib
import sys

import compiled
import rules
import tree


def cases(files, root, build, memory):
    """(name, complaints or the reason to skip) of every rule."""
    programs = {
        'sources are formatted': lambda: compiled.formatted(files, root, memory),
        'headers compile by themselves': lambda: compiled.headers_stand_alone(files, root, build, memory),
        'bash scripts parse': lambda: compiled.shell_parses(files, root, memory),
        'scripts are executable': lambda: compiled.scripts_executable(files, root, memory),
    }
    for name, rule in rules.RULES.items():
        yield name, rule(files)
    for name, program in programs.items():
        try:
            yield name, program()
        except compiled.Skipped as reason:
            yield name, str(reason)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    build = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else root / 'build'
    files = tree.read_tree(root)
    memory = compiled.Memory(build / 'style-memory.json')
    count = 0
    failed = 0
    for name, outcome in cases(files, root, build, memory):
        count += 1
        if isinstance(outcome, str):
            print(f'ok {count} - {name} # SKIP {outcome}')
            continue
        print(f'{"not ok" if outcome else "ok"} {count} - {name}')
        failed += bool(outcome)
        for line in outcome:
            print(f'    {line}')
    for line in rules.near_file_size(files):
        print(f'# asks to be split: {line}')
    print(f'1..{count}')
    memory.save()
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
