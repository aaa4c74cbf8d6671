#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the device would execute, as one hash per kernel: `NAME HASH FILE` a line, sorted by name.

Usage: kernel_hash.py [FILE.cu...]   (default: every kernel file). Exit 77 without nvcc.
"""
import pathlib
import sys

import cuda_build
import ptx

ARCH = "compute_90"  # one architecture for all hashes: those of two machines must be comparable


def kernel_hashes(files=None, root=cuda_build.ROOT):
    """{mangled name: (hash, file)}. One kernel instantiated in several files has the same code in all."""
    found = {}
    compiler = cuda_build.Compiler("ptx", ARCH, root)
    for file, path, _ in compiler.compile_all(files or cuda_build.kernel_files(root)):
        module = ptx.Module(path.read_text())
        for kernel in module.kernels:
            found[kernel] = (module.hash(kernel), str(file.relative_to(root)))
    return dict(sorted(found.items()))


def main():
    if not cuda_build.find_nvcc():
        print("no nvcc", file=sys.stderr)
        return 77
    for name, (digest, file) in kernel_hashes([pathlib.Path(a).resolve() for a in sys.argv[1:]]).items():
        print(name, digest, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
