# SPDX-License-Identifier: Apache-2.0
"""PTX as text: its kernels, each with a hash of what the device would execute.

The hash covers the kernel and, transitively, the functions and variables of the module that it names. It does
not depend on comments, debug lines, label numbers, the file's path or the order of definitions.
"""
import hashlib
import re

WORD = re.compile(r"[A-Za-z_$%][\w$]*")


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", " ", re.sub(r"//[^\n]*", "", text), flags=re.S)


def anonymous_names(text):
    """Names of internal linkage hold a hash of the path: ..._INTERNAL_<hash>_<length>_<file>_<hash>."""
    start = re.compile(r"\d*(_INTERNAL|_GLOBAL__N_)_[0-9a-f]{8}_(\d+)_")
    out, position = [], 0
    while match := start.search(text, position):
        end = match.end() + int(match.group(2))
        tail = re.compile(r"_[0-9a-f]{8}").match(text, end)
        out.append(text[position:match.start()])
        out.append(match.group(1) if tail else match.group(0))
        position = tail.end() if tail else match.end()
    return "".join(out) + text[position:]


def statements(text):
    """Top-level pieces: definitions with a body, or declarations that end in a semicolon."""
    depth, start = 0, 0
    for match in re.finditer(r"[{};]", text):
        if match.group() == "{":
            depth += 1
        elif match.group() == "}":
            depth -= 1
        if depth:
            continue
        piece = text[start:match.end()].strip()
        body = match.group() == "}" and re.search(r"\.(entry|func)\b", piece)
        if match.group() == ";" or body:
            start = match.end()
            yield piece


def name_of(piece):
    """The name that a top-level piece defines or declares; None for what is no definition."""
    kernel = re.search(r"\.entry\s+([\w$]+)", piece)
    if kernel:
        return kernel.group(1)
    function = re.search(r"\.func\s+(?:\.\w+\s+)*(?:\([^)]*\)\s*)?([\w$]+)", piece)
    if function:
        return function.group(1)
    variable = re.search(r"([\w$]+)\s*(?:\[[^\]]*\]\s*)*(?:=.*)?;$", piece, re.S)
    return variable.group(1) if variable else None


def normalise(piece):
    """One piece with its labels numbered in order of appearance, without debug lines and spare blanks."""
    labels = {}
    kept = [line for line in piece.splitlines() if not re.match(r"\s*\.(loc|file|section)\b", line)]
    body = re.sub(r"\$L_\w+", lambda m: labels.setdefault(m.group(), f"$L{len(labels)}"), "\n".join(kept))
    return "\n".join(" ".join(line.split()) for line in body.splitlines() if line.strip())


class Module:
    """The pieces of one PTX file by name."""

    def __init__(self, text):
        text = anonymous_names(strip_comments(text))
        text = re.sub(r"^\s*\.(version|target|address_size|file|loc)\b[^\n]*$", "", text, flags=re.M)
        self.pieces = {}
        for piece in statements(text):
            name = name_of(piece)
            if name and len(piece) >= len(self.pieces.get(name, "")):  # a definition over its declaration
                self.pieces[name] = piece
        self.kernels = sorted(name for name, piece in self.pieces.items() if ".entry" in piece)
        self.plain = {name: normalise(piece) for name, piece in self.pieces.items()}

    def reached(self, kernel):
        """Everything of the module that a kernel names, itself first, then in order of name."""
        found, queue = {kernel}, [kernel]
        while queue:
            words = set(WORD.findall(self.plain[queue.pop()])) & self.pieces.keys()
            queue.extend(words - found)
            found |= words
        return [kernel, *sorted(found - {kernel})]

    def hash(self, kernel):
        text = "\n".join(self.plain[name] for name in self.reached(kernel))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def max_threads(self, kernel):
        """Threads of the largest block that the kernel is compiled for; None without __launch_bounds__."""
        match = re.search(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", self.pieces[kernel])
        return int(match.group(1)) * int(match.group(2) or 1) * int(match.group(3) or 1) if match else None
