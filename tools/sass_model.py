# SPDX-License-Identifier: Apache-2.0
"""How fast a loop can run on sm_90, from its instructions alone: what each unit of an SM needs for one trip of
one warp, in clocks. Modelled, not measured: latency, bank conflicts, cache misses and imbalance are not in it.
"""
import re

WGMMA_FLOP = 4096       # dense bf16 per SM and clock
MMA_SYNC_SHARE = 0.62   # of that rate for mma.sync; FlashAttention-2's share, until measured here
HMMA_FLOP = 2 * 16 * 8 * 16
MUFU_LANES, FMA_LANES, ALU_LANES, ISSUE_WARPS, SHARED_BYTES = 16, 128, 64, 4, 128
HBM_BYTES = 18.6        # of copy traffic per SM and clock: 4.3 TB/s over 132 SMs at 1.755 GHz

REGISTERS, SMEM, SMEM_RESERVED, WARPS, BLOCKS = 65536, 228 * 1024, 1024, 64, 32

FMA = {"FFMA", "FMUL", "FADD", "FFMA32I", "FMUL32I", "FADD32I"}
# Half rate on the same pipe.
FMA_HALF = {"IMAD", "IMUL", "HFMA2", "HADD2", "HMUL2", "HMNMX2", "IDP"}
XU = {"MUFU", "I2F", "F2I", "F2F", "I2I", "POPC", "FLO", "BREV", "REDUX", "FRND"}
ALU = {"FMNMX", "FMNMX3", "FSEL", "FSET", "FSETP", "FCHK", "ISETP", "ISET", "IADD3", "IADD", "IABS", "IMNMX", "VIMNMX",
       "VIADD", "VIADDMNMX", "LEA", "LOP3", "LOP", "PLOP3", "PRMT", "SEL", "SGXT", "SHF", "SHL", "SHR", "BMSK", "P2R", "R2P",
       "MOV", "MOV32I", "F2FP", "F2IP", "I2FP", "I2IP", "VABSDIFF"}
GLOBAL_LOADS, GLOBAL_STORES = {"LDG", "LD"}, {"STG", "ST"}


def width(opcode):
    """Bytes a lane of a memory instruction."""
    match = re.search(r"\.(?:[US])?(8|16|64|128)(?:\.|$)", opcode)
    return int(match.group(1)) // 8 if match else 4


def shared_bytes(instruction):
    """Bytes that a warp's instruction moves through shared memory, free of conflicts."""
    opcode, name = instruction.opcode, instruction.name
    if name == "LDSM" or name == "STSM":
        return 128 * int(re.search(r"M\w+\.([124])\b", opcode).group(1) if re.search(r"M\w+\.([124])\b", opcode) else 1)
    if name in ("LDS", "STS", "LDGSTS"):
        bypass = re.search(r"\.(64|128)(?:\.|$)", opcode)
        return 32 * (int(bypass.group(1)) // 8 if bypass else width(opcode))
    return {"SHFL": 128, "ATOMS": 128}.get(name, 0)


def global_bytes(instruction):
    if instruction.name in GLOBAL_LOADS | GLOBAL_STORES | {"LDGSTS"}:
        return 32 * width(instruction.opcode)
    return 0


def clocks(instructions, shared_share=1):
    """{unit: clocks of one SM for one trip of one warp}. `shared_share`: of the bytes that the lanes of an LDS ask
    for, the share that differs; the rest is one word for several lanes and comes with it."""
    def count(names):
        return sum(i.name in names for i in instructions)
    return {
        "tensor": count({"HMMA"}) * HMMA_FLOP / (WGMMA_FLOP * MMA_SYNC_SHARE),
        "MUFU": count(XU) * 32 / MUFU_LANES,
        "FMA": count(FMA) * 32 / FMA_LANES + count(FMA_HALF) * 32 / (FMA_LANES / 2),
        "ALU": count(ALU) * 32 / ALU_LANES,
        "issue": len(instructions) / ISSUE_WARPS,
        "shared": sum(shared_bytes(i) * (shared_share if i.name == "LDS" else 1) for i in instructions) / SHARED_BYTES,
    }


def mix(instructions):
    """The counts worth a look, in a fixed order."""
    groups = [("HMMA", {"HMMA"}), ("FMA", FMA), ("XU", XU), ("ALU", ALU), ("IMAD", FMA_HALF),
              ("LDS", {"LDS", "LDSM"}), ("STS", {"STS"}), ("SHFL", {"SHFL"}), ("LDG", GLOBAL_LOADS),
              ("LDGSTS", {"LDGSTS"}), ("STG", GLOBAL_STORES), ("ATOM", {"ATOMS", "ATOMG", "ATOM", "RED", "REDG"}),
              ("BAR", {"BAR"})]
    counts = [(name, sum(i.name in names for i in instructions)) for name, names in groups]
    rest = len(instructions) - sum(n for _, n in counts)
    return [(name, n) for name, n in counts + [("other", rest)] if n]


def occupancy(registers, smem, threads):
    """Warps of an SM that are resident, of WARPS, and what bounds them."""
    warps = -(-threads // 32)
    per_warp = -(-registers * 32 // 256) * 256
    bounds = {
        "registers": (REGISTERS // per_warp) // warps if registers else BLOCKS,
        "shared memory": SMEM // (-(-(smem + SMEM_RESERVED) // 128) * 128),
        "blocks": BLOCKS,
        "warps": WARPS // warps,
    }
    bound = min(bounds, key=lambda name: bounds[name])
    return bounds[bound] * warps, bound


def hot_weight(instructions):
    names = [i.name for i in instructions]
    return 64 * names.count("HMMA") + 2 * names.count("MUFU") + sum(name in FMA for name in names)


def shortest_way(flow, body, own):
    """Blocks of one trip through a loop: the shortest way from its head to the end of a trip that passes as many
    as possible of the blocks with its arithmetic or, without tensor cores, its global traffic. Masks, rare hits and other paths that most trips skip are so
    left out. `body`: blocks of the loop; `own`: those in no inner loop, the others cost nothing."""
    head = min(body)
    heat = {n: hot_weight(flow.blocks[n]) if n in own else 0 for n in body}
    if not any(i.name == "HMMA" for n in own for i in flow.blocks[n]):  # there traffic is the work
        heat = {n: heat[n] + sum(map(global_bytes, flow.blocks[n])) // 128 if n in own else 0 for n in body}
    must = {n for n in body if heat[n] > 0 and heat[n] >= sum(heat.values()) / 8}
    if not must:
        return own
    best, order, dominators = {}, [], flow.dominators()

    def visit(n, seen):
        stack = [(n, iter(flow.next[n]))]
        seen.add(n)
        while stack:
            node, following = stack[-1]
            m = next((m for m in following if m in body and m not in seen and m not in dominators[node]), None)
            if m is None:
                order.append(node)
                stack.pop()
            else:
                seen.add(m)
                stack.append((m, iter(flow.next[m])))
    visit(head, set())
    for n in order:  # every block after those that it leads to
        ways = [best[m] for m in flow.next[n] if m in best and m not in dominators[n]]
        if head in flow.next[n]:
            ways.append((0, 0, ()))
        if ways:
            passed, length, blocks = min(ways)
            cost = len(flow.blocks[n]) if n in own else 0
            best[n] = (passed - (n in must), length + cost, (n, *blocks))
    return set(best[head][2]) & own if head in best else own


def hottest(flow, cold=()):
    """Instructions of one trip of the loop with the most arithmetic, inner loops left out; without any, of the
    loop with the most accesses; without a loop, of the whole kernel. Blocks with an opcode that `cold` matches
    are left out, too. Also returns how many instructions of the loop are left out."""
    def gather(blocks):
        return [i for n in sorted(blocks) for i in flow.blocks[n]
                if not any(re.search(c, other.opcode) for c in cold for other in flow.blocks[n])]
    own, loops = flow.own_blocks(), flow.loops()
    if not loops:
        whole = [i for block in flow.blocks for i in block]
        end = next((n for n, i in enumerate(whole) if i.name == "EXIT" and not i.guard), len(whole) - 1)
        return whole[:end + 1], 0

    def rank(header):
        instructions = gather(own[header])
        return hot_weight(instructions), sum(global_bytes(i) + shared_bytes(i) for i in instructions), len(instructions)
    header = max(sorted(loops), key=rank)
    instructions = gather(shortest_way(flow, loops[header], own[header]))
    return instructions, sum(len(flow.blocks[n]) for n in loops[header]) - len(instructions)


def units_of_trip(instructions, hint):
    """How many units (scores, bytes) one trip of one warp does; 0 if the hints do not say."""
    names = [i.name for i in instructions]
    d, gemms = int(hint.get("d", 0)), int(hint.get("gemms", 1))
    if hint.get("unit") == "score" and d:
        products = names.count("HMMA") * 16 * 8 * 16
        return (products or names.count("FFMA") * 32) / (d * gemms)
    if hint.get("unit") == "byte":
        return sum(map(global_bytes, instructions))
    return 0
