#!/usr/bin/env python3
"""Writes the ROM fonts as assembler data from cp437.txt.

usage: make_font.py CP437_TXT HEIGHT FIRST_COUNT OUTPUT

Each line of cp437.txt has the code, the Unicode character, 16 rows for the 8x16 font and 8 rows for the 8x8 font. The
8x14 font is the 8x16 font without two rows.
"""

import sys


def without_two_rows(code, rows):
    """8x14 from 8x16. Line drawing and shading lose both ends, which keeps them joined. Letters lose the empty rows at
    the top, so that all keep one base line; those that have accents there lose rows that repeat the next one."""
    if 0xB0 <= code <= 0xDF:
        return rows[1:15]
    rows = list(rows)
    for _ in range(2):
        if rows[0] == 0:
            del rows[0]
            continue
        repeated = [i for i in range(2, 11) if rows[i] == rows[i + 1]]
        del rows[repeated[len(repeated) // 2] if repeated else 0]
    return rows


def main():
    source, height, count, output = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    glyphs = {}
    with open(source, encoding='utf-8') as lines:
        for line in lines:
            if line.startswith('#') or not line.strip():
                continue
            code, _, tall, small = line.split()
            glyphs[int(code, 16)] = (bytes.fromhex(tall), bytes.fromhex(small))
    assert sorted(glyphs) == list(range(256)), 'cp437.txt must have each code from 00 to FF once'
    with open(output, 'w', encoding='ascii') as out:
        for code in range(count):
            tall, small = glyphs[code]
            rows = {16: tall, 14: without_two_rows(code, tall), 8: small}[height]
            assert len(rows) == height
            out.write('.byte ' + ','.join(f'0x{row:02x}' for row in rows) + '\n')


main()
