#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes point one way: apps -> belfry -> engine -> kernels; only kernels may know CUDA.

Usage: layering_test.py [SOURCE_DIR]. Prints each include that runs back and exits 1. Before it reads
the tree it checks itself on lines that must fail, so that it cannot pass by matching nothing.
"""
import pathlib
import re
import sys

SUFFIXES = {".hpp", ".cpp", ".h", ".cu", ".cuh", ".in"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
CUDA = re.compile(
    r"(^|/)(cuda[\w-]*|cublas\w*|cusparse\w*|curand\w*|cufft\w*|cusolver\w*|nvtx\w*|nvml|nccl"
    r"|mma|cooperative_groups|device_launch_parameters)\.(h|hpp|cuh)$"
    r"|^(cub|thrust|cuda|nv|nvtx3|cooperative_groups|cutlass|cute)/|\.cuh?$")
KNOWN = {"kernels", "engine", "belfry", "apps", "tests", "bench", "examples"}
MAY_INCLUDE = {
    "kernels": {"kernels"},
    "engine": {"kernels", "engine"},
    "belfry": {"kernels", "engine", "belfry"},
    "apps": {"kernels", "engine", "belfry", "apps"},
    "examples": {"belfry"},
}


def fault(folder, included, parent):
    """Why a file of `folder` (in directory `parent`) may not include `included`; None if it may."""
    if folder != "kernels" and CUDA.search(included):
        return f"{folder}/ may not include CUDA headers"
    parts = []  # of the target, with ./ and ../ resolved against the including file
    start = parent.split("/") if included.startswith(".") else []
    for part in start + included.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    target = parts[0] if parts else ""
    if len(parts) > 1 and target in KNOWN and target not in MAY_INCLUDE[folder]:
        return f"{folder}/ may not include {target}/"
    return None


def self_check():
    bad = [("kernels", "engine/error.hpp"), ("kernels", "apps/train.hpp"), ("engine", "apps/x.hpp"),
           ("engine", "cuda_runtime.h"), ("apps", "cublasLt.h"), ("engine", "cub/cub.cuh"),
           ("kernels", "../../engine/error.hpp"), ("engine", "tests/support/golden.hpp"),
           ("apps", "kernels/core/launch.cuh"), ("engine", "cuda/std/span"), ("kernels", "bench/x.hpp"),
           ("engine", "belfry/belfry.hpp"), ("examples", "engine/model.hpp")]
    good = [("kernels", "kernels/core/view.hpp"), ("kernels", "cuda_runtime.h"),
            ("engine", "kernels/gemm/gemm.hpp"), ("apps", "engine/error.hpp"), ("engine", "vector"),
            ("engine", "engine/trainer.hpp"), ("apps", "CLI/CLI.hpp"), ("belfry", "engine/model.hpp"),
            ("examples", "belfry/belfry.hpp")]
    for folder, included in bad:
        assert fault(folder, included, f"{folder}/core"), (folder, included)
    for folder, included in good:
        assert not fault(folder, included, f"{folder}/core"), (folder, included)


def main():
    self_check()
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    files, includes, faults = 0, 0, []
    for folder in MAY_INCLUDE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file():
                continue
            files += 1
            parent = path.parent.relative_to(root).as_posix()
            text = path.read_text(encoding="utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                includes += 1
                why = fault(folder, match.group(1), parent)
                if why:
                    faults.append(f"{path.relative_to(root)}:{number}: {line.strip()}: {why}")
    print("\n".join(faults) if faults else f"{includes} includes in {files} files point one way")
    if files == 0:
        print(f"no source files under {root}")
    return 1 if faults or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
