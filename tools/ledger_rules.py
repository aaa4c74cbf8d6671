# SPDX-License-Identifier: Apache-2.0
"""What makes a ledger of GPU runs believable: the form of a run, append-only history, figures with a source."""
import json
import pathlib
import re
import subprocess

LEDGER = "validation/ledger.json"
EVIDENCE = "validation/runs"
ID = re.compile(r"\d{4}-\d{2}-\d{2}-[a-z0-9]+-\d+")
SANITIZERS = {"memcheck", "racecheck", "synccheck", "initcheck"}
FIELDS = {"id": str, "commit": str, "dirty": bool, "result": str, "device": dict, "suites": list,
          "sanitizer": dict, "kernels": dict}
# A figure of a GPU in the documentation: a rate or a time on a line that names one.
GPU = re.compile(r"\b(GPU|H100|H200|A100|B200|L40S?|RTX|sm_\d+a?)\b")
FIGURE = re.compile(r"\d[\d.,]*\s?(%|GB/s|TB/s|[GT]FLOP/s|us|µs|ms|examples/s|queries/s|x)(?![\w])")
CITED = re.compile(r"\[run ([^\]]+)\]")


def sort_key(identity):
    """Runs of one day and device are numbered: -10 comes after -9."""
    head, number = identity.rsplit("-", 1)
    return head[:10], int(number), head


def faults_of_run(run):
    """What is wrong with one run, as a list of sentences."""
    faults = [f"{name} is missing or no {kind.__name__}" for name, kind in FIELDS.items()
              if not isinstance(run.get(name), kind)]
    if faults:
        return faults
    if not ID.fullmatch(run["id"]):
        faults.append(f'id "{run["id"]}" is not DATE-DEVICE-NUMBER')
    if not re.fullmatch(r"[0-9a-f]{40}", run["commit"]):
        faults.append("commit is no 40 hex digits")
    if run["dirty"]:
        faults.append("the tree was dirty: nobody can say what ran")
    if run["result"] not in ("pass", "partial", "fail"):
        faults.append("result is none of pass, partial, fail")
    faults += [f"sanitizer {tool} is unknown" for tool in run["sanitizer"].keys() - SANITIZERS]
    for name, kernel in run["kernels"].items():
        if not isinstance(kernel.get("launches"), int):
            faults.append(f"kernel {name} has no count of launches")
    return faults + (faults_of_pass(run) if run["result"] == "pass" else [])


def faults_of_pass(run):
    faults = []
    if not run["suites"]:
        faults.append("a pass without suites")
    for suite in run["suites"]:
        if suite.get("failed") or suite.get("skipped") or not suite.get("ran"):
            faults.append(f"a pass, but suite {suite.get('binary')} ran {suite.get('ran')}, failed "
                          f"{suite.get('failed')}, skipped {suite.get('skipped')}")
    faults += [f"a pass with {count} errors of {tool}" for tool, count in run["sanitizer"].items() if count]
    faults += [f"a pass without {tool}: it is partial" for tool in sorted(SANITIZERS)
               if run["sanitizer"].get(tool) is None]
    return faults


def faults_of_ledger(ledger):
    if ledger.get("schema") != 1 or not isinstance(ledger.get("runs"), list):
        return ["schema is not 1, or runs is no list"]
    faults, last = [], None
    for run in ledger["runs"]:
        identity = run.get("id")
        faults += [f"run {identity}: {fault}" for fault in faults_of_run(run)]
        if any("ptx" not in kernel for kernel in run.get("kernels", {}).values()):
            faults.append(f"run {identity}: a kernel without a hash; runs are added by ledger.py add")
        if isinstance(identity, str) and ID.fullmatch(identity):
            if last and sort_key(identity) <= sort_key(last):
                faults.append(f"run {identity} comes after {last}: ids are not in order")
            last = identity
    return faults


def faults_of_history(past, present):
    """Runs are only added: those of an older ledger are in this one, unchanged and in their order."""
    faults, position = [], 0
    for run in past.get("runs", []):
        try:
            position = present["runs"].index(run, position) + 1
        except ValueError:
            faults.append(f"run {run.get('id')} of an earlier commit was changed, moved or removed")
    return faults


def git(root, *arguments):
    """What git prints; None where it fails (no history, no such commit)."""
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def past_ledgers(root):
    """(commit, ledger) for every commit of the history that changed it."""
    commits = (git(root, "log", "--format=%H", "--", LEDGER) or "").split()
    for commit in commits:
        text = git(root, "show", f"{commit}:{LEDGER}")
        if text is not None:
            yield commit, json.loads(text)


def documents(root):
    """Tracked Markdown but for what tools write under validation/."""
    listed = git(root, "ls-files", "*.md")
    paths = listed.split("\n") if listed else [str(p.relative_to(root)) for p in root.rglob("*.md")]
    return [root / path for path in paths if path and not path.startswith(("validation/", "build/"))]


def faults_of_line(line, runs, modelled=False):
    faults = [f"run {cited} is not in the ledger" for cited in CITED.findall(line) if cited not in runs]
    plain = re.sub(r"`[^`]*`", "", line)
    if GPU.search(plain) and FIGURE.search(plain) and not CITED.search(line) and not modelled:
        faults.append("a figure of a GPU without [run ID]; say \"modelled\" if it is")
    return faults


def faults_of_documents(root, ledger):
    runs = {run["id"] for run in ledger["runs"]}
    faults = []
    for path in documents(root):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            modelled = re.search(r"\b(modelled|goal|bar|expected?)\b", line)
            faults += [f"{path.relative_to(root)}:{number}: {fault}"
                       for fault in faults_of_line(line, runs, modelled)]
    return faults


def faults_of_evidence(root, ledger):
    """Every run has its folder of raw results, small and readable."""
    faults = []
    for run in ledger["runs"]:
        folder = root / EVIDENCE / run["id"]
        files = [path for path in folder.rglob("*") if path.is_file()]
        if not files:
            faults.append(f"run {run['id']}: {EVIDENCE}/{run['id']} holds no evidence")
        if sum(path.stat().st_size for path in files) > 4 << 20:
            faults.append(f"run {run['id']}: more than 4 MiB of evidence")
        faults += [f"{path.relative_to(root)} is no text" for path in files if b"\0" in path.read_bytes()]
    return faults


def read_ledger(root):
    return json.loads((pathlib.Path(root) / LEDGER).read_text())
