#!/usr/bin/env python3
"""Makes an initramfs from a static BusyBox: a shell on the console, nothing else. Kernel modules that are named are loaded
in that order before.

usage: tools/make_initramfs.py BUSYBOX OUTPUT.gz [MODULE.ko...]
"""

import gzip
import pathlib
import stat
import sys

INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*; do [ ! -f "$module" ] || insmod "$module"; done
echo "Linux $(uname -r) is up"
exec setsid cttyhack sh
"""


class Archive:
    """A cpio archive in the 'newc' format that Linux unpacks (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.data = bytearray()
        self.inode = 0

    def add(self, name, mode, content=b'', device=(0, 0)):
        self.inode += 1
        fields = [self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0]
        self.data += b'070701' + b''.join(b'%08X' % field for field in fields) + name.encode() + b'\0'
        self.pad()
        self.data += content
        self.pad()

    def pad(self):
        self.data += bytes(-len(self.data) % 4)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    archive = Archive()
    for folder in ('bin', 'dev', 'proc', 'sys', 'tmp', 'root'):
        archive.add(folder, stat.S_IFDIR | 0o755)
    archive.add('dev/console', stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add('bin/busybox', stat.S_IFREG | 0o755, pathlib.Path(sys.argv[1]).read_bytes())
    modules = sys.argv[3:]
    if modules:
        archive.add('modules', stat.S_IFDIR | 0o755)
    for number, module in enumerate(map(pathlib.Path, modules)):
        archive.add(f'modules/{number:02}-{module.name}', stat.S_IFREG | 0o644, module.read_bytes())
    archive.add('init', stat.S_IFREG | 0o755, INIT)
    archive.add('TRAILER!!!', 0)
    # No time stamp, so that the same BusyBox gives the same file.
    pathlib.Path(sys.argv[2]).write_bytes(gzip.compress(bytes(archive.data), mtime=0))


if __name__ == '__main__':
    main()
