# SPDX-License-Identifier: Apache-2.0
"""Compiles kernel files one by one, for the tools that read what nvcc makes of them.

Flags are those of the build, so that the PTX and the SASS are what runs. Results lie in build/kernel-code and are
made again only when the file, a header of the repository that it includes, the flags or nvcc have changed.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]


class CompileError(Exception):
    """What nvcc said."""


def find_nvcc():
    """The path of nvcc, or None."""
    hint = "/usr/local/cuda/bin/nvcc"
    return os.environ.get("NVCC") or shutil.which("nvcc") or (hint if os.access(hint, os.X_OK) else None)


def build_flags(root=ROOT):
    """nvcc's flags in cmake/cuda.cmake, but for those that only say which warnings there are."""
    text = (root / "cmake/cuda.cmake").read_text()
    appended = " ".join(re.findall(r"string\(APPEND CMAKE_CUDA_FLAGS ([^)]*)\)", text))
    flags = " ".join(re.findall(r'"([^"]*)"', appended))
    flags = re.sub(r"-Werror[ =]\S+|-Xcompiler[ =]\S+|-lineinfo", " ", flags)
    return ["-std=c++20", *flags.split()]


def kernel_files(root=ROOT):
    return sorted((root / "kernels").glob("*/*.cu"))


def generated_headers(root, folder):
    """Writes what CMake generates for a CUDA build: which ops have a CUDA side."""
    template = (root / "kernels/core/built_ops.hpp.in").read_text()
    ops = re.findall(r"^belfry_add_op\((\w+)", (root / "kernels/CMakeLists.txt").read_text(), re.M)
    lines = "inline constexpr bool device = true;\n"
    for op in ops:
        has = str(any((root / "kernels" / op).glob("*.cu"))).lower()
        lines += f"inline constexpr bool {op} = {has};\n"
    header = folder / "kernels/core/built_ops.hpp"
    text = template.replace("@BELFRY_OPS@", lines)
    header.parent.mkdir(parents=True, exist_ok=True)
    if not header.exists() or header.read_text() != text:
        header.write_text(text)
    return folder


def sources_of(depfile, root):
    """The repository's own files in a Makefile rule that nvcc wrote."""
    text = depfile.read_text().replace("\\\n", " ")
    words = [word.replace("\\ ", " ") for word in re.split(r"(?<!\\)\s+", text.split(":", 1)[1].strip())]
    inside = {pathlib.Path(os.path.normpath(root / word)) for word in words if word}
    return sorted(path for path in inside if path.is_relative_to(root))


class Compiler:
    """nvcc with the build's flags and a store of its results. `kind` is ptx or cubin."""

    def __init__(self, kind, arch, root=ROOT, store=None):
        self.nvcc = find_nvcc()
        if not self.nvcc:
            raise FileNotFoundError("nvcc")
        self.kind, self.root = kind, root
        self.store = (store or root / "build/kernel-code") / f"{kind}-{arch}"
        self.store.mkdir(parents=True, exist_ok=True)
        include = generated_headers(root, self.store.parent / "generated")
        version = subprocess.run([self.nvcc, "--version"], capture_output=True, text=True, check=True).stdout
        self.release = re.search(r"V([\d.]+)", version).group(1)
        self.command = [self.nvcc, f"-{kind}", f"-arch={arch}", *build_flags(root), "-I", str(root), "-I", str(include),
                        "-I", str(root / "tests/simt"), "-Xptxas", "-v"]

    def key(self, depfile):
        digest = hashlib.sha256(" ".join([self.release, *self.command[1:]]).encode())
        for path in sources_of(depfile, self.root):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def compile(self, file):
        """(path of the result, what ptxas said)."""
        name = str(file.relative_to(self.root) if file.is_relative_to(self.root) else file).strip("/")
        output = self.store / (name.replace("/", ".") + "." + self.kind)
        depfile, note = output.with_suffix(".d"), output.with_suffix(".json")
        try:
            known = json.loads(note.read_text())
            if output.exists() and known["key"] == self.key(depfile):
                return output, known["said"]
        except (OSError, ValueError, KeyError):
            pass
        partial = output.with_suffix(".partial")
        done = subprocess.run([*self.command, "-MD", "-MF", str(depfile), str(file), "-o", str(partial)],
                              capture_output=True, text=True, cwd=self.root)
        if done.returncode:
            raise CompileError(f"{name}: nvcc failed\n{(done.stdout + done.stderr)[:2000]}")
        partial.rename(output)
        note.write_text(json.dumps({"key": self.key(depfile), "said": done.stderr}))
        return output, done.stderr

    def compile_all(self, files):
        """[(file, path, said)] in the order of `files`, as many at a time as there are processors."""
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return [(file, *result) for file, result in zip(files, pool.map(self.compile, files))]


def demangle(names):
    """{mangled: readable} by c++filt; the names themselves where there is none."""
    names = list(names)
    tool = shutil.which("cu++filt") or shutil.which("c++filt")
    if not tool or not names:
        return {name: name for name in names}
    done = subprocess.run([tool], input="\n".join(names), capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.splitlines()))
