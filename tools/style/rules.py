"""The style rules that only read text. A rule takes the list of files and returns its complaints, one line each."""

import ast
import posixpath
import re

MAX_LINES = 800
SPLIT_LINES = 600
MAX_BYTES = 256 * 1024

TOP_LEVEL = {'.ci', '.clang-format', '.clang-tidy', '.gitattributes', '.gitignore', 'LICENSE', 'README.md', 'bios', 'devices',
             'docs', 'guest-tests', 'meson.build', 'meson_options.txt', 'tools', 'vmm'}

# Lowest first: a file may include from its own layer and from those before it.
LAYERS = ['vmm/core', 'devices', 'vmm/engine', 'vmm/boards', 'vmm/boot', 'vmm/firmware', 'vmm/machine', 'vmm/control', 'vmm/cli']
# Folders with their own list instead: what they may include besides themselves.
ASIDE = {'bios': [], 'tools': LAYERS, 'guest-tests': LAYERS}
# What guest code and the host share, and below which folders it may be included.
SHARED = {'bios/layout.hpp': ('vmm/firmware/', 'vmm/machine/', 'devices/system/'),
          'bios/rom_images.hpp': ('vmm/firmware/', 'vmm/machine/', 'devices/video/'),
          'bios/video/edid.hpp': ('devices/video/',),
          'bios/video/dispi_registers.hpp': ('devices/video/',)}
# Behind a seam: only files below the second folder may include from the first, and programs that measure or test it.
SEAMS = {'vmm/engine/kvm': 'vmm/engine', 'vmm/engine/soft': 'vmm/engine'}
# The doors in the seam, for the machine, and what its tests of two engines together take.
DOORS = {'vmm/engine/kvm/kvm_engine.hpp': 'vmm/machine/', 'vmm/engine/soft/soft_engine.hpp': 'vmm/machine/',
         'vmm/engine/soft/soft_rescuer.hpp': 'vmm/machine/', 'vmm/engine/kvm/kvm_rig.hpp': 'vmm/machine/'}

# The host side of devices: disk images, network links, character streams, shared folders, sockets, a card's ROM. They may call the host; they have no clock either.
HOST_SIDE = ('devices/storage/image/', 'devices/network/link/', 'devices/serial/backend/', 'devices/virtio/share/', 'devices/virtio/socket/', 'devices/pci/rom/')

IMPURE = [
    (r'(?<![\w.>:])(?:std::|::)?time\s*\(\s*(?:nullptr|NULL|0|&)', 'the host clock'),
    (r'\b(?:clock_gettime|gettimeofday|localtime(?:_r)?|gmtime(?:_r)?|timerfd_create)\s*\(', 'the host clock'),
    (r'\b(?:steady_clock|system_clock|high_resolution_clock|utc_clock)\b', 'the host clock'),
    (r'\b__?rdtscp?\b|\b__builtin_ia32_rdtsc', 'the host clock'),
    (r'(?<![\w.>])(?:s?rand|s?random|getrandom|arc4random)\s*\(|\brandom_device\b', 'randomness'),
    (r'\bstd::(?:this_thread|j?thread|async|(?:recursive_|shared_|timed_)*mutex|(?:scoped|unique|shared)_lock|lock_guard'
     r'|condition_variable(?:_any)?|atomic(?:_\w+)?|counting_semaphore|binary_semaphore|latch|barrier|once_flag)\b', 'a thread or lock'),
    (r'\bpthread_\w+|\b(?:u|nano)?sleep\s*\(', 'a thread or lock'),
]
IMPURE_HEADERS = {'thread', 'mutex', 'shared_mutex', 'atomic', 'condition_variable', 'future', 'semaphore', 'random', 'pthread.h'}
# A test stands in for the machine, whose lock the event loop takes.
TESTS_MAY = ('std::mutex', 'mutex')
HOST_HEADERS = re.compile(r'^(?:sys/.*|linux/.*|unistd\.h|fcntl\.h|poll\.h|fstream|iostream|filesystem|stdio\.h|cstdio)$')

HEAD = ['Models', 'Not modelled', 'Ignored bits', 'Reference']

# Written so that this file does not match itself.
WORDS = [
    (r'\b(?:TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b', 'unfinished: finish it or drop it'),
    (r'(?i)\bsessio[n]s?\b', 'a word of the workplace'),
    (r'(?i)\bissu[e]s?\s+#?\d+', 'a number of the workplace'),
    (r'(?i)\bassistan[t]\b', 'a word of the workplace'),
    (r'(?<![\w.])/(?:wor[k]|tm[p]/viv|hom[e]/\w+|roo[t])/', 'a path of one machine'),
    (r'\b(?:deb|ftp)\.debia[n]\.org|\bregistr[y]\.(?![ch]pp\b)[a-z]+', 'a host name of a package registry'),
]
# Where a word above is the right one: Catch2's class; the tracks of a CD.
WORDS_ALLOWED = [(r'^vmm/core/catch_main\.cpp$', r'Catch::Sessio[n]'), (r'^(?:devices/storage/|docs/devices/storage)', r'(?i)sessio[n]')]


def top_level(files):
    found = {file.path.partition('/')[0] for file in files}
    return [f'{name}: not a known top-level name (design: the house)' for name in sorted(found - TOP_LEVEL)]


def file_size(files):
    return [f'{file.path}: {len(file.lines)} lines, the limit is {MAX_LINES}: split it by aspect'
            for file in files if file.path.endswith(('.cpp', '.hpp', '.S', '.py')) and len(file.lines) > MAX_LINES]


def near_file_size(files):
    """Not a complaint: files that ask to be split."""
    return [f'{file.path}: {len(file.lines)} lines' for file in files
            if file.is_cpp and SPLIT_LINES < len(file.lines) <= MAX_LINES]


def no_binaries(files):
    return [f'{file.path}: {len(file.data)} bytes{", binary" if file.is_binary else ""}: images and products are not sources'
            for file in files
            if len(file.data) > MAX_BYTES or (file.is_binary and not (file.path.startswith('docs/') and file.path.endswith('.png')))]


def layer_of(path):
    for layer in [*LAYERS, *ASIDE]:
        if path.startswith(layer + '/'):
            return layer
    return None


def include_direction(files):
    wrong = []
    for file in files:
        own = layer_of(file.path)
        if not file.path.endswith(('.cpp', '.hpp', '.S')) or own is None:
            continue
        allowed = LAYERS[:LAYERS.index(own)] if own in LAYERS else ASIDE[own]
        if own == 'bios' and file.path.endswith('_test.cpp'):
            allowed = LAYERS  # runs on the host
        for line, quoted, path in file.includes():
            target = layer_of(path)
            at = f'{file.path}:{line}'
            seam = next((seam for seam in SEAMS if path.startswith(seam + '/')), None)
            if target not in (None, own, *allowed) and not file.path.startswith(SHARED.get(path, ('-',))):
                wrong.append(f'{at}: {own} must not include {path}')
            elif seam and not file.path.startswith((SEAMS[seam] + '/', 'tools/', DOORS.get(path, '-'))):
                wrong.append(f'{at}: only {SEAMS[seam]} may include {path}')
            made_by_build = own == 'bios' and re.fullmatch(r'font_\w+\.inc', path)
            if quoted and not made_by_build and ('/' not in path or path.startswith('.')):
                wrong.append(f'{at}: "{path}" is not a path from the root')
    return wrong


def header_guards(files):
    wrong = []
    for file in files:
        # A precompiled header is compiled by itself, and g++ minds the pragma there.
        if file.is_header and '/pch/' not in f'{file.path}' and '#pragma once' not in file.code:
            wrong.append(f'{file.path}: no #pragma once')
        if file.is_header and re.search(r'^\s*using\s+namespace\b', file.code, re.MULTILINE):
            wrong.append(f'{file.path}: using namespace in a header')
    return wrong


def file_names(files):
    return [f'{file.path}: file names are snake_case with .cpp or .hpp' for file in files
            if re.search(r'\.(?:cc|cxx|h|hh|hxx|cpp|hpp)$', file.name) and not re.fullmatch(r'[a-z0-9_]+\.[ch]pp', file.name)]


def sources_built(files):
    """A source that no meson.build names is dead, and a test that none names never runs."""
    named = {posixpath.normpath(posixpath.join(file.folder, word)) for file in files if file.name == 'meson.build'
             for word in re.findall(r"'([^'\n]+)'", file.text)}
    return [f'{file.path}: no meson.build names it' for file in files
            if file.path.endswith(('.cpp', '.S')) and file.path not in named]


def in_guest_model(file):
    return file.path.startswith('devices/') and file.is_cpp and not file.path.startswith(HOST_SIDE)


def device_purity(files):
    wrong = []
    for file in files:
        if not (file.path.startswith('devices/') and file.is_cpp):
            continue
        for pattern, what in IMPURE:
            for match in re.finditer(pattern, file.code):
                if file.is_test and match.group(0) in TESTS_MAY:
                    continue
                line = file.code.count('\n', 0, match.start()) + 1
                wrong.append(f'{file.path}:{line}: {match.group(0).strip()} is {what}; devices have none')
        for line, _, path in file.includes():
            if file.is_test and path in TESTS_MAY:
                continue
            if path in IMPURE_HEADERS:
                wrong.append(f'{file.path}:{line}: devices do not include <{path}>')
            elif HOST_HEADERS.match(path) and in_guest_model(file) and not file.is_test:
                wrong.append(f'{file.path}:{line}: <{path}> is for the host side of devices only')
    return wrong


def is_device_header(file):
    """A device is what a guest reaches through a bus."""
    return in_guest_model(file) and file.is_header and not file.is_test and re.search(r'\bAccess\b', file.code) is not None


def device_head(files):
    wrong = []
    for file in files:
        if not is_device_header(file):
            continue
        comments = []
        for line in file.lines:
            if line.startswith('//'):
                comments.append(line)
            elif line.strip() and not line.startswith('#pragma once'):
                break
        labels = [label for line in comments for label in HEAD if re.match(rf'//\s*{label}:\s*\S', line)]
        if labels != HEAD:
            missing = [label for label in HEAD if label not in labels]
            wrong.append(f'{file.path}: the head lacks {", ".join(missing) or "its order"} (four lines: {" / ".join(HEAD)})')
    return wrong


def device_tests(files):
    tested = {path for file in files if file.path.endswith('_test.cpp') for _, _, path in file.includes()}
    return [f'{file.path}: no _test.cpp includes it' for file in files if is_device_header(file) and file.path not in tested]


def device_pages(files):
    families = {file.path.split('/')[1] for file in files if in_guest_model(file) and file.path.count('/') >= 2}
    pages = {file.stem for file in files if file.folder == 'docs/devices'}
    return [f'devices/{family}: no docs/devices/{family}.md' for family in sorted(families - pages)]


def forbidden_words(files):
    wrong = []
    for file in files:
        if file.is_binary:
            continue
        allowed = [pattern for path, pattern in WORDS_ALLOWED if re.search(path, file.path)]
        for number, line in enumerate(file.lines, 1):
            for pattern in allowed:
                line = re.sub(pattern, '', line)
            for pattern, what in WORDS:
                match = re.search(pattern, line)
                if match:
                    wrong.append(f'{file.path}:{number}: "{match.group(0)}" is {what}')
    return wrong


def plain_text(files):
    wrong = []
    for file in files:
        if file.is_binary or not file.data or file.path == 'LICENSE':
            continue
        if not file.data.endswith(b'\n'):
            wrong.append(f'{file.path}: no line end at its end')
        if b'\r' in file.data:
            wrong.append(f'{file.path}: a carriage return')
        for number, line in enumerate(file.lines, 1):
            if line != line.rstrip() and not file.path.endswith('.md'):
                wrong.append(f'{file.path}:{number}: blanks at the line end')
    return wrong


def python_parses(files):
    wrong = []
    for file in files:
        if file.path.endswith('.py'):
            try:
                ast.parse(file.text)
            except SyntaxError as error:
                wrong.append(f'{file.path}:{error.lineno}: {error.msg}')
    return wrong


def packages_explained(files):
    """A dependency has a line that says what it is for and why this one."""
    texts = {file.path: file for file in files}
    if 'tools/packages' not in texts:
        return []
    reasons = texts['docs/dependencies.md'].text if 'docs/dependencies.md' in texts else ''
    names = [line.split()[0] for line in texts['tools/packages'].lines if line.strip() and not line.startswith('#')]
    return [f'tools/packages: {name} is not in docs/dependencies.md' for name in names if f'`{name}`' not in reasons]


def links_resolve(files):
    """Links between the project's own documents."""
    known = {file.path for file in files}
    known |= {folder for path in known for folder in [path.rsplit('/', depth)[0] for depth in range(1, path.count('/') + 1)]}
    wrong = []
    for file in files:
        if not file.path.endswith('.md'):
            continue
        for match in re.finditer(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', file.text):
            link = match.group(1)
            if re.match(r'[a-z]+:', link):
                continue
            parts = []
            for part in (file.folder.split('/') if file.folder else []) + link.rstrip('/').split('/'):
                if part == '..':
                    parts = parts[:-1]
                elif part not in ('', '.'):
                    parts.append(part)
            if '/'.join(parts) not in known:
                wrong.append(f'{file.path}:{file.text.count(chr(10), 0, match.start()) + 1}: {link} leads nowhere')
    return wrong


# name of the test case -> rule
RULES = {
    'only known names at the top level': top_level,
    'no source is over 800 lines': file_size,
    'no binary or huge file is checked in': no_binaries,
    'includes point downwards and start at the root': include_direction,
    'headers have #pragma once and no using namespace': header_guards,
    'file names are snake_case': file_names,
    'every source is named in a meson.build': sources_built,
    'devices have no clock, randomness, thread or lock': device_purity,
    'every device says what it models and after which document': device_head,
    'every device has a test': device_tests,
    'every device family has a page in docs': device_pages,
    'no word of the workplace and no unfinished place': forbidden_words,
    'text files have clean line ends': plain_text,
    'Python files parse': python_parses,
    'every package has its line in docs/dependencies.md': packages_explained,
    'links between documents resolve': links_resolve,
}
