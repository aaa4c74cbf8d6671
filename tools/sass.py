# SPDX-License-Identifier: Apache-2.0
"""SASS as nvdisasm prints it: instructions, basic blocks, natural loops; and what ptxas said of each kernel."""
import dataclasses
import re

SECTION = re.compile(r"^//-+ \.text\.(\S+) -+$")
LABEL = re.compile(r"^(\.\S+):$")
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")


@dataclasses.dataclass(frozen=True)
class Instruction:
    address: int
    guard: str      # "@P0", "@!UP1" or ""
    opcode: str     # with its modifiers: LDS.128
    operands: str

    @property
    def name(self):
        return self.opcode.split(".")[0]

    @property
    def target(self):
        match = re.search(r"`\((\.\S+?)\)", self.operands)
        return match.group(1) if match else None


def parse(text):
    """{mangled name: (instructions, {label: address})} of nvdisasm's output for a cubin."""
    kernels, lines, labels, pending = {}, None, None, []
    for line in text.splitlines():
        section = SECTION.match(line)
        if section:
            lines, labels, pending = [], {}, []
            kernels[section.group(1)] = (lines, labels)
        elif line.startswith("//---"):
            lines = None
        elif lines is not None and LABEL.match(line.strip()):
            pending.append(LABEL.match(line.strip()).group(1))
        elif lines is not None and (match := INSTRUCTION.match(line)):
            address = int(match.group(1), 16)
            labels.update((label, address) for label in pending)
            pending = []
            lines.append(Instruction(address, match.group(2) or "", match.group(3), match.group(4).strip()))
    return kernels


class Flow:
    """Control flow of one kernel: blocks are indices, 0 the entry."""

    def __init__(self, instructions, labels):
        starts = {instructions[0].address} if instructions else set()
        for i, instruction in enumerate(instructions):
            if instruction.name in ("BRA", "EXIT", "RET", "BRX", "JMP") and i + 1 < len(instructions):
                starts.add(instructions[i + 1].address)
            if instruction.name == "BRA" and instruction.target in labels:
                starts.add(labels[instruction.target])
        order = {address: n for n, address in enumerate(sorted(starts))}
        self.blocks = [[] for _ in order]
        current = -1
        for instruction in instructions:
            current = order.get(instruction.address, current)
            self.blocks[current].append(instruction)
        self.next = [self.successors(n, order, labels) for n in range(len(self.blocks))]
        self.before = [[] for _ in self.blocks]
        for n, following in enumerate(self.next):
            for m in following:
                self.before[m].append(n)

    def successors(self, n, order, labels):
        last = self.blocks[n][-1]
        following = []
        # BRA.DIV leaves for code that stands in for a shuffle of a diverged warp: rare, not followed.
        if last.name == "BRA" and ".DIV" not in last.opcode and last.target in labels:
            following.append(order[labels[last.target]])
        conditional = last.guard or re.match(r"U?P\d|!U?P\d|UR\d", last.operands)
        ends = last.name in ("EXIT", "RET", "BRX", "JMP", "BRA") and not conditional
        if not ends and n + 1 < len(self.blocks):
            following.append(n + 1)
        return following

    def dominators(self):
        everything = set(range(len(self.blocks)))
        found = [everything.copy() for _ in self.blocks]
        found[0] = {0}
        changed = True
        while changed:
            changed = False
            for n in range(1, len(self.blocks)):
                incoming = [found[m] for m in self.before[n]]
                new = (set.intersection(*incoming) if incoming else set()) | {n}
                if incoming and new != found[n]:
                    found[n], changed = new, True
        return found

    def loops(self):
        """{header: set of blocks}, loops of one header merged."""
        dominators, found = self.dominators(), {}
        reachable, queue = {0}, [0]
        while queue:
            for m in self.next[queue.pop()]:
                if m not in reachable:
                    reachable.add(m)
                    queue.append(m)
        for n in sorted(reachable):
            for header in self.next[n]:
                if header in dominators[n]:
                    body, stack = found.setdefault(header, {header}), [n]
                    while stack:
                        m = stack.pop()
                        if m not in body and m in reachable:
                            body.add(m)
                            stack.extend(self.before[m])
        return found

    def own_blocks(self):
        """{header: blocks of the loop that are in no loop inside of it}."""
        loops = self.loops()
        return {header: body - set().union(*(other for inner, other in loops.items()
                                             if inner != header and other < body))
                for header, body in loops.items()}


def resources(said):
    """{mangled name: {registers, spill_bytes, smem}} of what ptxas -v said."""
    found, kernel = {}, None
    for line in said.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            kernel = found.setdefault(match.group(1), {"registers": 0, "spill_bytes": 0, "smem": 0})
        elif "Function properties for" in line:
            name = line.split()[-1]
            kernel = found.get(name, kernel)
        elif kernel is not None and (match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            kernel["spill_bytes"] += int(match.group(1)) + int(match.group(2))
        elif kernel is not None and (match := re.search(r"Used (\d+) registers", line)):
            kernel["registers"] = int(match.group(1))
            smem = re.search(r"(\d+) bytes smem", line)
            kernel["smem"] = int(smem.group(1)) if smem else 0
    return found
