#!/usr/bin/env python3
"""Builds a test guest into a 1.44 MB floppy image: build_guest.py OUTPUT CXX ROOT SOURCE..."""
import os
import subprocess
import sys
import tempfile

output, compiler, root, *sources = sys.argv[1:]
script = next(s for s in sources if s.endswith(".ld"))
sources = [s for s in sources if not s.endswith(".ld")]
FLAGS = [
    "-m16", "-march=i386", "-mno-sse", "-mno-mmx", "-Os", "-std=c++20", "-ffreestanding", "-fno-pic", "-fno-exceptions",
    "-fno-rtti", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-threadsafe-statics", "-fcf-protection=none",
    "-mpreferred-stack-boundary=2", "-fno-strict-aliasing", "-fno-jump-tables", "-ffunction-sections", "-fno-gnu-unique",
    "-Wall", "-Wextra", "-Werror", "-I", root,
]
FLOPPY_SIZE = 80 * 2 * 18 * 512

with tempfile.TemporaryDirectory() as folder:
    objects = []
    for source in sources:
        objects.append(os.path.join(folder, f"{len(objects)}.o"))
        subprocess.run([compiler, *FLAGS, "-c", source, "-o", objects[-1]], check=True)
    program = os.path.join(folder, "guest.bin")
    link = ["ld", "-m", "elf_i386", "-T", script, "--oformat", "binary", "--gc-sections", "-u", "guest_main", "-o", program]
    subprocess.run([*link, *objects], check=True)
    with open(program, "rb") as binary:
        image = binary.read()
with open(output, "wb") as floppy:
    floppy.write(image.ljust(FLOPPY_SIZE, b"\0"))
