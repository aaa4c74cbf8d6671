#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The record of what ran on GPUs, validation/ledger.json, and what it says of today's kernels.

  ledger.py status            valid, stale or never, a line per kernel
  ledger.py status --ops      a line per op
  ledger.py status --order    "STATE OP KERNEL" lines, what most needs a GPU first
  ledger.py add RUN.json      checks a run that tools/gpu_run.sh wrote, adds hashes, appends it
  ledger.py check [--release] form, history, documentation; a release wants no stale kernel without a waiver
  ledger.py replay BUILD      repeats recorded exact outputs on the simulated device and compares them

A kernel is valid if its hash is that of its newest clean passing run that launched it, else stale; never if no
such run has it. Exit 0 in order, 1 broken, 2 usage, 77 without nvcc.
"""
import collections
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import cuda_build
import kernel_hash
import ledger_rules as rules

ROOT = cuda_build.ROOT
WAIVERS = "validation/waivers.json"


def state_of(kernel, digest, runs):
    """(state, id of the run that says so)."""
    for run in reversed(runs):
        known = run["kernels"].get(kernel)
        if run["result"] == "pass" and not run["dirty"] and known and known["launches"] > 0:
            return ("valid" if known["ptx"] == digest else "stale"), run["id"]
    return "never", "-"


def states(ledger):
    """[(state, op, kernel, run)] of today's kernels, what most needs a GPU first."""
    rank = {"stale": 0, "never": 1, "valid": 2}
    rows = []
    for kernel, (digest, file) in kernel_hash.kernel_hashes(root=ROOT).items():
        state, run = state_of(kernel, digest, ledger["runs"])
        rows.append((state, pathlib.Path(file).parent.name, kernel, run))
    return sorted(rows, key=lambda row: (rank[row[0]], row))


def short(name):
    """A demangled kernel without its parameters and result."""
    name = name.removeprefix("void ")
    depth = 0
    for position, character in enumerate(name):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0 and not name.startswith("(anonymous", position):
            return name[:position]
    return name


def count(rows):
    found = collections.Counter(row[0] for row in rows)
    return ", ".join(f"{found[state]} {state}" for state in ("valid", "stale", "never"))


def status(mode):
    if not cuda_build.find_nvcc():
        print("no nvcc: what the kernels are compiled to is not known")
        return 77
    rows = states(rules.read_ledger(ROOT))
    readable = cuda_build.demangle(row[2] for row in rows)
    if mode == "--order":
        for state, op, kernel, _ in rows:
            print(state, op, kernel)
        return 0
    if mode == "--ops":
        for op in sorted({row[1] for row in rows}):
            print(f"{op:20} {count([row for row in rows if row[1] == op])}")
    else:
        for state, op, kernel, run in sorted(rows, key=lambda row: (row[1], readable[row[2]])):
            print(f"{state:6} {op:20} {run:20} {short(readable[kernel])}")
    print(f"kernels on a GPU: {count(rows)}")
    return 0


def hashes_at(commit):
    """Hashes of the kernels as they were at a commit, made with the nvcc of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit, "kernels", "tests/simt", "cmake"],
                                 capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        return kernel_hash.kernel_hashes(root=pathlib.Path(folder).resolve())


def add(path):
    run = json.loads(pathlib.Path(path).read_text())
    ledger = rules.read_ledger(ROOT)
    faults = rules.faults_of_run(run)
    if not faults:
        hashes = hashes_at(run["commit"])
        for name, kernel in run["kernels"].items():
            if name in hashes:
                kernel["ptx"] = hashes[name][0]
        # Kernels of libraries that belong to no file of ours, and instances made by tests alone.
        run["kernels"] = {name: kernel for name, kernel in sorted(run["kernels"].items()) if "ptx" in kernel}
        ledger["runs"].append(run)
        faults = rules.faults_of_ledger(ledger) + rules.faults_of_evidence(ROOT, ledger)
    if faults:
        return report(faults)
    target = ROOT / rules.LEDGER
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(ledger, indent=1) + "\n")
    partial.rename(target)
    print(f"run {run['id']}: {run['result']}, {len(run['kernels'])} kernels recorded")
    return 0


def report(faults):
    for fault in faults:
        print(f"ledger: {fault}", file=sys.stderr)
    return 1 if faults else 0


def faults_of_release(ledger):
    """Stale kernels, and those that never ran, need a waiver that has not expired."""
    path = ROOT / WAIVERS
    waivers = json.loads(path.read_text()) if path.exists() else []
    today = datetime.date.today().isoformat()
    waived = {w["kernel"] for w in waivers if w.get("reason") and w.get("expires", "") >= today}
    return [f"{kernel} is {state} and not waived" for state, _, kernel, _ in states(ledger)
            if state != "valid" and kernel not in waived]


def check(release):
    try:
        ledger = rules.read_ledger(ROOT)
    except (OSError, ValueError) as error:
        return report([f"{rules.LEDGER}: {error}"])
    faults = rules.faults_of_ledger(ledger)
    for commit, past in rules.past_ledgers(ROOT):
        faults += [f"{fault} ({commit[:12]})" for fault in rules.faults_of_history(past, ledger)]
    if not faults:
        faults += rules.faults_of_documents(ROOT, ledger) + rules.faults_of_evidence(ROOT, ledger)
    if release and not faults:
        faults += faults_of_release(ledger)
    if not faults:
        print(f"ledger: {len(ledger['runs'])} runs, in order")
    return report(faults)


def digests_in(xml):
    """{"TEST NAME": value} of the properties digest.NAME that a GoogleTest result holds."""
    found = {}
    for case in ElementTree.parse(xml).iter("testcase"):
        test = f"{case.get('classname')}.{case.get('name')}"
        for item in case.iter("property"):
            if item.get("name", "").startswith("digest."):
                found[f"{test} {item.get('name').removeprefix('digest.')}"] = item.get("value")
    return found


def replay_suite(binary, recorded, folder):
    """Faults of one binary: digests that the simulated device does not repeat."""
    xml = pathlib.Path(folder) / f"{binary.name}.xml"
    tests = sorted({name.split()[0] for name in recorded})
    done = subprocess.run([str(binary), f"--gtest_filter={':'.join(tests)}", f"--gtest_output=xml:{xml}"],
                          capture_output=True, text=True, env=os.environ | {"GTEST_BRIEF": "1"})
    if done.returncode:
        return [f"{binary.name} fails: {done.stdout[-400:]}"]
    today = digests_in(xml)
    return [f"{binary.name} {name}: a GPU had {value}, the simulated device {today.get(name, 'nothing')}"
            for name, value in recorded.items() if today.get(name) != value]


def replay(build):
    """The newest passing run's exact outputs, where this build still has the same test."""
    runs = [run for run in rules.read_ledger(ROOT)["runs"] if run["result"] == "pass"]
    recorded = {s["binary"]: s["digests"] for s in (runs[-1]["suites"] if runs else []) if s.get("digests")}
    faults, repeated = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, digests in recorded.items():
            found = list(pathlib.Path(build).rglob(name.replace("gpu_", "simt_plain_", 1)))
            if not found:
                faults.append(f"{name}: its simulated counterpart is not built")
                continue
            faults += replay_suite(found[0], digests, folder)
            repeated += len(digests)
    print(f"ledger: {repeated} recorded outputs repeated")
    return report(faults)


def main(arguments):
    try:
        match arguments:
            case ["status"] | ["status", "--ops" | "--order"]:
                return status(arguments[-1])
            case ["add", path]:
                return add(path)
            case ["check"] | ["check", "--release"]:
                return check(arguments[-1] == "--release")
            case ["replay", build]:
                return replay(build)
    except cuda_build.CompileError as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
