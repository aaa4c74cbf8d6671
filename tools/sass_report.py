#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What ptxas made of every kernel for sm_90, as the tracked table validation/sass.md.

Usage: sass_report.py [--check] [FILE.cu...]
  --check  compares with the tracked table instead of writing it
  FILE.cu  only these, to stdout
Exit 1 if a kernel marked hot spills (tools/sass_hints.json) or the check fails, 77 without nvcc.
"""
import json
import pathlib
import re
import subprocess
import sys

import cuda_build
import ptx
import sass
import sass_model as model
from ledger import short

ROOT = cuda_build.ROOT
TABLE = ROOT / "validation/sass.md"
HINTS = ROOT / "tools/sass_hints.json"


def hint_for(readable, hints):
    """The first hint whose pattern fits; {} without one. Numbers may be written as arithmetic over the pattern's
    named groups: template arguments of the kernel."""
    for hint in hints:
        match = re.search(hint["match"], readable)
        if match:
            groups = {key: int(value) for key, value in match.groupdict().items() if value is not None}
            numbers = {key: eval(str(hint[key]), {"__builtins__": {}}, groups)  # pylint: disable=eval-used
                       for key in ("d", "gemms", "threads", "dynamic_smem", "shared_share") if key in hint}
            return hint | groups | numbers
    return {}


def rows_of_file(file, cubin, said, max_threads, hints):
    """One dictionary per kernel of a file."""
    nvdisasm = rows_of_file.nvdisasm
    text = subprocess.run([nvdisasm, str(cubin)], capture_output=True, text=True, check=True).stdout
    resources, kernels = sass.resources(said), sass.parse(text)
    readable = cuda_build.demangle(kernels)
    for name, (instructions, labels) in kernels.items():
        if name not in resources:
            continue
        hint = hint_for(readable[name], hints)
        threads = int(hint.get("threads") or max_threads.get(name) or 256)
        static = resources[name]["smem"]
        dynamic = int(hint.get("dynamic_smem", 0))
        body, left_out = model.hottest(sass.Flow(instructions, labels), hint.get("cold", ()))
        clocks = model.clocks(body, hint.get("shared_share", 1))
        units = model.units_of_trip(body, hint)
        warps, bound = model.occupancy(resources[name]["registers"], static + dynamic, threads)
        yield resources[name] | {
            "op": file.parent.name, "kernel": short(readable[name]), "hint": hint, "threads": threads,
            "dynamic": dynamic, "warps": warps, "occupancy_bound": bound, "mix": model.mix(body),
            "left_out": left_out, "clocks": clocks, "units": units,
            "bound": max(clocks, key=lambda unit: clocks[unit])}


def launch_bounds(files):
    found = {}
    for _, path, _ in cuda_build.Compiler("ptx", "compute_90").compile_all(files):
        module = ptx.Module(path.read_text())
        found |= {kernel: module.max_threads(kernel) for kernel in module.kernels}
    return found


def per_unit(row):
    return max(row["clocks"].values()) / row["units"] if row["units"] else 0.0


def share(row, cycles):
    """The share of the bf16 rate (scores) or of the copy rate (bytes) that `cycles` per unit allow."""
    if row["hint"]["unit"] == "byte":
        return min(1.0, 1 / (model.HBM_BYTES * cycles))
    return 2 * int(row["hint"]["d"]) * int(row["hint"].get("gemms", 1)) / model.WGMMA_FLOP / cycles


def modelled(row):
    """(cycles per unit, share) as text."""
    if not row["units"]:
        return "-", "-"
    cycles, unit = per_unit(row), row["hint"]["unit"]
    of = "copy" if unit == "byte" else "bf16"
    if unit == "score" and not any(name == "HMMA" for name, _ in row["mix"]):
        return f"{cycles:.4f} / {unit}", "-"
    part = share(row, cycles)
    return f"{cycles:.4f} / {unit}", f"{100 * part:.0f} % of {of}" if part < 1 else "bound by memory"


HEADER = """# Kernels as ptxas makes them for sm_90

Written by `./run sass` (nvcc {release}); a change that spills or slows an inner loop shows in the diff. Nothing here was measured.

"modelled": the hottest inner loop's clocks on one SM, the maximum over tensor (mma.sync m16n8k16 at {share} of the
wgmma rate of {flop} FLOP), special functions ({mufu} lanes a clock), FMA ({fma} lanes, IMAD half of it), ALU ({alu} lanes), issue ({issue} warps) and
shared memory ({shared} bytes), per score or per byte of global traffic; the bound is the unit that needs it. Latency, bank conflicts
and misses are not in it; copy rate: {hbm} bytes a clock and SM. A trip takes the shortest way that passes the loop's arithmetic: what
masks and hits add, and inner loops, is left out ("+n" instructions). Loads of shared memory count all bytes of their lanes, except
where tools/sass_hints.json says which share of them differ.

| op | kernel | hot | regs | spill B | smem static + dynamic B | threads | warps of {warps} (bound) | inner loop | clocks a trip (bound) | modelled | modelled share |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def line_of(row):
    mix = " ".join(f"{n} {name}" for name, n in row["mix"])
    if row["left_out"]:
        mix += f" (+{row['left_out']})"
    cycles, part = modelled(row)
    cells = [row["op"], f"`{row['kernel']}`", "yes" if row["hint"].get("hot") else "", row["registers"],
             row["spill_bytes"], f"{row['smem']} + {row['dynamic']}", row["threads"],
             f"{row['warps']} ({row['occupancy_bound']})", mix,
             f"{row['clocks'][row['bound']]:.1f} ({row['bound']})", cycles, part]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def lines_of_groups(rows):
    """Kernels that together do one job: the shares of their sum."""
    groups = {}
    for row in rows:
        if row["hint"].get("group") and row["units"]:
            name = row["hint"]["group"].replace("{d}", str(row["hint"].get("d", "")))
            groups.setdefault(name, []).append(row)
    if not groups:
        return []
    lines = ["", "Together, modelled:", "", "| job | clocks a score | share of the bf16 rate | bounds |", "|---|---|---|---|"]
    for name, members in sorted(groups.items()):
        cycles = sum(map(per_unit, members))
        flop = sum(2 * int(row["hint"]["d"]) * int(row["hint"].get("gemms", 1)) for row in members)
        bounds = ", ".join(sorted({row["bound"] for row in members}))
        lines.append(f"| {name} | {cycles:.4f} | {100 * flop / model.WGMMA_FLOP / cycles:.0f} % | {bounds} |")
    return lines


def table(rows, release):
    rows = sorted(rows, key=lambda row: (row["op"], row["kernel"]))
    ours = [row for row in rows if not re.match(r"(cub|thrust)::", row["kernel"])]
    text = HEADER.format(release=release, share=model.MMA_SYNC_SHARE, flop=model.WGMMA_FLOP, mufu=model.MUFU_LANES,
                         fma=model.FMA_LANES, alu=model.ALU_LANES, issue=model.ISSUE_WARPS,
                         shared=model.SHARED_BYTES, hbm=model.HBM_BYTES, warps=model.WARPS)
    lines = [line_of(row) for row in ours] + lines_of_groups(ours)
    library = [row for row in rows if row not in ours]
    if library:
        spills = sum(row["spill_bytes"] > 0 for row in library)
        lines += ["", f"Left out: {len(library)} kernels of CUB and Thrust, {spills} of which spill."]
    return text + "\n".join(lines) + "\n"


def main(arguments):
    check = "--check" in arguments
    named = [pathlib.Path(a).resolve() for a in arguments if a != "--check"]
    if not cuda_build.find_nvcc():
        print("no nvcc", file=sys.stderr)
        return 77
    fetch = subprocess.run([str(ROOT / "tools/fetch_cuda_tools.sh")], capture_output=True, text=True, check=True)
    rows_of_file.nvdisasm = str(ROOT / fetch.stdout.strip())
    hints = json.loads(HINTS.read_text())
    files = named or cuda_build.kernel_files()
    compiler = cuda_build.Compiler("cubin", "sm_90")
    bounds = launch_bounds(files)
    by_kernel = {row["kernel"]: row for file, cubin, said in compiler.compile_all(files)
                 for row in rows_of_file(file, cubin, said, bounds, hints)}  # some are made in several files
    rows = list(by_kernel.values())
    text = table(rows, compiler.release)
    spilling = [row["kernel"] for row in rows if row["hint"].get("hot") and row["spill_bytes"]]
    for kernel in spilling:
        print(f"error: {kernel} is hot and spills", file=sys.stderr)
    if named:
        print(text, end="")
    elif check:
        if text != TABLE.read_text():
            print("error: validation/sass.md is not what ./run sass writes now", file=sys.stderr)
            return 1
    else:
        TABLE.write_text(text)
        print(text, end="")
    return 1 if spilling else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except cuda_build.CompileError as error:
        sys.exit(f"error: {error}")
