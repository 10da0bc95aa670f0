#!/usr/bin/env python3
"""Has ACPICA, the interpreter of Linux, FreeBSD and others, take the ACPI tables of some boards apart: acpi_tables.py VIV
SAVE_ACPI_TABLES; prints TAP. iasl must disassemble each table and compile it again, and acpiexec must load them, evaluate every name
that the specification knows and convert every resource there and back, without a complaint."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

viv, save_tables = sys.argv[1:]
BOARDS = [
    ("one CPU", []),
    ("16 CPUs, 5 GB, USB and disks", ["--cpus", "16", "--memory", "5G", "--usb", "tablet", "--cpu", "x86-64-v2"]),
]
AML = ("DSDT", "SSDT")
COMPLAINTS = re.compile(r"(ACPI|Firmware) (Error|Warning|Exception)|\bAE_(?!OK|NOT_FOUND)[A-Z_]+|^(Error|Warning)\b|\bCould not\b|unknown", re.IGNORECASE)
number = 0


def report(complaints, what):
    global number
    number += 1
    print(f"{'not ok' if complaints else 'ok'} {number} - {what}", flush=True)
    for line in complaints[:20]:
        print(f"# {line}", flush=True)


def run(*command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def signature(table):
    return table.stem.partition("-")[2]


def disassemble(table):
    """What is wrong with the table in iasl's eyes: taken apart, and put together again."""
    folder = table.parent
    others = [str(other) for other in sorted(folder.glob("*.dat")) if other != table and signature(other) in AML]
    external = [word for other in others for word in ("-e", other)] if signature(table) in AML else []
    code, said = run("iasl", *external, "-d", table.name, folder=folder)
    complaints = [line for line in said.splitlines() if COMPLAINTS.search(line)]
    if code != 0 or not table.with_suffix(".dsl").exists():
        return [*complaints, f"iasl -d {table.name} ended with {code}"]
    code, said = run("iasl", "-p", table.stem + "-again", table.with_suffix(".dsl").name, folder=folder)
    if code != 0 or "Compilation successful" not in said and "Table Input" not in said:
        return [*complaints, f"{table.name} cannot be compiled again:", *said.splitlines()]
    if signature(table) not in AML:
        first, again = table.read_bytes(), (folder / (table.stem + "-again.aml")).read_bytes()
        # The header's compiler and, for it, its checksum differ.
        if (first[:9], first[10:28], first[36:]) != (again[:9], again[10:28], again[36:]):
            complaints.append(f"{table.name} is not the same when it is compiled again")
    return complaints


def evaluate(folder):
    """What ACPICA's interpreter says of the tables with code."""
    tables = [table.name for table in sorted(folder.glob("*.dat")) if signature(table) in AML]
    code, said = run("acpiexec", "-b", "execute predefined", *tables, folder=folder)
    # It gives methods with arguments no fitting ones: _SRS is called by "resources".
    results = re.findall(r"^(\\\S+)\s+returned (AE_\w+)", said, re.MULTILINE)
    complaints = [f"{name}: {result}" for name, result in results if result != "AE_OK" and not name.endswith("_SRS")]
    if code != 0 or len(results) < 20:
        complaints.append(f"acpiexec ended with {code} after {len(results)} names")
    code, said = run("acpiexec", "-b", "integrity;resources", *tables, folder=folder)
    # acpiexec has 16 KiB for a routing table, which four pins of 31 slots exceed; its evaluation above is checked.
    small = "Could not evaluate _PRT: AE_BUFFER_OVERFLOW"
    complaints += [line for line in said.splitlines() if COMPLAINTS.search(line) and line.strip() != small]
    if code != 0 or "Evaluating _CRS" not in said:
        complaints.append(f"acpiexec, resources: ended with {code}")
    return complaints


if not shutil.which("acpiexec") or not shutil.which("iasl"):
    print("1..0 # SKIP acpi_tables: no iasl and acpiexec; apt-get install acpica-tools")
    sys.exit(0)
with tempfile.TemporaryDirectory() as scratch:
    for index, (name, options) in enumerate(BOARDS):
        folder = pathlib.Path(scratch) / str(index)
        folder.mkdir()
        board = folder / "board.dts"
        board.write_text(subprocess.run([viv, "board", *options], check=True, capture_output=True, text=True).stdout)
        subprocess.run([save_tables, board, folder], check=True)
        tables = sorted(folder.glob("*.dat"))
        found = {signature(table) for table in tables}
        report([f"there are {sorted(found)}"] if not found >= {"FACP", "FACS", "DSDT", "SSDT", "APIC", "HPET"} else [],
               f"{name}: all tables are there")
        for table in tables:
            report(disassemble(table), f"{name}: iasl takes {signature(table)} apart and puts it together")
        report(evaluate(folder), f"{name}: ACPICA evaluates all names and resources")
    # A check that nothing fails is none: a resource's end is cut off, with the length of the whole as it was.
    spoiled = pathlib.Path(scratch) / "spoiled"
    shutil.copytree(pathlib.Path(scratch) / "0", spoiled)
    for table in spoiled.glob("*-DSDT.dat"):
        code = table.read_bytes()
        at = code.index(b"_PRS") if b"_PRS" in code else code.index(b"_CRS")
        table.write_bytes(code[:at] + b"\xff\xff\xff\xff" + code[at + 4 :])
    report([] if evaluate(spoiled) else ["no complaint about a name of four FFh"], "a spoiled table is noticed")
print(f"1..{number}")
