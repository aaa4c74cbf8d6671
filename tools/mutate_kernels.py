#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do the tests of the kernels notice a wrong kernel? Changes one thing at a time and counts who sees it.

Usage: mutate_kernels.py [--count N] [--seed S] [--jobs J] [--only REGEX] [--fresh] [--list]

Works on copies of the tree in build/mutants, never on the tree itself. For each mutant the op's tests are built
and run in the simulated builds plain, asan, check, up to the first that fails. What is done is kept: an
interrupted run goes on where it was. Writes validation/mutants.md; exit 1 below 95 % of those that are not
judged equivalent (tools/equivalent_mutants.json).
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import mutation_operators as operators

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORK = ROOT / "build/mutants"
TABLE = ROOT / "validation/mutants.md"
EQUIVALENT = ROOT / "tools/equivalent_mutants.json"
BUILDS = ("plain", "asan", "check")
GOAL = 0.95


def tests_of_ops(root=ROOT):
    """{op: stems of its tests}: those that have its name, else all that run its kernels."""
    users = {}
    text = (root / "tests/CMakeLists.txt").read_text()
    for arguments in re.findall(r"belfry_add_kernel_test\(([^)]*)\)", text):
        head, _, ops = arguments.partition(" OPS ")
        for op in ops.split():
            users.setdefault(op, set()).add(pathlib.Path(head.split()[1]).stem)
    return {op: sorted([s for s in stems if s.startswith(op)] or stems) for op, stems in users.items()}


def sources(root=ROOT):
    folders = {"core", *tests_of_ops(root)}
    return sorted(p for p in (root / "kernels").glob("*/*.cu*") if p.parent.name in folders
                  and (p.parent.name != "core" or p.suffix == ".cuh"))  # CUB's users do not run here


def users_of_function(header, line, root=ROOT):
    """Ops whose kernels call the function at a line of a header of kernels/core, through others of it or not."""
    code = operators.blank_comments((root / header).read_text())
    functions = operators.device_functions(code)
    offset = sum(len(text) + 1 for text in code.split("\n")[:line - 1])
    length = len(code.split("\n")[line - 1])
    names = {name for name, start, end in functions if start <= offset + length and offset < end}
    grown = True
    while grown:
        calling = {name for name, start, end in functions
                   if any(re.search(rf"\b{called}\b", code[start:end]) for called in names)}
        grown = not calling <= names
        names |= calling
    pattern = re.compile("|".join(rf"\b{name}\b" for name in sorted(names)) or "$^")
    return sorted({path.parent.name for path in (root / "kernels").glob("*/*.cu*") if path.parent.name != "core"
                   and pattern.search(operators.blank_comments(path.read_text()))})


def tests_of(mutant, tests):
    """Stems of the tests that must notice a mutant; for a shared header those of three ops that use it."""
    op = pathlib.Path(mutant.file).parent.name
    if op != "core":
        return tests[op]
    users = [user for user in users_of_function(mutant.file, mutant.line) if user in tests]
    own = f"{pathlib.Path(mutant.file).stem}_primitives"  # tests/simt has one of kernels/core/block.cuh
    own_test = [own] if (ROOT / f"tests/simt/{own}_test.cu").exists() else []
    return own_test + sorted({stem for user in users[:3] for stem in tests[user]})


def tree_files():
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"],
                            capture_output=True, check=True).stdout
    return [name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def simt_options():
    """Of CMake, for a build of nothing but the simulated device. A copy of the tree has no fetched headers."""
    headers = ROOT / "build/cuda-headers/nvidia/cu13/include"
    fetched = [f"-DBELFRY_CUDA_INCLUDE={headers}"] if headers.exists() else []
    return ["-DBELFRY_BENCH=OFF", "-DBELFRY_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Release", *fetched]


class Tree:
    """One copy of the tree with a build folder, used by one mutant at a time."""

    def __init__(self, number):
        self.folder, self.build = WORK / f"tree-{number}", WORK / f"build-{number}"
        self.seconds = {}  # of tests without mutation, by (build, stem)
        for name in tree_files():  # files that are equal keep their time: nothing is built again for them
            source, target = ROOT / name, self.folder / name
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        keep = set(tree_files())
        for path in self.folder.rglob("*"):
            if path.is_file() and str(path.relative_to(self.folder)) not in keep:
                path.unlink()
        made, output = self.command(["cmake", "-S", str(self.folder), "-B", str(self.build), "-G", "Ninja",
                                     *simt_options()], None)
        if not made:
            sys.exit(f"error: cmake fails\n{output[-2000:]}")

    def command(self, arguments, limit, environment=None):
        """(ended well, output); what runs longer than `limit` seconds has not ended well."""
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   errors="replace", env=os.environ | (environment or {}), cwd=WORK,
                                   start_new_session=True)
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output = process.communicate()[0] + "\nTIME LIMIT"
        return process.returncode == 0, output

    def make(self, target):
        return self.command(["ninja", "-j1", "-C", str(self.build), target], None)

    def binary(self, target):
        return next(path for path in self.build.rglob(target) if path.is_file() and os.access(path, os.X_OK))

    def run(self, target, limit):
        return self.command([str(self.binary(target)), "--gtest_fail_fast", "--gtest_brief=1"], limit)


def first_failure(output):
    """The test that failed, from GoogleTest's output."""
    match = re.search(r"\[  FAILED  \] ([\w./]+)", output)
    if match:
        return match.group(1)
    if "TIME LIMIT" in output:
        return "time limit"
    started = re.findall(r"\[ RUN      \] ([\w./]+)", output)
    report = re.search(r"(AddressSanitizer|UndefinedBehaviorSanitizer|runtime error|LeakSanitizer)", output)
    return (started[-1] if started else "") or (report.group(1) if report else "ended badly")


def make_ready(tree, stem):
    """Builds and runs a test unmutated, once, for its time; one that fails then ends everything."""
    for build in BUILDS:
        if (build, stem) in tree.seconds:
            continue
        target = f"simt_{build}_{stem}"
        built, output = tree.make(target)
        start = time.monotonic()
        passed, said = tree.run(target, 1200) if built else (False, output)
        if not passed:
            raise RuntimeError(f"{target} fails without any mutation\n{said[-2000:]}")
        tree.seconds[build, stem] = time.monotonic() - start


def try_mutant(tree, mutant, stems):
    """{"killed": build, "test": name}, {"survived": True} or {"invalid": reason}."""
    for stem in stems:
        make_ready(tree, stem)
    path = tree.folder / mutant.file
    original = path.read_text()
    try:
        path.write_text(operators.apply(original, mutant))
        for build in BUILDS:
            for stem in stems:
                target = f"simt_{build}_{stem}"
                built, output = tree.make(target)
                if not built:
                    return {"invalid": "does not compile"}
                passed, output = tree.run(target, 30 + 5 * tree.seconds[build, stem])
                if not passed:
                    return {"killed": build, "test": f"{stem}: {first_failure(output)}"}
        return {"survived": True}
    finally:
        path.write_text(original)


class Results:
    """Outcomes on disk, by mutant and by the state of the kernels and tests that they were found with."""

    def __init__(self, fresh):
        self.path, self.lock = WORK / "results.json", threading.Lock()
        WORK.mkdir(parents=True, exist_ok=True)
        self.known = json.loads(self.path.read_text()) if self.path.exists() and not fresh else {}

    @staticmethod
    def key(mutant, stems):
        op = pathlib.Path(mutant.file).parent.name
        digest = hashlib.sha256(repr(mutant).encode())
        files = [p for p in sorted((ROOT / "kernels" / op).iterdir()) if p.suffix in (".cu", ".cuh", ".hpp")]
        files += [path for stem in stems for path in sorted((ROOT / "tests").glob(f"*/{stem}*.c*"))]
        for path in files:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:24]

    def get(self, mutant, stems):
        return self.known.get(self.key(mutant, stems))

    def put(self, mutant, stems, outcome):
        with self.lock:
            self.known[self.key(mutant, stems)] = outcome
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(self.known, indent=1))
            partial.rename(self.path)


def equivalence(mutant, judged):
    """Why this mutant is the same program, or None."""
    for entry in judged:
        if all(entry[field] == getattr(mutant, field) for field in ("file", "operator", "before", "after")):
            return entry["reason"]
    return None


def run_all(chosen, count, jobs, results, tests):
    """Outcomes of the first `count` mutants that compile, in the order in which they were drawn."""
    stems = {mutant: tests_of(mutant, tests) for mutant in chosen}
    chosen = [mutant for mutant in chosen if stems[mutant]]
    trees = queue.Queue()
    if any(not results.get(mutant, stems[mutant]) for mutant in chosen):
        for number in range(jobs):
            trees.put(Tree(number))
    done, lock = [], threading.Lock()

    def one(mutant):
        own = stems[mutant]
        outcome = results.get(mutant, own)
        with lock:
            if sum("invalid" not in o for _, o in done) >= count:
                return
        if not outcome:
            tree = trees.get()
            try:
                outcome = try_mutant(tree, mutant, own)
            finally:
                trees.put(tree)
            results.put(mutant, own, outcome)
        with lock:
            done.append((mutant, outcome))
            print(f"{len(done):3} {mutant.key}: {outcome}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, chosen))
    order = {mutant: n for n, mutant in enumerate(chosen)}
    valid = sorted((entry for entry in done if "invalid" not in entry[1]), key=lambda e: order[e[0]])
    return valid[:count]


def cell(text):
    return "`" + text.replace("|", "\\|") + "`"


def table(outcomes, judged, seed):
    """(the document, killed, not equivalent)."""
    lines, killed, equivalent = [], 0, 0
    by_build = dict.fromkeys(BUILDS, 0)
    for mutant, outcome in sorted(outcomes, key=lambda e: (e[0].file, e[0].line, e[0].column, e[0].operator)):
        if "killed" in outcome:
            killed += 1
            by_build[outcome["killed"]] += 1
            verdict = f"{outcome['killed']}: {outcome['test']}"
        else:
            reason = equivalence(mutant, judged)
            equivalent += reason is not None
            verdict = f"equivalent: {reason}" if reason else "**survived**"
        lines.append(f"| {mutant.file}:{mutant.line} | {mutant.operator} | {cell(mutant.before)} | {verdict} |")
    rest = len(outcomes) - equivalent
    text = f"""# Mutants of the kernels

Written by `./run mutants` (seed {seed}). One change at a time; the op's tests run in the simulated builds plain, asan, check, up to
the first that fails, so a kill by plain says nothing of the other two. Of {len(outcomes)} mutants {equivalent} are judged
equivalent; of the other {rest}, {killed} are killed ({100 * killed / max(rest, 1):.1f} %): {by_build['plain']} by plain, {by_build['asan']} by asan, {by_build['check']} by check.

| where | change | line | seen by |
|---|---|---|---|
"""
    return text + "\n".join(lines) + "\n", killed, rest


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    everything = []
    for path in sources():
        everything += operators.mutants_of(str(path.relative_to(ROOT)), path.read_text())
    everything = [m for m in everything if re.search(options.only, m.key)]
    # A third more than wanted: some do not compile.
    chosen = operators.select(everything, options.count * 4 // 3 + 5, options.seed)
    if options.list:
        print("\n".join(f"{m.key}\n  - {m.before}\n  + {m.after}" for m in chosen))
        return 0
    try:
        outcomes = run_all(chosen, options.count, options.jobs, Results(options.fresh), tests_of_ops())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    judged = json.loads(EQUIVALENT.read_text())
    text, killed, rest = table(outcomes, judged, options.seed)
    if options.only:
        print(text, end="")
    else:
        TABLE.write_text(text)
    print(f"{killed} of {rest} mutants killed")
    return 0 if rest and killed >= GOAL * rest else 1


if __name__ == "__main__":
    sys.exit(main())
