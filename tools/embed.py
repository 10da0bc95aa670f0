#!/usr/bin/env python3
"""Writes a C++ source that holds a file's bytes: embed.py INPUT OUTPUT NAMESPACE FUNCTION HEADER"""
import sys

source, output, namespace, function, header = sys.argv[1:]
data = open(source, "rb").read()
lines = [",".join(str(b) for b in data[i : i + 32]) for i in range(0, len(data), 32)]
with open(output, "w") as out:
    out.write(f'#include "{header}"\n\n#include <cstdint>\n\nnamespace {namespace} {{\nnamespace {{\n')
    out.write(f"alignas(16) constexpr uint8_t bytes[{len(data)}] = {{\n" + ",\n".join(lines) + "};\n}  // namespace\n\n")
    out.write(f"std::span<const std::byte> {function}() {{ return std::as_bytes(std::span(bytes)); }}\n\n")
    out.write(f"}}  // namespace {namespace}\n")
