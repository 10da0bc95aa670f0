"""Reads our own screenshots, with nothing but Python's library. Reference: PNG Specification (W3C), 9 "Filtering"."""
import struct
import zlib


def lines(path):
    """The width, and each line as bytes, three to a dot. Only what viv writes: 8 bits, RGB, not interlaced."""
    with open(path, "rb") as file:
        data = file.read()
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if data[:8] != b"\x89PNG\r\n\x1a\n" or (depth, colour, interlaced) != (8, 2, 0):
        raise ValueError(f"{path} is no picture of viv's")
    packed, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += 12 + size
    raw, stride = zlib.decompress(packed), 3 * width
    above, result = bytearray(stride), []
    for y in range(height):
        start = y * (stride + 1)
        kind, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        for x in range(stride if kind else 0):
            left, up, corner = (line[x - 3], above[x], above[x - 3]) if x >= 3 else (0, above[x], 0)
            estimate = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(estimate - value))
            line[x] = (line[x] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
        result.append(bytes(line))
        above = line
    return width, result


def size_and_colours(path):
    """((width, height), how many colours there are)."""
    width, all_lines = lines(path)
    colours = {line[x : x + 3] for line in all_lines for x in range(0, len(line), 3)}
    return (width, len(all_lines)), len(colours)
