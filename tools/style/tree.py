"""The project's files, as the style checks see them."""

import dataclasses
import functools
import os
import pathlib
import re
import subprocess

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)
COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class File:
    """One file: its path from the root with forward slashes, and its bytes."""
    path: str
    data: bytes

    @functools.cached_property
    def text(self):
        return self.data.decode('utf-8', errors='replace')

    @functools.cached_property
    def lines(self):
        return self.text.splitlines()

    @functools.cached_property
    def code(self):
        """The text without comments and strings, with the same line numbers."""
        def blank(match):
            found = match.group(0)
            return '\n' * found.count('\n') if found.startswith('/') else '""' + '\n' * found.count('\n')
        return COMMENT_OR_STRING.sub(blank, self.text)

    @property
    def folder(self):
        return self.path.rpartition('/')[0]

    @property
    def name(self):
        return self.path.rpartition('/')[2]

    @property
    def stem(self):
        return self.name.partition('.')[0]

    @property
    def is_binary(self):
        return b'\0' in self.data

    @property
    def is_cpp(self):
        return self.path.endswith(('.cpp', '.hpp'))

    @property
    def is_header(self):
        return self.path.endswith('.hpp')

    @property
    def is_test(self):
        return self.path.endswith(('_test.cpp', '_fuzz.cpp', '_test.hpp')) or self.name.startswith('test_')

    def includes(self):
        """(line number, is quoted, path) of every #include."""
        return [(self.text.count('\n', 0, match.start()) + 1, match.group(1) == '"', match.group(2))
                for match in INCLUDE.finditer(self.text)]


def read_tree(root):
    """Every file that git has or would take; without git, every file outside of build folders."""
    root = pathlib.Path(root)
    listed = subprocess.run(['git', '-C', str(root), 'ls-files', '-z', '-co', '--exclude-standard'],
                            capture_output=True, check=False)
    if listed.returncode == 0:
        names = [os.fsdecode(name) for name in listed.stdout.split(b'\0') if name]
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob('*')
                 if path.is_file() and not re.match(r'(build[^/]*|\.git|\.cache)/', path.relative_to(root).as_posix() + '/')]
    return [File(name, (root / name).read_bytes()) for name in sorted(set(names)) if (root / name).is_file()]
