#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch takes on this machine for the work that belfry's kernels and its training step do.

Usage: torch_two_tower.py [--out FILE.json] [--device cuda|cpu] [--small] [--seconds N]

Each case is warmed up, then timed with events over repetitions; the median is reported, beside the copy rate and the
bf16 matrix-product rate of the same process. FILE is written after every case. --small: tiny shapes, to try the
script out. Cases are left out when N seconds (default 500) have passed.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F


def median_ms(body, device, repetitions=20, warmups=5):
    """Median time of `body`, by events on a GPU and by the clock on a CPU."""
    for _ in range(warmups):
        body()
    times = []
    for _ in range(repetitions):
        if device == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            body()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            begun = time.perf_counter()
            body()
            times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def zipf_ids(n, rows, device):
    """Ids by Zipf's law with exponent 1.05: ranks by inversion of the continuous law."""
    u = torch.rand(n, device=device, dtype=torch.float64)
    power = 1.0 - 1.05
    rank = ((rows ** power - 1.0) * u + 1.0) ** (1.0 / power)
    return (rank.long() - 1).clamp_(0, rows - 1)


class Cases:
    """Every case yields (name, parameters, milliseconds, quantities per run)."""

    def __init__(self, device, small):
        self.device, self.small = device, small

    def randn(self, *shape, dtype=torch.float32):
        return torch.randn(*shape, device=self.device, dtype=dtype)

    def copy(self):
        n = 1 << (20 if self.small else 29)
        source, target = self.randn(n), self.randn(n)
        yield "copy", {"bytes": 8 * n}, median_ms(lambda: target.copy_(source), self.device), {"bytes": 8 * n}

    def gemm(self):
        n = 128 if self.small else 8192
        a, b = self.randn(n, n, dtype=torch.bfloat16), self.randn(n, n, dtype=torch.bfloat16)
        yield "gemm_bf16", {"n": n}, median_ms(lambda: a @ b, self.device), {"flop": 2 * n ** 3}

    def step(self, batch, d, compiled):
        """A whole training step: two lookups, in-batch softmax, backward, Adagrad on both tables."""
        users = torch.nn.Embedding(1000 if self.small else 160_000, d, device=self.device)
        items = torch.nn.Embedding(500 if self.small else 60_000, d, device=self.device)
        optimizer = torch.optim.Adagrad([*users.parameters(), *items.parameters()], lr=0.1)
        user = torch.randint(users.num_embeddings, (batch,), device=self.device)
        item = zipf_ids(batch, items.num_embeddings, self.device)
        labels = torch.arange(batch, device=self.device)

        def loss_of(u, i):
            return F.cross_entropy(users(u) @ items(i).T, labels, reduction="sum")

        loss = torch.compile(loss_of) if compiled else loss_of

        def step():
            optimizer.zero_grad(set_to_none=True)
            loss(user, item).backward()
            optimizer.step()
        return step

    def training(self):
        for batch in (64,) if self.small else (1024, 8192):
            for compiled in (False, True):
                if compiled and not hasattr(torch, "compile"):
                    continue
                step = self.step(batch, 64, compiled)
                yield ("step_compiled" if compiled else "step_eager", {"B": batch, "D": 64},
                       median_ms(step, self.device), {"examples": batch})

    def loss(self):
        """The in-batch softmax alone, forward and both gradients, bf16 products, of B x D matrices."""
        for batch, d in ((64, 16),) if self.small else ((8192, 64), (8192, 128), (16384, 64), (16384, 128)):
            q = self.randn(batch, d, dtype=torch.bfloat16).requires_grad_()
            k = self.randn(batch, d, dtype=torch.bfloat16).requires_grad_()
            labels = torch.arange(batch, device=self.device)

            def both():
                q.grad = k.grad = None
                F.cross_entropy((q @ k.T).float(), labels).backward()
            yield "loss_eager", {"B": batch, "D": d}, median_ms(both, self.device, 10), {"flop": 8 * batch ** 2 * d}

    def attention(self):
        """One forward of scaled_dot_product_attention(Q, K, K): the yardstick of the fused loss."""
        for batch, d in ((64, 16),) if self.small else ((16384, 64), (16384, 128), (65536, 64)):
            q, k = (self.randn(1, 1, batch, d, dtype=torch.bfloat16) for _ in range(2))
            yield ("attention", {"B": batch, "D": d},
                   median_ms(lambda: F.scaled_dot_product_attention(q, k, k), self.device, 10),
                   {"flop": 4 * batch ** 2 * d})

    def embedding(self):
        """The gradient of a table from its uses, with Adagrad: sparse gradients, as PyTorch has them."""
        uses, rows, d = (1000, 500, 16) if self.small else (1 << 20, 4_000_000, 64)
        table = torch.nn.Embedding(rows, d, sparse=True, device=self.device)
        optimizer = torch.optim.Adagrad(table.parameters(), lr=0.1)
        gradient = self.randn(uses, d)
        for law in ("uniform", "zipf"):
            ids = zipf_ids(uses, rows, self.device) if law == "zipf" else torch.randint(rows, (uses,), device=self.device)
            yield (f"gather_{law}", {"uses": uses, "V": rows, "D": d},
                   median_ms(lambda: F.embedding(ids, table.weight.detach()), self.device), {"bytes": 8 * uses * d})

            def update():
                optimizer.zero_grad(set_to_none=True)
                table(ids).backward(gradient)
                optimizer.step()
            yield f"lookup_update_{law}", {"uses": uses, "V": rows, "D": d}, median_ms(update, self.device), {"uses": uses}

    def topk(self):
        queries, rows = (16, 300) if self.small else (4096, 62_423)
        for d in (16,) if self.small else (64, 128):
            for dtype in (torch.float32, torch.bfloat16):
                q, v = self.randn(queries, d, dtype=dtype), self.randn(rows, d, dtype=dtype)
                yield (f"topk_{str(dtype).split('.')[1]}", {"Q": queries, "N": rows, "D": d, "K": 100},
                       median_ms(lambda: torch.topk(q @ v.T, 100, dim=1), self.device, 10),
                       {"queries": queries, "flop": 2 * queries * rows * d})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=500)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: PyTorch sees no GPU", file=sys.stderr)
        return 3
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("highest")  # fp32 products in fp32: belfry's are
    begun, results = time.monotonic(), []
    cases = Cases(options.device, options.small)
    for case in (cases.copy, cases.gemm, cases.loss, cases.attention, cases.topk, cases.embedding, cases.training):
        if time.monotonic() - begun > options.seconds:
            break
        try:
            for name, parameters, ms, quantities in case():
                rates = {f"{what}_per_s": amount / (1e-3 * ms) for what, amount in quantities.items()}
                results.append({"name": name, **parameters, "ms": ms, **rates})
                print(json.dumps(results[-1]), flush=True)
        except Exception as error:  # pylint: disable=broad-except  # the next case may well work
            results.append({"name": case.__name__, "error": str(error).split("\n")[0][:300]})
            print(json.dumps(results[-1]), flush=True)
        if options.out:
            device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
            with open(options.out, "w", encoding="utf-8") as file:
                json.dump({"torch": torch.__version__, "device": device, "results": results}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
