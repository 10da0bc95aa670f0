#!/usr/bin/env python3
"""Makes a raw ROM image from a linked ROM, and the C++ source that puts the images into viv.

usage: build_rom.py image ELF SIZE CHECKSUM OUTPUT   CHECKSUM: yes = the bytes add up to 0 (option ROM)
       build_rom.py embed SYSTEM_BIN VIDEO_BIN OUTPUT
"""

import struct
import sys


def sections(elf):
    """Address and bytes of each section that is loaded (ELF32 little-endian)."""
    offset, = struct.unpack_from('<I', elf, 0x20)
    size, count = struct.unpack_from('<HH', elf, 0x2E)
    for i in range(count):
        _, kind, flags, address, start, length = struct.unpack_from('<6I', elf, offset + i * size)
        if kind == 1 and flags & 2 and length:
            yield address, elf[start:start + length]


def image(elf_path, size, checksum, output):
    rom = bytearray(size)
    with open(elf_path, 'rb') as file:
        for address, content in sections(file.read()):
            rom[address:address + len(content)] = content
    # Tables that systems look for on paragraphs: length and checksum are at these offsets.
    for signature, length_at, length_bytes, unit, checksum_at in ((b'_32_', 9, 1, 16, 10), (b'$PIR', 6, 2, 1, 31), (b'$PMM', 5, 1, 1, 6)):
        for at in range(0, size, 16):
            if rom[at:at + 4] == signature:
                length = int.from_bytes(rom[at + length_at:at + length_at + length_bytes], 'little') * unit
                rom[at + checksum_at] = -sum(rom[at:at + length]) & 0xFF
    pnp = rom.find(b'$PnP\x10\x21')
    if pnp >= 0:
        rom[pnp + 8] = -sum(rom[pnp:pnp + 0x21]) & 0xFF
    assert len(rom) == size, 'the ROM is larger than its chip'
    if checksum:
        rom[-1] = -sum(rom[:-1]) & 0xFF
    with open(output, 'wb') as file:
        file.write(rom)


def embed(system, video, output):
    with open(output, 'w', encoding='ascii') as out:
        out.write('// Written by bios/build_rom.py.\n#include "bios/rom_images.hpp"\n\nnamespace viv::rom {\nnamespace {\n')
        for name, path in (('system_image', system), ('video_image', video)):
            with open(path, 'rb') as file:
                content = file.read()
            out.write(f'const unsigned char {name}[{len(content)}] = {{')
            out.write(','.join(str(byte) for byte in content))
            out.write('};\n')
        out.write('}  // namespace\n\n')
        for function, name in (('system_bios', 'system_image'), ('video_bios', 'video_image')):
            out.write(f'std::span<const std::byte> {function}() {{ return std::as_bytes(std::span({name})); }}\n')
        out.write('\n}  // namespace viv::rom\n')


def main():
    if sys.argv[1] == 'image':
        image(sys.argv[2], int(sys.argv[3]), sys.argv[4] == 'yes', sys.argv[5])
    else:
        embed(*sys.argv[2:])


main()
