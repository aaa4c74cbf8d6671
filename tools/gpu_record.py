#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gpu_record.py FOLDER: what the steps of tools/gpu_run.sh left in a run's folder, as FOLDER/run.json."""
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import ledger
import ledger_rules as rules

ROOT = pathlib.Path(__file__).resolve().parents[1]


def said(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def commit():
    """(commit, dirty). A bundle carries both; otherwise git knows. What a run writes makes no tree dirty."""
    carried = ROOT / "bundle/commit"
    if carried.exists():
        return carried.read_text().strip(), (ROOT / "bundle/dirty").exists()
    head = said("git", "-C", str(ROOT), "rev-parse", "HEAD").strip()
    changed = said("git", "-C", str(ROOT), "status", "--porcelain").splitlines()
    return head, any(not line[3:].startswith("validation/runs") for line in changed)


def device():
    query = said("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
    name, cc, driver = ([part.strip() for part in query.split("\n")[0].split(",")] + ["", "", ""])[:3]
    nvcc = re.search(r"V([\d.]+)", said("nvcc", "--version"))
    return {"name": name, "cc": cc, "driver": driver, "nvcc": nvcc.group(1) if nvcc else None,
            "host_cxx": said("c++", "--version").split("\n")[0]}


def suite(folder, name):
    """One test binary's counts; one that left no result, or ended badly, counts as a failure."""
    code = int((folder / f"{name}.exit").read_text())
    found = {"binary": name, "ran": 0, "failed": 0, "skipped": 0, "seconds": 0.0}
    xml = folder / f"{name}.xml"
    if xml.exists():
        root = ElementTree.parse(xml).getroot()
        found["ran"] = int(root.get("tests", 0))
        found["failed"] = int(root.get("failures", 0)) + int(root.get("errors", 0))
        found["seconds"] = float(root.get("time", 0))
        found["skipped"] = sum(1 for case in root.iter("testcase") if case.get("result") == "skipped")
        digests = ledger.digests_in(xml)
        if digests:
            found["digests"] = digests
    if code and not found["failed"]:
        found["failed"] = 1
        found["exit"] = code
    return found


def launches(folder):
    """{kernel: launches} over all test binaries."""
    counts = {}
    for path in sorted(folder.glob("*.launches")):
        for line in path.read_text().splitlines():
            name, count = line.rsplit(" ", 1)
            counts[name] = counts.get(name, 0) + int(count)
    return counts


def errors_of(log, code):
    """What one sanitizer run found. One that ended badly without a summary counts as one."""
    counts = re.findall(r"(?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: \d+ hazards? displayed \((\d+) error)", log)
    found = sum(int(a or b) for a, b in counts)
    return found if found or code == 0 else 1


def sanitizer(folder, binaries):
    """{tool: errors}; None for a tool that did not run, or whose time ended, on some binary."""
    found, cut_off = dict.fromkeys(sorted(rules.SANITIZERS)), set()
    for tool in found:
        if any(not (folder / f"{tool}.{name}.exit").exists() for name in binaries):
            cut_off.add(tool)
    for path in sorted(folder.glob("*.exit")):
        tool = path.name.split(".")[0]
        code = int(path.read_text())
        if code == 124:  # its time was up
            cut_off.add(tool)
            continue
        log = path.with_suffix(".log")
        errors = errors_of(log.read_text(errors="replace") if log.exists() else "", code)
        found[tool] = (found[tool] or 0) + errors
    return {tool: errors if errors or tool not in cut_off else None for tool, errors in found.items()}


def result_of(suites, tools, bench):
    """fail where something was found; partial where not everything was looked for."""
    tested = suites and all(s["ran"] and not s["failed"] and not s["skipped"] for s in suites)
    codes = [int(path.read_text()) for path in bench.glob("*.exit")]
    if not tested or any(tools.values()) or any(code not in (0, 77) for code in codes):  # 77: skipped
        return "fail"
    return "partial" if None in tools.values() else "pass"


def benchmarks(folder):
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text())
        except ValueError:
            found[path.stem] = None
    return found


def main(folder):
    folder = pathlib.Path(folder)
    head, dirty = commit()
    suites = [suite(folder / "tests", path.stem) for path in sorted((folder / "tests").glob("*.exit"))]
    tools = sanitizer(folder / "sanitizer", [s["binary"] for s in suites])
    peers = folder / "peers.json"
    run = {
        "id": folder.name, "commit": head, "dirty": dirty,
        "result": result_of(suites, tools, folder / "bench"),
        "device": device(),
        "binaries": (folder / "binaries.txt").read_text().strip() if (folder / "binaries.txt").exists() else None,
        "suites": suites, "sanitizer": tools,
        "kernels": {name: {"launches": count} for name, count in sorted(launches(folder / "tests").items())},
        "bench": benchmarks(folder / "bench"),
        "peers": json.loads(peers.read_text()) if peers.exists() else None,
    }
    (folder / "run.json").write_text(json.dumps(run, indent=1) + "\n")
    print(f"{folder / 'run.json'}: {run['result']}, {len(suites)} suites, {len(run['kernels'])} kernels")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
