# SPDX-License-Identifier: Apache-2.0
"""Small wrong changes of kernel code, one at a time. Only device code is changed: bodies of __global__ and
__device__ functions."""
import dataclasses
import random
import re


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: str
    line: int       # from 1
    operator: str
    before: str     # the line, stripped
    after: str
    column: int     # of the change: a line may have several

    @property
    def key(self):
        return f"{self.file}:{self.line}:{self.column}:{self.operator}"


LANES = r"(?:0xffffffffu?|kAllLanes|kFullMask|kFull)"
# (name, pattern, replacement). A replacement that is no text is a function of the match.
OPERATORS = [
    ("barrier dropped", r"\b__syncthreads\(\);", ";"),
    ("syncwarp dropped", r"\b__syncwarp\([^;]*\);", ";"),
    ("fence dropped", r"\b__threadfence(?:_block)?\(\);", ";"),
    ("copy wait dropped", r"\b(?:simt::)?cp_async_wait<[^;]*>\(\);", ";"),
    ("mask halved", rf"\b{LANES}(?=\s*[,)])", "0xffffu"),
    ("< to <=", r" < ", " <= "),
    ("<= to <", r" <= ", " < "),
    ("> to >=", r" > ", " >= "),
    (">= to >", r" >= ", " > "),
    ("atomic made plain", r"\batomicAdd\((.+), ([^,]+)\);", lambda m: _plain(m, "*({0}) += {1}")),
    ("atomic made plain", r"\batomicOr\((.+), ([^,]+)\);", lambda m: _plain(m, "*({0}) |= {1}")),
    ("atomic made plain", r"\batomicMax\((.+), ([^,]+)\);", lambda m: _plain(m, "if ({1} > *({0})) *({0}) = {1}")),
    ("atomic made plain", r"\batomicMin\((.+), ([^,]+)\);", lambda m: _plain(m, "if ({1} < *({0})) *({0}) = {1}")),
    ("lane off by one", r"% (kWarp|kLanes|32)\b(?! [-=])", r"% \1 + 1"),
    ("lane off by one", r"\b(kWarp|kLanes|32) - 1\b", r"\1 - 2"),
    ("lane off by one", r"\bthreadIdx\.x / ", "(threadIdx.x + 1) / "),
    ("lane off by one", r" \+ lane\b", " + lane + 1"),
    ("index off by one", r" \+ 1\b(?![.\d'])", ""),
    ("index off by one", r"(?<=[\w)])\[(?!k[A-Z])([a-z]\w*)\](?!\()", r"[\1 + 1]"),
    ("min and max swapped", r"\b(min|max)\(", lambda m: {"min": "max(", "max": "min("}[m.group(1)]),
    ("min and max swapped", r"\bf(min|max)f\(", lambda m: {"min": "fmaxf(", "max": "fminf("}[m.group(1)]),
    ("and to or", r" && ", " || "),
    ("or to and", r" \|\| ", " && "),
    ("sum restarted", r" \+= ", " = "),
    ("condition negated", r"\bif \((?!constexpr)(\w+)\)", r"if (!\1)"),
    ("== to !=", r" == ", " != "),
]


# In the head of a for these make loops that never end, which any test sees, after a while.
ENDLESS = {"sum restarted", "> to >=", ">= to >", "== to !=", "index off by one"}


def _plain(match, form):
    """`= atomicAdd(p, v);` keeps its value: the old one, as the atomic returns."""
    update = form.format(match.group(1), match.group(2)) + ";"
    before = match.string[:match.start()].rstrip()
    if not before or before.endswith((";", "{", "}", ")", "else")):
        return update
    if not form.startswith("*"):
        return None
    return f"(*({match.group(1)}) += {match.group(2)}) - ({match.group(2)});" if "+=" in form else None


def blank_comments(text):
    """The text with comments and string literals made blank, every character in its place."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    return re.sub(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"", blank, text, flags=re.S)


def closing(text, start, pair):
    """Position after the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == pair[0]) - (text[position] == pair[1])
        if depth == 0:
            return position + 1
    return len(text)


def device_functions(text):
    """[(name, start, end)] of the bodies of device functions in text without comments."""
    found, position = [], 0
    marker = re.compile(r"__(?:global|device)__\b")
    while match := marker.search(text, position):
        # The parameters are the last brackets before a body or a semicolon: __launch_bounds__ has some, too.
        at, name = match.end(), ""
        while at < len(text) and text[at] not in "{;":
            if text[at] == "(":
                word = re.search(r"([\w]+)\s*$", text[match.end():at])
                name = word.group(1) if word and not word.group(1).startswith("__") else name
                at = closing(text, at, "()")
            else:
                at += 1
        end = closing(text, at, "{}") if at < len(text) and text[at] == "{" else at + 1
        if text[at:at + 1] == "{":
            found.append((name, at, end))
        position = max(end, match.end())
    return found


def mutants_of(file, text):
    """All mutants of one file, in the order of lines, then operators."""
    code = blank_comments(text)
    regions = [(start, end) for _, start, end in device_functions(code)]
    found, offset = [], 0
    for number, (line, raw) in enumerate(zip(code.split("\n"), text.split("\n")), 1):
        inside = any(start <= offset < end or start <= offset + len(line) < end for start, end in regions)
        skip = not inside or re.match(r"\s*(#|static_assert|template\b|constexpr|static constexpr)", line)
        for name, pattern, replacement in [] if skip else OPERATORS:
            for match in re.finditer(pattern, line):
                head = re.match(r"\s*for \(", line) and match.start() < closing(line, line.index("("), "()")
                if head and name in ENDLESS:
                    continue
                new = replacement(match) if callable(replacement) else match.expand(replacement)
                if new is None:
                    continue
                changed = raw[:match.start()] + new + raw[match.end():]
                found.append(Mutant(file, number, name, raw.strip(), changed.strip(), match.start()))
        offset += len(line) + 1
    return found


def apply(text, mutant):
    lines = text.split("\n")
    old = lines[mutant.line - 1]
    if old.strip() != mutant.before:
        raise ValueError(f"{mutant.key}: the line has changed")
    lines[mutant.line - 1] = old[:len(old) - len(old.lstrip())] + mutant.after
    return "\n".join(lines)


# What the executor is there to find is drawn more often than slips of arithmetic.
WEIGHT = {"barrier dropped": 4, "syncwarp dropped": 4, "fence dropped": 4, "copy wait dropped": 4, "mask halved": 3,
          "atomic made plain": 4, "lane off by one": 2}


def select(mutants, count, seed):
    """`count` mutants and their order, drawn in turn over files and, within one, over operators."""
    draw = random.Random(seed)
    by_file = {}
    for mutant in mutants:
        by_file.setdefault(mutant.file, {}).setdefault(mutant.operator, []).append(mutant)
    queues = []
    for file in sorted(by_file):
        pending = {name: draw.sample(group, len(group)) for name, group in sorted(by_file[file].items())}
        queue = []
        while pending:
            for name in sorted(pending, key=lambda n: (-WEIGHT.get(n, 1), n)):
                taken = pending[name][:WEIGHT.get(name, 1)]
                pending[name] = pending[name][len(taken):]
                queue += taken
            pending = {name: group for name, group in pending.items() if group}
        queues.append(queue)
    chosen = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue:
                chosen.append(queue.pop(0))
    return chosen[:count]
