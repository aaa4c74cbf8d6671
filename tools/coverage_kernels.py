#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Line coverage of the kernel files by their tests on the simulated device (build plain, gcov).

Usage: coverage_kernels.py [OP...]   (default: all)
Writes validation/coverage.md; where ops are named, their files' rows in it.
Exit 1 if a file has less than 95 % of its lines executed, or a test fails.
"""
import collections
import json
import os
import pathlib
import subprocess
import sys

import mutate_kernels as suite

ROOT = suite.ROOT
BUILD = ROOT / "build/coverage"
TABLE = ROOT / "validation/coverage.md"
GOAL = 95.0


def run(arguments, what):
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"error: {what} failed\n{done.stdout[-3000:]}")
    return done.stdout


def count_lines(reports):
    """{file: {line: executions}} of gcov's reports; a line of several instantiations or objects is summed."""
    found = collections.defaultdict(collections.Counter)
    for report in reports:
        for file in report["files"]:
            path = pathlib.Path(os.path.normpath(pathlib.Path(report["current_working_directory"]) / file["file"]))
            if path.suffix in (".cu", ".cuh") and path.is_relative_to(ROOT / "kernels"):
                for line in file["lines"]:
                    found[str(path.relative_to(ROOT))][line["line_number"]] += line["count"]
    return found


def reports_in(text):
    """The JSON objects that gcov prints one after the other."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        else:
            report, position = decoder.raw_decode(text, position)
            yield report


def ranges(numbers):
    """[1, 2, 3, 7] -> "1-3, 7"."""
    out = []
    for number in sorted(numbers):
        if out and out[-1][1] == number - 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out)


def measured(lines):
    """({file: its row}, files below the goal)."""
    rows, low = {}, []
    for file, counts in lines.items():
        missed = [number for number, count in counts.items() if count == 0]
        percent = 100.0 * (len(counts) - len(missed)) / len(counts)
        rows[file] = f"| {file} | {len(counts)} | {percent:.1f} % | {ranges(missed)} |"
        if percent < GOAL:
            low.append(f"{file}: {percent:.1f} %, not executed: {ranges(missed)}")
    return rows, sorted(low)


def rows_in(document):
    """{file: its row} of a table that was written before; files that are gone are left out."""
    rows = {line.split()[1]: line for line in document.splitlines() if line.startswith("| kernels/")}
    return {file: row for file, row in rows.items() if (ROOT / file).exists()}


def table(rows):
    head = ("# Line coverage of the kernel files\n\nWritten by `./run coverage`: the ops' tests on the simulated device, "
            "build plain, counted by gcov.\n\n| file | lines | executed | not executed |\n|---|---|---|---|\n")
    return head + "".join(f"{row}\n" for _, row in sorted(rows.items()))


def main(ops):
    tests = {op: stems for op, stems in suite.tests_of_ops().items() if not ops or op in ops}
    targets = sorted({f"simt_plain_{stem}" for stems in tests.values() for stem in stems})
    run(["cmake", "-S", ".", "-B", str(BUILD), "-G", "Ninja", *suite.simt_options(), "-DCMAKE_CXX_FLAGS=--coverage"],
        "configuring")
    run(["ninja", "-C", str(BUILD), *targets], "building")
    for old in BUILD.rglob("*.gcda"):
        old.unlink()
    for target in targets:
        binary = next(p for p in BUILD.rglob(target) if p.is_file() and os.access(p, os.X_OK))
        run([str(binary), "--gtest_brief=1"], target)
    notes = [str(p) for p in BUILD.rglob("*.gcda") if ".cu." in p.name]
    said = run(["gcov", "--json-format", "--stdout", *sorted(notes)], "gcov") if notes else ""
    # The tests of some ops do not execute all of what others have, nor of kernels/core.
    rows, low = measured({file: counts for file, counts in count_lines(reports_in(said)).items()
                          if not ops or pathlib.Path(file).parent.name in ops})
    TABLE.write_text(table(rows_in(TABLE.read_text()) | rows if ops else rows))
    print(table(rows), end="")
    for fault in low:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if low or not notes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
